//! UniC: the corrector of UniPC, which costs nothing, behind any solver without noise.

use super::leg::Basis;
use super::multistep::{Past, finite, interpolate, joined_stops, leg, plan};
use super::tau::Tau;
use super::unipc::{UniB, check_order, order_of};
use crate::plan::{Coef, Draw, Plan, Reg, Row, Set, Slot, Src, Term};
use crate::sigma::{Churn, Raised, raise};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const UNIC: &str = "UniC";

/// The corrector of UniPC behind any deterministic solver whose steps begin with a question about the state.
///
/// When a step's end is asked about for the next step, that answer also corrects the step: the state is computed again
/// with the polynomial through it and the answers where the steps before began. No evaluation is added; the last step is not
/// corrected, since nothing is asked behind it.
///
/// A corrector of order p lifts a solver of order p to p + 1, and makes any solver of order q one of order min(p, q) + 1:
/// less than it had, if p + 1 < q. Behind solvers with stages the answers of the stages are those of the solver alone; the
/// corrector takes those at the levels of the grid. The first correction has order 1, whatever p is, which costs a solver of order 3
/// its order: leave it out with [`skipping`](Self::skipping). Behind multistep solvers the orders are those once they are started: their
/// first steps have order 1 themselves, whose error is of order 3 once it is corrected.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Ddim, Solver, exponential::{Singlestep, UniC}};
/// let corrected = UniC::behind(Ddim::new(), 1)?;
/// let plan = corrected.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// let fourth = UniC::behind(Singlestep::new(3)?, 3)?.skipping([0]);
/// assert_eq!(fourth.plan(&VpSde::default(), &Grid::uniform(20))?.evaluations(), 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zhao et al. 2023, "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UniC<S> {
    pub(super) inner: S,
    order: usize,
    basis: Basis,
    b: UniB,
    skipped: Vec<usize>,
    lower_final: bool,
    /// Strength of the noise of the solver inside, which the corrected state takes once more.
    #[serde(default)]
    tau: Option<Tau>,
}

impl<S> UniC<S> {
    /// Corrects the steps of `inner` with order 1 to 4, in the data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn behind(inner: S, order: usize) -> Result<Self, PlanError> {
        check_order(UNIC, order)?;
        let (basis, b) = (Basis::Data, UniB::Exponential);
        Ok(Self { inner, order, basis, b, skipped: Vec::new(), lower_final: false, tau: None })
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

    /// Knows the noise of a solver inside that asks once a step and draws with this strength.
    pub(super) fn of_noise(mut self, tau: Tau) -> Self {
        self.tau = Some(tau);
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
        let (false, Some(c)) = (reads, found) else { return set };
        let mut of_answer = c * of_other;
        let mut sum = Vec::new();
        for term in set.sum {
            match term.c {
                Coef::C(c) if term.of == other => of_answer += c,
                _ if term.of == replaced => {}
                _ => sum.push(term),
            }
        }
        // All of it may have been the state's.
        let of_answer = if of_answer.abs() < 1e-12 * (c * of_other).abs() { 0.0 } else { of_answer };
        sum.extend([Term::new(c * of_x, Src::X(0)), Term::new(of_answer, other)]);
        Set::new(set.to, sum)
    }

    /// The corrected state where step `index` begins, from `kept`, the state where the step before began.
    fn correct(&self, index: usize, stops: &[Stop], past: &Past, kept: Reg) -> Result<Set, PlanError> {
        let stop = &stops[index - 1];
        let leg = leg(self.basis, self.tau.as_ref(), stop);
        // The newest answer is the one at the end of this step; the one before it is where it began.
        let wanted = order_of(self.order, index - 1, stops.len(), self.lower_final);
        let order = wanted.min(past.usable().max(2) - 1);
        // Of pure noise there is the limit of a node that is infinitely far away: the line through the other two.
        let weights = if wanted == 1 {
            let half = self.b.half(&leg);
            vec![half, leg.weight(0) - half]
        } else {
            let nodes: Vec<f64> = (0..=order).map(|back| (past.lambda(back) - past.lambda(1)) / leg.h).collect();
            interpolate(&leg, &nodes)
        };
        let answers = weights.into_iter().enumerate();
        let answers = answers.map(|(back, weight)| Term::new(weight, self.basis.answer(past.slot(back))));
        let noise = (leg.std() > 0.0).then(|| Term::new(leg.std(), Src::Z(noise_register(index - 1))));
        let kept = std::iter::once(Term::new(leg.decay(), Src::X(kept)));
        let sum: Vec<Term> = kept.chain(answers).chain(noise).collect();
        finite(UNIC, stop, &sum)?;
        Ok(Set::new(0, sum))
    }
}

