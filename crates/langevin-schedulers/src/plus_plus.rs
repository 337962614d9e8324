//! CFG++ around any solver.

use crate::plan::{Coef, Plan, Reg, Row, Set, Slot, Src, Term};
use crate::sigma::Churn;
use crate::solver::{PlanError, Solver};
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const NAME: &str = "CFG++";

/// Where a step takes in the guidance `g = x̂_0 − û_0`. They differ for solvers in x̂_0 that look back on earlier answers; a
/// step that does not is always guided at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuidedAt {
    /// Where it arrives, whole: `x' = S(x; û_0) + α'·g`.
    #[default]
    End,
    /// There, and in the slope, which is taken from the guided answer to the unconditional ones before (ComfyUI's
    /// "dpmpp_2m_cfg_pp").
    Slope,
    /// Where it begins: `x' = S(x + α·g; û_0)`, so that the guidance fades as the state does (ComfyUI's "res_multistep_cfg_pp").
    Beginning,
}

/// A solver whose steps are unconditional, with the guidance of [CFG++](langevin_core::denoiser::Guided::plus_plus) on top:
/// `x' = S(x; û_0) + α'·(x̂_0 − û_0)`.
///
/// Under CFG++ a denoiser answers with the guided x̂_0 and the unconditional ε̂, and DDIM goes to `α'·x̂_0 + σ'·ε̂`: the clean
/// sample is guided, and the noise that goes on top is not. DDIM takes the two as they are. Other solvers read the state, too,
/// or answers of earlier steps and inner stages; here they read the unconditional clean sample `û_0 = (x − σ·ε̂)/α` in place of
/// x̂_0, so that all of a step is unconditional, and what the guidance moves x̂_0 by where the step begins, g, is added
/// where it ends. For DDIM and Euler this is the step of the paper, number by number.
///
/// g is added whole in every step, however short: more steps guide more strongly, and there is no equation that the samples
/// go to and no order. Runs refuse denoisers without `.plus_plus()`.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Ddim, DpmSolver, PlusPlus, Solver, exponential::Singlestep};
/// let (vp, grid) = (VpSde::default(), Grid::uniform(10));
/// let plan = PlusPlus::around(Singlestep::new(2)?.ancestral(1.0)?).plan(&vp, &grid)?; // "dpmpp_2s_ancestral_cfg_pp"
/// assert!(plan.needs_split());
/// assert_eq!(PlusPlus::around(Ddim::new()).plan(&vp, &grid)?.rows(), Ddim::new().plan(&vp, &grid)?.rows());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Planning fails with [`PlanError::Combination`] for solvers that go on from states of earlier steps, do not begin a step with
/// a question about the state, or multiply by a learned deviation what the guidance is part of, and with [`PlanError::Singular`] if û_0 is read at α = 0, where it does not follow from ε̂.
///
/// # References
/// Chung et al. 2024, "CFG++: manifold-constrained classifier free guidance for diffusion models", algorithm 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlusPlus<S> {
    solver: S,
    #[serde(default)]
    guided_at: GuidedAt,
}

impl<S> PlusPlus<S> {
    /// Around this solver, guided at the end of each step.
    pub fn around(solver: S) -> Self {
        Self { solver, guided_at: GuidedAt::End }
    }

    /// With the guidance elsewhere in steps that look back.
    pub fn guided_at(mut self, place: GuidedAt) -> Self {
        self.guided_at = place;
        self
    }

    fn table(&self, plan: &Plan, process: &dyn Process) -> Result<Plan, PlanError> {
        if plan.needs_split() {
            return Err(refused(plan, "its answers are kept apart already"));
        }
        if plan.carries_states() {
            let reason = "it goes on from states of earlier steps, which hold guidance of their own; take a solver that \
                          remembers estimates only";
            return Err(refused(plan, reason));
        }
        let mut walk = Walk::of(plan, self.guided_at)?;
        let mut rows = plan.rows().iter().map(|row| walk.row(row)).collect::<Result<Vec<_>, _>>()?;
        drop_unread(&mut rows, walk.first);
        let name = format!("{} with {NAME}", plan.name());
        Ok(Plan::new(name, plan.start_node(), plan.prior_deviation(), rows)?.on(process).for_split())
    }
}

