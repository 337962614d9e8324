//! DEIS, with the polynomial in λ.

use super::leg::Basis;
use super::multistep::{Past, allowed_order, interpolate, joined_stops, leg, noise, plan, row};
use super::tau::Tau;
use crate::plan::{Plan, Row};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

/// Exponential multistep integration with the polynomial through the last answers (Zhang & Chen 2023, "Fast sampling of
/// diffusion models with exponential integrator", their tAB-DEIS with the polynomial in λ).
///
/// In the noise basis it is diffusers' `DEISMultistepScheduler`; in the data basis the exact form of DPM-Solver++
/// multistep. Order p after p − 1 starting steps of rising order.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Solver, exponential::Deis};
/// let plan = Deis::new(3)?.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deis {
    order: usize,
    basis: Basis,
    lower_below: usize,
    #[serde(default)]
    tau: Option<Tau>,
}

const DEIS: &str = "DEIS";

impl Deis {
    /// Of order 1 to 4, in the noise basis.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for other orders.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let solver = Self { order, basis: Basis::Noise, lower_below: 0, tau: None };
        solver.check()?;
        Ok(solver)
    }

    /// Integrates the other answer.
    pub fn basis(mut self, basis: Basis) -> Self {
        self.basis = basis;
        self
    }

    /// Lowers the order in the last steps, down to 1, of grids with fewer than this many steps; 0 never. diffusers has 15.
    pub fn lower_order_below(mut self, steps: usize) -> Self {
        self.lower_below = steps;
        self
    }

    /// Solves the reverse SDE with noise of strength τ; without it, the probability flow.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless τ is 0 or more and finite everywhere.
    pub fn tau(mut self, tau: Tau) -> Result<Self, PlanError> {
        self.tau = Some(tau);
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        if (1..=4).contains(&self.order) {
            return self.tau.iter().try_for_each(|tau| tau.check(DEIS));
        }
        Err(PlanError::Setting { solver: DEIS, setting: "order", given: self.order as f64, expected: "1, 2, 3 or 4" })
    }
}

impl Deis {
    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let mut past = Past::new(self.order);
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let leg = leg(self.basis, self.tau.as_ref(), stop);
            past.ask(stop.from.level.lambda());
            let order = allowed_order(self.order, index, stops, self.lower_below).min(past.usable());
            let nodes: Vec<f64> = (0..order).map(|back| (past.lambda(back) - past.lambda(0)) / leg.h).collect();
            let nodes = if order == 1 { vec![0.0] } else { nodes };
            let weights = (leg.decay(), interpolate(&leg, &nodes));
            rows.push(row(DEIS, (index, stop), (self.basis, &past), weights, noise(&leg))?);
        }
        let sde = if self.tau.is_some() { ", SDE" } else { "" };
        Ok((format!("{DEIS} of order {} ({}{sde})", self.order, self.basis.name()), rows))
    }
}

impl Solver for Deis {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = joined_stops(DEIS, process, grid, self.tau.is_some())?;
        let (name, rows) = self.table(&stops)?;
        plan(name, process, &stops, rows)
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, DEIS, process, grid, |stops| self.table(stops))
    }
}
