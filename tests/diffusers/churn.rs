//! Churn of FlowMatchHeunDiscreteScheduler.

use crate::{begin, count, largest_distance, network, numbers, reference, shape, values, wave};
use burn::tensor::{Device, Tensor};
use langevin::core::denoiser::from_fn;
use langevin::core::noise::{Injected, Seeded};
use langevin::core::{Key, Load, Prediction};
use langevin::schedulers::diffusers::from_config;
use langevin::schedulers::plan::Plan;
use langevin::schedulers::sigma::{Churn, Churned};
use langevin::schedulers::{SamplerExt, Solver, flow};

#[test]
fn compatible_churn_is_that_of_diffusers() {
    let reference = reference();
    for case in reference["churned"].as_array().expect("cases") {
        let [amount, low, high, factor] = [0, 1, 2, 3].map(|i| case["churn"][i].as_f64().unwrap_or(f64::INFINITY));
        let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
        let scheduler = scheduler.compat_diffusers().churn(amount, (low, high), factor).expect("settings");
        let plan = scheduler.plan(count(&case["steps"])).expect("a plan");
        let plan: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).expect("a plan");
        let shape: [usize; 2] = shape(&case["shape"]);
        let mut noise = Injected::new();
        let mut raised = 0;
        for (row, _) in plan.rows().iter().enumerate().filter(|(_, row)| !row.draws.is_empty()) {
            // Every row is a call of the original's `step`.
            let drawn = wave(shape.iter().product(), 0.37, (row + 1) as f64);
            noise = noise.with(Key::step(row as u64, 0), 0..shape[0] as u64, drawn).expect("even rows");
            raised += 1;
        }
        assert!(raised > 0 && (high == f64::INFINITY) == (raised == plan.steps()), "{}: {raised}", case["churn"]);
        let network = network(scheduler.prediction());
        let run = plan.start_from(0, begin(shape), &network, &noise).expect("a run");
        let states = case["states"].as_array().expect("states");
        let mut steps = 0;
        for (step, state) in run.zip(states) {
            let off = largest_distance(&values(&step.expect("a step").x), &numbers(&state["x"]));
            assert!(off < 1e-5, "{}: {off}", case["config"]);
            steps += 1;
        }
        assert_eq!((steps, plan.steps()), (states.len(), states.len()));
        noise.finish().expect("all noise is used");
    }
}

/// Why it is only there under a switch: data that is one number comes out with noise, but for a churn that follows the flow.
#[test]
fn compatible_churn_leaves_noise_in_clean_data() {
    let scheduler = from_config(r#"{"_class_name": "FlowMatchHeunDiscreteScheduler"}"#).expect("a configuration");
    let plain = scheduler.plan(20).expect("a plan");
    let churned = scheduler.clone().churn(4.0, (0.0, 0.9), 1.0).expect("settings");
    let raised = churned.plan(20).expect("a plan");
    let churn = Churn::new(4.0).and_then(|churn| churn.between(0.0, 0.9 / (1.0 - 0.9))).expect("settings");
    let grid = scheduler.grid(20).expect("a grid");
    let own = Churned::new(flow::Heun::new(), churn).plan(scheduler.process(), &grid).expect("a plan");
    assert_eq!(raised.rows(), own.rows());
    // The switch may come before or after what is set.
    let compatible = churned.clone().compat_diffusers().plan(20).expect("a plan");
    let before = scheduler.clone().compat_diffusers().churn(4.0, (0.0, 0.9), 1.0).expect("settings");
    assert_eq!(before.plan(20).expect("a plan"), compatible);
    assert!(raised.is_stochastic());
    let (noise, load) = (Seeded::new(5), Load::on(&Device::flex()));
    let constant = from_fn(Prediction::Sample, |x: Tensor<2>, _| Ok(x.zeros_like().add_scalar(0.7)));
    let off = |plan: &Plan| {
        let x = plan.start([500, 4], &constant, &noise, load.clone()).expect("a run").finish().expect("samples");
        let squares = values(&x).iter().map(|x| (x - 0.7).powi(2)).sum::<f64>();
        (squares / 2000.0).sqrt()
    };
    let (plain, compatible, raised) = (off(&plain), off(&compatible), off(&raised));
    println!("deviation without churn {plain:.1e}, compatible {compatible:.1e}, on the flow {raised:.1e}");
    assert!(plain < 1e-5 && raised < 1e-5, "{plain}, {raised}");
    assert!(compatible > 1e-4, "{compatible}");
}
