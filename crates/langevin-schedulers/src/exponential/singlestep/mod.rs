//! DPM-Solver and DPM-Solver++, singlestep: no memory, inner stages instead.

use crate::ddpm::ratio;
use crate::exponential::dpm_solver::SecondOrder;
use crate::exponential::leg::{Basis, Leg};
use crate::exponential::multistep::{finite, interpolate, joined_stops, plan};
use crate::exponential::tau::Tau;
use crate::plan::{Draw, Eval, Plan, Reg, Row, Set, Slot, Src, Term};
use crate::sde::clock;
use crate::sigma::{AncestralNoise, AncestralSplit, Churn, node_at_lambda, plan_raised, plan_raised_where};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "DPM-Solver singlestep";

/// Where the inner stages of a step lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stages {
    /// Even in λ between two levels of the grid.
    #[default]
    Between,
    /// On the levels of the grid itself, which then makes up to three to a step.
    OnGrid,
}

/// The singlestep solvers of Lu et al.: each step asks up to three times, at its beginning and at inner stages.
///
/// By default a step of the grid is a step of the solver, with stages even in λ: p evaluations a step of order p. With
/// [`on_grid`](Self::on_grid) the levels of the grid are the stages, as diffusers counts: one evaluation a step of the
/// grid, of orders 1, 2, 3, 1, 2, 3, …
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Solver, exponential::Singlestep};
/// let plan = Singlestep::new(3)?.plan(&VpSde::default(), &Grid::uniform(10))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 30));
/// let plan = Singlestep::new(3)?.on_grid().plan(&VpSde::default(), &Grid::uniform(10))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lu et al. 2022a, "DPM-Solver", algorithms 1 and 2 and appendix B; Lu et al. 2022b, "DPM-Solver++", algorithm 1;
/// Gonzalez et al. 2023, "SEEDS: exponential SDE solvers for fast high-quality sampling from diffusion models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Singlestep {
    order: usize,
    basis: Basis,
    kind: SecondOrder,
    stages: Stages,
    lower_final: bool,
    orders: Option<Vec<usize>>,
    tau_squared: f64,
    /// Takes its place where it is given.
    #[serde(default)]
    tau: Option<Tau>,
    /// Goes down further and up again by noise.
    ancestral: Option<AncestralNoise>,
    /// Never further down than the grid.
    capped: bool,
    /// Noise anew for each stage, in place of that of one path.
    #[serde(default)]
    compat: bool,
    /// Where the inner stage of order 2 lies, as a share of the step in λ.
    #[serde(default = "half")]
    middle: f64,
    /// Steps of the grid before its beginning, which orders on the grid are counted from.
    #[serde(default)]
    before: usize,
}

fn half() -> f64 {
    0.5
}

