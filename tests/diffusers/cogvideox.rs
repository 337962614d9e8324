//! CogVideoXDDIMScheduler and CogVideoXDPMScheduler.

use crate::{assert_run, count, reference};
use burn::tensor::Tensor;
use langevin::core::Levels;
use langevin::core::denoiser::from_fn;
use langevin::schedulers::diffusers::{ConfigError, from_config};

#[test]
fn runs_are_those_of_diffusers() {
    let reference = reference();
    for case in reference["video"].as_array().expect("cases") {
        let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
        let training = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1000.0);
        let plan = scheduler.plan(count(&case["steps"])).expect("a plan");
        let network = from_fn(scheduler.prediction(), move |x: Tensor<2>, levels: &Levels| {
            let Levels::Shared(level) = levels else { panic!("one level") };
            let turned = x.clone().mul_scalar(1.3).add_scalar(2.0 * level.time / training + 0.2).sin();
            Ok(x.mul_scalar(0.3).add(turned.mul_scalar(0.7)))
        });
        assert_run(case, &plan, 1.0, &network);
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
