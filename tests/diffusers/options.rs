//! Options of the classes that integrate in λ, against `reference_options.json`.

use crate::flows::told;
use crate::{assert_run, numbers, read};
use burn::tensor::Tensor;
use langevin::core::denoiser::{DenoiseError, from_fn};
use langevin::core::{Denoiser, Levels, Network};
use langevin::schedulers::diffusers::{ConfigError, Configured, from_config};
use serde_json::Value;

/// The network of recorded runs, told timesteps.
fn asked(x: Tensor<2>, time: f64) -> Tensor<2> {
    told(x, time / 1000.0)
}

/// The same with a variance behind its channels.
#[derive(Clone)]
struct WithVariance;

impl Network<2> for WithVariance {
    type Cond = ();
    fn forward(&self, x: Tensor<2>, time: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        let time = time.try_to_vec_as::<f64>().expect("times")[0];
        let mean = asked(x, time);
        Ok(Tensor::cat(vec![mean.clone(), mean.cos().mul_scalar(0.5)], 1))
    }
    fn for_sampling(&self) -> Self {
        self.clone()
    }
}

fn configured(case: &Value) -> Configured {
    let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
    match case["given"]["mu"].as_f64() {
        Some(mu) => scheduler.mu(mu).expect("a shift"),
        None => scheduler,
    }
}

#[test]
fn runs_with_every_option_are_those_of_diffusers() {
    let cases = read("reference_options.json")["runs"].as_array().expect("cases").clone();
    let (mut shifted, mut learned, mut later) = (0, 0, 0);
    for case in &cases {
        let scheduler = configured(case);
        let begin = case["begin"].as_u64().expect("an index") as usize;
        let grid = match case["given"]["num_inference_steps"].as_u64() {
            Some(steps) => scheduler.grid(steps as usize),
            None => scheduler.grid_at(&numbers(&case["given"]["timesteps"])),
        };
        let grid = grid.expect("a grid").starting_at(begin);
        let plan = scheduler.plan_on(&grid).expect("a plan");
        let times: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval.as_ref()).map(|eval| eval.at.time).collect();
        let distinct = |mut times: Vec<f64>| {
            times.dedup();
            times
        };
        assert_eq!(distinct(times), distinct(numbers(&case["timesteps"])), "{}", case["config"]);
        let prediction = scheduler.prediction();
        let denoiser: Box<dyn Denoiser<2>> = if scheduler.learns_variance() {
            Box::new(WithVariance.denoiser(prediction, ()).expect("a network").with_learned_variance())
        } else {
            Box::new(from_fn(prediction, |x: Tensor<2>, levels: &Levels| {
                let Levels::Shared(level) = levels else { panic!("one level") };
                Ok(asked(x, level.time))
            }))
        };
        assert_run(case, &plan, 1.0, &*denoiser);
        shifted += usize::from(case["given"]["mu"].is_number());
        later += usize::from(begin > 0);
        learned += usize::from(scheduler.learns_variance());
    }
    assert_eq!((cases.len(), shifted, learned, later), (35, 6, 6, 6));
}