impl Singlestep {
    /// Of order 1 to 3, in the data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let solver = Self { basis: Basis::Data, ..Self::of_noise(order) };
        solver.check()?;
        Ok(solver)
    }

    /// In the noise basis, of an order that is known to be there.
    pub(in crate::exponential) fn of_noise(order: usize) -> Self {
        let (basis, kind) = (Basis::Noise, SecondOrder::Midpoint);
        Self {
            order,
            basis,
            kind,
            stages: Stages::Between,
            lower_final: false,
            orders: None,
            tau_squared: 0.0,
            tau: None,
            ancestral: None,
            capped: false,
            compat: false,
            middle: half(),
            before: 0,
        }
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// How the last stage of a step is weighted: [`SecondOrder::Heun`] takes the whole polynomial through the stages,
    /// [`SecondOrder::Midpoint`] one stage and the beginning. Both have the solver's order.
    pub fn last_stage(mut self, kind: SecondOrder) -> Self {
        self.kind = kind;
        self
    }

    /// Where the inner stage of order 2 lies: at a share of the step in λ, half-way unless said otherwise. At 1 with
    /// [`SecondOrder::Heun`] it is Heun's method for the semi-linear equation, with the exact line through the answers at both
    /// ends (ComfyUI's "exp_heun_2_x0", and with noise of the [`sde`](Self::sde) its "exp_heun_2_x0_sde").
    ///
    /// ```
    /// use langevin_core::{Grid, process::Edm};
    /// use langevin_schedulers::{Solver, exponential::{SecondOrder, Singlestep}};
    /// let heun = Singlestep::new(2)?.midpoint(1.0)?.last_stage(SecondOrder::Heun);
    /// let plan = heun.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
    /// assert_eq!((plan.steps(), plan.evaluations()), (10, 19));
    /// assert!(heun.midpoint(1.5).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `share` is above 0 and at most 1; plans of other orders than 2 and with stages on the grid
    /// have no such stage, and refuse any but half.
    pub fn midpoint(mut self, share: f64) -> Result<Self, PlanError> {
        self.middle = share;
        self.check()?;
        Ok(self)
    }

    /// Takes the levels of the grid for stages.
    pub fn on_grid(mut self) -> Self {
        self.stages = Stages::OnGrid;
        self
    }

    /// Counts orders on a grid that has `before` more steps in front; a step that is begun in its middle has the orders of the
    /// stages that there are.
    pub(crate) fn counted_from(mut self, before: usize) -> Self {
        self.before = before;
        self
    }

    /// On a grid of whole steps, ends with a step of order 1 in place of the last stage, as the published code does.
    pub fn lower_order_final(mut self, lower: bool) -> Self {
        self.lower_final = lower;
        self
    }

    /// Solves the reverse SDE with noise of strength η = τ²: 1 is the reverse of the forward SDE, 0 the probability flow.
    ///
    /// Between the levels of the grid these are the solvers SEEDS-1 to SEEDS-3 of Gonzalez et al.: each stage draws the noise
    /// of its part of the way, and the later ones keep what was drawn as far as it has not faded. On the grid each stage has
    /// the noise of the whole way from the step's beginning; all see one Brownian path, in the clock `c = α²/σ²`. Orders 2 and
    /// 3 have weak order 2 either way: three answers say no more of a path than that.
    ///
    /// ```
    /// use langevin_core::{Grid, process::Edm};
    /// use langevin_schedulers::{Solver, exponential::Singlestep};
    /// let plan = Singlestep::new(3)?.sde(1.0)?.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?; // "SEEDS-3"
    /// assert_eq!((plan.evaluations(), plan.is_stochastic()), (28, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `eta` is 0 or more and finite.
    pub fn sde(mut self, eta: f64) -> Result<Self, PlanError> {
        (self.tau_squared, self.tau) = (eta, None);
        self.check()?;
        Ok(self)
    }

    /// Draws anew for each stage, as diffusers' `DPMSolverSinglestepScheduler` does, whose order 3 has no noise: how the noise of a stage acts on the
    /// next is left out, and solvers of order 2 and 3 have weak order 1.
    pub fn compat_diffusers(mut self) -> Self {
        self.compat = true;
        self
    }

    /// As [`sde`](Self::sde), with noise of strength τ, which may change from step to step. With stages on the grid a step
    /// has the τ of its first part.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        self.tau = Some(tau);
        self.check()?;
        Ok(self)
    }

    /// With ancestral noise of relative size η (k-diffusion's "2S ancestral"): each step goes to the lower level of
    /// [`ancestral_step`](crate::sigma::ancestral_step), with its stages on the way there, and noise makes up for it.
    ///
    /// The way down is the probability flow, so that the weak order is the order of the solver.
    ///
    /// ```
    /// use langevin_core::{Grid, process::Edm};
    /// use langevin_schedulers::{Solver, exponential::Singlestep};
    /// let solver = Singlestep::new(2)?.ancestral(1.0)?; // "DPM++ 2S a"
    /// let plan = solver.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
    /// assert_eq!((plan.evaluations(), plan.is_stochastic()), (19, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `eta` is 0 or more and finite.
    pub fn ancestral(mut self, eta: f64) -> Result<Self, PlanError> {
        self.ancestral = Some(AncestralNoise { eta, ..self.ancestral.unwrap_or_default() });
        self.check()?;
        Ok(self)
    }

    /// Scales ancestral noise (k-diffusion's `s_noise`). Without [`ancestral`](Self::ancestral) there is none.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `scale` is 0 or more and finite.
    pub fn noise_scale(mut self, scale: f64) -> Result<Self, PlanError> {
        self.ancestral = Some(AncestralNoise { factor: scale, ..self.ancestral.unwrap_or_else(AncestralNoise::none) });
        self.check()?;
        Ok(self)
    }

    /// In which coordinate [ancestral](Self::ancestral) steps are split; in σ/α unless said otherwise.
    /// [`AncestralSplit::Share`] on a flow is ComfyUI's `sample_dpmpp_2s_ancestral_RF`.
    pub fn ancestral_split(mut self, split: AncestralSplit) -> Self {
        self.ancestral = Some(AncestralNoise { split, ..self.ancestral.unwrap_or_else(AncestralNoise::none) });
        self
    }

    /// Keeps ancestral steps on the grid: none goes down further than its last level, and is given less noise instead.
    /// The last step has no noise then. [`fast`](Self::fast) is made so.
    pub fn capped(mut self) -> Self {
        self.capped = true;
        self
    }

    /// An order for each step, in place of one for all: DPM-Solver-fast is 3, 3, …, then 2 and 1, or what is left.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for orders other than 1, 2 and 3.
    pub fn orders(mut self, orders: Vec<usize>) -> Result<Self, PlanError> {
        self.orders = Some(orders);
        self.check()?;
        Ok(self)
    }

    /// The orders of DPM-Solver-fast for a number of evaluations: as many steps of order 3 as fit, and what is left.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for no evaluations.
    pub fn fast(evaluations: usize) -> Result<Self, PlanError> {
        if evaluations == 0 {
            let (setting, expected) = ("number of evaluations", "1 or more");
            return Err(PlanError::Setting { solver: NAME, setting, given: 0.0, expected });
        }
        let (thirds, rest) = (evaluations / 3, evaluations % 3);
        let orders = match rest {
            0 => [vec![3; thirds - 1], vec![2, 1]].concat(),
            rest => [vec![3; thirds], vec![rest]].concat(),
        };
        Self::new(3)?.basis(Basis::Noise).capped().orders(orders)
    }

    /// How many steps the grid must have where each step has an order of its own.
    pub fn steps(&self) -> Option<usize> {
        self.orders.as_ref().map(Vec::len)
    }

    fn check(&self) -> Result<(), PlanError> {
        let orders = self.orders.iter().flatten().chain([&self.order]);
        for order in orders {
            if !(1..=3).contains(order) {
                let (setting, expected) = ("order", "1, 2 or 3");
                return Err(PlanError::Setting { solver: NAME, setting, given: *order as f64, expected });
            }
        }
        if !(self.tau_squared >= 0.0 && self.tau_squared.is_finite()) {
            let (setting, expected) = ("eta", "a number that is not negative: 0 adds no noise, 1 is the reverse SDE");
            return Err(PlanError::Setting { solver: NAME, setting, given: self.tau_squared, expected });
        }
        if !(self.middle > 0.0 && self.middle <= 1.0) {
            let (setting, expected) = ("the midpoint", "a share of the step above 0 and at most 1");
            return Err(PlanError::Setting { solver: NAME, setting, given: self.middle, expected });
        }
        self.tau.iter().try_for_each(|tau| tau.check(NAME))?;
        self.ancestral.iter().try_for_each(|noise| noise.check(NAME))
    }

    /// The order of each of `n` stages on the grid: within a step they count up.
    fn orders_on_grid(&self, n: usize, clean_end: bool) -> Vec<usize> {
        let mut orders: Vec<usize> = (0..n).map(|i| ((self.before + i) % self.order + 1).min(i + 1)).collect();
        if self.lower_final && self.order > 1 && (self.before + n).is_multiple_of(self.order) {
            // Whole steps only: the last gives up its last stage for a step of order 1.
            orders[n - 1] = 1;
        }
        if let (Some(last), true) = (orders.last_mut(), clean_end) {
            *last = 1;
        }
        orders
    }

    /// Which stages on the grid begin a step: the first ones, and each of a step from pure noise, where none is looked back on.
    fn begins_on_grid(&self, stops: &[Stop]) -> Vec<bool> {
        let clean_end = stops.last().is_some_and(|stop| stop.to.level.sigma == 0.0);
        let orders = self.orders_on_grid(stops.len(), clean_end).into_iter().enumerate();
        orders.map(|(i, order)| order == 1 || !stops[i + 1 - order].from.level.lambda().is_finite()).collect()
    }

    /// Where a step goes before noise is added, and the deviation of that noise in x.
    fn goal(&self, stop: &Stop, end: &Level) -> (Level, f64) {
        let (from, to) = (&stop.from.level, &stop.to.level);
        let Some(noise) = &self.ancestral else { return (*to, 0.0) };
        if self.capped { noise.split_above(from, to, ratio(end)) } else { noise.split_step(from, to) }
    }

    /// Whether noise of the SDE is asked for.
    fn is_noisy(&self) -> bool {
        self.tau.is_some() || self.tau_squared > 0.0
    }

    /// From `start`, by the answers there and at the stages so far, to `to`.
    pub(in crate::exponential) fn stage(
        &self,
        start: &Level,
        stages: &[Level],
        to: &Level,
        from: Reg,
        last: bool,
    ) -> Vec<Term> {
        self.stage_of(&Leg::new(self.basis, 0.0, *start, *to), start, stages, from, last)
    }

    /// As [`stage`](Self::stage), of a leg from `start`.
    fn stage_of(&self, leg: &Leg, start: &Level, stages: &[Level], from: Reg, last: bool) -> Vec<Term> {
        let node = |level: &Level| (level.lambda() - start.lambda()) / leg.h;
        let weights = match stages {
            [] => vec![leg.weight(0)],
            [one] if !last || self.kind == SecondOrder::Heun => interpolate(leg, &[0.0, node(one)]),
            [one] => {
                let share = 0.5 / node(one);
                // A stage half-way stands for the whole step. It is half-way up to rounding only.
                let share = if (share - 1.0).abs() < 1e-12 { 1.0 } else { share };
                vec![leg.weight(0) * (1.0 - share), leg.weight(0) * share]
            }
            [one, two, ..] if self.kind == SecondOrder::Heun => interpolate(leg, &[0.0, node(one), node(two)]),
            [_, two, ..] => {
                let slope = leg.weight(1) / node(two);
                vec![leg.weight(0) - slope, 0.0, slope]
            }
        };
        let answers = weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0);
        let answers = answers.map(|(slot, weight)| Term::new(weight, self.basis.answer(slot as Slot)));
        std::iter::once(Term::new(leg.decay(), Src::X(from))).chain(answers).collect()
    }

    fn between(&self, process: &dyn Process, stops: &[Stop]) -> Result<Vec<Row>, PlanError> {
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let order = self.orders.as_ref().map_or(self.order, |orders| orders[index]);
            let (goal, ancestral) = self.goal(stop, &stops[stops.len() - 1].to.level);
            let strength = self.strength(stop);
            // Stages between infinitely distant levels are nowhere, and those of a step that stands still are all one.
            let (begin, end) = (stop.from.level.lambda(), goal.lambda());
            let order = if (end - begin).is_finite() && end != begin { order } else { 1 };
            let mut asked: Vec<Level> = Vec::new();
            // The noise of each part of the way: its deviation where that part ends.
            let mut parts: Vec<(f64, Level)> = Vec::new();
            for stage in 0..order {
                let last = stage + 1 == order;
                let share = if order == 2 { self.middle } else { (stage + 1) as f64 / order as f64 };
                let to = if last || share == 1.0 && goal == stop.to.level {
                    stop.to
                } else {
                    node_at_lambda(NAME, process, begin + share * (end - begin))?
                };
                let (x, at) = asked.last().map_or((0, stop.ask), |inner| (1, *inner));
                let reached = if last { goal } else { to.level };
                let leg = |from: Level| Leg::new(self.basis, strength, from, reached);
                let mut sum = self.stage_of(&leg(stop.from.level), &stop.from.level, &asked, 0, last);
                let part = leg(asked.last().copied().unwrap_or(stop.from.level)).std();
                let fresh = if last { part + ancestral } else { part };
                // What was drawn on the way fades like the state.
                let drawn = parts.iter().enumerate();
                sum.extend(drawn.map(|(z, (std, end))| Term::new(std * leg(*end).decay(), Src::Z(z as Reg))));
                let mut draws = Vec::new();
                if fresh > 0.0 {
                    let z = parts.len() as Reg;
                    draws.push(Draw::White { to: z, lane: 0 });
                    sum.push(Term::new(fresh, Src::Z(z)));
                    parts.push((fresh, reached));
                }
                finite(NAME, stop, &sum)?;
                let set = Set::new(if last { 0 } else { 1 }, sum);
                let eval = Eval { at, x, into: stage as Slot };
                let report = if last { vec![Term::new(1.0, Src::X0(stage as Slot))] } else { vec![] };
                let step = last.then_some(index as u32);
                rows.push(Row { draws, pre: vec![], eval: Some(eval), post: vec![set], step, after: to, report });
                asked.push(to.level);
            }
        }
        Ok(rows)
    }

    /// τ² of a step.
    fn strength(&self, stop: &Stop) -> f64 {
        self.tau.as_ref().map_or(self.tau_squared, |tau| tau.squared(stop))
    }

    /// The noise of a leg of the reverse SDE on the grid.
    fn noise(&self, leg: &Leg, from: &Level, to: &Level) -> Option<(Draw, Term)> {
        let std = leg.std();
        if !(std > 0.0) {
            return None;
        }
        let (from, until) = (clock(from), clock(to));
        // To no noise the path goes on for ever, and no other stage sees that part of it.
        if self.compat || until.is_infinite() {
            return Some((Draw::WHITE, Term::new(std, Src::Z(0))));
        }
        Some((Draw::Path { to: 0, from, until }, Term::new(std / (until - from).sqrt(), Src::Z(0))))
    }

    fn on_grid_rows(&self, stops: &[Stop]) -> Result<Vec<Row>, PlanError> {
        let clean_end = stops.last().is_some_and(|stop| stop.to.level.sigma == 0.0);
        let orders = self.orders_on_grid(stops.len(), clean_end);
        let mut rows = Vec::new();
        for (index, (stop, order)) in stops.iter().zip(orders.iter().copied()).enumerate() {
            let first = index + 1 - order;
            let begin = &stops[first].from.level;
            // From pure noise no polynomial starts: such a stage is a step of its own.
            let usable = if begin.lambda().is_finite() { order } else { 1 };
            let (begin, first) = if usable == order { (begin, first) } else { (&stop.from.level, index) };
            let stages: Vec<Level> = stops[first + 1..=index].iter().map(|stop| stop.from.level).collect();
            let slot = (index - first) as Slot;
            let from = if usable == 1 { 0 } else { 1 };
            let leg = Leg::new(self.basis, self.strength(&stops[first]), *begin, stop.to.level);
            let mut sum = self.stage_of(&leg, begin, &stages, from, true);
            let noise = self.noise(&leg, begin, &stop.to.level);
            sum.extend(noise.map(|(_, term)| term));
            finite(NAME, stop, &sum)?;
            // Later stages start again from here, unless here is pure noise.
            let finite_begin = order == 1 && begin.lambda().is_finite();
            let begins = finite_begin && orders.get(index + 1).is_some_and(|order| *order > 1);
            let keep = begins.then(|| Set::new(1, [Term::new(1.0, Src::X(0))]));
            rows.push(Row {
                draws: noise.map(|(draw, _)| draw).into_iter().collect(),
                pre: vec![],
                eval: Some(Eval { at: stop.ask, x: 0, into: slot }),
                post: keep.into_iter().chain([Set::new(0, sum)]).collect(),
                step: Some(index as u32),
                after: stop.to,
                report: vec![Term::new(1.0, Src::X0(slot))],
            });
        }
        Ok(rows)
    }
}

