//! Schedulers of single models on flows, against `reference_flows.json`.

use crate::{begin, largest_distance, network, numbers, shape, values, wave};
use langevin::core::noise::Injected;
use langevin::core::{Grid, Key};
use langevin::schedulers::SamplerExt;
use langevin::schedulers::diffusers::{Configured, from_config};
use langevin::schedulers::plan::Plan;
use serde_json::Value;

fn cases(of: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diffusers/reference_flows.json");
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON");
    let cases = reference[of].as_array().expect("cases").clone();
    assert!(!cases.is_empty());
    cases
}

fn configured(case: &Value) -> Configured {
    let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
    match case["given"]["mu"].as_f64() {
        Some(mu) => scheduler.mu(mu).expect("a shift"),
        None => scheduler,
    }
}

/// The grid of what `set_timesteps` was given.
fn grid(scheduler: &Configured, given: &Value) -> Grid {
    let grid = match (&given["num_inference_steps"], &given["sigmas"], &given["timesteps"]) {
        (Value::Number(steps), _, _) => scheduler.grid(steps.as_u64().expect("a number") as usize),
        (_, sigmas @ Value::Array(_), _) => scheduler.grid_of_sigmas(&numbers(sigmas)),
        (_, _, times) => scheduler.grid_at(&numbers(times)),
    };
    grid.expect("a grid")
}

/// Plans as they come back from a file, the noise of each step of the original, and the states of a run.
fn assert_run(case: &Value, plan: &Plan, denoiser: &dyn langevin::core::Denoiser<2>) {
    let plan: Plan = serde_json::from_str(&serde_json::to_string(plan).unwrap()).expect("a plan");
    let shape: [usize; 2] = shape(&case["shape"]);
    let mut noise = Injected::new();
    for (row, _) in plan.rows().iter().enumerate().filter(|(_, row)| !row.draws.is_empty()) {
        let drawn = wave(shape.iter().product(), 0.37, (row + 1) as f64);
        noise = noise.with(Key::step(row as u64, 0), 0..shape[0] as u64, drawn).expect("even rows");
    }
    let run = plan.start_from(0, begin(shape), denoiser, &noise).expect("a run");
    let states = case["states"].as_array().expect("states");
    let mut steps = 0;
    for (step, state) in run.zip(states) {
        let expected = numbers(&state["x"]);
        let size = expected.iter().fold(1.0f64, |size, x| size.max(x.abs()));
        let off = largest_distance(&values(&step.expect("a step").x), &expected) / size;
        assert!(off < 1e-5, "{} with {}, step {steps}: {off}", case["config"], case["given"]);
        steps += 1;
    }
    assert_eq!((steps, plan.steps()), (states.len(), states.len()));
    noise.finish().expect("all noise is used");
}

#[test]
fn ancestral_runs_are_those_of_diffusers() {
    let mut noisy = 0;
    for case in cases("ancestral") {
        let scheduler = configured(&case);
        let plan = scheduler.plan_on(&grid(&scheduler, &case["given"])).expect("a plan");
        noisy += usize::from(plan.is_stochastic());
        assert_run(&case, &plan, &network(scheduler.prediction()));
    }
    assert_eq!(noisy, 6);
}
