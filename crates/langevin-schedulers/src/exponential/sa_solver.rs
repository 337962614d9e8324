//! SA-Solver: stochastic Adams methods.

use super::leg::{Basis, Leg};
use super::multistep::{Past, finite, interpolate, joined_stops, plan};
use super::tau::Tau;
use crate::plan::{Draw, Eval, Plan, Reg, Row, Set, Src, Term};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "SA-Solver";

/// Stochastic Adams predictor and corrector steps on the SDE with noise of strength τ(t).
///
/// The predictor is the interpolation through the last p answers, the corrector the one through the next answer and the
/// q − 1 before; it takes the noise of the step that it corrects once more. One evaluation a step. In the data basis
/// with two answers the slope is weighted by half of h, as published, which changes nothing of the order.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, exponential::{SaSolver, Tau}};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let solver = SaSolver::new(3, 4)?.tau(Tau::Between { tau: 1.0, clean: 200.0, noisy: 800.0 })?;
/// let plan = solver.plan(&chain, &Grid::trailing(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Xue et al. 2023, "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaSolver {
    predictor: usize,
    corrector: usize,
    basis: Basis,
    tau: Tau,
    lower_final: bool,
    #[serde(default)]
    evaluates_again: bool,
}

impl SaSolver {
    /// With a predictor through 1 to 4 answers and a corrector through 1 to 4, or 0 for none; τ = 1 everywhere, in the
    /// data basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn new(predictor: usize, corrector: usize) -> Result<Self, PlanError> {
        let tau = Tau::Constant(1.0);
        let solver = Self { predictor, corrector, basis: Basis::Data, tau, lower_final: false, evaluates_again: false };
        solver.check()?;
        Ok(solver)
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// With another strength of the noise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        self.tau = tau;
        self.check()?;
        Ok(self)
    }

    /// Lowers the orders in the last steps, as the published code does by default.
    pub fn lower_order_final(mut self, lower: bool) -> Self {
        self.lower_final = lower;
        self
    }

    /// Asks again after each correction, and goes on from that answer (PECE; without it PEC): two evaluations a step but the
    /// first. Without a corrector it changes nothing.
    ///
    /// ```
    /// use langevin_core::{Grid, process::VpSde};
    /// use langevin_schedulers::{Solver, exponential::SaSolver};
    /// let plan = SaSolver::new(3, 4)?.evaluate_again().plan(&VpSde::default(), &Grid::uniform(20))?;
    /// assert_eq!((plan.steps(), plan.evaluations()), (20, 39));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evaluate_again(mut self) -> Self {
        self.evaluates_again = true;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if !(1..=4).contains(&self.predictor) {
            return bad("order of the predictor", self.predictor as f64, "1, 2, 3 or 4");
        }
        if self.corrector > 4 {
            return bad("order of the corrector", self.corrector as f64, "0 (none), 1, 2, 3 or 4");
        }
        self.tau.check(NAME)
    }

    fn leg(&self, stop: &Stop) -> Leg {
        Leg::new(self.basis, self.tau.squared(stop), stop.from.level, stop.to.level)
    }

    /// Weights of the answers at `nodes`, in units of h.
    fn weights(&self, leg: &Leg, nodes: &[f64]) -> Vec<f64> {
        match (nodes, self.basis) {
            ([_], _) => vec![leg.weight(0)],
            // A straight line a + b·v through the two, of whose slope half of h is taken.
            ([v0, v1], Basis::Data) => {
                let half = 0.5 * leg.linear();
                let share = |at: f64, other: f64| (half - other * leg.weight(0)) / (at - other);
                vec![share(*v0, *v1), share(*v1, *v0)]
            }
            _ => interpolate(leg, nodes),
        }
    }

    /// The answers of `past` from `newest` on, weighted for a step that begins at λ.
    fn terms(&self, leg: &Leg, past: &Past, begin: f64, count: usize) -> Vec<Term> {
        let nodes: Vec<f64> = match count {
            1 => vec![0.0],
            _ => (0..count).map(|back| (past.lambda(back) - begin) / leg.h).collect(),
        };
        let weights = self.weights(leg, &nodes).into_iter().enumerate();
        weights.map(|(back, weight)| Term::new(weight, self.basis.answer(past.slot(back)))).collect()
    }
}

