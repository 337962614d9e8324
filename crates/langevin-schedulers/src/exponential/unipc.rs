//! UniPC: the predictor that goes with the corrector [`UniC`].

use super::leg::{Basis, Leg};
use super::multistep::{Past, interpolate, joined_stops, leg, noise, plan, row};
use super::tau::Tau;
use super::unic::UniC;
use crate::plan::{Plan, Row};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

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
    pub(super) fn half(self, leg: &Leg) -> f64 {
        0.5 * match self {
            UniB::Linear => leg.linear(),
            UniB::Exponential => leg.weight(0),
        }
    }
}

/// The order of a step that starts with what there is, and ends with order 1 if asked to.
pub(super) fn order_of(order: usize, index: usize, steps: usize, lower_final: bool) -> usize {
    let started = order.min(index + 1);
    if lower_final { started.min(steps - index) } else { started }
}

pub(super) fn check_order(solver: &'static str, order: usize) -> Result<(), PlanError> {
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

    /// Counts the steps that are left uncorrected on a grid that has `before` more in front.
    pub(crate) fn counted_from(mut self, before: usize) -> Self {
        self.corrector = self.corrector.counted_from(before);
        self
    }

    /// The predictor alone, UniP: order p once started.
    pub fn without_corrector(mut self) -> Self {
        self.uncorrected = true;
        self
    }

    /// Solves the reverse SDE with noise of strength τ. The corrected state takes the noise of its step once more, as that of
    /// [`SaSolver`](super::SaSolver) does, and with it order 2 is the limit of weak orders.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        tau.check(UNIPC)?;
        self.corrector.inner.tau = Some(tau.clone());
        self.corrector = self.corrector.of_noise(tau);
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
        self.corrector.plan(process, grid)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        if self.uncorrected {
            return self.corrector.inner.churned(churn, process, grid);
        }
        self.corrector.churned(churn, process, grid)
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
    use crate::plan::Coef;
    use crate::{Ddim, Deis};
    use langevin_core::process::VpSde;

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
