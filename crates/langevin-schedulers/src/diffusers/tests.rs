//! Every class with every combination of its schedules plans, for any number of steps.

use super::{CLASSES, from_config};
use langevin_core::Prediction;

/// Options of a class that change its grid.
fn options(class: &str) -> Vec<String> {
    if class.starts_with("EDM") {
        let schedules = ["karras", "exponential"].into_iter();
        return schedules
            .flat_map(|schedule| {
                ["zero", "sigma_min"]
                    .map(|last| format!(r#", "sigma_schedule": "{schedule}", "final_sigmas_type": "{last}""#))
            })
            .collect();
    }
    if class.starts_with("IPNDM") {
        return vec![String::new()];
    }
    let mut all = Vec::new();
    for betas in ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"] {
        for spacing in ["leading", "trailing", "linspace"] {
            let plain = format!(r#", "beta_schedule": "{betas}", "timestep_spacing": "{spacing}""#);
            if ["Euler", "Heun", "KDPM2", "LMS"].iter().any(|family| class.starts_with(family))
                && !class.starts_with("EulerAncestral")
            {
                for key in ["karras", "exponential", "beta"] {
                    all.push(format!(r#"{plain}, "use_{key}_sigmas": true"#));
                }
            }
            if class == "EulerDiscreteScheduler" {
                all.push(format!(r#"{plain}, "interpolation_type": "log_linear""#));
                all.push(format!(r#"{plain}, "final_sigmas_type": "sigma_min", "use_karras_sigmas": true"#));
            }
            // The number that stands for σ = ∞ is below the last but one of the other betas: an error.
            if class == "EulerDiscreteScheduler" && betas.ends_with("linear") {
                all.push(format!(r#"{plain}, "rescale_betas_zero_snr": true, "prediction_type": "v_prediction""#));
            }
            all.push(plain);
        }
    }
    all
}

#[test]
fn every_schedule_of_every_class_plans() {
    let mut count = 0;
    for class in CLASSES {
        for options in options(class) {
            let scheduler = from_config(&format!(r#"{{"_class_name": "{class}"{options}}}"#)).unwrap();
            for n in [2, 3, 4, 5, 7, 8, 10, 12, 25, 50, 99] {
                if class == "PNDMScheduler" && n < 4 {
                    assert!(scheduler.plan(n).is_err(), "a Runge-Kutta start needs room");
                    continue;
                }
                let plan = match scheduler.plan(n) {
                    Ok(plan) => plan,
                    Err(error) => panic!("{class} {options} in {n} steps: {error}"),
                };
                assert_eq!(plan.steps(), n, "{class} {options}");
                count += 1;
            }
        }
    }
    assert!(count > 2000, "{count}");
}

#[test]
fn settings_are_told() {
    let heun = from_config(r#"{"_class_name": "HeunDiscreteScheduler", "clip_sample": true}"#).unwrap();
    assert!(heun.threshold().is_some() && heun.rederives_eps());
    assert_eq!(heun.class(), "HeunDiscreteScheduler");
    let edm = from_config(r#"{"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}"#).unwrap();
    assert_eq!(edm.prediction(), Prediction::EdmVelocity { sigma_data: 0.5 });
    assert!(edm.process().chain().is_none());
    // EDM's first noise is that of data and noise together.
    assert!((edm.plan(10).unwrap().prior_deviation() - 6401f64.sqrt()).abs() < 1e-9);
}
