//! Bad input to the solvers in σ/α and to published configurations, one test each.

use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::core::{Grid, Level, Prediction};
use langevin::schedulers::diffusers::{self, ConfigError};
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use langevin::schedulers::{PlanError, Solver};

/// Checks that a message has all of these parts.
fn says(error: impl std::fmt::Display, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::DDPM, 1000).expect("a chain")
}

#[test]
fn eta_and_noise_of_ancestral_solvers() {
    for bad in [-0.1, f64::NAN, f64::INFINITY] {
        let errors = [
            EulerAncestral::new().eta(bad).expect_err("out of range"),
            EulerAncestral::new().noise(bad).expect_err("out of range"),
            Dpm2Ancestral::new().eta(bad).expect_err("out of range"),
            Dpm2Ancestral::new().noise(bad).expect_err("out of range"),
        ];
        for error in errors {
            assert!(matches!(error, PlanError::Setting { .. }), "{error:?}");
            says(error, &["ancestral is", &bad.to_string(), "at least 0"]);
        }
    }
    // From a file, too.
    let text = r#"{"noise": {"eta": -1.0, "factor": 1.0}}"#;
    let solver: EulerAncestral = serde_json::from_str(text).expect("numbers");
    says(solver.plan(&chain(), &Grid::leading(5)).expect_err("out of range"), &["eta of Euler ancestral is -1"]);
}

#[test]
fn churn_outside_its_range() {
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        says(Churn::new(bad).expect_err("out of range"), &["the amount of churn is", &bad.to_string(), "at least 0"]);
        let churn = Churn::new(1.0).expect("in range");
        says(churn.noise(bad).expect_err("out of range"), &["the noise factor of churn is", &bad.to_string()]);
    }
    let between = |low, high| Churn::new(1.0).expect("in range").between(low, high);
    says(between(-1.0, 2.0).expect_err("out of range"), &["the lower end of churn is -1"]);
    says(between(2.0, 1.0).expect_err("turned round"), &["the upper end of churn is 1", "at least the lower end"]);
    says(between(f64::NAN, 1.0).expect_err("NaN"), &["the lower end", "NaN"]);
    says(between(0.0, f64::NAN).expect_err("NaN"), &["the upper end", "NaN"]);
    assert!(between(0.0, f64::INFINITY).is_ok());
    says(
        Euler::new()
            .churn(Churn::new(1.0).expect("in range").over(0))
            .plan(&chain(), &Grid::leading(5))
            .expect_err("no steps"),
        &["the number of steps of churn is 0"],
    );
    // From a file, too: the setting is checked when it plans.
    let text = r#"{"churn": {"amount": -2.0, "from": 0.0, "until": null, "noise": 1.0, "steps": null}}"#;
    let heun: Heun = serde_json::from_str(text).expect("numbers");
    says(heun.plan(&chain(), &Grid::leading(5)).expect_err("out of range"), &["the amount of churn is -2"]);
}

#[test]
fn late_churn_of_scores() {
    for prediction in [Prediction::Score, Prediction::Flow, Prediction::FlowToData] {
        let euler = Euler::new().churn(Churn::new(1.0).expect("in range")).churn_after_asking(prediction);
        says(euler.plan(&chain(), &Grid::leading(5)).expect_err("not known"), &["Euler", "ask after churn"]);
    }
}

