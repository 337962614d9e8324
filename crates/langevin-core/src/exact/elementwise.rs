//! Independent one-dimensional mixtures, one for each element of a tensor.

use super::error::{ExactError, check_len, check_level, check_weights};
use super::mixture::softmax;
use crate::level::Level;

/// Data whose elements are independent, each from `Σ_k w_k·N(μ_k, s_k²)`.
///
/// Fits tensors of any shape. Jacobians are diagonal, so for tests that must see correlations take
/// [`GaussianMixture`](super::GaussianMixture).
///
/// ```
/// use langevin_core::{Level, exact::ElementwiseMixture};
/// let data = ElementwiseMixture::new(vec![0.3, 0.7], vec![-1.0, 1.0], vec![0.2, 0.1])?;
/// let (x0, eps) = data.posterior_at(0.4, &Level { alpha: 0.8, sigma: 0.6, time: 0.0 })?;
/// assert!((0.8 * x0 + 0.6 * eps - 0.4).abs() < 1e-15);
/// # Ok::<(), langevin_core::exact::ExactError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ElementwiseMixture {
    weights: Vec<f64>,
    means: Vec<f64>,
    stds: Vec<f64>,
}

impl ElementwiseMixture {
    /// A mixture from K weights that sum to one, K means and K standard deviations.
    ///
    /// # Errors
    /// [`ExactError`] for no components, lists of different lengths, weights that are not positive or do not sum to
    /// one (to 1e-9), means that are not finite, and deviations that are not positive and finite.
    pub fn new(weights: Vec<f64>, means: Vec<f64>, stds: Vec<f64>) -> Result<Self, ExactError> {
        check_weights(&weights)?;
        check_len("the list of means", means.len(), weights.len())?;
        check_len("the list of deviations", stds.len(), weights.len())?;
        if let Some(&given) = means.iter().find(|mean| !mean.is_finite()) {
            return Err(ExactError::Value { what: "the list of means", given, expected: "finite numbers" });
        }
        if let Some(&given) = stds.iter().find(|&&std| !(std > 0.0 && std.is_finite())) {
            let expected = "positive finite numbers";
            return Err(ExactError::Value { what: "the list of deviations", given, expected });
        }
        Ok(Self { weights, means, stds })
    }

    /// `ln(w_k·N_k(x))` for each component.
    fn log_joint(&self, x: f64, level: &Level) -> Vec<f64> {
        let of = |((w, mean), std): ((&f64, &f64), &f64)| {
            let v = (level.alpha * std).powi(2) + level.sigma.powi(2);
            let off = x - level.alpha * mean;
            libm::log(*w) - 0.5 * (off / v * off + libm::log(std::f64::consts::TAU * v))
        };
        self.weights.iter().zip(&self.means).zip(&self.stds).map(of).collect()
    }

    /// `ln p(x)` of one element.
    ///
    /// # Errors
    /// [`ExactError::Level`] unless α, σ ≥ 0 are finite and not both 0.
    pub fn log_density(&self, x: f64, level: &Level) -> Result<f64, ExactError> {
        check_level(level)?;
        Ok(softmax(self.log_joint(x, level)).1)
    }

