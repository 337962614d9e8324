//! Euler-Maruyama steps.

use super::check_factor;
use super::simulation::{Scheme, Simulation};
use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};

pub(super) const NAME: &str = "Euler-Maruyama";

/// The Euler-Maruyama method.
///
/// As a [`Solver`] it plans the reverse SDE of a process, `dx = (f·x − g²·score) dt + g dW̄` with
/// `score = −ε̂/σ`, walking time backwards: one step from t to s < t is
/// `x + (f·x + g²/σ·ε̂)·(s − t) + g·√(t − s)·z`, with f, g and σ at t. With [`simulate`](Self::simulate) it runs an
/// [`Sde`](super::Sde) that the user writes.
///
/// A step whose factor of the state, `1 + f·(s − t)`, is beyond 10 in size is refused: it would make ten times as much of
/// what is almost all noise, and no later step takes that back. Processes that end in pure noise (α = 0) have such steps at
/// their noisy end, however short; [`ReverseDiffusion`](super::ReverseDiffusion) can start there.
///
/// Strong order 1 here, since the noise is additive (½ for a user's SDE with noise that depends on the state);
/// weak order 1.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{EulerMaruyama, Solver};
/// let plan = EulerMaruyama::new().denoise_at_end().plan(&VpSde::default(), &Grid::uniform(1000))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (1000, 1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Maruyama 1955; Kloeden & Platen 1992, chapter 10; Song et al. 2021, eq. 6 and appendix E.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EulerMaruyama {
    path: bool,
    denoise: bool,
    unit: bool,
}

impl EulerMaruyama {
    /// With white noise in every step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws increments of one Brownian path per sample in place of white noise, so that runs with different numbers of
    /// steps see the same noise and converge to the same sample.
    ///
    /// A user's [`Sde`](super::Sde) is driven by W in its own time, which must not be negative. The reverse SDE of a
    /// process is driven by W in the clock `c = α²/σ²`, which does not depend on how the process is parameterized: with
    /// `v = α·x/σ²` the exact reverse SDE is `dv = x̂_0 dc + dW_c`. In a step from t to s the noise is
    /// `z = (W(c_s) − W(c_t))/√(c_s − c_t)`; this differs from the exact `∫ dW_c` by higher order only.
    pub fn path(mut self) -> Self {
        self.path = true;
        self
    }

    /// Adds no noise in the last step of a plan: the result is the mean of that step.
    pub fn denoise_at_end(mut self) -> Self {
        self.denoise = true;
        self
    }

    /// Takes `Δt = −1/N` in each of the N steps of a plan, whatever the spacing of its grid, as the original score-SDE
    /// predictor does. For processes on [0, 1].
    pub fn unit_steps(mut self) -> Self {
        self.unit = true;
        self
    }

    /// Puts a user's [`Sde`](super::Sde) (or [`HostSde`](super::HostSde)) on a list of times, rising or falling; one step
    /// from each to the next, `x + b·Δt + G·√|Δt|·z` with b and G at the step's beginning.
    ///
    /// Falling times integrate the same equation backwards in time with noise of its own; they do not invert a path.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than two times, times that are not finite or neither rise nor fall, and negative
    /// times together with [`path`](Self::path).
    pub fn simulate<S>(&self, sde: S, times: Vec<f64>) -> Result<Simulation<S>, PlanError> {
        Simulation::new(Scheme::EulerMaruyama, self.path, sde, times)
    }

    /// As [`simulate`](Self::simulate), with `steps` equal steps.
    ///
    /// # Errors
    /// As [`simulate`](Self::simulate); [`PlanError::Setting`] for no steps.
    pub fn simulate_uniform<S>(&self, sde: S, times: (f64, f64), steps: usize) -> Result<Simulation<S>, PlanError> {
        Simulation::uniform(Scheme::EulerMaruyama, self.path, sde, times, steps)
    }

    fn row(&self, process: &dyn Process, index: usize, stops: &[Stop]) -> Result<Row, PlanError> {
        let stop = &stops[index];
        let last = index + 1 == stops.len();
        let dt = if self.unit { -1.0 / stops.len() as f64 } else { stop.to.t - stop.from.t };
        let (t, sigma) = (stop.from.t, stop.from.level.sigma);
        let (drift, squared) = (process.drift(t), process.diffusion_squared(t));
        let (of_x, of_eps, std) = (1.0 + drift * dt, squared / sigma * dt, (squared * dt.abs()).sqrt());
        if ![of_x, of_eps, std].iter().all(|number| number.is_finite()) {
            let advice = "the reverse SDE has an infinite drift there; leave this time out of the grid, for instance with `Grid::between`";
            return Err(singular(stop.from.t, &stop.from.level, advice));
        }
        check_factor(NAME, index, stop, of_x)?;
        let noisy = !(last && self.denoise);
        let mut sum = vec![Term::new(of_x, Src::X(0)), Term::new(of_eps, Src::Eps(0))];
        let mut draw = None;
        if noisy && self.path {
            let (from, until) = (clock(&stop.from.level), clock(&stop.to.level));
            if !until.is_finite() {
                let advice = "the path's clock α²/σ² is infinite there; end the grid with `.ending(End::Range)`, or use \
                              `.denoise_at_end()`";
                return Err(singular(stop.to.t, &stop.to.level, advice));
            }
            draw = Some(Draw::Path { to: 0, from, until });
            sum.push(Term::new(std / (until - from).sqrt(), Src::Z(0)));
        } else if noisy {
            draw = Some(Draw::WHITE);
            sum.push(Term::new(std, Src::Z(0)));
        }
        Ok(Row::step(index, stop, 0, sum, draw))
    }
}

fn singular(t: f64, level: &Level, advice: &'static str) -> PlanError {
    PlanError::Singular { solver: NAME, t, alpha: level.alpha, sigma: level.sigma, advice }
}

/// The clock of Brownian paths along which reverse SDEs are driven, α²/σ².
pub(crate) fn clock(level: &Level) -> f64 {
    (level.alpha / level.sigma).powi(2)
}

impl Solver for EulerMaruyama {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let rows = (0..stops.len()).map(|index| self.row(process, index, &stops)).collect::<Result<_, _>>()?;
        Ok(Plan::new(format!("{NAME} (reverse SDE)"), stops[0].from, prior_std(process, &stops[0].from), rows)?
            .on(process))
    }
}
