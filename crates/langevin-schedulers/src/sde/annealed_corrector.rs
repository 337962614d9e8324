//! Annealed Langevin corrections between the steps of a solver.

use crate::ddpm::ratio;
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "annealed Langevin corrections";

/// Annealed Langevin dynamics as a corrector: before each step of any solver, Langevin steps of fixed length at the level
/// that the step asks at.
///
/// A correction is `x + ε·score + √(2ε)·z` with `ε = 2·a·(r·σ)²`, where r is the signal-to-noise ratio and a the share of
/// signal that the forward step keeps, `(α/α')²` for a step from α to α': that is 1 on VE processes and `1 − β` of a step on a
/// VP chain. In place of the norms that [`PredictorCorrector`](super::PredictorCorrector) looks at there is σ, so the whole
/// is a plan. A step from pure noise, or nearly so (a below 1e-6), is not corrected: the length would be 0.
///
/// Many corrections at one level have a law of their own: of data and noise with variance v together it has the variance
/// `v/(1 − ε/(2v))`. So the samples of the whole do not go to the data's law as steps are added, as long as r is what it is.
///
/// With no predictor at all it is [`AnnealedLangevin`](super::AnnealedLangevin) in the terms
/// [`of_snr`](super::AnnealedLangevin::of_snr).
///
/// ```
/// use langevin_core::{Grid, process::VeSde};
/// use langevin_schedulers::{ReverseDiffusion, Solver, sde::AnnealedCorrector};
/// let solver = AnnealedCorrector::around(ReverseDiffusion::new(), 0.16, 1)?;
/// let plan = solver.plan(&VeSde::default(), &Grid::uniform(100))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (100, 200));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song & Ermon 2019, "Generative modeling by estimating gradients of the data distribution"; Song et al. 2021, "Score-based
/// generative modeling through stochastic differential equations", appendix G and the corrector `ald` of its code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnealedCorrector<S> {
    inner: S,
    ratio: f64,
    corrections: usize,
}

impl<S> AnnealedCorrector<S> {
    /// `corrections` steps of signal-to-noise ratio `ratio` before each step of a solver; none are the solver alone.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 < ratio < 1`. From 1 on a chain of corrections of pure noise grows without bound. A plan
    /// of more than 2^18 rows is refused when it is made.
    pub fn around(inner: S, ratio: f64, corrections: usize) -> Result<Self, PlanError> {
        check(ratio)?;
        Ok(Self { inner, ratio, corrections })
    }
}

fn check(given: f64) -> Result<(), PlanError> {
    if given > 0.0 && given < 1.0 {
        return Ok(());
    }
    let (setting, expected) = ("signal-to-noise ratio", "a number between 0 and 1");
    Err(PlanError::Setting { solver: NAME, setting, given, expected })
}

/// The least share of signal that corrections are made for.
const LEAST_SHARE: f64 = 1e-6;

/// The most rows of a plan with corrections, each of which is one.
const MOST_ROWS: usize = 1 << 18;

/// Where corrections are made before a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub at: Level,
    /// The share of signal that the step keeps.
    pub share: f64,
}

/// The corrections before each row: before those that begin a step with a question.
fn places(plan: &Plan) -> Result<Vec<Option<Place>>, PlanError> {
    let (rows, mut before) = (plan.rows(), plan.start_node());
    let (mut places, mut begin) = (vec![None; rows.len()], 0);
    while begin < rows.len() {
        let end = rows[begin..].iter().position(|row| row.step.is_some()).map_or(rows.len(), |more| begin + more + 1);
        let after = rows[end - 1].after;
        if rows[begin..end].iter().any(|row| row.eval.is_some()) {
            let (from, to) = (ratio(&before.level), ratio(&after.level));
            if !(to <= from) {
                let step = rows[..begin].iter().filter(|row| row.step.is_some()).count();
                return Err(PlanError::Direction { solver: NAME, expected: "falling", step, from, to });
            }
            // A state that is raised before the question is where it was before that.
            let asked = rows[begin].eval.filter(|eval| rows[begin].pre.is_empty() && eval.x == 0);
            let at = asked.map_or(before.level, |eval| eval.at);
            places[begin] = Some(Place { at, share: (at.alpha / after.level.alpha).powi(2) });
        }
        (begin, before) = (end, after);
    }
    Ok(places)
}