    /// `(E[x_0|x], E[ε|x])` of one element; also at σ = 0 (where ε is 0) and α = 0.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn posterior_at(&self, x: f64, level: &Level) -> Result<(f64, f64), ExactError> {
        check_level(level)?;
        let (mut x0, mut eps) = (0.0, 0.0);
        for (k, r) in softmax(self.log_joint(x, level)).0.into_iter().enumerate() {
            let s2 = self.stds[k] * self.stds[k];
            let v = level.alpha * level.alpha * s2 + level.sigma * level.sigma;
            let off = x - level.alpha * self.means[k];
            x0 += r * (self.means[k] + level.alpha * s2 / v * off);
            eps += r * (level.sigma / v * off);
        }
        Ok((x0, eps))
    }

    /// Derivatives of [`posterior_at`](Self::posterior_at) with respect to x.
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density).
    pub fn slopes_at(&self, x: f64, level: &Level) -> Result<(f64, f64), ExactError> {
        let (x0, eps) = self.posterior_at(x, level)?;
        let responsibilities = softmax(self.log_joint(x, level)).0;
        let parts = responsibilities.into_iter().zip(self.means.iter().zip(&self.stds)).map(|(r, (mean, std))| {
            let s2 = std * std;
            let v = level.alpha * level.alpha * s2 + level.sigma * level.sigma;
            let score = (level.alpha * mean - x) / v;
            (r, score, level.alpha * s2 / v, level.sigma / v, mean - level.alpha * s2 * score, -level.sigma * score)
        });
        let parts: Vec<_> = parts.collect();
        let score: f64 = parts.iter().map(|(r, score, ..)| r * score).sum();
        // As for full mixtures: Σ r_k·(slope_k + (value_k − value)·(s_k − s)); a component without a part is left out,
        // because far out its product can overflow.
        let (mut of_x0, mut of_eps) = (0.0, 0.0);
        for (r, own, x0_slope, eps_slope, own_x0, own_eps) in parts.into_iter().filter(|(r, ..)| *r != 0.0) {
            of_x0 += r * (x0_slope + (own_x0 - x0) * (own - score));
            of_eps += r * (eps_slope + (own_eps - eps) * (own - score));
        }
        Ok((of_x0, of_eps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::GaussianMixture;

    #[test]
    fn agrees_with_the_full_mixture_in_one_dimension() {
        let (weights, means, stds) = (vec![0.2, 0.5, 0.3], vec![-1.5, 0.2, 1.0], vec![0.3, 0.05, 0.4]);
        let column = |v: &[f64]| v.iter().map(|&v| vec![v]).collect::<Vec<_>>();
        let variances: Vec<f64> = stds.iter().map(|s| s * s).collect();
        let full = GaussianMixture::new(weights.clone(), column(&means), column(&variances)).unwrap();
        let own = ElementwiseMixture::new(weights, means, stds).unwrap();
        for (alpha, sigma) in [(1.0, 0.0), (1.0, 1e-3), (0.6, 0.8), (0.0, 1.0), (1.0, 80.0)] {
            let level = Level { alpha, sigma, time: 0.0 };
            for x in [-1e3, -2.0, 0.1, 0.7, 1e3] {
                let (x0, eps) = own.posterior_at(x, &level).unwrap();
                let scale = 1.0 + x.abs();
                assert!((x0 - full.x0(&[x], &level).unwrap()[0]).abs() < 1e-12 * scale);
                assert!((eps - full.eps(&[x], &level).unwrap()[0]).abs() < 1e-12 * scale);
                let density = full.log_density(&[x], &level).unwrap();
                assert!((own.log_density(x, &level).unwrap() - density).abs() < 1e-12 * (1.0 + density.abs()));
            }
        }
    }

    #[test]
    fn slopes_are_the_jacobians_of_the_full_mixture() {
        let (weights, means, stds) = (vec![0.2, 0.5, 0.3], vec![-1.5, 0.2, 1.0], vec![0.3, 0.05, 0.4]);
        let column = |v: &[f64]| v.iter().map(|&v| vec![v]).collect::<Vec<_>>();
        let variances: Vec<f64> = stds.iter().map(|s| s * s).collect();
        let full = GaussianMixture::new(weights.clone(), column(&means), column(&variances)).unwrap();
        let own = ElementwiseMixture::new(weights, means, stds).unwrap();
        for (alpha, sigma) in [(1.0, 0.0), (1.0, 1e-3), (0.6, 0.8), (0.0, 1.0), (1.0, 80.0)] {
            let level = Level { alpha, sigma, time: 0.0 };
            for x in [-1e3, -2.0, 0.1, 0.7, 1e3] {
                let (x0, eps) = own.slopes_at(x, &level).unwrap();
                let at = full.at(&level).unwrap();
                let expected = (at.x0_jacobian(&[x]).unwrap()[0], at.eps_jacobian(&[x]).unwrap()[0]);
                assert!((x0 - expected.0).abs() < 1e-11 * (1.0 + x0.abs()), "{x0} {}", expected.0);
                assert!((eps - expected.1).abs() < 1e-11 * (1.0 + eps.abs()), "{eps} {}", expected.1);
            }
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        let new = |w: &[f64], m: &[f64], s: &[f64]| ElementwiseMixture::new(w.to_vec(), m.to_vec(), s.to_vec());
        assert_eq!(new(&[], &[], &[]), Err(ExactError::NoComponents));
        assert!(matches!(new(&[1.0], &[], &[1.0]), Err(ExactError::Length { what: "the list of means", .. })));
        assert!(matches!(new(&[1.0], &[0.0], &[]), Err(ExactError::Length { what: "the list of deviations", .. })));
        assert!(matches!(new(&[1.0, -1.0], &[0.0; 2], &[1.0; 2]), Err(ExactError::Weight { component: 1, .. })));
        assert!(matches!(new(&[0.9], &[0.0], &[1.0]), Err(ExactError::WeightSum { .. })));
        assert!(matches!(new(&[1.0], &[f64::NAN], &[1.0]), Err(ExactError::Value { .. })));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(new(&[1.0], &[0.0], &[bad]), Err(ExactError::Value { .. })));
        }
        let nowhere = Level { alpha: 0.0, sigma: 0.0, time: 0.0 };
        let mixture = new(&[1.0], &[0.0], &[1.0]).unwrap();
        assert!(matches!(mixture.log_density(0.0, &nowhere), Err(ExactError::Level { .. })));
        assert!(matches!(mixture.posterior_at(0.0, &nowhere), Err(ExactError::Level { .. })));
        assert!(matches!(mixture.slopes_at(0.0, &nowhere), Err(ExactError::Level { .. })));
    }
}