impl Singlestep {
    /// Name and rows of the plan for these steps.
    fn table(&self, process: &dyn Process, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        if let Some(orders) = self.orders.as_ref().filter(|orders| orders.len() != stops.len()) {
            let (setting, expected) = ("number of orders", "one for each step of the grid");
            return Err(PlanError::Setting { solver: NAME, setting, given: orders.len() as f64, expected });
        }
        let refuse =
            |first: &str, second: String, reason| Err(PlanError::Combination { first: first.into(), second, reason });
        if self.is_noisy() && self.ancestral.is_some() {
            return refuse(
                "ancestral noise",
                "noise of the SDE".into(),
                "each is all the noise of a step; take one of the two",
            );
        }
        if self.ancestral.is_some() && self.stages == Stages::OnGrid {
            let reason = "the stages of an ancestral step lie on its way down, which does not end on the grid";
            return refuse("ancestral noise", "stages on the grid".into(), reason);
        }
        let has_middle = self.order == 2 && self.stages == Stages::Between && self.orders.is_none();
        if self.middle != half() && !has_middle {
            let reason = "only order 2 between the levels of the grid has one inner stage, which may lie elsewhere";
            let grid = if self.stages == Stages::OnGrid { " with stages on the grid" } else { "" };
            return refuse("a stage that is not half-way", format!("{}{grid}", self.kind_name()), reason);
        }
        let rows = match self.stages {
            Stages::Between => self.between(process, stops)?,
            Stages::OnGrid if self.orders.is_some() => {
                let reason = "on the grid the orders follow from its length";
                return refuse("stages on the grid", "an order for each step".into(), reason);
            }
            Stages::OnGrid => self.on_grid_rows(stops)?,
        };
        let noise = self.ancestral.as_ref().map_or_else(String::new, |noise| format!(" ancestral ({noise})"));
        Ok((format!("{}{noise}", self.kind_name()), rows))
    }

    fn kind_name(&self) -> String {
        let plus = if self.basis == Basis::Data { "++" } else { "" };
        let kind = if self.orders.is_some() { "of several orders".into() } else { format!("{}S", self.order) };
        let middle = if self.middle == half() { String::new() } else { format!(" (stage at {})", self.middle) };
        format!("DPM-Solver{plus} {kind}{middle}")
    }
}

impl Solver for Singlestep {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let noisy = self.is_noisy() || self.ancestral.as_ref().is_some_and(|noise| noise.eta > 0.0);
        let stops = joined_stops(NAME, process, grid, noisy)?;
        let (name, rows) = self.table(process, &stops)?;
        plan(name, process, &stops, rows)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        if self.stages == Stages::OnGrid {
            let begins = |stops: &[Stop]| self.begins_on_grid(stops);
            return plan_raised_where(churn, NAME, process, grid, begins, |stops| self.table(process, stops));
        }
        plan_raised(churn, NAME, process, grid, |stops| self.table(process, stops))
    }
}

#[cfg(test)]
mod tests;