/// The state where the last step began.
const KEPT: Reg = 1;

/// The noise register of a step: the corrector still needs the one before.
fn noise_register(index: usize) -> Reg {
    (index % 2) as Reg
}

impl Solver for SaSolver {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = joined_stops(NAME, process, grid, true)?;
        let (name, rows) = self.table(&stops)?;
        plan(name, process, &stops, rows)
    }

    /// The corrector sees the answer at the raised level, and the state from before it was raised; the same noise then goes
    /// on top of the corrected state.
    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let made = plan_raised(churn, NAME, process, grid, |stops| self.table(stops))?;
        let mut rows = made.rows().to_vec();
        for row in rows.iter_mut().skip(1).filter(|_| self.corrector > 0) {
            // A second question about the corrected state has nothing to raise again.
            let again = row.pre.clone();
            row.post.splice(1..1, again);
        }
        Ok(Plan::new(made.name(), made.start_node(), made.prior_deviation(), rows)?.on(process))
    }
}

impl SaSolver {
    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let n = stops.len();
        let mut past = Past::new(self.predictor.max(self.corrector).max(1));
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let slot = past.ask(stop.from.level.lambda());
            let mut post = Vec::new();
            if index > 0 && self.corrector > 0 {
                let (step, leg) = (&stops[index - 1], self.leg(&stops[index - 1]));
                let left = if self.lower_final { n - index + 2 } else { usize::MAX };
                let order = self.corrector.min(index + 1).min(left).min(past.usable());
                let mut sum = vec![Term::new(leg.decay(), Src::X(KEPT))];
                sum.extend(self.terms(&leg, &past, step.from.level.lambda(), order));
                if leg.std() > 0.0 {
                    sum.push(Term::new(leg.std(), Src::Z(noise_register(index - 1))));
                }
                finite(NAME, step, &sum)?;
                let corrected = Set::new(0, sum);
                if self.evaluates_again {
                    let eval = Some(Eval { at: stop.ask, x: 0, into: slot });
                    let (draws, pre, post, report) = (vec![], vec![], vec![corrected], vec![]);
                    rows.push(Row { draws, pre, eval, post, step: None, after: stop.from, report });
                } else {
                    post.push(corrected);
                }
            }
            if self.corrector > 0 && index + 1 < n {
                post.push(Set::new(KEPT, [Term::new(1.0, Src::X(0))]));
            }

