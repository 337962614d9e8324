//! Pseudo numerical methods: constant Adams-Bashforth weights on ε̂, with two kinds of start.

use super::churn::{self, Churn, Start};
use super::frame::{finish, first_row, inner_row, landing, walk};
use crate::ddpm::{check_direction, ratio};
use crate::plan::{Plan, Row, Slot, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Node, Prediction, PredictionError, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "PNDM";

/// Slopes that are kept from step to step.
const HISTORY: usize = 4;

/// Adams-Bashforth weights of the last one to four slopes, the latest first.
pub(super) const ADAMS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// Pseudo linear multistep steps: ε̂ is extrapolated with constant Adams-Bashforth weights, and DDIM's step taken with it.
///
/// With `e = (55·ε̂_i − 59·ε̂_{i−1} + 37·ε̂_{i−2} − 9·ε̂_{i−3})/24` the step is `y_{i+1} = y_i + (s_{i+1} − s_i)·e` in
/// `y = x/α`, `s = σ/α`. The weights belong to even steps in s, which a grid only has in the limit: on smooth grids the
/// order is 2 ([`Lms`](super::Lms) has the weights of the grid at hand).
///
/// [`new`](Self::new) starts with a step that is taken twice, the second time with the mean of the slopes at both ends
/// (PLMS). [`runge_kutta`](Self::runge_kutta) starts with three pseudo Runge-Kutta steps of four evaluations. Steps from
/// pure noise are steps of Euler.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, sigma::Pndm};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let plan = Pndm::new().plan(&chain, &Grid::leading(20).strided())?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 21));
/// let plan = Pndm::runge_kutta().plan(&chain, &Grid::leading(20).strided())?;
/// assert_eq!(plan.evaluations(), 3 * 4 + 17);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Liu et al. 2022, "Pseudo numerical methods for diffusion models on manifolds", eq. 9, 12 and 13, algorithm 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pndm {
    runge_kutta: bool,
    churn: Option<Churn>,
    raw: Option<Prediction>,
}

impl Pndm {
    /// With a step that is taken twice at the start.
    pub fn new() -> Self {
        Self::default()
    }

    /// With three pseudo Runge-Kutta steps at the start; the grid needs at least four steps. Their middle is that of the
    /// process's time, rounded towards the step's start on the whole steps of a chain.
    pub fn runge_kutta() -> Self {
        Self { runge_kutta: true, ..Self::default() }
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    /// Extrapolates the network's raw outputs and takes the result for an output at the step's start, as diffusers does.
    /// The same for ε; for v, outputs of different levels are mixed.
    pub fn combining_outputs(mut self, prediction: Prediction) -> Self {
        self.raw = (prediction != Prediction::Epsilon).then_some(prediction);
        self
    }
}

/// An estimate that is part of a combination: its slot, the level it was asked at, its weight.
type Part = (Slot, Level, f64);

/// A step to be filled.
struct Step {
    /// Where its state is.
    from: Level,
    /// The first estimate, which was asked there.
    current: Slot,
    raw: Option<Prediction>,
}

impl Step {
    /// The state at `to`, with the combination in place of ε̂. The weights add up to 1.
    fn to(&self, to: &Level, parts: &[Part]) -> Result<Vec<Term>, PredictionError> {
        let h = ratio(to) - ratio(&self.from);
        let others = |(slot, _, weight): &Part| (*slot != self.current).then_some((*slot, h * weight));
        match self.raw {
            None => Ok(landing(to, self.current, &parts.iter().filter_map(others).collect::<Vec<_>>())),
            Some(_) => self.across(&self.from, to, parts),
        }
    }

    /// The step from the level `from`, which need not be the one of the state.
    fn across(&self, from: &Level, to: &Level, parts: &[Part]) -> Result<Vec<Term>, PredictionError> {
        let h = to.alpha * (ratio(to) - ratio(from));
        let mut sum = vec![Term::new(to.alpha / from.alpha, Src::X(0))];
        let Some(prediction) = self.raw else {
            sum.extend(parts.iter().map(|(slot, _, weight)| Term::new(h * weight, Src::Eps(*slot))));
            return Ok(sum);
        };
        // ε̂ of the combined output at `from`.
        let convert = prediction.eps(from)?;
        sum[0] = Term::new(to.alpha / from.alpha + h * convert.x, Src::X(0));
        for (slot, level, weight) in parts {
            let output = prediction.target(level)?;
            let weight = h * convert.output * weight;
            sum.push(Term::new(weight * output.x0, Src::X0(*slot)));
            sum.push(Term::new(weight * output.eps, Src::Eps(*slot)));
        }
        Ok(sum)
    }
}

/// What goes on from step to step.
struct Walk<'a> {
    process: &'a dyn Process,
    stops: &'a [Stop],
    rows: Vec<Row>,
    /// Estimates, the latest first: slot and level.
    past: Vec<(Slot, Level)>,
}

