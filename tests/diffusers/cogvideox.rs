//! CogVideoXDDIMScheduler and CogVideoXDPMScheduler.

use crate::{begin, count, largest_distance, numbers, reference, shape, values, wave};
use burn::tensor::Tensor;
use langevin::core::denoiser::from_fn;
use langevin::core::noise::Injected;
use langevin::core::{Key, Levels};
use langevin::schedulers::SamplerExt;
use langevin::schedulers::diffusers::{ConfigError, from_config};
use langevin::schedulers::plan::Plan;

#[test]
fn runs_are_those_of_diffusers() {
    let reference = reference();
    for case in reference["video"].as_array().expect("cases") {
        let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
        let training = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1000.0);
        let plan = scheduler.plan(count(&case["steps"])).expect("a plan");
        let plan: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).expect("a plan");
        let shape: [usize; 2] = shape(&case["shape"]);
        let mut noise = Injected::new();
        for (row, _) in plan.rows().iter().enumerate().filter(|(_, row)| !row.draws.is_empty()) {
            let drawn = wave(shape.iter().product(), 0.37, (row + 1) as f64);
            noise = noise.with(Key::step(row as u64, 0), 0..shape[0] as u64, drawn).expect("even rows");
        }
        let network = from_fn(scheduler.prediction(), move |x: Tensor<2>, levels: &Levels| {
            let Levels::Shared(level) = levels else { panic!("one level") };
            let turned = x.clone().mul_scalar(1.3).add_scalar(2.0 * level.time / training + 0.2).sin();
            Ok(x.mul_scalar(0.3).add(turned.mul_scalar(0.7)))
        });
        let run = plan.start_from(0, begin(shape), &network, &noise).expect("a run");
        let states = case["states"].as_array().expect("states");
        let mut steps = 0;
        for (step, state) in run.zip(states) {
            let expected = numbers(&state["x"]);
            let size = expected.iter().fold(1.0f64, |size, x| size.max(x.abs()));
            let off = largest_distance(&values(&step.expect("a step").x), &expected) / size;
            assert!(off < 1e-5, "{}, step {steps}: {off}", case["config"]);
            steps += 1;
        }
        assert_eq!((steps, plan.steps()), (states.len(), states.len()));
        noise.finish().expect("all noise is used");
    }
}

#[test]
fn options_that_cannot_be_honored_are_refused() {
    for class in ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"] {
        let read = |options: &str| from_config(&format!(r#"{{"_class_name": "{class}"{options}}}"#));
        for (options, named) in [
            (r#", "snr_shift_scale": 0.0"#, "snr_shift_scale"),
            (r#", "snr_shift_scale": -1.0"#, "snr_shift_scale"),
            (r#", "rescale_betas_zero_snr": true"#, "prediction_type"),
            (r#", "thresholding": true"#, "thresholding"),
        ] {
            let error = read(options).expect_err("a bad option");
            assert!(error.to_string().contains(named), "{error}");
        }
        let error = read("").and_then(|scheduler| scheduler.eta(0.5)).expect_err("no eta");
        assert!(matches!(error, ConfigError::Value { key: "eta", .. }), "{error}");
    }
}
