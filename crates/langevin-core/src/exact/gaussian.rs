//! A single Gaussian: everything about it is linear.

use super::eigen;
use super::error::{ExactError, check_len, check_level};
use crate::level::Level;

/// Gaussian data `N(μ, Σ)` in `d` dimensions.
///
/// With `Σ = Q·diag(λ)·Qᵀ` the marginal at a level has mean `α·μ` and variances `α²λ + σ²` along the columns of Q,
/// and the probability-flow ODE only stretches these axes, see [`flow`](Self::flow).
///
/// ```
/// use langevin_core::{Level, exact::Gaussian};
/// let data = Gaussian::new(vec![1.0], vec![4.0])?;
/// let (clean, noisy) = (Level { alpha: 1.0, sigma: 0.0, time: 0.0 }, Level { alpha: 0.6, sigma: 0.8, time: 1.0 });
/// // One deviation above the mean stays one deviation above the mean.
/// let x = data.flow(&[0.6 + (0.36f64 * 4.0 + 0.64).sqrt()], &noisy, &clean)?;
/// assert!((x[0] - 3.0).abs() < 1e-12);
/// # Ok::<(), langevin_core::exact::ExactError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    /// Eigenvalues λ of the covariance.
    spread: Vec<f64>,
    /// Eigenvectors as columns of a row-major matrix.
    axes: Vec<f64>,
}

impl Gaussian {
    /// A Gaussian with mean `[d]` and covariance `[d, d]` (row-major).
    ///
    /// # Errors
    /// [`ExactError`] for an empty mean, lengths that do not fit, values that are not finite, and a covariance
    /// that is not symmetric (to 1e-12 of its entries) or not positive definite.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self, ExactError> {
        let d = mean.len();
        if d == 0 {
            return Err(ExactError::Length { what: "the mean", found: 0, expected: 1 });
        }
        check_len("the covariance", covariance.len(), d * d)?;
        for (what, list) in [("the mean", &mean), ("the covariance", &covariance)] {
            if let Some(&given) = list.iter().find(|value| !value.is_finite()) {
                return Err(ExactError::Value { what, given, expected: "finite numbers" });
            }
        }
        for row in 0..d {
            for column in row + 1..d {
                let (upper, lower) = (covariance[row * d + column], covariance[column * d + row]);
                if (upper - lower).abs() > 1e-12 * upper.abs().max(lower.abs()) {
                    return Err(ExactError::NotSymmetric { row, column, upper, lower });
                }
            }
        }
        let (spread, axes) = eigen::symmetric(&covariance, d);
        let (least, most) = spread.iter().fold((f64::INFINITY, 0.0f64), |(l, m), &v| (l.min(v), m.max(v)));
        // Below the rounding of the largest eigenvalue the sign of the smallest means nothing.
        if !(least > 1e-15 * most) {
            return Err(ExactError::NotPositiveDefinite { eigenvalue: least });
        }
        Ok(Self { mean, covariance, spread, axes })
    }

    /// Number of dimensions d.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// The mean μ, `[d]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance Σ, `[d, d]` row-major.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// The marginal at a level, with its factors ready for many questions.
    ///
    /// # Errors
    /// [`ExactError::Level`] unless α, σ ≥ 0 are finite and not both 0.
    pub fn at(&self, level: &Level) -> Result<GaussianAt<'_>, ExactError> {
        check_level(level)?;
        let (alpha, sigma) = (level.alpha, level.sigma);
        let variances: Vec<f64> = self.spread.iter().map(|l| alpha * alpha * l + sigma * sigma).collect();
        let log_norm = -0.5 * variances.iter().map(|v| libm::log(std::f64::consts::TAU * v)).sum::<f64>();
        Ok(GaussianAt { data: self, alpha, sigma, variances, log_norm })
    }

    /// Where the probability-flow ODE takes `x` from one level to another, in either direction.
    ///
    /// In the eigenbasis, `x_t − α_t·μ = sqrt((α_t²λ + σ_t²)/(α_s²λ + σ_s²))·(x_s − α_s·μ)`: the ODE
    /// `dx = α̇·E[x_0|x] + σ̇·E[ε|x]` keeps each standardized coordinate.
    ///
    /// # Errors
    /// [`ExactError::Level`] as in [`at`](Self::at), [`ExactError::Length`] if `x` is not `[d]`.
    pub fn flow(&self, x: &[f64], from: &Level, to: &Level) -> Result<Vec<f64>, ExactError> {
        let (start, end) = (self.at(from)?, self.at(to)?);
        let mut y = start.coordinates(x)?;
        for ((y, old), new) in y.iter_mut().zip(&start.variances).zip(&end.variances) {
            *y *= (new / old).sqrt();
        }
        let mut x = self.combine(&y);
        x.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x += to.alpha * mean);
        Ok(x)
    }

    /// `μ + Q·diag(√λ)·z`: a sample of the data from standard normal `z`, `[d]`.
    ///
    /// # Errors
    /// [`ExactError::Length`] if `z` is not `[d]`.
    pub fn transform(&self, z: &[f64]) -> Result<Vec<f64>, ExactError> {
        check_len("z", z.len(), self.dimension())?;
        let y: Vec<f64> = z.iter().zip(&self.spread).map(|(z, l)| z * l.sqrt()).collect();
        let mut x = self.combine(&y);
        x.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x += mean);
        Ok(x)
    }

    /// `Q·y`.
    fn combine(&self, y: &[f64]) -> Vec<f64> {
        self.axes.chunks(y.len()).map(|row| row.iter().zip(y).map(|(q, y)| q * y).sum()).collect()
    }
}

