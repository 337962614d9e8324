//! The reverse diffusion sampler: the reverse SDE discretized as the forward chain is.

use super::check_factor;
use crate::ddpm::check_direction;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::process::{Betas, DiscreteChain, Transition, VeSde, VpSde};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "reverse diffusion";

/// Reverse diffusion steps on any process.
///
/// The forward step from s to t is `x_t = a·x_s + √v·z` with `a = α_t/α_s` and `v = σ_t² − a²·σ_s²`; its
/// discretized reverse is `x_s = (2 − a)·x_t + v·score + √v·z`. On a VE process this is
/// `x_t + (σ_t² − σ_s²)·score + √(σ_t² − σ_s²)·z`.
///
/// The state's factor `2 − a` is never above 2, also where α_t = 0 and the drift of the reverse SDE is infinite: a step
/// from pure noise is `2·x_t + σ_t²·score + σ_t·z`, with the right mean and, like every single step of this method, more
/// noise than the law of x_s.
///
/// ```
/// use langevin_core::{Grid, process::VeSde};
/// use langevin_schedulers::{ReverseDiffusion, Solver};
/// let plan = ReverseDiffusion::new().plan(&VeSde::default(), &Grid::uniform(1000))?;
/// assert!(plan.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", eq. 46 and
/// algorithms 2 and 3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReverseDiffusion {
    denoise: bool,
    #[serde(default)]
    flow: bool,
}

impl ReverseDiffusion {
    /// With noise in every step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds no noise in the last step: the result is the mean of that step.
    pub fn denoise_at_end(mut self) -> Self {
        self.denoise = true;
        self
    }

    /// Half the score and no noise, `x_s = (2 − a)·x_t + ½v·score`: the probability flow in the same discrete form
    /// (appendix D.2 there).
    pub fn probability_flow(mut self) -> Self {
        self.flow = true;
        self
    }

    /// The plan for given stops, where the levels that are asked need not be those that are left.
    ///
    /// # Errors
    /// [`PlanError::Direction`] if the noise does not fall in a step, [`PlanError::Singular`] where σ of an asked level
    /// or α of a reached one is 0, [`PlanError::Table`] without stops.
    pub fn plan_stops(&self, stops: &[Stop], prior_std: f64) -> Result<Plan, PlanError> {
        check_direction(NAME, stops, true)?;
        let Some(first) = stops.first() else { return Err(crate::plan::TableError::Empty.into()) };
        let (name, rows) = self.table(stops)?;
        Ok(Plan::new(name, first.from, prior_std, rows)?)
    }

    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let rows = stops.iter().enumerate().map(|(index, stop)| {
            let noisy = !(self.flow || self.denoise && index + 1 == stops.len());
            row(index, stop, if self.flow { 0.5 } else { 1.0 }, noisy)
        });
        let name = if self.flow { "reverse diffusion (probability flow)" } else { NAME };
        Ok((name.to_owned(), rows.collect::<Result<_, _>>()?))
    }

    /// The stops of the original score-SDE sampler for VE processes: `steps` levels evenly spaced in ln σ from σ_max to
    /// σ_min and a last step to 0, while the network is asked at the σ of `steps` even times from 1 to `eps`, which lie
    /// slightly above. As there, times are f32 and find their level by truncation.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than two steps or an `eps` outside (0, 1).
    pub fn score_sde_stops(process: &VeSde, steps: usize, eps: f64) -> Result<Vec<Stop>, PlanError> {
        let asked = asked(steps, eps)?;
        let node = |index: usize| process.node(index as f64 / (steps - 1) as f64);
        let stop = |(t, index): (f64, usize)| {
            let to = if index == 0 { process.clean() } else { node(index - 1) };
            Stop { ask: process.level(t), from: node(index), to }
        };
        Ok(asked.map(stop).collect())
    }

    /// The times of those questions, and the same errors.
    pub(crate) fn score_sde_times(steps: usize, eps: f64) -> Result<impl Iterator<Item = f64>, PlanError> {
        Ok(asked(steps, eps)?.map(|(t, _)| t))
    }

    /// The same stops for VP processes, and α² of the chain's step at each: levels are those of the chain of as many steps,
    /// whose betas are even from `beta_min/steps` to `beta_max/steps`. Also [`PlanError::Process`] where these are no betas.
    pub(crate) fn score_sde_chain_stops(
        process: &VpSde,
        (min, max): (f64, f64),
        steps: usize,
        eps: f64,
    ) -> Result<(Vec<Stop>, Vec<f64>), PlanError> {
        let (asked, n) = (asked(steps, eps)?, steps as f64);
        let chain = DiscreteChain::new(Betas::Linear { start: min / n, end: max / n }, steps)?;
        let stop = |(t, index): (f64, usize)| {
            let to = if index == 0 { chain.clean() } else { chain.node((index - 1) as f64) };
            (Stop { ask: process.level(t), from: chain.node(index as f64), to }, 1.0 - chain.betas()[index])
        };
        Ok(asked.map(stop).unzip())
    }
}

/// The times of a score-SDE sampler's questions, from 1 to `eps`, and the level that each is at, counted from the cleanest.
fn asked(steps: usize, eps: f64) -> Result<impl Iterator<Item = (f64, usize)>, PlanError> {
    let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
    if steps < 2 {
        return bad("number of steps", steps as f64, "2 or more");
    }
    if !(eps > 0.0 && eps < 1.0) {
        return bad("eps", eps, "a number between 0 and 1");
    }
    let last = steps - 1;
    let spacing = (eps as f32 - 1.0) / last as f32;
    Ok((0..steps).map(move |i| {
        // torch's linspace counts from the nearer end.
        let t = if i < steps / 2 {
            spacing.mul_add(i as f32, 1.0)
        } else {
            (-spacing).mul_add((last - i) as f32, eps as f32)
        };
        (f64::from(t), (t * last as f32) as usize)
    }))
}

fn row(index: usize, stop: &Stop, share: f64, noisy: bool) -> Result<Row, PlanError> {
    let Transition { scale, variance } = Transition::between(&stop.to.level, &stop.from.level);
    let of_eps = -share * variance / stop.ask.sigma;
    if ![scale, of_eps].iter().all(|number| number.is_finite()) {
        return Err(PlanError::Singular {
            solver: NAME,
            t: stop.from.t,
            alpha: stop.to.level.alpha,
            sigma: stop.ask.sigma,
            advice: "the score is infinite at σ = 0, and no step can end where α = 0; leave this level out of the grid",
        });
    }
    check_factor(NAME, index, stop, 2.0 - scale)?;
    let mut sum = vec![Term::new(2.0 - scale, Src::X(0)), Term::new(of_eps, Src::Eps(0))];
    if noisy {
        sum.push(Term::new(variance.sqrt(), Src::Z(0)));
    }
    Ok(Row::step(index, stop, 0, sum, noisy.then_some(Draw::WHITE)))
}

impl Solver for ReverseDiffusion {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        let prior = stops.first().map_or_else(|| process.prior_std(), |stop| prior_std(process, &stop.from));
        Ok(self.plan_stops(&stops, prior)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        plan_raised(churn, NAME, process, grid, |stops| self.table(stops))
    }
}
