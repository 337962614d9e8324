//! Densities that are known at every level.

use super::error::ExactError;
use super::{ElementwiseMixture, Gaussian, GaussianMixture};
use crate::level::Level;

/// A problem whose density is known at every level.
pub trait Marginal: Send + Sync {
    /// `ln p(x)` of one sample's values at a level, in nats.
    ///
    /// ```
    /// use langevin_core::{Level, exact::{ElementwiseMixture, Marginal}};
    /// let data = ElementwiseMixture::new(vec![1.0], vec![0.0], vec![1.0])?;
    /// let level = Level { alpha: 0.6, sigma: 0.8, time: 0.0 }; // standard normal here, too
    /// let expected = -std::f64::consts::TAU.ln() - 0.5;
    /// assert!((data.log_marginal(&[1.0, 0.0], &level)? - expected).abs() < 1e-12);
    /// # Ok::<(), langevin_core::exact::ExactError>(())
    /// ```
    ///
    /// # Errors
    /// [`ExactError`] if the problem has no answer at this level, or `x` has another number of values.
    fn log_marginal(&self, x: &[f64], level: &Level) -> Result<f64, ExactError>;
}

impl Marginal for Gaussian {
    fn log_marginal(&self, x: &[f64], level: &Level) -> Result<f64, ExactError> {
        self.at(level)?.log_density(x)
    }
}

impl Marginal for GaussianMixture {
    fn log_marginal(&self, x: &[f64], level: &Level) -> Result<f64, ExactError> {
        self.log_density(x, level)
    }
}

impl Marginal for ElementwiseMixture {
    fn log_marginal(&self, x: &[f64], level: &Level) -> Result<f64, ExactError> {
        x.iter().map(|&x| self.log_density(x, level)).sum()
    }
}