/// A [`Gaussian`] at one level; made by [`Gaussian::at`].
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianAt<'a> {
    data: &'a Gaussian,
    alpha: f64,
    sigma: f64,
    /// `α²λ + σ²`.
    variances: Vec<f64>,
    log_norm: f64,
}

impl GaussianAt<'_> {
    /// `Qᵀ(x − α·μ)`.
    fn coordinates(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        let d = self.data.dimension();
        check_len("x", x.len(), d)?;
        let mut y = vec![0.0; d];
        for ((row, x), mean) in self.data.axes.chunks(d).zip(x).zip(&self.data.mean) {
            let centered = x - self.alpha * mean;
            y.iter_mut().zip(row).for_each(|(y, q)| *y += q * centered);
        }
        Ok(y)
    }

    /// `Q·diag(f(variance, λ))·Qᵀ(x − α·μ)`.
    fn apply(&self, x: &[f64], f: impl Fn(f64, f64) -> f64) -> Result<Vec<f64>, ExactError> {
        let mut y = self.coordinates(x)?;
        for ((y, &v), &l) in y.iter_mut().zip(&self.variances).zip(&self.data.spread) {
            *y *= f(v, l);
        }
        Ok(self.data.combine(&y))
    }

    /// `ln p(x)`.
    ///
    /// # Errors
    /// [`ExactError::Length`] if `x` is not `[d]`; the same holds for the other questions.
    pub fn log_density(&self, x: &[f64]) -> Result<f64, ExactError> {
        let y = self.coordinates(x)?;
        Ok(self.log_norm - 0.5 * y.iter().zip(&self.variances).map(|(y, v)| y / v * y).sum::<f64>())
    }

    /// `∇ ln p(x)`, `[d]`.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn score(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.apply(x, |v, _| -1.0 / v)
    }

    /// `E[x_0 | x]`, `[d]`; also at σ = 0 and α = 0.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn x0(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        let mut x0 = self.apply(x, |v, l| self.alpha * l / v)?;
        x0.iter_mut().zip(&self.data.mean).for_each(|(x0, mean)| *x0 += mean);
        Ok(x0)
    }

    /// `E[ε | x]`, `[d]`; also at σ = 0, where it is 0.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn eps(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.apply(x, |v, _| self.sigma / v)
    }

    /// The Jacobian `∂E[x_0|x]/∂x = α·Σ·(α²Σ + σ²)⁻¹`, `[d, d]` row-major; it does not depend on x.
    pub fn x0_jacobian(&self) -> Vec<f64> {
        let d = self.data.dimension();
        let mut jacobian = vec![0.0; d * d];
        for (k, (v, l)) in self.variances.iter().zip(&self.data.spread).enumerate() {
            let factor = self.alpha * l / v;
            for i in 0..d {
                for j in 0..d {
                    jacobian[i * d + j] += self.data.axes[i * d + k] * factor * self.data.axes[j * d + k];
                }
            }
        }
        jacobian
    }
}
