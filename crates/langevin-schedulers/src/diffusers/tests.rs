//! Every class with every combination of its schedules plans, for any number of steps.

use super::{CLASSES, ConfigError, Configured, from_config};
use crate::{PlanError, SampleError, SamplerExt};
use burn::tensor::{Device, Tensor};
use langevin_core::denoiser::from_fn;
use langevin_core::noise::Seeded;
use langevin_core::{Levels, Load, Prediction};

/// Options of a class that change its grid.
fn options(class: &str) -> Vec<String> {
    if class.starts_with("FlowMatch") && !class.contains("Heun") {
        let shifts = ["", r#", "shift": 3.0"#, r#", "shift": 0.4, "shift_terminal": 0.05"#];
        let kinds = [
            "",
            r#", "use_karras_sigmas": true"#,
            r#", "use_exponential_sigmas": true"#,
            r#", "use_beta_sigmas": true"#,
        ];
        let mut all: Vec<String> = shifts.iter().flat_map(|shift| kinds.map(|kind| format!("{shift}{kind}"))).collect();
        if class.contains("Euler") {
            all.extend(
                [r#", "invert_sigmas": true"#, r#", "stochastic_sampling": true, "shift": 2.0"#].map(str::to_owned),
            );
        }
        return all;
    }
    if ["FlowMatchHeun", "CMStochastic", "SCM", "KarrasVe", "UnCLIP", "ConsistencyDecoder"]
        .iter()
        .any(|family| class.starts_with(family))
    {
        return vec![String::new()];
    }
    if class.starts_with("EDM") || class.starts_with("Cosine") {
        let schedules = ["karras", "exponential"].into_iter();
        return schedules
            .flat_map(|schedule| {
                ["zero", "sigma_min"]
                    .map(|last| format!(r#", "sigma_schedule": "{schedule}", "final_sigmas_type": "{last}""#))
            })
            .collect();
    }
    if ["LTX", "MiniMax", "FlowMap"].iter().any(|family| class.starts_with(family)) {
        return vec![String::new(), r#", "shift": 3.0"#.to_owned()];
    }
    if class.starts_with("IPNDM") {
        return vec![String::new()];
    }
    if class == "RePaintScheduler" {
        return vec![String::new(), r#", "beta_schedule": "squaredcos_cap_v2", "eta": 0.5"#.to_owned()];
    }
    if class == "DDPMWuerstchenScheduler" {
        return ["", r#", "scaler": 2.0"#, r#", "scaler": 0.5, "s": 0.02"#].map(str::to_owned).into();
    }
    if class == "DPMSolverSinglestepScheduler" {
        let last = |last| format!(r#", "final_sigmas_type": "{last}""#);
        let kinds = [3, 2].map(|order| format!(r#", "solver_order": {order}{}"#, last("zero")));
        let converted = ["karras", "exponential", "beta", "flow"].map(|key| format!(r#", "use_{key}_sigmas": true"#));
        return kinds.into_iter().chain(converted).chain([last("sigma_min")]).collect();
    }
    let in_lambda = ["DPMSolver", "DEIS", "UniPC", "SASolver"].iter().any(|family| class.starts_with(family));
    let in_lambda = in_lambda && class != "DPMSolverSDEScheduler";
    let mut all = Vec::new();
    for betas in ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"] {
        for spacing in ["leading", "trailing", "linspace"] {
            let plain = format!(r#", "beta_schedule": "{betas}", "timestep_spacing": "{spacing}""#);
            if ["Euler", "Heun", "KDPM2", "LMS", "DPMSolverSDE"].iter().any(|family| class.starts_with(family))
                && !class.starts_with("EulerAncestral")
            {
                for key in ["karras", "exponential", "beta"] {
                    all.push(format!(r#"{plain}, "use_{key}_sigmas": true"#));
                }
            }
            if in_lambda {
                for key in ["karras", "exponential", "beta", "flow"] {
                    all.push(format!(r#"{plain}, "use_{key}_sigmas": true"#));
                }
            }
            if class == "DPMSolverMultistepScheduler" {
                all.push(format!(r#"{plain}, "use_lu_lambdas": true, "solver_order": 3"#));
                let last = r#""final_sigmas_type": "sigma_min", "lambda_min_clipped": -5.1"#;
                all.push(format!(r#"{plain}, {last}, "algorithm_type": "dpmsolver", "solver_order": 3"#));
                all.push(format!(
                    r#"{plain}, {last}, "algorithm_type": "sde-dpmsolver++", "lower_order_final": false"#
                ));
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
                if ["LCMScheduler", "TCDScheduler"].contains(&class) && n > 50
                    || class == "CMStochasticIterativeScheduler" && n > 40
                {
                    assert!(scheduler.plan(n).is_err(), "they were trained on 50 and 40 steps");
                    continue;
                }
                if class == "ConsistencyDecoderScheduler" && n != 2 {
                    assert!(scheduler.plan(n).is_err(), "it was trained on two steps");
                    continue;
                }
                let gaps = options.contains("linspace") || options.contains("trailing") && 1000 % n != 0;
                if class == "CogVideoXDPMScheduler" && gaps {
                    let error = scheduler.plan(n).unwrap_err();
                    assert!(
                        matches!(error, ConfigError::Plan(PlanError::Gap { .. })),
                        "{options} in {n} steps: {error}"
                    );
                    continue;
                }
                let plan = match scheduler.plan(n) {
                    Ok(plan) => plan,
                    Err(error) => panic!("{class} {options} in {n} steps: {error}"),
                };
                // Where the original jumps there are more steps.
                let switched = scheduler.clone().compat_diffusers().plan(n).map(|plan| plan.steps());
                let as_many = switched == Ok(plan.steps()) || class == "RePaintScheduler" && switched.is_ok();
                assert!(as_many, "{class} {options} in {n} steps under the switch: {switched:?}");
                // Trailing steps of a chain whose noisy end is cut off keep their distance, and are fewer.
                let fewer = options.contains("lambda_min_clipped") && options.contains("trailing");
                // Upwards two questions at one time are one.
                let fewer = fewer || class.contains("Inverse") && options.contains("use_karras");
                // Jumps are steps, too.
                let jumps = class == "RePaintScheduler" && n > 10;
                if jumps {
                    assert!(plan.steps() > n);
                    continue;
                }
                // One class counts sigmas.
                let n = if class == "MiniMaxH3Scheduler" { n - 1 } else { n };
                assert!(plan.steps() == n || (fewer && plan.steps() < n), "{class} {options}: {} of {n}", plan.steps());
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
    let seeded =
        |seed| from_config(&format!(r#"{{"_class_name": "DPMSolverSDEScheduler", "noise_sampler_seed": {seed}}}"#));
    assert_eq!((seeded("7").unwrap().noise_seed(), seeded("null").unwrap().noise_seed()), (Some(7), None));
    assert!(seeded("-1").unwrap_err().to_string().contains("'noise_sampler_seed' of DPMSolverSDEScheduler is -1"));
    // EDM's first noise is that of data and noise together.
    assert!((edm.plan(10).unwrap().prior_deviation() - 6401f64.sqrt()).abs() < 1e-9);
}

#[test]
fn contradictions_of_multistep_classes_are_named() {
    let refused = |class: &str, options: &str| {
        let error = from_config(&format!(r#"{{"_class_name": "{class}Scheduler", {options}}}"#)).unwrap_err();
        error.to_string()
    };
    let multistep = |options| refused("DPMSolverMultistep", options);
    for (error, [first, second]) in [
        (multistep(r#""algorithm_type": "dpmsolver""#), ["final_sigmas_type", "algorithm_type"]),
        (multistep(r#""prediction_type": "flow_prediction""#), ["prediction_type", "use_flow_sigmas"]),
        (multistep(r#""use_karras_sigmas": true, "use_beta_sigmas": true"#), ["use_karras_sigmas", "use_beta_sigmas"]),
        (multistep(r#""use_karras_sigmas": true, "use_lu_lambdas": true"#), ["use_lu_lambdas", "use_karras_sigmas"]),
        (multistep(r#""use_lu_lambdas": true, "use_flow_sigmas": true"#), ["use_flow_sigmas", "use_lu_lambdas"]),
    ] {
        assert!(error.contains("contradict") && error.contains(first) && error.contains(second), "{error}");
    }
    for (error, expected) in [
        (multistep(r#""solver_order": 4"#), "1, 2 or 3"),
        (multistep(r#""solver_type": "rk""#), "midpoint or heun"),
        (multistep(r#""algorithm_type": "ddim""#), "dpmsolver, dpmsolver++"),
        (multistep(r#""use_dynamic_shifting": true"#), "use_flow_sigmas"),
        (multistep(r#""flow_shift": -1.0"#), "a positive number"),
        (multistep(r#""variance_type": "free""#), "learned_range"),
        (refused("DPMSolverSinglestep", r#""timestep_spacing": "leading""#), "no option 'timestep_spacing'"),
        (refused("DPMSolverSinglestep", r#""solver_order": 3, "algorithm_type": "sde-dpmsolver++""#), "1 or 2"),
        (refused("DEISMultistep", r#""use_lu_lambdas": true"#), "no option 'use_lu_lambdas'"),
        (refused("UniPCMultistep", r#""solver_type": "bh3""#), "bh1 or bh2"),
        (refused("UniPCMultistep", r#""sigma_max": 3.0"#), "use_karras_sigmas"),
        (refused("UniPCMultistep", r#""disable_corrector": [0.5]"#), "whole and at least 0"),
        (refused("SASolver", r#""predictor_order": 0"#), "1, 2, 3 or 4"),
        (refused("SASolver", r#""tau_func": "x""#), "a function"),
        (refused("EDMDPMSolverMultistep", r#""algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min""#), "++"),
        (refused("DPMSolverSDE", r#""prediction_type": "sample""#), "epsilon or v_prediction"),
        (refused("DPMSolverSDE", r#""use_lu_lambdas": true"#), "no option 'use_lu_lambdas'"),
        (refused("LCM", r#""original_inference_steps": 0"#), "at least 1"),
        (refused("TCD", r#""original_inference_steps": 1001"#), "at most the steps"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let tcd = from_config(r#"{"_class_name": "TCDScheduler"}"#).unwrap();
    assert!(tcd.clone().eta(1.5).is_err() && tcd.clone().eta(1.0).is_ok());
    // Among the distilled steps of the file, and among all where `set_timesteps` has a number, whichever.
    let times = |scheduler: Configured| -> Vec<f64> {
        let plan = scheduler.plan(4).unwrap();
        plan.rows().iter().filter_map(|row| row.eval.as_ref()).map(|eval| eval.at.time).collect()
    };
    assert_eq!(times(tcd.clone()), [999.0, 759.0, 499.0, 259.0]);
    assert_eq!(times(tcd.original_steps(25).unwrap()), [999.0, 749.0, 499.0, 249.0]);
    let ddim = from_config(r#"{"_class_name": "DDIMScheduler"}"#).unwrap();
    assert!(ddim.original_steps(50).unwrap_err().to_string().contains("only LCMScheduler"));
}

/// Every class has no such option, or refuses it by name.
#[test]
fn zero_terminal_snr_with_epsilon_is_refused() {
    let snr = r#""rescale_betas_zero_snr": true"#;
    let mut refused = Vec::new();
    for class in CLASSES {
        let config = |prediction: &str| {
            from_config(&format!(r#"{{"_class_name": "{class}", {snr}, "prediction_type": "{prediction}"}}"#))
        };
        match config("epsilon") {
            // No such option, or networks that predict another thing.
            Err(ConfigError::ForeignKey { .. } | ConfigError::Value { key: "prediction_type", .. }) => {}
            Err(ConfigError::Contradiction { first, second, .. }) => {
                assert_eq!([first, second], ["rescale_betas_zero_snr", "prediction_type"], "{class}");
                assert!(config("v_prediction").is_ok() && config("sample").is_ok(), "{class}");
                // It is the default, too.
                let unsaid = from_config(&format!(r#"{{"_class_name": "{class}", {snr}}}"#));
                assert!(matches!(unsaid, Err(ConfigError::Contradiction { .. })), "{class}");
                // A network that predicts noise all the same is refused by the run.
                let plan = config("v_prediction").unwrap().plan(10).unwrap();
                let epsilon = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.9)));
                let run = plan.start([4, 3], &epsilon, &Seeded::new(1), Load::on(&Device::flex())).unwrap().finish();
                let expected = SampleError::ZeroTerminalSnr { prediction: Prediction::Epsilon };
                assert_eq!(run.map(|_| ()).unwrap_err(), expected, "{class}");
                refused.push(class);
            }
            other => panic!("{class}: {other:?}"),
        }
    }
    assert_eq!(refused.len(), 13, "{refused:?}");
}

/// diffusers reads a configuration of DEIS as one of DPM-Solver++, except where it would end without noise.
#[test]
fn deis_is_read_as_dpm_solver() {
    let of = |class: &str, options: &str| from_config(&format!(r#"{{"_class_name": "{class}"{options}}}"#));
    for class in ["DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverMultistepInverse", "EDMDPMSolverMultistep"] {
        let class = format!("{class}Scheduler");
        let last = r#", "final_sigmas_type": "sigma_min""#;
        let last = if class.contains("Inverse") { "" } else { last };
        let plan =
            |kind: &str| of(&class, &format!(r#"{last}, "algorithm_type": "{kind}""#)).unwrap().plan(10).unwrap();
        assert_eq!(plan("deis"), plan("dpmsolver++"), "{class}");
        if !last.is_empty() {
            let error = of(&class, r#", "algorithm_type": "deis""#).unwrap_err();
            assert!(matches!(error, ConfigError::Contradiction { first: "final_sigmas_type", .. }), "{error}");
        }
    }
}