impl<S: Solver> Solver for PlusPlus<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.table(&self.solver.plan(process, grid)?, process)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.table(&self.solver.churned(churn, process, grid)?, process)
    }
}

fn refused(plan: &Plan, reason: &'static str) -> PlanError {
    PlanError::Combination { first: NAME.into(), second: plan.name().into(), reason }
}

/// The first question of a step.
#[derive(Clone, Copy)]
struct Begun {
    slot: Slot,
    level: Level,
}

/// On the way through a plan.
struct Walk<'a> {
    plan: &'a Plan,
    guided_at: GuidedAt,
    /// The register of û_0 of slot 0.
    first: Reg,
    /// Slots whose last question was in pure noise.
    noise: BTreeSet<Slot>,
    /// Where the row begins.
    t: f64,
    begun: Option<Begun>,
    /// Slots that this step has asked into.
    own: Vec<Slot>,
    landed: bool,
}

impl<'a> Walk<'a> {
    fn of(plan: &'a Plan, guided_at: GuidedAt) -> Result<Self, PlanError> {
        let rows = plan.rows();
        let registers = rows.iter().flat_map(|row| row.pre.iter().chain(&row.post)).map(|set| set.to);
        let first = registers.max().unwrap_or(0).checked_add(1);
        let slots = rows.iter().filter_map(|row| row.eval).map(|eval| eval.into).max().unwrap_or(0);
        let Some(first) = first.filter(|first| first.checked_add(slots).is_some()) else {
            return Err(refused(plan, "its 256 registers are in use, and one more for each answer is needed"));
        };
        let t = plan.start_node().t;
        Ok(Self { plan, guided_at, first, noise: BTreeSet::new(), t, begun: None, own: vec![], landed: false })
    }

    /// û_0 of a slot.
    fn unconditional(&self, slot: Slot) -> Src {
        Src::X(self.first + slot)
    }

    fn row(&mut self, row: &Row) -> Result<Row, PlanError> {
        let mut changed = row.clone();
        changed.pre = row.pre.iter().map(|set| self.set(set, row)).collect::<Result<_, _>>()?;
        let mut post = Vec::new();
        if let Some(eval) = row.eval {
            if self.begun.is_none() {
                if eval.x != 0 {
                    return Err(refused(self.plan, "its steps do not begin with a question about the state"));
                }
                self.begun = Some(Begun { slot: eval.into, level: eval.at });
            } else if self.own.contains(&eval.into) {
                return Err(refused(self.plan, "it forgets an answer within a step"));
            }
            self.own.push(eval.into);
            let Level { alpha, sigma, .. } = eval.at;
            if alpha == 0.0 {
                self.noise.insert(eval.into);
            } else {
                self.noise.remove(&eval.into);
                let sum = [Term::new(1.0 / alpha, Src::X(eval.x)), Term::new(-sigma / alpha, Src::Eps(eval.into))];
                post.push(Set::new(self.first + eval.into, sum));
            }
        }
        for set in &row.post {
            post.push(self.set(set, row)?);
        }
        changed.post = post;
        self.t = row.after.t;
        if row.step.is_some() {
            if self.begun.is_some() && !self.landed {
                return Err(refused(self.plan, "its steps do not end by writing the state"));
            }
            (self.begun, self.landed) = (None, false);
            self.own.clear();
        }
        Ok(changed)
    }

