//! The open loop: single steps from recorded states, with recorded answers behind them, and what has none to compare.

use crate::fixture::Case;
use crate::schedulers::{tensor, values};
use burn::tensor::Tensor;
use langevin::core::denoiser::After;
use langevin::core::{Constraint, DenoiseError};
use langevin::schedulers::Plan;
use std::sync::Mutex;

/// Fields with a recorded state for each step, or for each call of one.
const STATES: [&str; 3] = ["prev_sample", "x_at_callback", "path"];

/// Cases in which no step is recorded: a folder, a part of the name or the function, and the reason.
const WITHOUT_STEPS: &[(&str, &str, &str)] = &[
    ("k_diffusion/", "schedules", "lists of noise levels"),
    ("k_diffusion/", "ancestral_step", "two numbers for each pair of levels, all compared"),
    ("k_diffusion/", "log_likelihood", "a number for each sample; the states of the ODE are not recorded"),
    ("k_diffusion/", "sample_dpm_fast", "start, levels, noise and end: the function shows no state between"),
    ("k_diffusion/", "sample_dpm_adaptive", "start, levels, noise and end: the function shows no state between"),
    ("score_sde/", "marginal", "functions of time"),
    ("score_sde/", "pf_ode_", "start and end of an adaptive solution; the original's steps are not recorded"),
    ("score_sde/", "likelihood", "start and end of an adaptive solution, and densities"),
    ("score_sde/", "loss_weights", "functions of time"),
];

/// How many steps of a case that ran were compared: all that are recorded. A case without any has to be on the list.
pub fn steps(case: &Case<'_>) -> Result<usize, String> {
    let recorded = STATES.iter().filter_map(|field| case.value["tensors"][*field]["shape"][0].as_u64()).sum::<u64>();
    judged(recorded as usize, case.steps_compared(), without_steps(case))
}

fn judged(recorded: usize, compared: usize, without: Option<&str>) -> Result<usize, String> {
    match without {
        None if recorded == 0 => Err("no step is recorded, and nothing says why".into()),
        Some(reason) if recorded > 0 => Err(format!("{recorded} steps are recorded, and yet: {reason}")),
        _ if recorded == compared => Ok(compared),
        _ => Err(format!("{compared} of {recorded} recorded steps were compared in open loop")),
    }
}

#[test]
fn steps_that_are_not_compared_fail() {
    assert_eq!(judged(8, 8, None), Ok(8));
    assert_eq!(judged(0, 0, Some("a list")), Ok(0));
    for (recorded, compared, without) in
        [(8, 7, None), (8, 0, None), (8, 9, None), (0, 0, None), (8, 8, Some("a list"))]
    {
        assert!(judged(recorded, compared, without).is_err(), "{recorded}, {compared}, {without:?}");
    }
}

/// Why no step of a case is recorded.
pub fn without_steps(case: &Case<'_>) -> Option<&'static str> {
    let fixture = case.fixture.manifest["fixture"].as_str().unwrap_or("");
    let what = case.value["function"].as_str().unwrap_or(case.name());
    // Behind the process: "vp/marginal".
    let what = what.rsplit('/').next().unwrap_or(what);
    let row = WITHOUT_STEPS.iter().find(|(folder, start, _)| fixture.starts_with(folder) && what.starts_with(start));
    row.map(|(.., reason)| *reason)
}

/// Whether a fixture is of a kind whose cases have steps.
pub fn has_steps(case: &Case<'_>) -> bool {
    let fixture = case.fixture.manifest["fixture"].as_str().unwrap_or("");
    ["schedulers/", "k_diffusion/", "score_sde/"].iter().any(|folder| fixture.starts_with(folder))
}

/// The row that each step begins with.
pub fn firsts(plan: &Plan) -> Vec<usize> {
    let ends: Vec<bool> = plan.rows().iter().map(|row| row.step.is_some()).collect();
    (0..ends.len()).filter(|row| *row == 0 || ends[row - 1]).collect()
}

/// Keeps the state after each step, and goes on from another where there is one.
#[derive(Default)]
pub struct Recorded {
    /// What goes on in its place, for each step.
    instead: Vec<Vec<f64>>,
    seen: Mutex<Vec<Vec<f64>>>,
}

impl Recorded {
    pub fn new(instead: Vec<Vec<f64>>) -> Self {
        Self { instead, seen: Mutex::default() }
    }

    /// The states after each step, before others took their places.
    pub fn seen(self) -> Vec<Vec<f64>> {
        self.seen.into_inner().expect("no panic")
    }
}

impl Constraint<4> for Recorded {
    fn apply(&self, x: Tensor<4>, _after: &After<'_>) -> Result<Tensor<4>, DenoiseError> {
        let mut seen = self.seen.lock().expect("no panic");
        let instead = self.instead.get(seen.len()).cloned();
        seen.push(values(&x));
        Ok(match instead {
            Some(instead) => tensor(instead, x.dims()),
            None => x,
        })
    }
}
