//! Mixtures of Gaussians with full covariances.

use super::error::{ExactError, check_len, check_weights};
use super::gaussian::{Gaussian, GaussianAt};
use crate::level::Level;
use crate::noise::{Draw, TAG_EXACT};

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
            Draw::new(seed, i as u64, TAG_EXACT, 0, 0).fill_normal(&mut z);
            let mut left = Draw::new(seed, i as u64, TAG_EXACT, 0, 1).uniform();
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
        self.jacobian(x, |component| component.x0(x), |component| component.x0_jacobian())
    }

    /// `∂E[ε|x]/∂x`, `[d, d]` row-major, in the same way.
    ///
    /// # Errors
    /// As [`responsibilities`](Self::responsibilities).
    pub fn eps_jacobian(&self, x: &[f64]) -> Result<Vec<f64>, ExactError> {
        self.jacobian(x, |component| component.eps(x), |component| component.eps_jacobian())
    }

    /// The Jacobian of an average over the components, from the values and Jacobians of each.
    fn jacobian<F>(&self, x: &[f64], value: F, own: fn(&GaussianAt<'_>) -> Vec<f64>) -> Result<Vec<f64>, ExactError>
    where
        F: Fn(&GaussianAt<'_>) -> Result<Vec<f64>, ExactError>,
    {
        let d = x.len();
        let (score, mean) = (self.score(x)?, self.average(x, &value)?);
        let mut jacobian = vec![0.0; d * d];
        for (&r, component) in self.responsibilities(x)?.iter().zip(&self.components) {
            if r == 0.0 {
                // Far out the product below can overflow where the component has no part.
                continue;
            }
            let (own_score, own_mean) = (component.score(x)?, value(component)?);
            for (n, (value, own)) in jacobian.iter_mut().zip(own(component)).enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::correlated_mixture;

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.0 }
    }

    const LEVELS: [(f64, f64); 6] = [(1.0, 0.0), (1.0, 0.05), (0.8, 0.6), (0.1, 0.99), (0.0, 1.0), (1.0, 30.0)];
    const POINTS: [[f64; 2]; 4] = [[0.0, 0.0], [-0.7, 0.9], [1.4, -0.6], [3.0, -4.0]];

    /// Central difference of fourth order.
    fn derivative(f: impl Fn(f64) -> f64, h: f64) -> f64 {
        (f(-2.0 * h) - 8.0 * f(-h) + 8.0 * f(h) - f(2.0 * h)) / (12.0 * h)
    }

    #[test]
    fn the_score_is_the_gradient_of_the_log_density() {
        let mixture = correlated_mixture().unwrap();
        for (alpha, sigma) in LEVELS {
            let at = mixture.at(&level(alpha, sigma)).unwrap();
            for x in POINTS {
                let score = at.score(&x).unwrap();
                for i in 0..2 {
                    let slope = derivative(
                        |h| {
                            let mut y = x;
                            y[i] += h;
                            at.log_density(&y).unwrap()
                        },
                        1e-3,
                    );
                    assert!((slope - score[i]).abs() < 1e-7 * (1.0 + score[i].abs()), "{slope} {score:?}");
                }
            }
        }
    }

    #[test]
    fn posterior_means_follow_tweedie() {
        let mixture = correlated_mixture().unwrap();
        for (alpha, sigma) in LEVELS {
            let at = mixture.at(&level(alpha, sigma)).unwrap();
            for x in POINTS {
                let (x0, eps, score) = (at.x0(&x).unwrap(), at.eps(&x).unwrap(), at.score(&x).unwrap());
                for i in 0..2 {
                    assert!((eps[i] + sigma * score[i]).abs() < 1e-12);
                    assert!((alpha * x0[i] + sigma * eps[i] - x[i]).abs() < 1e-12 * (1.0 + sigma));
                }
                if alpha == 0.0 {
                    let mean = mixture.mean();
                    assert!((x0[0] - mean[0]).abs() < 1e-14 && (x0[1] - mean[1]).abs() < 1e-14);
                }
            }
        }
    }

    #[test]
    fn the_posterior_mean_is_an_integral() {
        // E[x_0|x] = ∫ x_0 p(x_0) N(x; αx_0, σ²) dx_0 / p(x), by the trapezoidal rule (exponentially accurate here).
        let mixture = correlated_mixture().unwrap();
        let clean = mixture.at(&level(1.0, 0.0)).unwrap();
        let (alpha, sigma, x) = (0.8, 0.6, [0.3, -0.5]);
        let (mut mass, mut sum) = (0.0, [0.0; 2]);
        let h = 0.05;
        for i in -120..=120 {
            for j in -120..=120 {
                let x0 = [f64::from(i) * h, f64::from(j) * h];
                let off: f64 = (0..2).map(|k| (x[k] - alpha * x0[k]).powi(2)).sum();
                let log_normal = -0.5 * off / sigma / sigma - (std::f64::consts::TAU * sigma * sigma).ln();
                let p = (clean.log_density(&x0).unwrap() + log_normal).exp() * h * h;
                mass += p;
                (0..2).for_each(|k| sum[k] += p * x0[k]);
            }
        }
        let at = mixture.at(&level(alpha, sigma)).unwrap();
        assert!((mass.ln() - at.log_density(&x).unwrap()).abs() < 1e-12);
        let x0 = at.x0(&x).unwrap();
        assert!((0..2).all(|k| (sum[k] / mass - x0[k]).abs() < 1e-12), "{x0:?}");
    }

    #[test]
    fn the_density_integrates_to_one_with_the_stated_moments() {
        let mixture = GaussianMixture::new(
            vec![0.2, 0.5, 0.3],
            vec![vec![-2.0], vec![0.5], vec![1.0]],
            vec![vec![0.04], vec![0.5], vec![0.09]],
        )
        .unwrap();
        let (alpha, sigma) = (0.7, 0.4);
        let at = mixture.at(&level(alpha, sigma)).unwrap();
        let (mut mass, mut mean, mut square) = (0.0, 0.0, 0.0);
        let h = 0.01;
        for i in -2000..=2000 {
            let x = f64::from(i) * h;
            let p = at.log_density(&[x]).unwrap().exp() * h;
            mass += p;
            mean += p * x;
            square += p * x * x;
        }
        assert!((mass - 1.0).abs() < 1e-12);
        assert!((mean - alpha * mixture.mean()[0]).abs() < 1e-12);
        let variance = alpha * alpha * mixture.covariance()[0] + sigma * sigma;
        assert!((square - mean * mean - variance).abs() < 1e-12);
    }

    #[test]
    fn the_jacobian_is_the_derivative() {
        let mixture = correlated_mixture().unwrap();
        for (alpha, sigma) in LEVELS {
            let at = mixture.at(&level(alpha, sigma)).unwrap();
            for x in POINTS {
                let jacobian = at.x0_jacobian(&x).unwrap();
                for i in 0..2 {
                    for j in 0..2 {
                        let slope = derivative(
                            |h| {
                                let mut y = x;
                                y[j] += h;
                                at.x0(&y).unwrap()[i]
                            },
                            1e-3,
                        );
                        let own = jacobian[2 * i + j];
                        assert!((slope - own).abs() < 1e-7 * (1.0 + own.abs()), "{alpha} {sigma} {x:?} {slope} {own}");
                    }
                }
            }
        }
        // The default problem is not diagonal.
        let jacobian = mixture.x0_jacobian(&[0.0, 0.0], &level(0.8, 0.6)).unwrap();
        assert!(jacobian[1].abs() > 0.02, "{jacobian:?}");
    }

    #[test]
    fn far_out_nothing_is_lost() {
        let mixture = correlated_mixture().unwrap();
        for sigma in [0.0, 1e-3] {
            for x in [[1e3, -1e3], [-1e3, 0.0], [1e100, 1e100]] {
                let at = mixture.at(&level(1.0, sigma)).unwrap();
                let values = [at.x0(&x), at.eps(&x), at.score(&x), at.x0_jacobian(&x), at.responsibilities(&x)];
                assert!(values.into_iter().all(|v| v.unwrap().iter().all(|v| v.is_finite())), "{x:?}");
                assert!(at.log_density(&x).unwrap().is_finite());
            }
            // The density is beyond f64 here, its logarithm's slope is not.
            let at = mixture.at(&level(1.0, sigma)).unwrap();
            assert_eq!(at.log_density(&[1e200, 0.0]).unwrap(), f64::NEG_INFINITY);
            assert!(at.score(&[1e200, 0.0]).unwrap().iter().all(|v| v.is_finite()));
        }
        // Far out along an axis the component with the smallest entry of Σ⁻¹ there owns everything:
        // 0.20/(0.30·0.20 − 0.12²) = 4.39, 0.35/(0.25·0.35 − 0.15²) = 5.38, 0.40/(0.15·0.40 − 0.05²) = 6.96.
        let at = mixture.at(&level(1.0, 0.0)).unwrap();
        assert_eq!(at.responsibilities(&[1e3, 0.0]).unwrap(), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn samples_have_the_moments_of_the_mixture() {
        let mixture = correlated_mixture().unwrap();
        let count = 100_000;
        let samples = mixture.sample(count, 5);
        assert_eq!(samples.len(), count);
        assert_eq!(samples[..10], mixture.sample(10, 5)[..]);
        assert_ne!(samples[..10], mixture.sample(10, 6)[..]);
        let n = count as f64;
        let (mean, covariance) = (mixture.mean(), mixture.covariance());
        for i in 0..2 {
            let own = samples.iter().map(|x| x[i]).sum::<f64>() / n;
            assert!((own - mean[i]).abs() < 4.0 * (covariance[3 * i] / n).sqrt(), "mean {i}: {own}");
            for j in 0..2 {
                let products: Vec<f64> = samples.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).collect();
                let own = products.iter().sum::<f64>() / n;
                let spread = products.iter().map(|p| (p - own).powi(2)).sum::<f64>() / n;
                let expected = covariance[2 * i + j];
                assert!((own - expected).abs() < 4.0 * (spread / n).sqrt(), "covariance {i} {j}: {own} {expected}");
            }
        }
    }

    #[test]
    fn bad_mixtures_are_errors() {
        let new = |w: &[f64], m: usize, c: usize| {
            GaussianMixture::new(w.to_vec(), vec![vec![0.0]; m], vec![vec![1.0]; c]).unwrap_err()
        };
        assert_eq!(new(&[], 0, 0), ExactError::NoComponents);
        assert!(matches!(new(&[0.5, 0.5], 1, 2), ExactError::Length { what: "the list of means", .. }));
        assert!(matches!(new(&[0.5, 0.5], 2, 3), ExactError::Length { what: "the list of covariances", .. }));
        for bad in [0.0, -0.5, f64::NAN, f64::INFINITY] {
            assert!(matches!(new(&[1.0, bad], 2, 2), ExactError::Weight { component: 1, .. }));
        }
        assert_eq!(new(&[0.5, 0.25], 2, 2), ExactError::WeightSum { sum: 0.75 });
        let uneven = GaussianMixture::new(vec![0.5, 0.5], vec![vec![0.0], vec![0.0; 2]], vec![vec![1.0]; 2]);
        assert!(matches!(uneven, Err(ExactError::Length { what: "a mean", found: 2, expected: 1 })));
        let indefinite = GaussianMixture::new(vec![1.0], vec![vec![0.0; 2]], vec![vec![1.0, 2.0, 2.0, 1.0]]);
        assert!(
            matches!(indefinite, Err(ExactError::NotPositiveDefinite { eigenvalue }) if (eigenvalue + 1.0).abs() < 1e-14)
        );
        let mixture = correlated_mixture().unwrap();
        assert!(matches!(mixture.x0(&[0.0], &level(1.0, 1.0)), Err(ExactError::Length { what: "x", .. })));
        assert!(matches!(mixture.score(&[0.0; 2], &level(0.0, 0.0)), Err(ExactError::Level { .. })));
    }
}
