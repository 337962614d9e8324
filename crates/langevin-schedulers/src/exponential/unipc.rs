//! UniPC: a corrector that costs nothing, and the predictor that goes with it.

use super::leg::{Basis, Leg};
use super::multistep::{Past, finite, interpolate, joined_stops, leg, noise, plan, row};
use super::tau::Tau;
use crate::plan::{Coef, Plan, Reg, Row, Set, Slot, Src, Term};
use crate::sigma::{Churn, Raised, plan_raised, raise};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const UNIC: &str = "UniC";
const UNIPC: &str = "UniPC";

/// The function B(h) of UniPC. It matters in the predictor of order 2 and the corrector of order 1, where one
/// coefficient is ½ by definition; all others follow from their order and do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UniB {
    /// B₁(h) = h.
    Linear,
    /// B₂(h) = e^h − 1, which the paper recommends for guided sampling.
    #[default]
    Exponential,
}

impl UniB {
    fn half(self, leg: &Leg) -> f64 {
        0.5 * match self {
            UniB::Linear => leg.linear(),
            UniB::Exponential => leg.weight(0),
        }
    }
}

/// The corrector of UniPC behind any deterministic solver that asks once a step.
///
/// When a step's end is asked about for the next step, that answer also corrects the step: the state is computed again
/// with the polynomial through it and the answers before. A corrector of order p lifts a solver of order p to p + 1.
/// No evaluation is added; the last step is not corrected, since nothing is asked behind it.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Ddim, Solver, exponential::UniC};
/// let corrected = UniC::behind(Ddim::new(), 1)?;
/// let plan = corrected.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zhao et al. 2023, "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UniC<S> {
    inner: S,
    order: usize,
    basis: Basis,
    b: UniB,
    skipped: Vec<usize>,
    lower_final: bool,
}

impl<S> UniC<S> {
    /// Corrects the steps of `inner` with order 1 to 4, in the data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn behind(inner: S, order: usize) -> Result<Self, PlanError> {
        check_order(UNIC, order)?;
        Ok(Self { inner, order, basis: Basis::Data, b: UniB::Exponential, skipped: Vec::new(), lower_final: false })
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// With another B(h).
    pub fn b(mut self, b: UniB) -> Self {
        self.b = b;
        self
    }

    /// Leaves these steps uncorrected, counted from 0.
    pub fn skipping(mut self, steps: impl IntoIterator<Item = usize>) -> Self {
        self.skipped = steps.into_iter().collect();
        self
    }

    /// Lowers the order in the last steps, down to 1, as the published code does.
    pub fn lower_order_final(mut self, lower: bool) -> Self {
        self.lower_final = lower;
        self
    }

    /// The same step from the state instead of one of the two answers: DDIM does not read the state, and would lose the
    /// correction. Before the correction both are the same, since `x = α·x̂_0 + σ·ε̂`.
    fn reading_the_state(&self, set: Set, past: &Past, stop: &Stop) -> Set {
        let (slot, level) = (past.slot(0), stop.ask);
        let (replaced, other, of_x, of_other) = match self.basis {
            Basis::Data => (Src::Eps(slot), Src::X0(slot), 1.0 / level.sigma, -level.alpha / level.sigma),
            Basis::Noise => (Src::X0(slot), Src::Eps(slot), 1.0 / level.alpha, -level.sigma / level.alpha),
        };
        let reads = set.sum.iter().any(|term| term.of == Src::X(0));
        let found = set.sum.iter().find_map(|term| match term.c {
            Coef::C(c) if term.of == replaced => Some(c),
            _ => None,
        });
        let (false, Some(c)) = (reads || set.to != 0, found) else { return set };
        let mut of_answer = c * of_other;
        let mut sum = Vec::new();
        for term in set.sum {
            match term.c {
                Coef::C(c) if term.of == other => of_answer += c,
                _ if term.of == replaced => {}
                _ => sum.push(term),
            }
        }
        sum.extend([Term::new(c * of_x, Src::X(0)), Term::new(of_answer, other)]);
        Set::new(0, sum)
    }

    /// The corrected state where step `index` begins, from `kept`, the state where the step before began.
    fn correct(&self, index: usize, stops: &[Stop], past: &Past, kept: Reg) -> Result<Set, PlanError> {
        let stop = &stops[index - 1];
        let leg = Leg::new(self.basis, 0.0, stop.from.level, stop.to.level);
        // The newest answer is the one at the end of this step; the one before it is where it began.
        let order = order_of(self.order, index - 1, stops.len(), self.lower_final).min(past.usable().max(2) - 1);
        let weights = if order == 1 {
            let half = self.b.half(&leg);
            vec![half, leg.weight(0) - half]
        } else {
            let nodes: Vec<f64> = (0..=order).map(|back| (past.lambda(back) - past.lambda(1)) / leg.h).collect();
            interpolate(&leg, &nodes)
        };
        let answers = weights.into_iter().enumerate();
        let answers = answers.map(|(back, weight)| Term::new(weight, self.basis.answer(past.slot(back))));
        let sum: Vec<Term> = std::iter::once(Term::new(leg.decay(), Src::X(kept))).chain(answers).collect();
        finite(UNIC, stop, &sum)?;
        Ok(Set::new(0, sum))
    }
}