impl Walk<'_> {
    /// The combination of the estimates so far.
    fn adams(&self) -> Vec<Part> {
        let weights = ADAMS[self.past.len().min(HISTORY) - 1];
        self.past.iter().zip(weights).map(|((slot, level), weight)| (*slot, *level, *weight)).collect()
    }

    fn remember(&mut self, slot: Slot, level: Level) {
        self.past.insert(0, (slot, level));
        self.past.truncate(HISTORY);
    }

    /// The step taken twice.
    fn twice(&mut self, index: usize, start: Start, step: &Step) -> Result<(), PlanError> {
        const SECOND: Slot = 4;
        let (stop, ask) = (&self.stops[index], start.ask);
        let next = self.stops.get(index + 1).copied();
        let to = next.map_or(stop.to, |next| next.from);
        self.rows.push(first_row(start, step.current, None));
        let predicted = step.to(&stop.to.level, &[(step.current, ask, 1.0)])?;
        let asked = next.map_or(stop.to.level, |next| next.ask);
        let row = inner_row(stop.to, asked, predicted, SECOND);
        let parts = [(step.current, ask, 0.5), (SECOND, asked, 0.5)];
        let sum = if to == stop.to {
            step.to(&to.level, &parts)?
        } else {
            // Steps that do not join: the second one has the first one's length and ends where the next begins.
            let from = self.process.level(to.t + (stop.from.t - stop.to.t));
            step.across(&from, &to.level, &parts)?
        };
        self.rows.push(finish(row, index, to, sum));
        Ok(())
    }

    /// A pseudo Runge-Kutta step.
    fn runge_kutta(&mut self, index: usize, start: Start, step: &Step) -> Result<(), PlanError> {
        let (stop, first) = (&self.stops[index], start.ask);
        // Fewer than four steps are refused, so there is a next one.
        let next = self.stops.get(index + 1).map_or((stop.to, stop.to.level), |next| (next.from, next.ask));
        let h = stop.from.t - stop.to.t;
        let whole = self.process.chain().is_some() && h.fract() == 0.0;
        let half = if whole { (0.5 * h).floor() } else { 0.5 * h };
        let early = self.process.node(start.t - half);
        let late = self.process.node(next.0.t + half);
        let [a, b, c]: [Slot; 3] = [4, 5, 6];
        self.rows.push(first_row(start, step.current, None));
        let sum = step.to(&early.level, &[(step.current, first, 1.0)])?;
        self.rows.push(inner_row(early, late.level, sum, a));
        let sum = step.to(&late.level, &[(a, late.level, 1.0)])?;
        self.rows.push(inner_row(late, late.level, sum, b));
        let sum = step.to(&next.0.level, &[(b, late.level, 1.0)])?;
        let row = inner_row(next.0, next.1, sum, c);
        let sixth = 1.0 / 6.0;
        let parts = [
            (step.current, first, sixth),
            (a, late.level, 2.0 * sixth),
            (b, late.level, 2.0 * sixth),
            (c, next.1, sixth),
        ];
        let sum = step.to(&next.0.level, &parts)?;
        self.rows.push(finish(row, index, next.0, sum));
        Ok(())
    }
}

impl Pndm {
    fn check(&self, stops: &[Stop]) -> Result<(), PlanError> {
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, stops, true)?;
        if self.runge_kutta && stops.len() < HISTORY {
            let (setting, expected) = ("the number of steps", "at least 4 with a Runge-Kutta start");
            return Err(PlanError::Setting { solver: NAME, setting, given: stops.len() as f64, expected });
        }
        let still = |stop: &&Stop| !(stop.from.t > stop.to.t);
        if let Some(stop) = stops.iter().take(HISTORY - 1).find(still).filter(|_| self.runge_kutta) {
            let Level { alpha, sigma, .. } = stop.from.level;
            let advice = "the step takes no time, so that it has no middle; start without Runge-Kutta steps";
            return Err(PlanError::Singular { solver: NAME, t: stop.from.t, alpha, sigma, advice });
        }
        Ok(())
    }
}

impl Solver for Pndm {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.check(&stops)?;
        let mut walk = Walk { process, stops: &stops, rows: Vec::new(), past: Vec::new() };
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let slot = (index % HISTORY) as Slot;
            let (from, ask) = (start.level, start.ask);
            let step = Step { from, current: slot, raw: self.raw };
            walk.remember(slot, ask);
            let euler = from.alpha == 0.0;
            if self.runge_kutta && index < HISTORY - 1 && !euler {
                walk.runge_kutta(index, start, &step)?;
            } else if index == 0 && !self.runge_kutta && !euler && stops.len() > 1 {
                walk.twice(index, start, &step)?;
            } else if euler {
                walk.rows.push(first_row(start, slot, Some((index, stop.to, landing(&stop.to.level, slot, &[])))));
            } else {
                let sum = step.to(&stop.to.level, &walk.adams())?;
                walk.rows.push(first_row(start, slot, Some((index, stop.to, sum))));
            }
        }
        let name = format!("{NAME} ({} start)", if self.runge_kutta { "Runge-Kutta" } else { "trapezoidal" });
        let start: Node = stops[0].from;
        Ok(Plan::new(name, start, prior_std(process, &start), walk.rows)?)
    }
}
