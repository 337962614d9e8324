//! Churn: noise that is added before a step and taken away by it.

use super::frame::{node_at, walk};
use crate::ddpm::{check_direction, ratio};
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

pub(super) const NAME: &str = "churn";

/// Noise added before each step of a deterministic solver (Karras et al. 2022, algorithm 2, lines 4 to 6).
///
/// With `s = σ/α` and `γ = min(amount/N, √2 − 1)` the state is raised from s to `ŝ = (1 + γ)·s` by noise of deviation
/// `noise·√(ŝ² − s²)`, for s in an interval; the step then goes from ŝ to its end. N is the number of steps of the whole
/// grid. The network is asked at ŝ, which may lie beyond the noisy end of the process: its functions are followed there;
/// a chain is asked with its last time. Pure noise and clean data are not raised.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::{Churn, Heun}};
/// let churn = Churn::new(40.0)?.between(0.05, 50.0)?.noise(1.003)?;
/// let plan = Heun::new().churn(churn).plan(&Edm::default(), &Grid::karras(18, 7.0)?)?;
/// assert!(plan.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    amount: f64,
    from: f64,
    /// No limit if absent.
    until: Option<f64>,
    noise: f64,
    /// N, if it is not the number of steps.
    steps: Option<usize>,
}

impl std::fmt::Display for Churn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "churn {}", self.amount)
    }
}

/// A step whose state has been raised, or not.
pub(crate) struct Start {
    pub draws: Vec<Draw>,
    /// Raises the state in register 0.
    pub pre: Vec<Set>,
    pub ask: Level,
    pub level: Level,
    pub t: f64,
}

impl Start {
    /// Of a step whose state has not been raised.
    pub fn still(stop: &Stop) -> Self {
        Self { draws: Vec::new(), pre: Vec::new(), ask: stop.ask, level: stop.from.level, t: stop.from.t }
    }
}

/// How far a state is raised.
pub(crate) struct Rise {
    /// ŝ.
    pub ratio: f64,
    /// Deviation of the noise in x/α.
    pub std: f64,
}

impl Churn {
    /// Churn of an amount, `S_churn` of the paper; 0 adds nothing.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a negative amount or one that is not finite.
    pub fn new(amount: f64) -> Result<Self, PlanError> {
        let churn = Self { amount, from: 0.0, until: None, noise: 1.0, steps: None };
        churn.check()?;
        Ok(churn)
    }

    /// Only where σ/α lies in this interval, ends included: `S_tmin` and `S_tmax`. The upper end may be infinite.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 <= low <= high`.
    pub fn between(mut self, low: f64, high: f64) -> Result<Self, PlanError> {
        self.from = low;
        self.until = (high != f64::INFINITY).then_some(high);
        self.check()?;
        Ok(self)
    }

    /// Factor on the added noise, `S_noise`; a little above 1 makes up for the detail that a network loses.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise = factor;
        self.check()?;
        Ok(self)
    }

    /// Divides the amount by this number instead of the number of steps.
    pub fn over(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        let error = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if !(self.amount >= 0.0 && self.amount.is_finite()) {
            return error("the amount", self.amount, "a finite number, at least 0");
        }
        if !(self.from >= 0.0 && self.from.is_finite()) {
            return error("the lower end", self.from, "a finite number, at least 0");
        }
        if let Some(until) = self.until
            && !(until >= self.from)
        {
            return error("the upper end", until, "at least the lower end");
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return error("the noise factor", self.noise, "a finite number, at least 0");
        }
        if self.steps == Some(0) {
            return error("the number of steps", 0.0, "at least 1");
        }
        Ok(())
    }

    /// How far a state at this level is raised in a grid of `steps` steps.
    pub(crate) fn rise(&self, from: &Level, steps: usize) -> Option<Rise> {
        let s = ratio(from);
        let inside = s >= self.from && self.until.is_none_or(|until| s <= until);
        let gamma = (self.amount / self.steps.unwrap_or(steps) as f64).min(std::f64::consts::SQRT_2 - 1.0);
        if !(inside && gamma > 0.0 && s > 0.0 && s.is_finite()) {
            return None;
        }
        // ŝ² − s² = s²·γ(2 + γ).
        Some(Rise { ratio: s * (1.0 + gamma), std: self.noise * s * (gamma * (2.0 + gamma)).sqrt() })
    }
}

/// A solver's name together with its churn.
pub(super) fn name(solver: impl std::fmt::Display, churn: Option<&Churn>) -> String {
    churn.map_or_else(|| solver.to_string(), |churn| format!("{solver}, {churn}"))
}

/// Where a step starts, with churn or without.
pub(super) fn start(
    churn: Option<&Churn>,
    solver: &'static str,
    process: &dyn Process,
    stop: &Stop,
    steps: usize,
) -> Result<Start, PlanError> {
    let from = &stop.from.level;
    let Some(rise) = churn.and_then(|churn| churn.rise(from, steps)) else {
        return Ok(Start::still(stop));
    };
    let raised = node_at(solver, process, rise.ratio)?;
    let alpha = raised.level.alpha;
    let noisy = rise.std > 0.0;
    let mut sum = vec![Term::new(alpha / from.alpha, Src::X(0))];
    if noisy {
        sum.push(Term::new(alpha * rise.std, Src::Z(0)));
    }
    Ok(Start {
        draws: if noisy { vec![Draw::WHITE] } else { Vec::new() },
        pre: vec![Set::new(0, sum)],
        ask: raised.level,
        level: raised.level,
        t: raised.t,
    })
}

