//! How strong the noise of a step is.

use crate::solver::PlanError;
use langevin_core::grid::Stop;
use serde::{Deserialize, Serialize};

/// How strong the noise of a step is: τ = 0 is the probability flow, τ = 1 the reverse of the forward SDE.
///
/// For every function τ ≥ 0 the SDE has the same distributions at all levels (Xue et al. 2023, proposition 4.1), also for
/// one that is constant in each step, as it is taken here.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{DpmSolver, Solver, exponential::Tau};
/// // Noise in the middle of the way, less and less of it towards its ends.
/// let tau = Tau::OfLambda(vec![(-3.0, 0.0), (0.0, 1.0), (3.0, 0.0)]);
/// let plan = DpmSolver::multistep(2)?.tau(tau)?.plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert!(plan.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Tau {
    /// The same everywhere.
    Constant(f64),
    /// This strength where the network time at a step's beginning lies in the closed interval, none elsewhere.
    Between {
        /// τ inside.
        tau: f64,
        /// Clean end of the interval.
        clean: f64,
        /// Noisy end.
        noisy: f64,
    },
    /// A function of λ by its points (λ, τ), λ rising: linear between them and constant beyond. A step takes its value at
    /// the middle of its λ; a step from pure noise or to clean data, which has none, at its other end.
    OfLambda(Vec<(f64, f64)>),
}

impl Tau {
    /// Checks that τ is a number that is not negative, everywhere.
    pub(super) fn check(&self, solver: &'static str) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver, setting, given, expected });
        let values: Vec<f64> = match self {
            Tau::Constant(tau) | Tau::Between { tau, .. } => vec![*tau],
            Tau::OfLambda(points) => points.iter().map(|(_, tau)| *tau).collect(),
        };
        if let Some(tau) = values.iter().find(|tau| !(**tau >= 0.0 && tau.is_finite())) {
            return bad("tau", *tau, "a number that is not negative: 0 adds no noise, 1 is the reverse SDE");
        }
        let Tau::OfLambda(points) = self else { return Ok(()) };
        if points.is_empty() {
            return bad("number of points of tau", 0.0, "1 or more");
        }
        let rises = |pair: &[(f64, f64)]| pair[1].0 > pair[0].0;
        if let Some(point) = points.iter().find(|(lambda, _)| !lambda.is_finite()) {
            return bad("λ of tau", point.0, "a finite number");
        }
        match points.windows(2).find(|pair| !rises(pair)) {
            Some(pair) => bad("λ of tau", pair[1].0, "points in the order of rising λ"),
            None => Ok(()),
        }
    }

    /// τ of a step.
    pub(super) fn at(&self, stop: &Stop) -> f64 {
        match self {
            Tau::Constant(tau) => *tau,
            Tau::Between { tau, clean, noisy } if (*clean..=*noisy).contains(&stop.ask.time) => *tau,
            Tau::Between { .. } => 0.0,
            Tau::OfLambda(points) => {
                let (from, to) = (stop.from.level.lambda(), stop.to.level.lambda());
                let middle = match (from.is_finite(), to.is_finite()) {
                    (true, false) => from,
                    (false, true) => to,
                    _ => 0.5 * (from + to),
                };
                linear(points, middle)
            }
        }
    }

    /// τ² of a step.
    pub(super) fn squared(&self, stop: &Stop) -> f64 {
        let tau = self.at(stop);
        tau * tau
    }
}

/// Linear between points, constant beyond.
fn linear(points: &[(f64, f64)], at: f64) -> f64 {
    let above = points.partition_point(|(x, _)| *x <= at);
    match (above.checked_sub(1).map(|below| points[below]), points.get(above)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (at - x0) / (x1 - x0),
        (Some((_, y)), None) => y,
        (None, Some((_, y))) => *y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::Level;
    use langevin_core::Node;

    fn stop(from: f64, to: f64) -> Stop {
        let node = |lambda: f64| {
            let level = match lambda {
                f64::NEG_INFINITY => Level { alpha: 0.0, sigma: 1.0, time: 1.0 },
                f64::INFINITY => Level { alpha: 1.0, sigma: 0.0, time: 0.0 },
                lambda => Level { alpha: 1.0, sigma: (-lambda).exp(), time: 0.5 },
            };
            Node { t: 0.5, level }
        };
        Stop { ask: node(from).level, from: node(from), to: node(to) }
    }

    #[test]
    fn functions_of_lambda_are_read_in_the_middle_of_a_step() {
        let tau = Tau::OfLambda(vec![(-1.0, 0.2), (1.0, 1.0), (2.0, 0.0)]);
        for (from, to, expected) in [
            (-3.0, -2.0, 0.2),
            (-0.5, 0.5, 0.6),
            (1.0, 2.0, 0.5),
            (3.0, 4.0, 0.0),
            (f64::NEG_INFINITY, 0.0, 0.6),
            (1.5, f64::INFINITY, 0.5),
        ] {
            assert!((tau.at(&stop(from, to)) - expected).abs() < 1e-12, "{from} {to}: {}", tau.at(&stop(from, to)));
        }
        assert_eq!(Tau::OfLambda(vec![(0.0, 0.7)]).at(&stop(-5.0, -4.0)), 0.7);
    }

    #[test]
    fn functions_that_are_none_are_refused() {
        let refused = |tau: Tau, expected| match tau.check("test").unwrap_err() {
            PlanError::Setting { setting, .. } => assert_eq!(setting, expected),
            other => panic!("{other}"),
        };
        refused(Tau::OfLambda(vec![]), "number of points of tau");
        refused(Tau::OfLambda(vec![(0.0, 1.0), (0.0, 1.0)]), "λ of tau");
        refused(Tau::OfLambda(vec![(f64::NAN, 1.0)]), "λ of tau");
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            refused(Tau::Constant(bad), "tau");
            refused(Tau::OfLambda(vec![(0.0, 0.1), (1.0, bad)]), "tau");
        }
        assert!(Tau::OfLambda(vec![(-1.0, 0.0), (1.0, 3.0)]).check("test").is_ok());
    }
}
