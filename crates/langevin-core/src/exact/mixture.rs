//! Mixtures of Gaussians with full covariances.

use super::error::{ExactError, check_len, check_weights};
use super::gaussian::{Gaussian, GaussianAt};
use crate::level::Level;
use crate::noise::{TAG_EXACT, Words};

/// Data from `Σ_k w_k·N(μ_k, Σ_k)` in `d` dimensions.
///
/// At a level the marginal is the mixture of `N(α·μ_k, α²Σ_k + σ²)`; posterior means are averages over the
/// components with responsibilities by log-sum-exp, so they are right far out in the tails, too.
///
/// ```
/// use langevin_core::{Level, exact::GaussianMixture};
/// let two = GaussianMixture::new(vec![0.5, 0.5], vec![vec![-1.0], vec![1.0]], vec![vec![0.01], vec![0.01]])?;
/// let level = Level { alpha: 1.0, sigma: 0.1, time: 0.0 };
/// assert_eq!(two.x0(&[0.0], &level)?, [0.0]); // half-way between the modes
/// assert!((two.x0(&[1.2], &level)?[0] - 1.1).abs() < 1e-12); // near one of them
/// # Ok::<(), langevin_core::exact::ExactError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianMixture {
    weights: Vec<f64>,
    components: Vec<Gaussian>,
}

impl GaussianMixture {
    /// A mixture from K weights that sum to one, K means `[d]` and K covariances `[d, d]` (row-major).
    ///
    /// # Errors
    /// [`ExactError`] for no components, lists that do not fit, weights that are not positive or do not sum to one
    /// (to 1e-9), and everything [`Gaussian::new`] rejects.
    pub fn new(weights: Vec<f64>, means: Vec<Vec<f64>>, covariances: Vec<Vec<f64>>) -> Result<Self, ExactError> {
        check_weights(&weights)?;
        check_len("the list of means", means.len(), weights.len())?;
        check_len("the list of covariances", covariances.len(), weights.len())?;
        let d = means[0].len();
        for mean in &means {
            check_len("a mean", mean.len(), d)?;
        }
        let components = means.into_iter().zip(covariances).map(|(mean, covariance)| Gaussian::new(mean, covariance));
        Ok(Self { weights, components: components.collect::<Result<_, _>>()? })
    }

    /// Number of dimensions d.
    pub fn dimension(&self) -> usize {
        self.components[0].dimension()
    }

    /// The weights.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The components.
    pub fn components(&self) -> &[Gaussian] {
        &self.components
    }

    /// The mean of the data, `[d]`.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dimension()];
        for (weight, component) in self.weights.iter().zip(&self.components) {
            mean.iter_mut().zip(component.mean()).for_each(|(mean, own)| *mean += weight * own);
        }
        mean
    }

    /// The covariance of the data, `[d, d]` row-major: within the components and between them.
    pub fn covariance(&self) -> Vec<f64> {
        let (d, mean) = (self.dimension(), self.mean());
        let mut covariance = vec![0.0; d * d];
        for (weight, component) in self.weights.iter().zip(&self.components) {
            let off: Vec<f64> = component.mean().iter().zip(&mean).map(|(own, mean)| own - mean).collect();
            for (n, value) in covariance.iter_mut().enumerate() {
                *value += weight * (component.covariance()[n] + off[n / d] * off[n % d]);
            }
        }
        covariance
    }

    /// The mixture at a level, with its factors ready for many questions.
    ///
    /// # Errors
    /// [`ExactError::Level`] unless α, σ ≥ 0 are finite and not both 0.
    pub fn at(&self, level: &Level) -> Result<MixtureAt<'_>, ExactError> {
        Ok(MixtureAt {
            log_weights: self.weights.iter().map(|&w| libm::log(w)).collect(),
            components: self.components.iter().map(|component| component.at(level)).collect::<Result<_, _>>()?,
        })
    }

    /// `ln p(x)` at a level.
    ///
    /// # Errors
    /// [`ExactError::Level`] as in [`at`](Self::at), [`ExactError::Length`] if `x` is not `[d]`; the same holds for
    /// the other questions.
    pub fn log_density(&self, x: &[f64], level: &Level) -> Result<f64, ExactError> {
        self.at(level)?.log_density(x)
    }

    /// `∇ ln p(x)` at a level, `[d]`.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn score(&self, x: &[f64], level: &Level) -> Result<Vec<f64>, ExactError> {
        self.at(level)?.score(x)
    }

    /// `E[x_0 | x]` at a level, `[d]`.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn x0(&self, x: &[f64], level: &Level) -> Result<Vec<f64>, ExactError> {
        self.at(level)?.x0(x)
    }

    /// `E[ε | x]` at a level, `[d]`.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn eps(&self, x: &[f64], level: &Level) -> Result<Vec<f64>, ExactError> {
        self.at(level)?.eps(x)
    }

    /// `∂E[x_0|x]/∂x` at a level, `[d, d]` row-major.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn x0_jacobian(&self, x: &[f64], level: &Level) -> Result<Vec<f64>, ExactError> {
        self.at(level)?.x0_jacobian(x)
    }

    /// `count` independent samples of the data; sample `i` is a function of (seed, i).
    pub fn sample(&self, count: usize, seed: u64) -> Vec<Vec<f64>> {
        let one = |i: usize| {
            let mut z = vec![0.0; self.dimension()];
            Words::new(seed, i as u64, TAG_EXACT, 0, 0).fill_normal(&mut z);
            let mut left = Words::new(seed, i as u64, TAG_EXACT, 0, 1).uniform();
            let chosen = self.weights.iter().position(|weight| {
                left -= weight;
                left <= 0.0
            });
            // Weights that sum to a little less than one leave the last component.
            let component = &self.components[chosen.unwrap_or(self.components.len() - 1)];
            component.transform(&z)
        };
        // The lengths fit, so no sample is an error.
        (0..count).filter_map(|i| one(i).ok()).collect()
    }
}