            let leg = self.leg(stop);
            let left = if self.lower_final { n - index } else { usize::MAX };
            let order = self.predictor.min(index + 1).min(left).min(past.usable());
            let order = if stop.to.level.sigma == 0.0 || leg.h == 0.0 { 1 } else { order };
            let mut sum = vec![Term::new(leg.decay(), Src::X(0))];
            sum.extend(self.terms(&leg, &past, stop.from.level.lambda(), order));
            let noisy = leg.std() > 0.0;
            if noisy {
                sum.push(Term::new(leg.std(), Src::Z(noise_register(index))));
            }
            finite(NAME, stop, &sum)?;
            let draw = noisy.then(|| Draw::White { to: noise_register(index), lane: 0 });
            let mut row = Row::step(index, stop, slot, sum, draw);
            post.append(&mut row.post);
            row.post = post;
            rows.push(row);
        }
        let again = if self.evaluates_again && self.corrector > 0 { ", evaluated again" } else { "" };
        Ok((format!("{NAME} (predictor {}, corrector {}{again})", self.predictor, self.corrector), rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exponential::{Deis, UniB, UniPc};
    use crate::plan::Coef;
    use langevin_core::process::VpSde;

    fn numbers(plan: &Plan) -> Vec<f64> {
        let terms = plan.rows().iter().flat_map(|row| &row.post).flat_map(|set| &set.sum);
        terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    fn same(a: &Plan, b: &Plan) {
        let (a, b) = (numbers(a), numbers(b));
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} and {b:?}");
    }

    /// Without noise it is known by other names.
    #[test]
    fn without_noise_it_is_deis_and_unipc() {
        let (vp, grid) = (VpSde::default(), Grid::uniform(8));
        let quiet = |p, c| SaSolver::new(p, c).unwrap().tau(Tau::Constant(0.0)).unwrap();
        for order in [1, 3, 4] {
            let deis = Deis::new(order).unwrap().basis(Basis::Data).plan(&vp, &grid).unwrap();
            // Of order 2 on its way it weighs the slope in its own way.
            let plan = quiet(order, 0).plan(&vp, &grid).unwrap();
            let late = |plan: &Plan| numbers(plan).split_off(numbers(plan).len() - 4 * (order + 1));
            assert!(late(&plan).iter().zip(&late(&deis)).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        let unipc = UniPc::new(1).unwrap().b(UniB::Linear).plan(&vp, &grid).unwrap();
        same(&quiet(1, 2).plan(&vp, &grid).unwrap(), &unipc);
        let unipc = UniPc::new(2).unwrap().b(UniB::Linear).plan(&vp, &grid).unwrap();
        same(&quiet(2, 3).plan(&vp, &grid).unwrap(), &unipc);
    }

    /// The second question is about the corrected state, at the same level, and its answer takes the place of the first.
    #[test]
    fn evaluating_again_replaces_the_answer() {
        let (vp, grid) = (VpSde::default(), Grid::uniform(6));
        let once = SaSolver::new(2, 3).unwrap();
        let (pec, pece) = (once.plan(&vp, &grid).unwrap(), once.clone().evaluate_again().plan(&vp, &grid).unwrap());
        assert_eq!((pece.steps(), pece.evaluations()), (6, 11));
        // The same sums, of which the corrector's stand in rows of their own.
        same(&pec, &pece);
        for pair in pece.rows()[1..].chunks(2) {
            let [first, second] = pair else { panic!("two rows a step") };
            assert_eq!(first.eval, second.eval);
            assert!(first.step.is_none() && second.step.is_some() && first.after.level == first.eval.unwrap().at);
        }
        let plain = SaSolver::new(2, 0).unwrap();
        let again = plain.clone().evaluate_again().plan(&vp, &grid).unwrap();
        assert_eq!(again.rows(), plain.plan(&vp, &grid).unwrap().rows());
    }

    #[test]
    fn noise_is_where_tau_is() {
        let tau = Tau::Between { tau: 1.0, clean: 0.3, noisy: 0.7 };
        let plan = SaSolver::new(2, 2).unwrap().tau(tau).unwrap().plan(&VpSde::default(), &Grid::uniform(10)).unwrap();
        let noisy: Vec<bool> = plan.rows().iter().map(|row| !row.draws.is_empty()).collect();
        let times: Vec<f64> = plan.rows().iter().map(|row| row.eval.unwrap().at.time).collect();
        assert!(noisy.iter().zip(&times).all(|(noisy, t)| *noisy == (0.3..=0.7).contains(t)), "{noisy:?} {times:?}");
        assert!(noisy.contains(&true) && noisy.contains(&false));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (p, c) in [(0, 1), (5, 1), (2, 5)] {
            assert!(matches!(SaSolver::new(p, c), Err(PlanError::Setting { .. })));
        }
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let error = SaSolver::new(2, 2).unwrap().tau(Tau::Constant(bad)).unwrap_err();
            assert!(matches!(error, PlanError::Setting { setting: "tau", .. }));
        }
    }
}