/// A plan with so many corrections at its places.
pub(crate) fn corrected(
    plan: &Plan,
    places: &[Option<Place>],
    ratio: f64,
    corrections: usize,
) -> Result<Plan, PlanError> {
    check(ratio)?;
    assert_eq!(plan.rows().len(), places.len(), "each row has a place, or none");
    let corrected = places.iter().flatten().count();
    if corrected.saturating_mul(corrections).saturating_add(places.len()) > MOST_ROWS {
        let (setting, expected) = ("number of corrections", "so few that the plan has at most 2^18 rows, one for each");
        return Err(PlanError::Setting { solver: NAME, setting, given: corrections as f64, expected });
    }
    let refuse = |reason| Err(PlanError::Combination { first: NAME.into(), second: plan.name().into(), reason });
    if plan.needs_split() {
        return refuse("a correction goes along one score, and CFG++ has two answers");
    }
    if plan.carries_states() {
        return refuse(
            "it goes on from states of earlier steps, in which nothing is corrected; take a solver that remembers \
             estimates only",
        );
    }
    let rows = plan.rows();
    let slots: Vec<u8> = rows.iter().filter_map(|row| row.eval.map(|eval| eval.into)).collect();
    let registers: Vec<u8> = rows.iter().flat_map(|row| &row.draws).map(Draw::register).collect();
    let free = |used: &[u8]| (0..=u8::MAX).find(|place| !used.contains(place));
    let (Some(slot), Some(register)) = (free(&slots), free(&registers)) else {
        return refuse("all of its 256 registers are in use, and one more is needed");
    };
    let (mut all, mut before) = (Vec::new(), plan.start_node());
    for (row, place) in rows.iter().zip(places) {
        if let Some(Place { at, share }) = *place {
            let length = 2.0 * share * (ratio * at.sigma).powi(2);
            if length > 0.0 && share >= LEAST_SHARE {
                let correction = correction(at, length, (slot, register), before);
                all.extend(std::iter::repeat_n(correction, corrections));
            }
        }
        all.push(row.clone());
        before = row.after;
    }
    let name = format!("{} with {corrections} {NAME} (r = {ratio})", plan.name());
    Ok(Plan::new(name, plan.start_node(), plan.prior_deviation(), all)?.for_process_of(plan))
}

fn correction(at: Level, length: f64, (slot, register): (u8, u8), after: Node) -> Row {
    let sum = [
        Term::new(1.0, Src::X(0)),
        Term::new(-length / at.sigma, Src::Eps(slot)),
        Term::new((2.0 * length).sqrt(), Src::Z(register)),
    ];
    Row {
        draws: vec![Draw::White { to: register, lane: 0 }],
        pre: Vec::new(),
        eval: Some(Eval { at, x: 0, into: slot }),
        post: vec![Set::new(0, sum)],
        step: None,
        after,
        report: Vec::new(),
    }
}

/// The plan of no predictor: its steps lead from stop to stop and leave the state as it is.
pub(crate) fn idle(stops: &[Stop], prior_std: f64) -> Result<Plan, PlanError> {
    let row = |(index, stop): (usize, &Stop)| Row {
        draws: Vec::new(),
        pre: Vec::new(),
        eval: None,
        post: Vec::new(),
        step: Some(index as u32),
        after: stop.to,
        report: Vec::new(),
    };
    let Some(first) = stops.first() else { return Err(crate::plan::TableError::Empty.into()) };
    let rows = stops.iter().enumerate().map(row).collect();
    Ok(Plan::new("no predictor", first.from, prior_std, rows)?)
}