/// A [`GaussianMixture`] at one level; made by [`GaussianMixture::at`].
#[derive(Clone, Debug, PartialEq)]
pub struct MixtureAt<'a> {
    log_weights: Vec<f64>,
    components: Vec<GaussianAt<'a>>,
}

impl MixtureAt<'_> {
    /// `ln(w_k·N_k(x))` for each component.
    fn log_joint(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        let pairs = self.log_weights.iter().zip(&self.components);
        pairs.map(|(weight, component)| Ok(weight + component.log_density(x)?)).collect()
    }

    /// Probability of each component given x, `[K]`.
    ///
    /// # Errors
    /// [`ExactError::Length`] if `x` is not `[d]`; the same holds for the other questions.
    pub fn responsibilities(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        Ok(softmax(self.log_joint(x)?).0)
    }

    /// `ln p(x)`.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn log_density(&self, x: &[f64]) -> Result<f64, ExactError> {
        Ok(softmax(self.log_joint(x)?).1)
    }

    /// `∇ ln p(x)`, `[d]`.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn score(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.average(x, |component| component.score(x))
    }

    /// `E[x_0 | x]`, `[d]`; also at σ = 0 and α = 0.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn x0(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.average(x, |component| component.x0(x))
    }

    /// `E[ε | x]`, `[d]`; also at σ = 0, where it is 0.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn eps(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.average(x, |component| component.eps(x))
    }

    /// `∂E[x_0|x]/∂x = Σ_k r_k·(J_k + x0_k·(s_k − s)ᵀ)`, `[d, d]` row-major, with component Jacobians J and scores s.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn x0_jacobian(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        let d = x.len();
        let (score, mean) = (self.score(x)?, self.x0(x)?);
        let mut jacobian = vec![0.0; d * d];
        for (r, component) in self.responsibilities(x)?.iter().zip(&self.components) {
            let (own_score, own_mean) = (component.score(x)?, component.x0(x)?);
            for (n, (value, own)) in jacobian.iter_mut().zip(component.x0_jacobian()).enumerate() {
                let (i, j) = (n / d, n % d);
                // Σ r_k (s_k − s) = 0, so the common mean may be taken off against cancellation.
                *value += r * (own + (own_mean[i] - mean[i]) * (own_score[j] - score[j]));
            }
        }
        Ok(jacobian)
    }

    fn average<F>(&self, x: &[f64], f: F) -> Result<Vec<f64>, ExactError>
    where
        F: Fn(&GaussianAt<'_>) -> Result<Vec<f64>, ExactError>,
    {
        let mut sum = vec![0.0; x.len()];
        for (r, component) in self.responsibilities(x)?.iter().zip(&self.components) {
            sum.iter_mut().zip(f(component)?).for_each(|(sum, own)| *sum += r * own);
        }
        Ok(sum)
    }
}

/// Probabilities proportional to exp(logs), and the logarithm of the sum of exp(logs).
pub(super) fn softmax(mut logs: Vec<f64>) -> (Vec<f64>, f64) {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        // Beyond the range of f64 (|x| > 1e150 or so) no component can be told from another.
        let even = 1.0 / logs.len() as f64;
        logs.fill(even);
        return (logs, f64::NEG_INFINITY);
    }
    logs.iter_mut().for_each(|log| *log = libm::exp(*log - most));
    let sum: f64 = logs.iter().sum();
    logs.iter_mut().for_each(|value| *value /= sum);
    (logs, most + libm::log(sum))
}