impl<S: Solver> Solver for UniC<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        check_order(UNIC, self.order)?;
        let stops = joined_stops(UNIC, process, grid, false)?;
        let inner = self.inner.plan(process, grid)?;
        let (name, rows) = self.table(&inner, &stops)?;
        plan(name, process, &stops, rows)
    }

    /// The corrector sees the answer at the raised level, and the state from before it was raised; the same noise then goes
    /// on top of the corrected state.
    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        check_order(UNIC, self.order)?;
        let Raised { stops, raised, .. } = raise(churn, UNIC, process, grid)?;
        let inner = self.inner.churned(churn, process, grid)?;
        let mut quiet = inner.rows().to_vec();
        let noises: Vec<_> =
            quiet.iter_mut().map(|row| (std::mem::take(&mut row.draws), std::mem::take(&mut row.pre))).collect();
        let quiet = Plan::new(inner.name(), inner.start_node(), inner.prior_deviation(), quiet)?;
        let (name, mut rows) = self.table(&quiet, &raised)?;
        for (index, (row, (draws, pre))) in rows.iter_mut().zip(noises).enumerate() {
            if self.corrects(index) {
                row.post.splice(1..1, pre.clone());
            }
            (row.draws, row.pre) = (draws, pre);
        }
        plan(name, process, &stops, rows)
    }
}

impl<S> UniC<S> {
    /// Whether row `index` begins with a correction of the step before.
    fn corrects(&self, index: usize) -> bool {
        index > 0 && !self.skipped.contains(&(index - 1))
    }

    /// Name and rows of the plan for these steps, behind a plan for them.
    fn table(&self, inner: &Plan, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let (rows, depth, kept) = renumbered(inner, self.order + 1)?;
        let mut past = Past::new(depth);
        let mut corrected = Vec::new();
        for (index, (mut row, stop)) in rows.into_iter().zip(stops).enumerate() {
            past.ask(stop.from.level.lambda());
            let mut post = Vec::new();
            let corrected_here = self.corrects(index);
            if corrected_here {
                post.push(self.correct(index, stops, &past, kept)?);
            }
            if index + 1 < stops.len() && !self.skipped.contains(&index) {
                post.push(Set::new(kept, [Term::new(1.0, Src::X(0))]));
            }
            let own = row.post.into_iter();
            post.extend(own.map(|set| if corrected_here { self.reading_the_state(set, &past, stop) } else { set }));
            row.post = post;
            corrected.push(row);
        }
        Ok((format!("{UNIC}-{} behind {}", self.order, inner.name()), corrected))
    }
}

/// The rows of a plan with slots that turn over `depth` or more answers, and a state register that they do not use.
fn renumbered(inner: &Plan, depth: usize) -> Result<(Vec<Row>, usize, Reg), PlanError> {
    let refuse = |reason| Err(PlanError::Combination { first: UNIC.into(), second: inner.name().into(), reason });
    let simple = |row: &Row| row.eval.is_some_and(|eval| eval.x == 0) && row.step.is_some() && row.pre.is_empty();
    if inner.needs_split() {
        return refuse("its answers are guided and unconditional ones, and a corrector takes both for one");
    }
    if inner.is_stochastic() {
        return refuse("the corrector would have to know the noise of the step it corrects");
    }
    if !inner.rows().iter().all(simple) {
        return refuse("it corrects solvers that ask once a step, where the step begins");
    }
    if inner.rows().iter().flat_map(|row| &row.post).filter(|set| set.to == 0).count() > inner.rows().len() {
        return refuse("its steps are corrected already");
    }
    let sets = || inner.rows().iter().flat_map(|row| &row.post);
    let kept = sets().map(|set| set.to).max().unwrap_or(0) + 1;
    let slots = inner.rows().iter().filter_map(|row| row.eval).map(|eval| usize::from(eval.into) + 1).max();
    let depth = depth.max(slots.unwrap_or(1));
    // Where each of the solver's own slots lives now.
    let mut place: Vec<Slot> = vec![0; depth];
    let mut rows = inner.rows().to_vec();
    for (index, row) in rows.iter_mut().enumerate() {
        let slot = (index % depth) as Slot;
        if let Some(eval) = &mut row.eval {
            place[usize::from(eval.into)] = slot;
            eval.into = slot;
        }
        let terms = row.post.iter_mut().flat_map(|set| &mut set.sum).chain(&mut row.report);
        for term in terms {
            term.of = match term.of {
                Src::X0(slot) => Src::X0(place[usize::from(slot)]),
                Src::Eps(slot) => Src::Eps(place[usize::from(slot)]),
                other => other,
            };
        }
    }
    Ok((rows, depth, kept))
}

