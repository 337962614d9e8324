//! Scheduler files of published checkpoints, which carry keys of the classes that they were converted from.

use langevin::core::process::DiscreteChain;
use langevin::schedulers::diffusers::{Configured, Scheduler, from_config, from_diffusers};
use serde_json::Value;

/// Stable Diffusion 1.5.
const SD_1_5: &str = r#"{
  "_class_name": "PNDMScheduler",
  "_diffusers_version": "0.6.0",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "num_train_timesteps": 1000,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "trained_betas": null,
  "clip_sample": false
}"#;

/// Stable Diffusion 2.1.
const SD_2_1: &str = r#"{
  "_class_name": "DDIMScheduler",
  "_diffusers_version": "0.8.0",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "prediction_type": "v_prediction",
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "trained_betas": null
}"#;

/// Stable Diffusion XL.
const SDXL: &str = r#"{
  "_class_name": "EulerDiscreteScheduler",
  "_diffusers_version": "0.19.0.dev0",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "interpolation_type": "linear",
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "sample_max_value": 1.0,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "timestep_spacing": "leading",
  "trained_betas": null,
  "use_karras_sigmas": false
}"#;

fn assert_same(a: &Configured, b: &Configured) {
    assert_eq!((a.class(), a.prediction(), a.threshold()), (b.class(), b.prediction(), b.threshold()));
    assert_eq!((a.rederives_eps(), a.learns_variance()), (b.rederives_eps(), b.learns_variance()));
    let chain = |of: &Configured| of.process().chain().map(DiscreteChain::alphas_cumprod).expect("a chain").to_vec();
    assert_eq!(chain(a), chain(b));
    for steps in [20, 50] {
        let plan = |of: &Configured| of.plan(steps).expect("a plan");
        assert_eq!(plan(a), plan(b));
    }
}

#[test]
fn files_of_published_checkpoints_are_read() {
    for (file, ignored, first) in [
        (SD_1_5, &["clip_sample"][..], 981.0),
        (SD_2_1, &["skip_prk_steps"], 981.0),
        (SDXL, &["clip_sample", "sample_max_value", "set_alpha_to_one", "skip_prk_steps"], 981.0),
    ] {
        let scheduler = from_config(file).expect("a scheduler");
        assert_eq!(scheduler.ignored(), ignored, "{}", scheduler.class());
        let mut rest: Value = serde_json::from_str(file).expect("JSON");
        for key in ignored {
            assert!(rest.as_object_mut().expect("an object").remove(*key).is_some());
        }
        let bare = from_config(&rest.to_string()).expect("a scheduler");
        assert!(bare.ignored().is_empty());
        assert_same(&scheduler, &bare);
        // `set_timesteps(50).timesteps[0]` of diffusers 0.42.1.
        let plan = scheduler.plan(50).expect("a plan");
        assert_eq!(plan.rows()[0].eval.as_ref().map(|eval| eval.at.time), Some(first), "{}", scheduler.class());
    }
}

/// `docs/from-diffusers.md` says so.
#[test]
fn zero_terminal_snr_begins_beside_the_time_told() {
    let file = r#"{"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": true,
        "prediction_type": "v_prediction", "timestep_spacing": "trailing"}"#;
    let plan = from_config(file).expect("a scheduler").plan(10).expect("a plan");
    let asked = plan.rows()[0].eval.as_ref().expect("a question").at;
    assert_eq!(asked.time, 999.0);
    assert!((asked.alpha - 2f64.powi(-12)).abs() < 1e-9, "{}", asked.alpha);
    let start = plan.start_node().t;
    assert!((start - 995.286).abs() < 1e-3, "{start}");
}

/// What diffusers saves for each class with nothing but defaults is that class with nothing said.
#[test]
fn files_that_diffusers_saves_are_read() {
    let files = crate::read("saved.json")["files"].as_object().expect("files").clone();
    let (mut infinite, mut others) = (0, Vec::new());
    for (class, text) in &files {
        let text = text.as_str().expect("text");
        let scheduler = from_diffusers(text).unwrap_or_else(|error| panic!("{class}: {error}"));
        assert_eq!(scheduler.class(), class);
        infinite += usize::from(text.contains("-Infinity"));
        if let Scheduler::Configured(saved) = scheduler {
            assert!(saved.ignored().is_empty(), "{class}: {:?}", saved.ignored());
            let plain = from_config(&format!(r#"{{"_class_name": "{class}"}}"#)).expect("defaults");
            if format!("{saved:?}") != format!("{plain:?}") {
                others.push(format!("{saved:?} and\n{plain:?}"));
            }
        }
    }
    assert!(others.is_empty(), "other defaults: {others:#?}");
    // `lambda_min_clipped` of DPM-Solver's classes and of SA-Solver.
    assert_eq!((files.len(), infinite), (51, 4));
}

#[test]
fn words_of_python_are_numbers_outside_of_strings() {
    let read = |options: &str| from_config(&format!(r#"{{"_class_name": "DPMSolverMultistepScheduler", {options}}}"#));
    for same in [r#""lambda_min_clipped": -Infinity"#, r#""_note": "\\\"NaN", "lambda_min_clipped":-Infinity"#] {
        assert_same(&read(same).expect("a scheduler"), &read(r#""solver_order": 2"#).expect("a scheduler"));
    }
    let clipped = read(r#""lambda_min_clipped": -4.0"#).expect("a scheduler");
    assert_ne!(
        clipped.plan(20).expect("a plan"),
        read(r#""solver_order": 2"#).expect("defaults").plan(20).expect("a plan")
    );
    for (options, says) in [
        (r#""beta_start": NaN"#, r#"option 'beta_start' of DPMSolverMultistepScheduler is "NaN", expected a number"#),
        (r#""lambda_min_clipped": NaN"#, r#""NaN", expected a number"#),
        (r#""flow_shift": Infinity"#, "'flow_shift'"),
        (r#""solver_order": Infinity"#, "'solver_order'"),
        (r#""solver_type": "Infinity""#, "'solver_type' of DPMSolverMultistepScheduler is Infinity"),
        (r#""trained_betas": [NaN]"#, "'trained_betas'"),
    ] {
        let error = read(options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(read("\"solver_order\": Infinit").unwrap_err().to_string().contains("not readable"));
}

/// Options that the originals have `null` for may be that; others have defaults of their own, and `null` is not one.
#[test]
fn null_is_no_default() {
    for (class, none) in [
        ("DPMSolverMultistep", "variance_type"),
        ("SASolver", "tau_func"),
        ("UniPCMultistep", "solver_p"),
        ("EulerDiscrete", "sigma_min"),
        ("DDIM", "trained_betas"),
        ("DPMSolverSDE", "noise_sampler_seed"),
        ("FlowMatchEulerDiscrete", "shift_terminal"),
        ("FlowMatchLCM", "scale_factors"),
    ] {
        assert!(from_config(&format!(r#"{{"_class_name": "{class}Scheduler", "{none}": null}}"#)).is_ok(), "{class}");
    }
    for (class, option, expected) in [
        ("DDIM", "clip_sample", "true or false"),
        ("DPMSolverMultistep", "lower_order_final", "true or false"),
        ("DDPM", "beta_start", "a number"),
        ("EulerDiscrete", "num_train_timesteps", "a whole number"),
        ("PNDM", "timestep_spacing", "a string"),
    ] {
        let error = from_config(&format!(r#"{{"_class_name": "{class}Scheduler", "{option}": null}}"#)).unwrap_err();
        let says = format!("option '{option}' of {class}Scheduler is null, expected {expected}");
        assert!(error.to_string().starts_with(&says), "{error}");
    }
}