impl<S: Solver> Solver for UniC<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        check_order(UNIC, self.order)?;
        let stops = joined_stops(UNIC, process, grid, self.tau.is_some())?;
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
        let mut rises = Vec::new();
        let mut begins = true;
        for row in &mut quiet {
            if begins {
                rises.push((std::mem::take(&mut row.draws), std::mem::take(&mut row.pre)));
            }
            begins = row.step.is_some();
        }
        if rises.iter().any(|(_, pre)| pre.len() > 1) {
            return Err(refused(&inner, FIRST));
        }
        let quiet = Plan::new(inner.name(), inner.start_node(), inner.prior_deviation(), quiet)?.split_as(&inner);
        let (name, mut rows) = self.table(&quiet, &raised)?;
        let (mut rises, mut begins) = (rises.into_iter().enumerate(), true);
        for row in &mut rows {
            let rise = if begins { rises.next() } else { None };
            if let Some((index, (draws, pre))) = rise {
                if self.corrects(index) {
                    row.post.splice(1..1, pre.clone());
                }
                (row.draws, row.pre) = (draws, pre);
            }
            begins = row.step.is_some();
        }
        plan(name, process, &stops, rows)
    }
}

const FIRST: &str = "it corrects steps that begin with a question about the state";

fn refused(inner: &Plan, reason: &'static str) -> PlanError {
    PlanError::Combination { first: UNIC.into(), second: inner.name().into(), reason }
}

/// The noise register of a step: the corrector still needs the one before.
fn noise_register(index: usize) -> Reg {
    (index % 2) as Reg
}

impl<S> UniC<S> {
    /// Counts the steps that are left out on a grid that has `before` more in front.
    pub(super) fn counted_from(mut self, before: usize) -> Self {
        self.skipped = self.skipped.into_iter().filter_map(|step| step.checked_sub(before)).collect();
        self
    }

    /// Whether step `index` begins with a correction of the one before.
    fn corrects(&self, index: usize) -> bool {
        index > 0 && !self.skipped.contains(&(index - 1))
    }

    /// Name and rows of the plan for these steps, behind a plan for them.
    fn table(&self, inner: &Plan, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        if inner.needs_split() {
            return Err(refused(
                inner,
                "its answers are guided and unconditional ones, and a corrector takes both for one",
            ));
        }
        if inner.is_stochastic() && self.tau.is_none() {
            return Err(refused(inner, "the corrector would have to know the noise of the step it corrects"));
        }
        let Steps { steps, depth, kept } = Steps::of(inner, self.order + 1, stops.len())?;
        let mut past = Past::new(depth);
        let mut corrected = Vec::new();
        for (index, (mut rows, stop)) in steps.into_iter().zip(stops).enumerate() {
            past.ask(stop.from.level.lambda());
            if self.tau.is_some() {
                rows.iter_mut().for_each(|row| move_noise(row, noise_register(index)));
            }
            let mut post = Vec::new();
            if self.corrects(index) {
                post.push(self.correct(index, stops, &past, kept)?);
                let inside: Vec<Reg> = rows[1..].iter().filter_map(|row| row.eval).map(|eval| eval.x).collect();
                for set in rows.iter_mut().flat_map(|row| row.pre.iter_mut().chain(&mut row.post)) {
                    if set.to == 0 || inside.contains(&set.to) {
                        *set = self.reading_the_state(set.clone(), &past, stop);
                    }
                }
            }
            if index + 1 < stops.len() && !self.skipped.contains(&index) {
                post.push(Set::new(kept, [Term::new(1.0, Src::X(0))]));
            }
            post.append(&mut rows[0].post);
            rows[0].post = post;
            corrected.append(&mut rows);
        }
        Ok((format!("{UNIC}-{} behind {}", self.order, inner.name()), corrected))
    }
}

/// Draws into another register, and reads it.
fn move_noise(row: &mut Row, register: Reg) {
    for draw in &mut row.draws {
        if let Draw::White { to, .. } = draw {
            *to = register;
        }
    }
    for term in row.pre.iter_mut().chain(&mut row.post).flat_map(|set| &mut set.sum) {
        if matches!(term.of, Src::Z(_)) {
            term.of = Src::Z(register);
        }
    }
}