/// The order of a step that starts with what there is, and ends with order 1 if asked to.
fn order_of(order: usize, index: usize, steps: usize, lower_final: bool) -> usize {
    let started = order.min(index + 1);
    if lower_final { started.min(steps - index) } else { started }
}

fn check_order(solver: &'static str, order: usize) -> Result<(), PlanError> {
    if (1..=4).contains(&order) {
        return Ok(());
    }
    Err(PlanError::Setting { solver, setting: "order", given: order as f64, expected: "1, 2, 3 or 4" })
}

/// UniPC: the multistep predictor UniP with the corrector [`UniC`] behind it. Order p + 1 once started; one evaluation a
/// step.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, exponential::UniPc};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let plan = UniPc::new(2)?.plan(&chain, &Grid::trailing(10))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zhao et al. 2023, algorithms 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UniPc {
    corrector: UniC<UniP>,
    #[serde(default)]
    uncorrected: bool,
}

impl UniPc {
    /// With a predictor of order 1 to 4 and a corrector of the same, in the data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        check_order(UNIPC, order)?;
        let inner = UniP { order, basis: Basis::Data, b: UniB::Exponential, lower_final: false, tau: None };
        Ok(Self { corrector: UniC::behind(inner, order)?, uncorrected: false })
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.corrector.inner.basis = basis;
        self.corrector = self.corrector.basis(basis);
        self
    }

    /// With another B(h).
    pub fn b(mut self, b: UniB) -> Self {
        self.corrector.inner.b = b;
        self.corrector = self.corrector.b(b);
        self
    }

    /// Leaves these steps uncorrected, counted from 0: with strong guidance the first ones.
    pub fn skipping(mut self, steps: impl IntoIterator<Item = usize>) -> Self {
        self.corrector = self.corrector.skipping(steps);
        self
    }

    /// The predictor alone, UniP: order p once started.
    pub fn without_corrector(mut self) -> Self {
        self.uncorrected = true;
        self
    }

    /// Solves the reverse SDE with noise of strength τ, [without the corrector](Self::without_corrector): to correct a
    /// step with noise takes that noise once more, which [`SaSolver`](super::SaSolver) does.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        tau.check(UNIPC)?;
        self.corrector.inner.tau = Some(tau);
        Ok(self)
    }

    /// Lowers the order in the last steps, down to 1, as the published code does by default.
    pub fn lower_order_final(mut self, lower: bool) -> Self {
        self.corrector.inner.lower_final = lower;
        self.corrector = self.corrector.lower_order_final(lower);
        self
    }
}

impl Solver for UniPc {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        if self.uncorrected {
            return self.corrector.inner.plan(process, grid);
        }
        self.check_tau()?;
        self.corrector.plan(process, grid)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        if self.uncorrected {
            return self.corrector.inner.churned(churn, process, grid);
        }
        self.check_tau()?;
        self.corrector.churned(churn, process, grid)
    }
}

impl UniPc {
    /// A corrector without its noise.
    fn check_tau(&self) -> Result<(), PlanError> {
        if self.corrector.inner.tau.is_some() {
            return Err(PlanError::Combination {
                first: "tau".into(),
                second: format!("the corrector of {UNIPC}"),
                reason: "it would have to know the noise of the step it corrects; take the predictor alone with \
                         `.without_corrector()`, or SaSolver, whose corrector does",
            });
        }
        Ok(())
    }
}

/// The predictor alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UniP {
    order: usize,
    basis: Basis,
    b: UniB,
    lower_final: bool,
    #[serde(default)]
    tau: Option<Tau>,
}

impl UniP {
    fn check(&self) -> Result<(), PlanError> {
        check_order(UNIPC, self.order)?;
        self.tau.iter().try_for_each(|tau| tau.check(UNIPC))
    }

    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let mut past = Past::new(self.order);
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let leg = leg(self.basis, self.tau.as_ref(), stop);
            past.ask(stop.from.level.lambda());
            let mut order = order_of(self.order, index, stops.len(), self.lower_final).min(past.usable());
            if stop.to.level.sigma == 0.0 || stop.to.level.alpha == 0.0 || leg.h == 0.0 {
                order = 1;
            }
            let weights = match order {
                1 => vec![leg.weight(0)],
                2 => {
                    let slope = self.b.half(&leg) * leg.h / (past.lambda(0) - past.lambda(1));
                    vec![leg.weight(0) + slope, -slope]
                }
                _ => {
                    let nodes: Vec<f64> = (0..order).map(|back| (past.lambda(back) - past.lambda(0)) / leg.h).collect();
                    interpolate(&leg, &nodes)
                }
            };
            rows.push(row(UNIPC, (index, stop), (self.basis, &past), (leg.decay(), weights), noise(&leg))?);
        }
        let sde = if self.tau.is_some() { ", SDE" } else { "" };
        Ok((format!("UniP-{} ({}{sde})", self.order, self.basis.name()), rows))
    }
}

