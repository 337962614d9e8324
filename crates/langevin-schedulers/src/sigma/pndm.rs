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
    #[serde(default)]
    apart: bool,
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

    /// Rounds the middle of a Runge-Kutta step twice, as diffusers does: from its start, where the state is, and from its end, which
    /// the network is told. On a chain the two are a step apart unless its strides are even, and near pure noise samples run away:
    /// with the squared cosine, from the last step on, to a million times the data.
    pub fn middles_apart(mut self) -> Self {
        self.apart = true;
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
    apart: bool,
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
        let half = |h: f64| {
            let whole = self.process.chain().is_some() && h.fract() == 0.0;
            if whole { (0.5 * h).floor() } else { 0.5 * h }
        };
        let (early, late) = if self.apart {
            let half = half(stop.from.t - stop.to.t);
            (self.process.node(start.t - half), self.process.node(next.0.t + half))
        } else {
            let middle = self.process.node(start.t - half(start.t - next.0.t));
            (middle, middle)
        };
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
        let mut walk = Walk { process, stops: &stops, apart: self.apart, rows: Vec::new(), past: Vec::new() };
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
        let start = if self.runge_kutta { "Runge-Kutta" } else { "trapezoidal" };
        let name = churn::name(format!("{NAME} ({start} start)"), self.churn.as_ref());
        let start: Node = stops[0].from;
        Ok(Plan::new(name, start, prior_std(process, &start), walk.rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::noise::Injected;
    use langevin_core::process::{Betas, DiscreteChain, RectifiedFlow};

    fn chain() -> DiscreteChain {
        DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap()
    }

    /// A network that predicts noise.
    fn noise(x: f64, t: f64) -> f64 {
        0.4 * x + (0.9 * x + 0.003 * t).sin()
    }

    fn run(solver: &Pndm, grid: &Grid) -> f64 {
        let model = |x: &[f64], at: &Level| {
            let eps = noise(x[0], at.time);
            HostAnswer { x0: vec![(x[0] - at.sigma * eps) / at.alpha], eps: vec![eps], variance: None }
        };
        solver.plan(&chain(), grid).unwrap().run_host(vec![0.8], 0, &Injected::new(), model).unwrap()[0]
    }

    /// Equation 11 of the paper: x at another step, given a noise.
    fn transfer(x: f64, t: f64, s: f64, eps: f64) -> f64 {
        let bar = |t: f64| chain().level(t).alpha.powi(2);
        let (now, next) = (bar(t), bar(s));
        let below = next.sqrt() * ((1.0 - now) * next).sqrt() + next.sqrt() * ((1.0 - next) * now).sqrt();
        (next / now).sqrt() * x - (next - now) * eps / (below * (now / next).sqrt())
    }

    #[test]
    fn the_runge_kutta_start_is_the_one_of_the_paper() {
        let times = [900.0, 780.0, 660.0, 540.0, 420.0];
        let grid = Grid::times(times.to_vec()).unwrap().ending(langevin_core::grid::End::Range);
        let (mut x, mut past) = (0.8, Vec::new());
        for pair in times[..4].windows(2) {
            let (t, s) = (pair[0], pair[1]);
            let middle = 0.5 * (t + s);
            let e1 = noise(x, t);
            let e2 = noise(transfer(x, t, middle, e1), middle);
            let e3 = noise(transfer(x, t, middle, e2), middle);
            let e4 = noise(transfer(x, t, s, e3), s);
            x = transfer(x, t, s, (e1 + 2.0 * e2 + 2.0 * e3 + e4) / 6.0);
            past.push(e1);
        }
        past.push(noise(x, 540.0));
        let e = (55.0 * past[3] - 59.0 * past[2] + 37.0 * past[1] - 9.0 * past[0]) / 24.0;
        let expected = transfer(x, 540.0, 420.0, e);
        let found = run(&Pndm::runge_kutta(), &grid);
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
        // Outputs that are noises are noises.
        let outputs = run(&Pndm::runge_kutta().combining_outputs(Prediction::Epsilon), &grid);
        assert_eq!(outputs, found);
    }

    /// A noise that stays what it is leads to the data it hides in, whatever the strides are.
    #[test]
    fn middles_are_where_the_network_is_asked() {
        let (data, noise) = (0.7, -0.8);
        let cosine = DiscreteChain::new(Betas::SquaredCosine, 1000).unwrap();
        let model = |x: &[f64], at: &Level| {
            let eps = vec![(x[0] - at.alpha * data) / at.sigma];
            HostAnswer { x0: vec![data], eps, variance: None }
        };
        for grid in [Grid::trailing(7), Grid::linspace(8), Grid::times(vec![998.0, 875.0, 800.0, 501.0, 20.0]).unwrap()]
        {
            let run = |solver: Pndm| {
                let plan = solver.plan(&cosine, &grid).unwrap();
                let level = plan.start_node().level;
                let x = vec![level.alpha * data + level.sigma * noise];
                plan.run_host(x, 0, &Injected::new(), model).unwrap()[0]
            };
            let (found, apart) = (run(Pndm::runge_kutta()), run(Pndm::runge_kutta().middles_apart()));
            assert!((found - data).abs() < 1e-6, "{found}");
            assert!((apart - data).abs() > 1e-3, "{apart}");
        }
    }

    #[test]
    fn the_other_start_takes_the_first_step_twice() {
        let grid = Grid::times(vec![900.0, 780.0, 660.0]).unwrap().ending(langevin_core::grid::End::Range);
        let e1 = noise(0.8, 900.0);
        let e2 = noise(transfer(0.8, 900.0, 780.0, e1), 780.0);
        let x = transfer(0.8, 900.0, 780.0, 0.5 * (e1 + e2));
        let expected = transfer(x, 780.0, 660.0, 1.5 * noise(x, 780.0) - 0.5 * e1);
        let found = run(&Pndm::new(), &grid);
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }

    #[test]
    fn pure_noise_is_left_by_a_step_of_euler() {
        let grid = Grid::uniform(6);
        for solver in [Pndm::new(), Pndm::runge_kutta()] {
            let plan = solver.plan(&RectifiedFlow::new(), &grid).unwrap();
            assert_eq!((plan.start_node().level.alpha, plan.rows()[0].step), (0.0, Some(0)));
        }
    }
}
