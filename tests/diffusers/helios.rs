//! HeliosScheduler and HeliosDMDScheduler, against `reference_flows.json`.

use crate::flows::{cases, told};
use crate::{begin, count, largest_distance, numbers, shape, values, wave};
use burn::tensor::Tensor;
use langevin::core::denoiser::from_fn;
use langevin::core::noise::Injected;
use langevin::core::{Key, Levels};
use langevin::schedulers::SamplerExt;
use langevin::schedulers::diffusers::helios_from_config;
use langevin::schedulers::plan::Plan;

/// What is recorded of a wide state: numbers of all rows and columns, and the mean of all by weights that tell places apart.
fn part(x: &[f64]) -> (Vec<f64>, f64) {
    let part = (0..16).map(|k| x[k * ((x.len() / 16) | 1) % x.len()]).collect();
    let weighted: f64 = x.iter().zip(wave(x.len(), 0.53, 0.0)).map(|(x, weight)| x * weight).sum();
    (part, weighted / x.len() as f64)
}

#[test]
fn stages_are_those_of_diffusers() {
    let mut entered = 0;
    for case in cases("staged") {
        let scheduler = helios_from_config(&case["config"].to_string()).expect("a configuration");
        let training = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1000.0);
        let stages = case["stages"].as_array().expect("stages");
        assert_eq!(stages.len(), scheduler.stages());
        let mut x: Tensor<5> = begin(shape(&case["shape"]));
        for (index, stage) in stages.iter().enumerate() {
            let states = stage["states"].as_array().expect("states");
            if let Some(entry) = scheduler.entry(index).expect("a stage") {
                let drawn = wave(4 * x.dims().iter().product::<usize>(), 0.37, index as f64);
                let noise = Injected::new().with(Key::step(index as u64, 0), 0..1, drawn).expect("even rows");
                x = entry.enter(x, &noise, 0).expect("a state");
                noise.finish().expect("all noise is used");
                entered += 1;
            }
            // The last pixel of a block hangs on the last digits of the factorization where it is almost singular.
            let off = largest_distance(&values(&x), &numbers(&states[0]["x"]));
            assert!(off < 2e-5, "{}, stage {index}: {off}", case["config"]);
            let plan = scheduler.plan(index, count(&stage["steps"]), case["mu"].as_f64()).expect("a plan");
            let plan: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).expect("a plan");
            let denoiser = from_fn(scheduler.prediction(), move |x: Tensor<5>, levels: &Levels| {
                let Levels::Shared(level) = levels else { panic!("one level") };
                Ok(told(x, level.time / training))
            });
            let none = Injected::new();
            let run = plan.start_from(0, x.clone(), &denoiser, &none).expect("a run");
            let mut steps = 0;
            for (step, state) in run.zip(&states[1..]) {
                x = step.expect("a step").x;
                let (part, mean) = part(&values(&x));
                let off = largest_distance(&part, &numbers(&state["x"]));
                assert!(off < 3e-5, "{}, stage {index}, step {steps}: {off}", case["config"]);
                let off = (mean - state["mean"].as_f64().expect("a number")).abs();
                assert!(off < 3e-6, "{}, stage {index}, step {steps}: {off} of all", case["config"]);
                steps += 1;
            }
            assert_eq!((steps, plan.steps()), (states.len() - 1, states.len() - 1));
        }
    }
    assert_eq!(entered, 11);
}