impl Solver for UniP {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = joined_stops(UNIPC, process, grid, self.tau.is_some())?;
        let (name, rows) = self.table(&stops)?;
        plan(name, process, &stops, rows)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, UNIPC, process, grid, |stops| self.table(stops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ddim, Deis};
    use langevin_core::process::VpSde;

    /// DDIM is UniP of order 1, though it does not read the state; corrected they are the same plan.
    #[test]
    fn a_solver_that_does_not_read_the_state_is_corrected_too() {
        let numbers = |plan: &Plan| -> Vec<f64> {
            let terms = plan.rows().iter().flat_map(|row| &row.post).filter(|set| set.to == 0).flat_map(|set| &set.sum);
            let mut numbers: Vec<f64> = terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        let grid = Grid::uniform(3);
        let behind = UniC::behind(Ddim::new(), 1).unwrap().plan(&VpSde::default(), &grid).unwrap();
        let whole = UniPc::new(1).unwrap().plan(&VpSde::default(), &grid).unwrap();
        // The first step, which nothing has corrected yet, is written in the answers.
        let (behind, whole) = (numbers(&behind), numbers(&whole));
        let shared = |a: &[f64], b: &[f64]| a.iter().filter(|a| b.iter().any(|b| (*a - b).abs() < 1e-12)).count();
        assert!(shared(&behind, &whole) >= behind.len() - 2, "{behind:?} and {whole:?}");
    }

    #[test]
    fn solvers_that_cannot_be_corrected_are_refused() {
        let vp = VpSde::default();
        let refused = |solver: &dyn Solver| match solver.plan(&vp, &Grid::uniform(4)) {
            Err(PlanError::Combination { first, reason, .. }) => (first, reason),
            other => panic!("{other:?}"),
        };
        let (first, reason) = refused(&UniC::behind(Ddim::new().eta(0.5).unwrap(), 2).unwrap());
        assert!(first == UNIC && reason.contains("noise"), "{first}: {reason}");
        let (_, reason) = refused(&UniC::behind(crate::ProbabilityFlow::heun(), 2).unwrap());
        assert!(reason.contains("once a step"), "{reason}");
        let (first, _) = refused(&UniC::behind(UniPc::new(2).unwrap(), 2).unwrap());
        assert_eq!(first, UNIC);
        let noisy = UniPc::new(2).unwrap().tau(Tau::Constant(1.0)).unwrap();
        let (first, reason) = refused(&noisy);
        assert!(first == "tau" && reason.contains("without_corrector"), "{first}: {reason}");
        assert!(noisy.without_corrector().plan(&vp, &Grid::uniform(4)).unwrap().is_stochastic());
        let error = UniPc::new(2).unwrap().tau(Tau::Constant(f64::NAN)).unwrap_err();
        assert!(matches!(error, PlanError::Setting { setting: "tau", .. }));
    }

    /// The predictor alone is the plan before it is corrected; of order 3 and more it is DEIS in the same basis.
    #[test]
    fn the_predictor_alone_is_deis() {
        let (vp, grid) = (VpSde::default(), Grid::uniform(8));
        for tau in [0.0, 0.8] {
            let numbers = |plan: Plan| -> Vec<f64> {
                let terms = plan.rows()[2..].iter().flat_map(|row| &row.post).flat_map(|set| set.sum.clone());
                terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
            };
            let uni = UniPc::new(3).unwrap().without_corrector().tau(Tau::Constant(tau)).unwrap();
            let deis = Deis::new(3).unwrap().basis(Basis::Data).tau(Tau::Constant(tau)).unwrap();
            let (uni, deis) = (numbers(uni.plan(&vp, &grid).unwrap()), numbers(deis.plan(&vp, &grid).unwrap()));
            assert!(uni.len() == deis.len() && uni.iter().zip(&deis).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn orders_out_of_range_are_refused() {
        for order in [0, 5] {
            assert!(matches!(UniPc::new(order), Err(PlanError::Setting { setting: "order", .. })));
            assert!(matches!(UniC::behind(Ddim::new(), order), Err(PlanError::Setting { setting: "order", .. })));
        }
    }
}
