//! Linear multistep methods in σ/α.

use super::churn::{self, Churn};
use super::frame::{first_row, landing, walk};
use crate::ddpm::{check_direction, falls, ratio};
use crate::ode::check_joined;
use crate::plan::{Plan, Slot, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Level, Process};
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
    /// Keeps weights for slopes that a later start has not.
    #[serde(default)]
    compat: bool,
}

impl Lms {
    /// With up to `order` slopes.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless the order is 1, 2, 3 or 4.
    pub fn new(order: usize) -> Result<Self, PlanError> {
        let lms = Self { order, churn: None, compat: false };
        lms.check()?;
        Ok(lms)
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    /// On a grid that begins later, takes the weights of all slopes that the whole grid would have, and leaves out those that are not
    /// there, as diffusers' `LMSDiscreteScheduler` does with `set_begin_index`: the first `order − 1` steps end elsewhere than they should,
    /// whatever the slope is, and the whole has order 1.
    pub fn compat_diffusers(mut self) -> Self {
        self.compat = true;
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

/// Finite levels of the steps before a later start, the latest first.
fn missing(process: &dyn Process, grid: &Grid, steps: usize) -> Result<Vec<f64>, PlanError> {
    let mut stops = grid.clone().starting_at(0).stops(process)?;
    stops.truncate(stops.len() - steps);
    Ok(stops.iter().rev().map(|stop| ratio(&stop.from.level)).take_while(|s| s.is_finite()).collect())
}

/// The state at `to` from σ/α = `s` by the slopes that there are, with weights that were made for more.
fn lacking(to: &Level, s: f64, past: &[(Slot, f64)], weights: &[f64]) -> Vec<Term> {
    let current = past[0].0;
    let mut sum = vec![Term::new(to.alpha, Src::X0(current))];
    for (i, ((slot, _), weight)) in past.iter().zip(weights).enumerate() {
        let weight = if i == 0 { s + weight } else { *weight };
        sum.push(Term::new(to.alpha * weight, Src::Eps(*slot)));
    }
    sum
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
        let mut missing = if self.compat { missing(process, grid, stops.len())? } else { Vec::new() };
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let (slot, s, to) = ((index % self.order) as Slot, ratio(&start.level), &stop.to.level);
            past.retain(|(_, before)| before.is_finite() && *before != s);
            past.insert(0, (slot, s));
            past.truncate(self.order);
            missing.truncate(self.order - past.len());
            if !missing.is_empty() {
                let nodes: Vec<f64> = past.iter().map(|(_, s)| *s).chain(missing.iter().copied()).collect();
                let sum = lacking(&stop.to.level, s, &past, &weights(&nodes, ratio(&stop.to.level)));
                rows.push(first_row(start, slot, Some((index, stop.to, sum))));
                continue;
            }
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
    use crate::plan::Coef;
    use langevin_core::grid::End;
    use langevin_core::process::Edm;

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

    /// `get_lms_coefficient` of diffusers 0.42.1 for these sigmas, of which its `step` takes as many as it has slopes.
    #[test]
    fn a_later_start_in_diffusers_lacks_slopes() {
        let sigmas = [9.0, 5.0, 2.0, 1.0, 0.4, 0.1];
        let levels = sigmas.map(|sigma| Level { alpha: 1.0, sigma, time: sigma });
        let grid = Grid::levels(levels.to_vec()).unwrap().ending(End::Range).starting_at(2);
        let solver = Lms::new(3).unwrap().compat_diffusers();
        let plan = solver.plan(&Edm::default(), &grid).unwrap();
        let recorded: [&[f64]; 3] = [&[-1.253_968], &[-0.843, 0.264], &[-0.412_5, 0.135, -0.022_5]];
        for (row, (expected, sigma)) in plan.rows().iter().zip(recorded.iter().zip(&sigmas[2..])) {
            let mut found = vec![0.0; 3];
            for term in &row.post[0].sum {
                let Coef::C(c) = term.c else { panic!("{term:?}") };
                match term.of {
                    Src::Eps(slot) => found[usize::from(slot)] += c,
                    other => assert_eq!((other, c), (Src::X0(row.eval.unwrap().into), 1.0)),
                }
            }
            let current = usize::from(row.eval.unwrap().into);
            found[current] -= sigma;
            for (j, expected) in expected.iter().enumerate() {
                let slot = (current + 3 - j) % 3;
                assert!((found[slot] - expected).abs() < 1e-5, "{found:?} and {expected} at {sigma}");
            }
        }
        // The whole grid lacks nothing.
        let whole = grid.starting_at(0);
        let same = |solver: &Lms| solver.plan(&Edm::default(), &whole).unwrap();
        assert_eq!(same(&solver), same(&Lms::new(3).unwrap()));
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
