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
        self.matrix(|v, l| self.alpha * l / v)
    }

    /// The Jacobian `∂E[ε|x]/∂x = σ·(α²Σ + σ²)⁻¹`, `[d, d]` row-major; it does not depend on x.
    pub fn eps_jacobian(&self) -> Vec<f64> {
        self.matrix(|v, _| self.sigma / v)
    }

    /// `Q·diag(f(variance, λ))·Qᵀ`.
    fn matrix(&self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let d = self.data.dimension();
        let mut jacobian = vec![0.0; d * d];
        for (k, (&v, &l)) in self.variances.iter().zip(&self.data.spread).enumerate() {
            let factor = f(v, l);
            for i in 0..d {
                for j in 0..d {
                    jacobian[i * d + j] += self.data.axes[i * d + k] * factor * self.data.axes[j * d + k];
                }
            }
        }
        jacobian
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    fn data() -> Gaussian {
        Gaussian::new(vec![0.4, -1.0, 0.2], vec![0.9, 0.3, -0.2, 0.3, 0.5, 0.1, -0.2, 0.1, 0.7]).unwrap()
    }

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.0 }
    }

    /// α = cos t, σ = sin t.
    #[derive(Debug)]
    struct Angle;
    impl Process for Angle {
        fn alpha(&self, t: f64) -> f64 {
            t.cos()
        }
        fn sigma(&self, t: f64) -> f64 {
            t.sin()
        }
        fn alpha_dot(&self, t: f64) -> f64 {
            -t.sin()
        }
        fn sigma_dot(&self, t: f64) -> f64 {
            t.cos()
        }
        fn time_range(&self) -> (f64, f64) {
            (0.0, std::f64::consts::FRAC_PI_2)
        }
    }

    #[test]
    fn density_of_a_two_dimensional_gaussian() {
        // By hand: Σ = [[2, 1], [1, 2]] has determinant 3 and inverse [[2, −1], [−1, 2]]/3.
        let gaussian = Gaussian::new(vec![1.0, 0.0], vec![2.0, 1.0, 1.0, 2.0]).unwrap();
        let at = gaussian.at(&level(1.0, 0.0)).unwrap();
        let quadratic = (2.0 * 0.25 - 2.0 * 0.5 * 2.0 + 2.0 * 4.0) / 3.0;
        let expected = -0.5 * quadratic - std::f64::consts::TAU.ln() - 0.5 * 3f64.ln();
        assert!((at.log_density(&[1.5, 2.0]).unwrap() - expected).abs() < 1e-13);
        let score = at.score(&[1.5, 2.0]).unwrap();
        assert!((score[0] - 1.0 / 3.0).abs() < 1e-14 && (score[1] + 3.5 / 3.0).abs() < 1e-14, "{score:?}");
    }

    #[test]
    fn the_flow_solves_the_probability_flow_ode() {
        let (gaussian, x) = (data(), [0.7, 0.1, -1.3]);
        let start = Angle.level(1.1);
        for t in [0.2, 0.8, 1.1, 1.4] {
            let h = 1e-4;
            let at = |t: f64| gaussian.flow(&x, &start, &Angle.level(t)).unwrap();
            let [a, b, c, d] = [at(t - 2.0 * h), at(t - h), at(t + h), at(t + 2.0 * h)];
            let here = gaussian.at(&Angle.level(t)).unwrap();
            let (x0, eps) = (here.x0(&at(t)).unwrap(), here.eps(&at(t)).unwrap());
            for i in 0..3 {
                let slope = (a[i] - 8.0 * b[i] + 8.0 * c[i] - d[i]) / (12.0 * h);
                let expected = Angle.alpha_dot(t) * x0[i] + Angle.sigma_dot(t) * eps[i];
                assert!((slope - expected).abs() < 1e-10, "t = {t}: {slope} {expected}");
            }
        }
    }

    #[test]
    fn the_flow_composes_and_maps_marginals_to_marginals() {
        let (gaussian, x) = (data(), [0.7, 0.1, -1.3]);
        let (from, between, to) = (Angle.level(1.3), Angle.level(0.6), level(1.0, 0.0));
        let direct = gaussian.flow(&x, &from, &to).unwrap();
        let twice = gaussian.flow(&gaussian.flow(&x, &from, &between).unwrap(), &between, &to).unwrap();
        let back = gaussian.flow(&direct, &to, &from).unwrap();
        for i in 0..3 {
            assert!((direct[i] - twice[i]).abs() < 1e-13 && (back[i] - x[i]).abs() < 1e-13);
        }
        // The map is affine, F(x) = F(0) + A·x: it must take mean to mean and A·Cov·Aᵀ to the covariance.
        let mean: Vec<f64> = gaussian.mean().iter().map(|m| from.alpha * m).collect();
        let zero = gaussian.flow(&[0.0; 3], &from, &to).unwrap();
        let columns: Vec<Vec<f64>> = (0..3)
            .map(|j| {
                let mut unit = [0.0; 3];
                unit[j] = 1.0;
                gaussian.flow(&unit, &from, &to).unwrap().iter().zip(&zero).map(|(a, b)| a - b).collect()
            })
            .collect();
        let mapped = gaussian.flow(&mean, &from, &to).unwrap();
        for i in 0..3 {
            assert!((mapped[i] - gaussian.mean()[i]).abs() < 1e-14);
            for j in 0..3 {
                let mut covariance = 0.0;
                for (k, column) in columns.iter().enumerate() {
                    for (l, other) in columns.iter().enumerate() {
                        let noise = if k == l { from.sigma * from.sigma } else { 0.0 };
                        let marginal = from.alpha * from.alpha * gaussian.covariance()[k * 3 + l] + noise;
                        covariance += column[i] * marginal * other[j];
                    }
                }
                assert!((covariance - gaussian.covariance()[i * 3 + j]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        let new = |mean: &[f64], covariance: &[f64]| Gaussian::new(mean.to_vec(), covariance.to_vec()).unwrap_err();
        assert!(matches!(new(&[], &[]), ExactError::Length { found: 0, .. }));
        assert!(matches!(new(&[0.0, 0.0], &[1.0; 3]), ExactError::Length { found: 3, expected: 4, .. }));
        assert!(matches!(new(&[f64::NAN], &[1.0]), ExactError::Value { what: "the mean", .. }));
        assert!(matches!(new(&[0.0], &[f64::INFINITY]), ExactError::Value { what: "the covariance", .. }));
        assert!(matches!(new(&[0.0, 0.0], &[1.0, 0.5, 0.4, 1.0]), ExactError::NotSymmetric { row: 0, column: 1, .. }));
        for bad in [vec![1.0, 2.0, 2.0, 1.0], vec![1.0, 1.0, 1.0, 1.0], vec![0.0; 4], vec![-1.0, 0.0, 0.0, -1.0]] {
            assert!(matches!(new(&[0.0, 0.0], &bad), ExactError::NotPositiveDefinite { .. }), "{bad:?}");
        }
        let gaussian = data();
        for (alpha, sigma) in [(0.0, 0.0), (-1.0, 1.0), (1.0, -0.1), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert!(matches!(gaussian.at(&level(alpha, sigma)), Err(ExactError::Level { .. })));
        }
        let short = gaussian.flow(&[0.0], &level(1.0, 1.0), &level(1.0, 0.0)).unwrap_err();
        assert_eq!(short, ExactError::Length { what: "x", found: 1, expected: 3 });
        assert!(matches!(gaussian.transform(&[0.0]), Err(ExactError::Length { what: "z", .. })));
    }
}