/// The steps of a grid, raised.
pub(crate) struct Raised {
    /// As the grid has them.
    pub stops: Vec<Stop>,
    /// From where churn leaves them.
    pub raised: Vec<Stop>,
    starts: Vec<Start>,
}

/// Raises the steps of a falling grid without gaps.
pub(crate) fn raise(
    churn: &Churn,
    solver: &'static str,
    process: &dyn Process,
    grid: &Grid,
) -> Result<Raised, PlanError> {
    churn.check()?;
    let (stops, steps) = walk(process, grid)?;
    // The solver alone may run upwards.
    check_direction(NAME, &stops, true)?;
    check_joined(solver, &stops)?;
    let starts = stops.iter().map(|stop| start(Some(churn), solver, process, stop, steps));
    let starts: Vec<Start> = starts.collect::<Result<_, _>>()?;
    let raised = stops.iter().zip(&starts).map(|(stop, start)| Stop {
        ask: start.ask,
        from: Node { t: start.t, level: start.level },
        to: stop.to,
    });
    let raised = raised.collect();
    Ok(Raised { stops, raised, starts })
}

/// The plan of a solver with churn, from the name and the rows that it has for raised steps.
pub(crate) fn plan_raised(
    churn: &Churn,
    solver: &'static str,
    process: &dyn Process,
    grid: &Grid,
    table: impl FnOnce(&[Stop]) -> Result<(String, Vec<Row>), PlanError>,
) -> Result<Plan, PlanError> {
    plan_raised_where(churn, solver, process, grid, |stops| vec![true; stops.len()], table)
}

/// The same of a solver whose state is raised before some of the grid's steps alone.
pub(crate) fn plan_raised_where(
    churn: &Churn,
    solver: &'static str,
    process: &dyn Process,
    grid: &Grid,
    begins: impl FnOnce(&[Stop]) -> Vec<bool>,
    table: impl FnOnce(&[Stop]) -> Result<(String, Vec<Row>), PlanError>,
) -> Result<Plan, PlanError> {
    let Raised { stops, mut raised, mut starts } = raise(churn, solver, process, grid)?;
    for (index, _) in begins(&stops).into_iter().enumerate().filter(|(_, begins)| !begins) {
        (raised[index], starts[index]) = (stops[index], Start::still(&stops[index]));
    }
    let (own, mut rows) = table(&raised)?;
    if rows.iter().any(|row| !row.draws.is_empty()) {
        return already_noisy(churn, own);
    }
    let mut starts = starts.into_iter();
    let mut begins = true;
    for row in &mut rows {
        let start = if begins { starts.next() } else { None };
        if let Some(start) = start {
            row.draws = start.draws;
            row.pre.splice(0..0, start.pre);
        }
        begins = row.step.is_some();
    }
    Ok(Plan::new(name(own, Some(churn)), stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
}

/// Churn around a solver that takes it, and may have it already.
pub(super) fn add<S: Solver + Clone>(
    churn: &Churn,
    (solver, has): (&S, bool),
    with: impl FnOnce(S, Churn) -> S,
    process: &dyn Process,
    grid: &Grid,
) -> Result<Plan, PlanError> {
    if has {
        return already_noisy(churn, solver.plan(process, grid)?.name());
    }
    with(solver.clone(), churn.clone()).plan(process, grid)
}

/// Churn around a solver with noise of its own.
pub(crate) fn already_noisy<T>(churn: &Churn, solver: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Combination {
        first: churn.to_string(),
        second: solver.into(),
        reason: "the solver draws noise of its own; take one of the two",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::Edm;

    /// The lines of the paper's algorithm on its own process.
    #[test]
    fn raises_as_the_paper_does() {
        let churn = Churn::new(30.0).unwrap().between(0.5, 10.0).unwrap().noise(1.007).unwrap();
        let edm = Edm::default();
        for (sigma, steps) in [(80.0, 100), (10.0, 100), (2.0, 100), (0.5, 100), (0.4, 100), (2.0, 18)] {
            let gamma = if (0.5..=10.0).contains(&sigma) { (30.0 / steps as f64).min(2f64.sqrt() - 1.0) } else { 0.0 };
            let raised = sigma + gamma * sigma;
            let stop = Stop { ask: edm.level(sigma), from: edm.node(sigma), to: edm.node(sigma / 2.0) };
            let start = start(Some(&churn), "test", &edm, &stop, steps).unwrap();
            assert!((start.level.sigma - raised).abs() < 1e-12 * raised, "{sigma}: {}", start.level.sigma);
            if gamma == 0.0 {
                assert!(start.draws.is_empty() && start.pre.is_empty());
                continue;
            }
            let std = 1.007 * (raised * raised - sigma * sigma).sqrt();
            let crate::plan::Coef::C(found) = start.pre[0].sum[1].c else { panic!("a number") };
            assert!((found / std - 1.0).abs() < 1e-12, "{found} and {std}");
        }
    }
}