#[test]
fn timesteps_that_a_class_cannot_take_are_refused() {
    let times = [900.0, 500.0, 100.0];
    let asked = |class: &str, options: &str, times: &[f64]| {
        let json = format!(r#"{{"_class_name": "{class}Scheduler"{options}}}"#);
        from_config(&json).expect("a configuration").grid_at(times).map(|_| ()).map_err(|error| error.to_string())
    };
    for class in ["DPMSolverMultistep", "DPMSolverSinglestep"] {
        assert_eq!(asked(class, "", &times), Ok(()));
        // Cut off to whole ones, as by the original.
        assert_eq!(asked(class, "", &[999.9, 0.0]), Ok(()));
        for option in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"] {
            let error = asked(class, &format!(r#", "{option}": true"#), &times).unwrap_err();
            assert!(error.contains("timesteps") && error.contains(option), "{error}");
        }
        for wrong in [&[1000.0, 3.0][..], &[3.0, -1.0], &[f64::NAN]] {
            let error = asked(class, "", wrong).unwrap_err();
            assert!(error.contains("timesteps") && error.contains("below its number of steps"), "{error}");
        }
        assert!(asked(class, "", &[]).is_err() && asked(class, "", &[3.0, 800.0]).is_err());
    }
    let error = asked("DPMSolverMultistep", r#", "use_lu_lambdas": true"#, &times).unwrap_err();
    assert!(error.contains("timesteps") && error.contains("use_lu_lambdas"), "{error}");
    for class in ["DEISMultistep", "UniPCMultistep", "SASolver"] {
        let error = asked(class, "", &times).unwrap_err();
        assert!(error.contains("chooses them itself"), "{error}");
    }
}

fn refused(class: &str, options: &str) -> ConfigError {
    from_config(&format!(r#"{{"_class_name": "{class}Scheduler", {options}}}"#)).expect_err("an error")
}

#[test]
fn contradictions_of_options_name_both() {
    let flow = r#""use_flow_sigmas": true"#;
    for (class, options, named) in [
        ("DDPM", r#""trained_betas": [0.1, 0.2]"#.to_owned(), ["trained_betas", "num_train_timesteps"]),
        (
            "DPMSolverMultistep",
            r#""trained_betas": [0.1, 0.2], "num_train_timesteps": 3"#.to_owned(),
            ["trained_betas", "num_train_timesteps"],
        ),
        ("UniPCMultistep", r#""use_dynamic_shifting": true"#.to_owned(), ["use_dynamic_shifting", "use_flow_sigmas"]),
        (
            "UniPCMultistep",
            format!(r#"{flow}, "use_karras_sigmas": true, "use_dynamic_shifting": true"#),
            ["use_dynamic_shifting", "use_karras_sigmas"],
        ),
        ("UniPCMultistep", r#""shift_terminal": 0.1"#.to_owned(), ["shift_terminal", "use_flow_sigmas"]),
        (
            "UniPCMultistep",
            format!(r#"{flow}, "use_karras_sigmas": true, "shift_terminal": 0.1"#),
            ["shift_terminal", "use_karras_sigmas"],
        ),
        ("UniPCMultistep", format!(r#"{flow}, "sigma_max": 80.0"#), ["sigma_max", "use_karras_sigmas"]),
        ("UniPCMultistep", r#""sigma_min": 0.1"#.to_owned(), ["sigma_min", "use_karras_sigmas"]),
        (
            "UniPCMultistep",
            r#""use_karras_sigmas": true, "sigma_min": 3.0, "sigma_max": 2.0"#.to_owned(),
            ["sigma_min", "sigma_max"],
        ),
        ("UniPCMultistep", r#""use_beta_sigmas": true, "sigma_max": 0.001"#.to_owned(), ["sigma_min", "sigma_max"]),
        ("UniPCMultistep", format!(r#"{flow}, "use_beta_sigmas": true"#), ["use_flow_sigmas", "use_beta_sigmas"]),
        ("DEISMultistep", format!(r#"{flow}, "use_karras_sigmas": true"#), ["use_flow_sigmas", "use_karras_sigmas"]),
        (
            "DEISMultistep",
            format!(r#"{flow}, "use_dynamic_shifting": true, "time_shift_type": "linear""#),
            ["use_dynamic_shifting", "time_shift_type"],
        ),
        (
            "SASolver",
            r#""variance_type": "learned", "prediction_type": "v_prediction""#.to_owned(),
            ["variance_type", "prediction_type"],
        ),
    ] {
        let error = refused(class, &options);
        let ConfigError::Contradiction { first, second, .. } = &error else { panic!("{options}: {error}") };
        assert_eq!([*first, *second], named, "{error}");
    }
    let betas = r#"{"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2], "num_train_timesteps": 2}"#;
    assert_eq!(from_config(betas).unwrap().plan(2).unwrap().steps(), 2);
}

#[test]
fn options_that_no_file_can_hold_are_refused_with_the_reason() {
    for (class, options, key, expected) in [
        ("UniPCMultistep", r#""solver_p": {"solver_order": 1}"#, "solver_p", "a whole scheduler"),
        ("SASolver", r#""tau_func": "constant""#, "tau_func", "a function"),
        ("DPMSolverMultistep", r#""variance_type": "free""#, "variance_type", "learned_range"),
        ("DEISMultistep", r#""time_shift_type": "cubic""#, "time_shift_type", "exponential or linear"),
        ("UniPCMultistep", r#""use_flow_sigmas": true, "shift_terminal": 1.5"#, "shift_terminal", "[0, 1)"),
        ("UniPCMultistep", r#""use_karras_sigmas": true, "sigma_min": -1.0"#, "sigma_min", "a positive number"),
    ] {
        let error = refused(class, options);
        assert!(matches!(&error, ConfigError::Value { key: named, .. } if *named == key), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_shift_that_is_missing_or_has_no_say_is_named() {
    let read = |options: &str| {
        from_config(&format!(r#"{{"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true{options}}}"#))
            .unwrap()
    };
    let dynamic = read(r#", "use_dynamic_shifting": true"#);
    for (error, key) in [
        (dynamic.plan(5).map(drop), "mu"),
        (dynamic.clone().mu(f64::NAN).map(drop), "mu"),
        (read(r#", "use_dynamic_shifting": true, "time_shift_type": "linear""#).mu(-1.0).map(drop), "mu"),
        (read("").mu(0.5).map(drop), "mu"),
        (dynamic.image_tokens(4096).map(drop), "image_seq_len"),
        (read(r#", "shift_terminal": 0.1"#).plan(1).map(drop), "shift_terminal"),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(&error, ConfigError::Value { key: named, .. } if *named == key), "{error}");
    }
}

#[test]
fn the_nearest_class_and_option_are_named() {
    for (class, nearest) in [
        ("EulerDiscreetScheduler", "EulerDiscreteScheduler"),
        ("UniPCMultiStepSchedular", "UniPCMultistepScheduler"),
        // Read by another function.
        ("AmusdScheduler", "AmusedScheduler"),
    ] {
        let error = from_config(&format!(r#"{{"_class_name": "{class}"}}"#)).unwrap_err().to_string();
        assert!(error.contains(&format!("'{class}' is not supported: the nearest is '{nearest}'")), "{error}");
        assert!(error.contains("supported are DDPMScheduler"), "{error}");
    }
    for (key, nearest) in
        [("beta_strat", "beta_start"), ("solverOrder", "solver_order"), ("use_kerras", "use_karras_sigmas")]
    {
        let error = refused("DEISMultistep", &format!(r#""{key}": 1"#)).to_string();
        assert!(error.contains(&format!("no option '{key}': the nearest is '{nearest}'; its options are")), "{error}");
    }
}

/// The original does not look at the thresholds of a UniPC that predicts noise.
#[test]
fn unipc_thresholds_samples_alone() {
    let threshold = |options: &str| {
        let options = format!(r#"{{"_class_name": "UniPCMultistepScheduler", "thresholding": true{options}}}"#);
        from_config(&options).expect("a configuration").threshold()
    };
    assert!(threshold("").is_some());
    assert!(threshold(r#", "predict_x0": false"#).is_none());
}

#[test]
fn one_exponential_step_begins_at_its_own_level() {
    for class in ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"] {
        let options = r#""sigma_schedule": "exponential", "sigma_min": 0.25, "sigma_max": 90.0"#;
        let scheduler = from_config(&format!(r#"{{"_class_name": "{class}", {options}}}"#)).expect("a configuration");
        let deviation = |steps| scheduler.plan(steps).expect("a plan").prior_deviation();
        assert!((deviation(1) - 1.0625f64.sqrt()).abs() < 1e-6, "{class}: {}", deviation(1));
        assert!((deviation(2) - 8101f64.sqrt()).abs() < 1e-4, "{class}: {}", deviation(2));
    }
}

/// A list over the whole chain has one sigma more with `log_linear`, among which churn is shared; a given one has not.
#[test]
fn given_sigmas_share_churn_among_themselves() {
    let plan = |interpolation: &str| {
        let options =
            format!(r#"{{"_class_name": "EulerDiscreteScheduler", "interpolation_type": "{interpolation}"}}"#);
        let scheduler = from_config(&options).expect("a configuration");
        let scheduler = scheduler.churn(0.5, (0.0, f64::INFINITY), 1.0).expect("churn");
        scheduler.plan_on(&scheduler.grid_of_sigmas(&[9.0, 4.0, 1.0, 0.3, 0.0]).expect("a grid")).expect("a plan")
    };
    assert_eq!(plan("log_linear"), plan("linear"));
}
