//! The probability-flow ODE on a fixed grid.

use super::Tableau;
use crate::ddpm::{check_direction, falls, ratio};
use crate::plan::{Eval, Plan, Row, Set, Slot, Src, Term};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};

const NAME: &str = "probability flow";

/// Runge-Kutta steps of the probability-flow ODE `dx/dt = α̇·x̂_0 + σ̇·ε̂` in the process's own time t.
///
/// Works on every process, on falling grids (sampling) and rising ones (encoding). Inner stages ask at
/// `process.level(t + c·h)`, so the whole grid must lie in the process's time range: end it with
/// `.ending(End::Range)` where the clean end is outside (a chain's last step, σ = 0 of a VP process).
///
/// Euler's method here is not DDIM: DDIM integrates the same ODE exactly in all but x̂_0.
///
/// ```
/// use langevin_core::{Grid, grid::End, process::VpSde};
/// use langevin_schedulers::{Solver, ode::ProbabilityFlow};
/// let plan = ProbabilityFlow::heun().plan(&VpSde::default(), &Grid::uniform(20).ending(End::Range))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 40));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", eq. 13.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbabilityFlow {
    tableau: Tableau,
}

impl ProbabilityFlow {
    /// With any explicit method; stages at its end that do not count are left out.
    pub fn new(tableau: Tableau) -> Self {
        Self { tableau }
    }

    /// Euler's method: order 1, one evaluation a step.
    pub fn euler() -> Self {
        Self::new(Tableau::euler())
    }

    /// Heun's method: order 2, two evaluations a step.
    pub fn heun() -> Self {
        Self::new(Tableau::heun())
    }

    /// The classical Runge-Kutta method: order 4, four evaluations a step.
    pub fn rk4() -> Self {
        Self::new(Tableau::rk4())
    }

    /// Name and rows of the plan for these steps.
    fn table(&self, process: &dyn Process, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            self.rows(process, index, stop, &mut rows)?;
        }
        Ok((format!("{NAME} ({})", self.tableau.name()), rows))
    }

    fn rows(&self, process: &dyn Process, index: usize, stop: &Stop, rows: &mut Vec<Row>) -> Result<(), PlanError> {
        let h = stop.to.t - stop.from.t;
        let weights = self.tableau.weights();
        let count = weights.iter().rposition(|b| *b != 0.0).map_or(1, |last| last + 1);
        let mut slopes = Vec::with_capacity(count);
        for stage in 0..count {
            let node = match self.tableau.nodes()[stage] {
                0.0 => stop.from,
                1.0 => stop.to,
                c => process.node(stop.from.t + c * h),
            };
            let slope = Slope::at(process, node.t)?;
            let last = stage + 1 == count;
            let slot = stage as Slot;
            let inner = Set::new(1, sum(h, self.tableau.row(stage), &slopes));
            slopes.push(slope);
            rows.push(Row {
                draws: Vec::new(),
                pre: if stage == 0 { Vec::new() } else { vec![inner] },
                eval: Some(Eval {
                    at: if stage == 0 { stop.ask } else { slope.level },
                    x: u8::from(stage > 0),
                    into: slot,
                }),
                post: if last { vec![Set::new(0, sum(h, weights, &slopes))] } else { Vec::new() },
                step: last.then_some(index as u32),
                after: if last { stop.to } else { node },
                report: if last { vec![Term::new(1.0, Src::X0(slot))] } else { Vec::new() },
            });
        }
        Ok(())
    }
}

/// `x + h·Σ weight·k` in terms of the estimates of each stage.
fn sum(h: f64, weights: &[f64], slopes: &[Slope]) -> Vec<Term> {
    let mut terms = vec![Term::new(1.0, Src::X(0))];
    for (stage, (weight, slope)) in weights.iter().zip(slopes).enumerate() {
        terms.push(Term::new(h * weight * slope.of_x0, Src::X0(stage as Slot)));
        terms.push(Term::new(h * weight * slope.of_eps, Src::Eps(stage as Slot)));
    }
    terms
}

/// The slope `α̇·x̂_0 + σ̇·ε̂` at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slope {
    pub level: Level,
    pub of_x0: f64,
    pub of_eps: f64,
}

impl Slope {
    pub fn at(process: &dyn Process, t: f64) -> Result<Self, PlanError> {
        let level = process.level(t);
        let (of_x0, of_eps) = (process.alpha_dot(t), process.sigma_dot(t));
        if [level.alpha, level.sigma, level.time, of_x0, of_eps].iter().all(|number| number.is_finite()) {
            return Ok(Self { level, of_x0, of_eps });
        }
        Err(PlanError::Singular {
            solver: NAME,
            t,
            alpha: level.alpha,
            sigma: level.sigma,
            advice: "α or σ has no finite slope there; leave this time out, for instance with `.ending(End::Range)`",
        })
    }
}

/// Checks that a time lies in a process's range, up to rounding.
pub(crate) fn check_time(solver: &'static str, process: &dyn Process, t: f64) -> Result<(), PlanError> {
    let (clean, noisy) = process.time_range();
    let slack = 1e-9 * (noisy - clean);
    if t >= clean - slack && t <= noisy + slack {
        return Ok(());
    }
    Err(PlanError::TimeRange { solver, t, clean, noisy })
}

/// Checks that each step starts at the time at which the one before ended.
pub(crate) fn check_joined(solver: &'static str, stops: &[Stop]) -> Result<(), PlanError> {
    for (step, pair) in stops.windows(2).enumerate() {
        let (reached, next) = (pair[0].to.t, pair[1].from.t);
        if reached != next {
            return Err(PlanError::Gap { solver, step, reached, next });
        }
    }
    Ok(())
}

impl Solver for ProbabilityFlow {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, falls(&stops))?;
        check_joined(NAME, &stops)?;
        for stop in &stops {
            check_time(NAME, process, stop.from.t)?;
            check_time(NAME, process, stop.to.t)?;
        }
        let (name, rows) = self.table(process, &stops)?;
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        plan_raised(churn, NAME, process, grid, |stops| {
            // A process that stays at its end has no time in which the flow could come back from a raised level.
            let gone = |stop: &&Stop| (ratio(&process.level(stop.from.t)) / ratio(&stop.from.level) - 1.0).abs() > 1e-6;
            if let Some(Stop { from, .. }) = stops.iter().find(gone) {
                let advice = "churn leads beyond the process's range there, where it takes no time; restrict churn with \
                              `between`";
                let (alpha, sigma) = (from.level.alpha, from.level.sigma);
                return Err(PlanError::Singular { solver: NAME, t: from.t, alpha, sigma, advice });
            }
            self.table(process, stops)
        })
    }
}