impl<S: Solver> Solver for AnnealedCorrector<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let plan = self.inner.plan(process, grid)?;
        let places = places(&plan)?;
        corrected(&plan, &places, self.ratio, self.corrections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exponential::{SaSolver, UniPc};
    use crate::plan::Coef;
    use crate::sigma::{Churn, Churned, Heun};
    use crate::{Ddim, DpmSolver, PlusPlus, RePaint, ReverseDiffusion};
    use langevin_core::process::{Betas, DiscreteChain, RectifiedFlow, VeSde, VpSde};

    fn numbers(row: &Row) -> Vec<f64> {
        row.post[0].sum.iter().map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// ε = 2·(r·σ)² on VE, times 1 − β of the step on a VP chain.
    #[test]
    fn corrections_are_the_formula() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("a chain");
        let betas = chain.betas().to_vec();
        let solver = AnnealedCorrector::around(ReverseDiffusion::new(), 0.16, 2).expect("settings");
        let on_chain = solver.plan(&chain, &Grid::leading(1000)).expect("a plan");
        let on_ve = solver.plan(&VeSde::default(), &Grid::uniform(6)).expect("a plan");
        for (plan, shares) in [(on_chain, betas.iter().rev().map(|beta| 1.0 - beta).collect()), (on_ve, vec![1.0; 6])] {
            assert_eq!((plan.steps(), plan.evaluations()), (shares.len(), 3 * shares.len()));
            let corrections = plan.rows().iter().filter(|row| row.step.is_none());
            for (index, row) in corrections.enumerate() {
                let sigma = row.eval.expect("a question").at.sigma;
                let length = shares[index / 2] * 2.0 * (0.16 * sigma).powi(2);
                for (found, expected) in numbers(row).iter().zip([1.0, -length / sigma, (2.0 * length).sqrt()]) {
                    assert!((found - expected).abs() < 1e-12 * expected.abs(), "row {index}: {found}, {expected}");
                }
            }
        }
    }

    /// On Gaussian data of variance 1 a correction multiplies the distance from x by 1 − ε/v, and that of the variance from
    /// v/(1 − ε/(2v)) by the square of it.
    #[test]
    fn the_law_at_a_level_is_known() {
        let solver = AnnealedCorrector::around(Ddim::new(), 0.4, 600).expect("settings");
        for process in [&VeSde::default() as &dyn Process, &VpSde::default()] {
            let plan = solver.plan(process, &Grid::uniform_lambda(3)).expect("a plan");
            let mut variance = 7.0;
            let level = plan.rows()[0].eval.expect("a question").at;
            let v = level.alpha * level.alpha + level.sigma * level.sigma;
            for row in &plan.rows()[..600] {
                let c = numbers(row);
                // ε̂ = σ·x/v.
                let pull = c[0] + c[1] * level.sigma / v;
                variance = pull * pull * variance + c[2] * c[2];
            }
            let share = (level.alpha / plan.rows()[600].after.level.alpha).powi(2);
            let length = 2.0 * share * (0.4 * level.sigma).powi(2);
            let expected = v / (1.0 - length / (2.0 * v));
            // On VP so little is kept of the noisiest level that the chain is not there yet.
            let kept = (1.0 - length / v).powi(2 * 600);
            let expected = expected + (7.0 - expected) * kept;
            assert!(kept < 0.99, "the chain does not move: {kept}");
            assert!((variance - expected).abs() < 1e-9 * expected, "{variance} is not {expected}");
        }
    }

    #[test]
    fn corrections_come_before_steps_at_the_level_of_the_state() {
        let vp = VpSde::default();
        let around = |solver: &dyn Solver, grid: &Grid| {
            let plan = solver.plan(&vp, grid).expect("a plan");
            let places = places(&plan).expect("falling");
            (corrected(&plan, &places, 0.2, 1).expect("a plan"), plan)
        };
        let grid = Grid::uniform_lambda(4);
        // Two questions a step: corrected once, and the answers that a multistep solver remembers stay.
        let steps: [&dyn Solver; 3] = [&Heun::new(), &DpmSolver::multistep(2).expect("an order"), &Ddim::new()];
        for solver in steps {
            let (plan, alone) = around(solver, &grid);
            assert_eq!(plan.evaluations(), alone.evaluations() + 4, "{}", alone.name());
        }
        // Raised states are corrected before they are raised.
        let churned = Churned::new(Ddim::new(), Churn::new(1.0).expect("in range"));
        let (plan, alone) = around(&churned, &grid);
        let mut state = alone.start_node();
        for row in plan.rows() {
            if row.step.is_none() && row.draws.len() == 1 && row.pre.is_empty() {
                let asked = row.eval.expect("a question").at;
                assert!(asked.sigma / asked.alpha <= ratio(&state.level) * (1.0 + 1e-12));
            }
            state = row.after;
        }
        // Jumps without a question are not corrected.
        let repaint = RePaint::around(Ddim::new()).jumps(1, 2).expect("settings");
        let (plan, alone) = around(&repaint, &grid);
        assert_eq!(plan.evaluations(), 2 * alone.evaluations());
        // Nor is pure noise, where the step keeps no signal.
        let on_flow = AnnealedCorrector::around(Ddim::new(), 0.2, 1).expect("settings");
        let plan = on_flow.plan(&RectifiedFlow::new(), &Grid::uniform(4)).expect("a plan");
        assert_eq!(plan.evaluations(), 7);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for ratio in [0.0, -0.1, 1.0, f64::NAN, f64::INFINITY] {
            let error = AnnealedCorrector::around(Ddim::new(), ratio, 1).expect_err("a bad ratio");
            assert!(matches!(error, PlanError::Setting { solver: NAME, .. }), "{error}");
        }
        let (vp, grid) = (VpSde::default(), Grid::uniform_lambda(6));
        // One row for each of the 6 steps, and one for each correction.
        let most = (MOST_ROWS - 6) / 6;
        for corrections in [most + 1, usize::MAX] {
            let many = AnnealedCorrector::around(Ddim::new(), 0.1, corrections).expect("settings").plan(&vp, &grid);
            assert!(matches!(many, Err(PlanError::Setting { setting: "number of corrections", .. })));
        }
        let inverted =
            AnnealedCorrector::around(Ddim::new(), 0.1, 1).expect("settings").plan(&vp, &grid.clone().inverted());
        assert!(matches!(inverted, Err(PlanError::Direction { solver: NAME, .. })));
        let refused = |solver: &dyn Solver| {
            let plan = solver.plan(&vp, &grid).expect("a plan");
            let places = places(&plan).expect("falling");
            matches!(corrected(&plan, &places, 0.1, 1), Err(PlanError::Combination { .. }))
        };
        let solvers: [&dyn Solver; 3] =
            [&PlusPlus::around(Ddim::new()), &UniPc::new(2).expect("an order"), &SaSolver::new(2, 2).expect("orders")];
        for solver in solvers {
            assert!(refused(solver));
        }
    }
}
