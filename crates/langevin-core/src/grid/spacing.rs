//! Nodes of the grids that are spaced by a formula.

use super::{AysTable, GridError, Kind, VP, beta};
use crate::level::Node;
use crate::process::{LinearBeta, Process};

/// A stretch of process time to be divided.
pub(super) struct Stretch<'a> {
    pub(super) process: &'a dyn Process,
    pub(super) noisy: f64,
    pub(super) clean: f64,
    /// Name of the grid, for messages.
    pub(super) grid: &'static str,
}

impl Stretch<'_> {
    /// `count` nodes from the noisy to the clean end, both included; a single one is the noisy end.
    pub(super) fn nodes(&self, kind: &Kind, count: usize) -> Result<Vec<Node>, GridError> {
        // Share of the way at node i.
        let share = |i: usize| i as f64 / (count - 1).max(1) as f64;
        let between = |from: f64, to: f64, share: f64| from + (to - from) * share;
        match *kind {
            Kind::Uniform { .. } => self.at_times(count, |i| Ok(between(self.noisy, self.clean, share(i)))),
            Kind::Quadratic { .. } => {
                if self.clean < 0.0 {
                    let expected = "0 or above for a quadratic grid, which takes square roots of times";
                    return Err(GridError::Parameter { parameter: "the clean end", given: self.clean, expected });
                }
                self.at_times(count, |i| Ok(between(self.noisy.sqrt(), self.clean.sqrt(), share(i)).powi(2)))
            }
            Kind::Beta { a, b, .. } => {
                self.at_times(count, |i| Ok(between(self.clean, self.noisy, beta::quantile(1.0 - share(i), a, b))))
            }
            Kind::Karras { rho, .. } => {
                let (first, last) = self.lambdas()?;
                // Powers of σ/α = e^(−λ), relative to the first, so that neither overflows.
                let ratio = libm::exp((first - last) / rho);
                self.at_lambdas(count, |i| first - rho * libm::log(between(1.0, ratio, share(i))))
            }
            Kind::Vp { beta_min, beta_max, .. } => {
                let beta = LinearBeta::new(VP, beta_min, beta_max)?;
                let (first, last) = self.lambdas()?;
                let (first, last) = (beta.time_at_lambda(first), beta.time_at_lambda(last));
                self.at_lambdas(count, |i| beta.lambda(between(first, last, share(i))))
            }
            Kind::Polyexponential { rho, .. } => {
                let (first, last) = self.lambdas()?;
                self.at_lambdas(count, |i| between(last, first, libm::pow(1.0 - share(i), rho)))
            }
            _ => {
                let (first, last) = self.lambdas()?;
                self.at_lambdas(count, |i| between(first, last, share(i)))
            }
        }
    }

    /// The nodes of a table for `n` steps: `n + 1` of them.
    pub(super) fn table(&self, table: AysTable, n: usize) -> Result<Vec<Node>, GridError> {
        let (first, last) = self.lambdas()?;
        let (largest, smallest) = (libm::exp(-first), libm::exp(-last));
        let mut nodes = Vec::with_capacity(n + 1);
        for sigma in table.interpolated(n) {
            let within = if sigma > largest && sigma <= largest + AysTable::HALF_DIGIT {
                largest
            } else if sigma < smallest && sigma >= smallest - AysTable::HALF_DIGIT {
                smallest
            } else {
                sigma
            };
            let lambda = -libm::log(within);
            let t = if within == largest {
                self.noisy
            } else if within == smallest {
                self.clean
            } else if lambda > first && lambda < last {
                self.process.time_at_lambda(lambda)?
            } else {
                return Err(GridError::BeyondTable { table: table.model(), ratio: sigma, smallest, largest });
            };
            nodes.push(self.process.node(t));
        }
        Ok(nodes)
    }

    /// λ at the noisy and at the clean end.
    fn lambdas(&self) -> Result<(f64, f64), GridError> {
        let (first, last) = (self.process.lambda(self.noisy), self.process.lambda(self.clean));
        for (t, lambda) in [(self.noisy, first), (self.clean, last)] {
            if !lambda.is_finite() {
                return Err(GridError::InfiniteLambda { grid: self.grid, t, lambda });
            }
        }
        Ok((first, last))
    }

    fn at_times(&self, count: usize, t: impl Fn(usize) -> Result<f64, GridError>) -> Result<Vec<Node>, GridError> {
        let time = |i| match self.end(i, count) {
            Some(end) => Ok(end),
            None => t(i),
        };
        (0..count).map(|i| Ok(self.process.node(time(i)?))).collect()
    }

    fn at_lambdas(&self, count: usize, lambda: impl Fn(usize) -> f64) -> Result<Vec<Node>, GridError> {
        self.at_times(count, |i| Ok(self.process.time_at_lambda(lambda(i))?))
    }

    /// The ends are exact, whatever rounding a formula does.
    fn end(&self, i: usize, count: usize) -> Option<f64> {
        if i == 0 {
            Some(self.noisy)
        } else if i + 1 == count {
            Some(self.clean)
        } else {
            None
        }
    }
}
