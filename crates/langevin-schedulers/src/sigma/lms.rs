//! Linear multistep methods in σ/α.

use super::churn::{self, Churn};
use super::frame::{first_row, landing, walk};
use crate::ddpm::{check_direction, falls, ratio};
use crate::ode::check_joined;
use crate::plan::{Plan, Slot};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "LMS";

/// The highest order.
const HIGHEST: usize = 4;

/// The Adams-Bashforth method of order k on any grid, for `d(x/α) = ε̂ d(σ/α)`: the polynomial through the last k slopes
/// is integrated over the step, exactly. One evaluation a step.
///
/// With `s = σ/α` and the Lagrange polynomials ℓ_j of the last levels the step is
/// `y_{i+1} = y_i + Σ_j ε̂_{i−j}·∫ ℓ_j(τ) dτ` from s_i to s_{i+1}. The first steps have as many slopes as there are, so
/// that they limit the order of the whole to 2; with a fine start it is k. A slope at pure noise (infinite s) says
/// nothing about the next ones and is left out, which is the limit of the formula.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::Lms};
/// let plan = Lms::new(4)?.plan(&Edm::default(), &Grid::karras(20, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// assert!(Lms::new(5).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Hairer, Nørsett & Wanner, "Solving Ordinary Differential Equations I", III.5; as a sampler in k-diffusion, which
/// integrates numerically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lms {
    order: usize,
    churn: Option<Churn>,
}

impl Lms {
    /// With up to `order` slopes.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless the order is 1, 2, 3 or 4.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let lms = Self { order, churn: None };
        lms.check()?;
        Ok(lms)
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        if (1..=HIGHEST).contains(&self.order) {
            return self.churn.iter().try_for_each(Churn::check);
        }
        Err(PlanError::Setting {
            solver: NAME,
            setting: "the order",
            given: self.order as f64,
            expected: "1, 2, 3 or 4",
        })
    }
}

/// Integrals of the Lagrange polynomials of `nodes` from the first of them to `to`.
fn weights(nodes: &[f64], to: f64) -> Vec<f64> {
    // In units of the step, from its start: nodes[0] is 0 and the integral goes to 1.
    let h = to - nodes[0];
    let nodes: Vec<f64> = nodes.iter().map(|node| (node - nodes[0]) / h).collect();
    let weight = |j: usize| {
        let mut polynomial = vec![1.0];
        for (_, node) in nodes.iter().enumerate().filter(|(k, _)| *k != j) {
            // Times (τ − node)/(nodes[j] − node).
            let scale = 1.0 / (nodes[j] - node);
            let mut next = vec![0.0; polynomial.len() + 1];
            for (power, c) in polynomial.iter().enumerate() {
                next[power] -= c * node * scale;
                next[power + 1] += c * scale;
            }
            polynomial = next;
        }
        h * polynomial.iter().enumerate().map(|(power, c)| c / (power + 1) as f64).sum::<f64>()
    };
    (0..nodes.len()).map(weight).collect()
}

impl Solver for Lms {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let (stops, steps) = walk(process, grid)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        check_joined(NAME, &stops)?;
        let mut rows = Vec::with_capacity(stops.len());
        // Slots and levels of the last slopes, the latest first.
        let mut past: Vec<(Slot, f64)> = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let (slot, s, to) = ((index % self.order) as Slot, ratio(&start.level), &stop.to.level);
            past.retain(|(_, before)| before.is_finite() && *before != s);
            past.insert(0, (slot, s));
            past.truncate(self.order);
            let others: Vec<(Slot, f64)> = if past.len() > 1 && ratio(to) != s {
                let nodes: Vec<f64> = past.iter().map(|(_, s)| *s).collect();
                let weights = weights(&nodes, ratio(to));
                past.iter().zip(weights).skip(1).map(|((slot, _), weight)| (*slot, weight)).collect()
            } else {
                Vec::new()
            };
            rows.push(first_row(start, slot, Some((index, stop.to, landing(to, slot, &others)))));
        }
        let name = churn::name(format!("{NAME} of order {}", self.order), self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even steps: the coefficients of Adams and Bashforth.
    #[test]
    fn even_steps_have_the_classical_weights() {
        let classical: [&[f64]; 4] = [
            &[1.0],
            &[3.0 / 2.0, -1.0 / 2.0],
            &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        ];
        for expected in classical {
            let nodes: Vec<f64> = (0..expected.len()).map(|j| 2.0 + 0.3 * j as f64).collect();
            for (found, expected) in weights(&nodes, 1.7).iter().zip(expected) {
                assert!((found + 0.3 * expected).abs() < 1e-14, "{found} and {expected}");
            }
        }
    }

    /// Polynomials of lower degree are integrated exactly, whatever the grid.
    #[test]
    fn polynomials_are_integrated_exactly() {
        let nodes = [0.7, 2.1, 2.4, 30.0];
        for order in 1..=4 {
            let weights = weights(&nodes[..order], 0.05);
            for power in 0..order as i32 {
                let found: f64 = nodes.iter().zip(&weights).map(|(s, w)| w * s.powi(power)).sum();
                let exact = (0.05f64.powi(power + 1) - 0.7f64.powi(power + 1)) / f64::from(power + 1);
                assert!((found - exact).abs() < 1e-13 * (1.0 + exact.abs()), "{order} {power}: {found} and {exact}");
            }
        }
    }
}