/// The steps of a plan, with slots for `depth` answers at the levels of the grid, those of stages behind them, and a state
/// register that they do not use.
struct Steps {
    steps: Vec<Vec<Row>>,
    depth: usize,
    kept: Reg,
}

/// Where an answer of the solver's own slot lives.
#[derive(Clone, Copy)]
enum Place {
    /// Asked where this step began.
    Grid(usize),
    /// Asked in a stage.
    Stage(Slot),
    /// Asked so long ago that another one is there.
    Gone,
}

impl Steps {
    fn of(inner: &Plan, depth: usize, count: usize) -> Result<Self, PlanError> {
        let mut steps: Vec<Vec<Row>> = Vec::new();
        let mut begins = true;
        for row in inner.rows() {
            match steps.last_mut() {
                Some(step) if !begins => step.push(row.clone()),
                _ => steps.push(vec![row.clone()]),
            }
            begins = row.step.is_some();
        }
        if !steps.iter().all(|step| step[0].eval.is_some_and(|eval| eval.x == 0) && step[0].pre.is_empty()) {
            return Err(refused(inner, FIRST));
        }
        let writes = |step: &Vec<Row>| written(step).filter(|to| *to == 0).count();
        if steps.iter().any(|step| writes(step) > 1) {
            return Err(refused(inner, "its steps are corrected already"));
        }
        if steps.len() != count {
            return Err(refused(inner, "its steps are not those of the grid"));
        }
        let Some(kept) = written(inner.rows()).max().unwrap_or(0).checked_add(1) else {
            return Err(refused(inner, "its 256 registers are in use, and one more is needed"));
        };
        let own = |step: &Vec<Row>| step[0].eval.map_or(0, |eval| usize::from(eval.into) + 1);
        let depth = depth.max(steps.iter().map(own).max().unwrap_or(1));
        // Where each of the solver's own slots lives now; none is read before it is written.
        let mut places = vec![Place::Gone; 256];
        let gone = || refused(inner, "it looks back on more answers than are kept for the corrector");
        for (index, step) in steps.iter_mut().enumerate() {
            for (stage, row) in step.iter_mut().enumerate() {
                let mut known = row.pre.iter_mut().all(|set| rename(&mut set.sum, &places, depth));
                if let Some(eval) = &mut row.eval {
                    let place = if stage == 0 { Place::Grid(index) } else { Place::Stage(eval.into) };
                    places[usize::from(eval.into)] = place;
                    let Some(into) = slot(place, depth) else { return Err(gone()) };
                    eval.into = into;
                }
                known &= row.post.iter_mut().all(|set| rename(&mut set.sum, &places, depth));
                if !(known && rename(&mut row.report, &places, depth)) {
                    return Err(gone());
                }
            }
            // From the next step on the oldest one's slot is another's.
            let forgotten = |place: &Place| matches!(place, Place::Grid(at) if index + 1 - at >= depth);
            places.iter_mut().filter(|place| forgotten(place)).for_each(|place| *place = Place::Gone);
        }
        Ok(Self { steps, depth, kept })
    }
}

/// The state registers that rows write.
fn written(rows: &[Row]) -> impl Iterator<Item = Reg> {
    rows.iter().flat_map(|row| row.pre.iter().chain(&row.post)).map(|set| set.to)
}

/// The slot of a place, as long as there is one.
fn slot(place: Place, depth: usize) -> Option<Slot> {
    match place {
        Place::Grid(index) => Slot::try_from(index % depth).ok(),
        Place::Stage(slot) => Slot::try_from(depth + usize::from(slot)).ok(),
        Place::Gone => None,
    }
}

/// Names the slots of a sum as they are named now, and says whether all of them are still there.
fn rename(sum: &mut [Term], places: &[Place], depth: usize) -> bool {
    let now = |of: Slot| slot(places[usize::from(of)], depth);
    sum.iter_mut().all(|term| {
        let of = match term.of {
            Src::X0(of) => now(of).map(Src::X0),
            Src::Eps(of) => now(of).map(Src::Eps),
            other => Some(other),
        };
        of.map(|of| term.of = of).is_some()
    })
}

#[cfg(test)]
mod tests;