#[test]
fn orders_of_multistep_solvers() {
    for order in [0, 5, 100] {
        let error = Lms::new(order).expect_err("out of range");
        says(error, &["the order of LMS is", &order.to_string(), "1, 2, 3 or 4"]);
    }
    let lms: Lms = serde_json::from_str(r#"{"order": 0, "churn": null}"#).expect("a number");
    says(lms.plan(&chain(), &Grid::leading(5)).expect_err("out of range"), &["the order of LMS is 0"]);
}

#[test]
fn a_runge_kutta_start_without_room() {
    let error = Pndm::runge_kutta().plan(&chain(), &Grid::leading(3).strided()).expect_err("too few steps");
    says(error, &["the number of steps of PNDM is 3", "at least 4"]);
    // Levels beyond the process's range have no time between them.
    let level = |sigma| Level { alpha: 1.0, sigma, time: 0.0 };
    let grid = Grid::levels([900.0, 800.0, 700.0, 600.0, 5.0, 1.0].map(level).to_vec()).expect("falling");
    says(Pndm::runge_kutta().plan(&chain(), &grid).expect_err("no time"), &["PNDM is singular", "takes no time"]);
}

#[test]
fn sigmas_that_do_not_fall() {
    let rising = Grid::leading(10).inverted();
    let churn = || Churn::new(1.0).expect("in range");
    let solvers: [&dyn Solver; 7] = [
        &EulerAncestral::new(),
        &Dpm2Ancestral::new(),
        &Pndm::new(),
        &Euler::new().churn(churn()),
        &Heun::new().churn(churn()),
        &Dpm2::new().churn(churn()),
        &Ipndm::new().churn(churn()),
    ];
    for solver in solvers {
        let error = solver.plan(&chain(), &rising).expect_err("rising");
        assert!(matches!(error, PlanError::Direction { expected: "falling", step: 0, .. }), "{error:?}");
        says(error, &["needs falling noise levels"]);
    }
    // Without noise they run upwards.
    let joined = Grid::uniform(10).inverted();
    let lms = Lms::new(3).expect("in range");
    for solver in [&Euler::new() as &dyn Solver, &Heun::new(), &Dpm2::new(), &Ipndm::new(), &lms] {
        assert!(solver.plan(&VpSde::default(), &joined).is_ok());
    }
}

#[test]
fn steps_with_gaps() {
    let lms = Lms::new(3).expect("in range");
    for solver in [&Heun::new() as &dyn Solver, &Dpm2::new(), &Dpm2Ancestral::new(), &Ipndm::new(), &lms] {
        let error = solver.plan(&chain(), &Grid::linspace(7).strided()).expect_err("a gap");
        assert!(matches!(error, PlanError::Gap { step: 0, .. }), "{error:?}");
        says(error, &["integrates without gaps", "use a grid whose steps join"]);
    }
}

// Published configurations.

fn named(class: &str, options: &str) -> String {
    format!("{{\"_class_name\": \"{class}\"{options}}}")
}

#[test]
fn configurations_that_contradict_themselves() {
    let read = |options: &str| diffusers::from_config(&named("EulerDiscreteScheduler", options));
    let error = read(r#", "use_karras_sigmas": true, "use_beta_sigmas": true"#).expect_err("two schedules");
    assert!(matches!(error, ConfigError::Contradiction { .. }), "{error:?}");
    says(error, &["'use_karras_sigmas' and 'use_beta_sigmas'", "take one of them"]);
    let karras = read(r#", "use_karras_sigmas": true"#).expect("a scheduler");
    says(karras.grid_at(&[900.0, 1.0]).expect_err("times"), &["'timesteps' and 'use_karras_sigmas'"]);
    let continuous =
        read(r#", "timestep_type": "continuous", "prediction_type": "v_prediction""#).expect("a scheduler");
    says(continuous.grid_at(&[900.0, 1.0]).expect_err("times"), &["'timesteps' and 'timestep_type'"]);
}

#[test]
fn values_that_sigma_schedulers_do_not_take() {
    let bad = |class: &str, options: &str| diffusers::from_config(&named(class, options)).expect_err("a bad value");
    let euler = "EulerDiscreteScheduler";
    says(bad(euler, r#", "interpolation_type": "cubic""#), &["'interpolation_type'", "cubic", "linear or log_linear"]);
    says(bad(euler, r#", "timestep_type": "odd""#), &["'timestep_type'", "discrete or continuous"]);
    says(bad(euler, r#", "final_sigmas_type": "last""#), &["'final_sigmas_type'", "zero or sigma_min"]);
    says(bad(euler, r#", "sigma_min": -1"#), &["'sigma_min'", "-1", "a positive number"]);
    says(
        bad("HeunDiscreteScheduler", r#", "sigma_min": 1"#),
        &["HeunDiscreteScheduler has no option 'sigma_min'", "one of EulerDiscreteScheduler", "would ignore it"],
    );
    let misspelt = bad("HeunDiscreteScheduler", r#", "use_karas_sigmas": true"#);
    says(misspelt, &["has no option 'use_karas_sigmas'", "use_karras_sigmas"]);
    says(bad("PNDMScheduler", r#", "prediction_type": "sample""#), &["'prediction_type'", "epsilon or v_prediction"]);
    says(bad("IPNDMScheduler", r#", "beta_start": 0.1"#), &["IPNDMScheduler has no option 'beta_start'"]);
    let edm = "EDMEulerScheduler";
    says(bad(edm, r#", "sigma_schedule": "linear""#), &["'sigma_schedule'", "karras or exponential"]);
    says(bad(edm, r#", "sigma_data": 0"#), &["'sigma_data'", "a positive number"]);
    says(bad(edm, r#", "rho": 0"#), &["'rho'", "a positive number"]);
    says(bad(edm, r#", "prediction_type": "sample""#), &["'prediction_type'", "epsilon or v_prediction"]);
    says(bad(edm, r#", "sigma_min": 100"#), &["sigma_max"]);
}

#[test]
fn arguments_that_a_scheduler_does_not_take() {
    let read = |class: &str| diffusers::from_config(&named(class, "")).expect("defaults");
    let churned = |class: &str| read(class).churn(1.0, (0.0, f64::INFINITY), 1.0);
    for class in ["EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "HeunDiscreteScheduler"] {
        says(churned(class).expect_err("no churn"), &[class, "'s_churn'", "only EulerDiscreteScheduler"]);
    }
    assert!(churned("EulerDiscreteScheduler").is_ok() && churned("EDMEulerScheduler").is_ok());
    let euler = || read("EulerDiscreteScheduler");
    says(euler().churn(-1.0, (0.0, 1.0), 1.0).expect_err("negative"), &["the amount of churn is -1"]);
    says(euler().order(2).expect_err("no order"), &["'order'", "only LMSDiscreteScheduler"]);
    says(read("LMSDiscreteScheduler").order(5).expect_err("too high"), &["the order of LMS is 5"]);
    says(
        read("KDPM2DiscreteScheduler").grid_at(&[9.0]).expect_err("no times"),
        &["'timesteps'", "chooses them itself"],
    );
    says(read("PNDMScheduler").grid_at(&[9.0]).expect_err("no times"), &["PNDMScheduler", "'timesteps'"]);
    says(read("HeunDiscreteScheduler").grid_of_sigmas(&[9.0, 0.0]).expect_err("no sigmas"), &["'sigmas'"]);
    says(read("DDPMScheduler").grid_of_sigmas(&[9.0, 0.0]).expect_err("no sigmas"), &["DDPMScheduler", "'sigmas'"]);
}

#[test]
fn grids_that_schedulers_cannot_make() {
    let read = |class: &str| diffusers::from_config(&named(class, "")).expect("defaults");
    for class in diffusers::CLASSES {
        assert!(read(class).plan(0).is_err(), "{class} in no steps");
    }
    let euler = read("EulerDiscreteScheduler");
    says(euler.plan(1001).expect_err("too many"), &["1001", "take at most 1000"]);
    says(euler.grid_of_sigmas(&[1.0, 2.0, 0.0]).expect_err("rising"), &["position 1", "half-log-SNR"]);
    says(euler.grid_of_sigmas(&[f64::NAN, 0.0]).expect_err("NaN"), &["position 0", "NaN"]);
    says(euler.grid_of_sigmas(&[]).expect_err("nothing"), &["at least one step"]);
    says(euler.grid_at(&[1.0, 2.0]).expect_err("rising"), &["1 is followed by 2"]);
    says(euler.grid_at(&[]).expect_err("nothing"), &["at least one step"]);
    let edm = read("EDMEulerScheduler");
    says(edm.grid_of_sigmas(&[0.0, f64::NAN]).expect_err("NaN"), &["position 1", "NaN"]);
    assert!(edm.grid_of_sigmas(&[]).is_err() && edm.grid_of_sigmas(&[1.0, 0.0]).is_err());
}