    /// An assignment as it is in an unconditional step; the one to the state is where the step lands.
    fn set(&mut self, set: &Set, row: &Row) -> Result<Set, PlanError> {
        let mut changed = set.clone();
        let begun = self.begun.filter(|_| set.to == 0 && set.mask.is_none());
        if let Some(begun) = begun {
            if self.landed || row.step.is_none() {
                return Err(refused(self.plan, "its steps write the state more than once"));
            }
            self.landed = true;
            changed.sum = self.landing(&set.sum, begun, row.after.level.alpha)?;
        } else {
            for term in &mut changed.sum {
                if let Src::X0(slot) = term.of {
                    term.of = self.unconditional(slot);
                }
            }
        }
        let reads_noise = |term: &Term| self.noise.iter().any(|slot| term.of == self.unconditional(*slot));
        if changed.sum.iter().any(reads_noise) {
            let Level { alpha, sigma, .. } = self.begun.map_or(row.after.level, |begun| begun.level);
            let advice = "the unconditional x̂_0 does not follow from ε̂ in pure noise; leave this time out of the grid, or \
                          take a solver whose first step has order 1";
            return Err(PlanError::Singular { solver: NAME, t: self.t, alpha, sigma, advice });
        }
        Ok(changed)
    }

    /// A factor that decides how much guidance a step takes.
    fn number(&self, term: &Term) -> Result<f64, PlanError> {
        let Coef::C(c) = term.c else {
            let reason = "it multiplies the state or x̂_0 by what the network answers, so how much guidance a step takes is not \
                          known when it is planned; take a solver that multiplies only noise by learned deviations";
            return Err(refused(self.plan, reason));
        };
        Ok(c)
    }

    fn landing(&self, sum: &[Term], begun: Begun, alpha: f64) -> Result<Vec<Term>, PlanError> {
        let earlier = |slot: &Slot| !self.own.contains(slot);
        let looks_back = |term: &Term| matches!(term.of, Src::X0(slot) | Src::Eps(slot) if earlier(&slot));
        let weight = match self.guided_at {
            GuidedAt::Slope => {
                let older = |term: &&Term| matches!(term.of, Src::X0(slot) if earlier(&slot));
                let older = sum.iter().filter(older).map(|term| self.number(term));
                alpha - older.sum::<Result<f64, _>>()?
            }
            GuidedAt::Beginning if sum.iter().any(looks_back) => {
                let of_state = sum.iter().filter(|term| term.of == Src::X(0)).map(|term| self.number(term));
                begun.level.alpha * of_state.sum::<Result<f64, _>>()?
            }
            GuidedAt::End | GuidedAt::Beginning => alpha,
        };
        let unguided = self.unconditional(begun.slot);
        let (mut terms, mut of_unguided) = (Vec::with_capacity(sum.len() + 2), -weight);
        for term in sum {
            match term.of {
                Src::X0(slot) if slot == begun.slot => of_unguided += self.number(term)?,
                Src::X0(slot) => terms.push(Term { of: self.unconditional(slot), ..*term }),
                _ => terms.push(*term),
            }
        }
        // In the place that x̂_0 had, so that sums keep their order.
        let place = sum.iter().position(|term| term.of == Src::X0(begun.slot)).unwrap_or(terms.len());
        terms.splice(place..place, [Term::new(weight, Src::X0(begun.slot)), Term::new(of_unguided, unguided)]);
        Ok(Set::new(0, terms).sum)
    }
}

/// Takes out what is written to registers from `first` on and never read.
fn drop_unread(rows: &mut [Row], first: Reg) {
    let mut live = BTreeSet::new();
    let mut keep = |sets: &mut Vec<Set>| {
        let mut kept: Vec<Set> = Vec::with_capacity(sets.len());
        for set in sets.drain(..).rev() {
            if set.to < first || live.remove(&set.to) {
                live.extend(set.sum.iter().filter_map(|term| match term.of {
                    Src::X(reg) if reg >= first => Some(reg),
                    _ => None,
                }));
                kept.push(set);
            }
        }
        kept.reverse();
        *sets = kept;
    };
    for row in rows.iter_mut().rev() {
        keep(&mut row.post);
        keep(&mut row.pre);
    }
}

#[cfg(test)]
mod tests;
