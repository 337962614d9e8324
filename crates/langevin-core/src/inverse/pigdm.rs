//! Pseudoinverse-guided diffusion models, ΠGDM (Song et al. 2023).

use super::error::InverseError;
use super::measurement::Measurement;
use super::operator::LinearOperator;
use super::residual::check_positive;
use crate::denoiser::{DenoiseError, Denoiser, Estimate, Query, check_autodiff, check_gradient, pull_back};
use crate::level::Level;

const NAME: &str = "ΠGDM";

/// A denoiser that heeds a measurement through `p(y|x) ≈ N(y; A·x̂_0, r²·A·Aᵀ + s²)`, under any solver.
///
/// The score gains `Jᵀ·Aᵀ·(r²·A·Aᵀ + s²)⁻¹·(y − A·x̂_0)` with `J = ∂x̂_0/∂x` and the noise s of the measurement, which may be 0
/// (section 3 of the paper). r² is the variance that x_0 still has when x is known: `r² = v·σ²/(α²·v + σ²)` if data has
/// variance v in every direction. So it is exact for Gaussian data that varies by v in the directions that A measures,
/// independently of the others, and biased as far as data does not. The paper takes v = 1, as this does unless [`data_deviation`](Self::data_deviation) says another.
///
/// Needs the decomposition of A and a denoiser made of tensor operations; costs one backward pass for each evaluation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::inverse::{Masking, Measurement, PiGdm};
/// use langevin_core::exact::{Gaussian, Posterior};
/// use langevin_core::{Denoiser, Level, Prediction, Query, noise::Seeded};
/// let device = Device::flex();
/// // Data N(0, 1) in the plane, whose first coordinate was measured as 0.8 with noise 0.5.
/// let data = Gaussian::new(vec![0.0; 2], vec![1.0, 0.0, 0.0, 1.0])?.denoiser(Prediction::Epsilon)?;
/// let first = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let measurement = Measurement::new(first, Tensor::from_floats([[0.8, 0.0]], &device), 0.5)?;
/// let denoiser = PiGdm::new(data, measurement)?;
/// let (x, levels) = (Tensor::zeros([1, 2], &device), Level { alpha: 0.6, sigma: 0.8, time: 0.5 }.into());
/// let x0 = denoiser.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?.x0()?;
/// // Three Gaussians: the prior, x at 0 with variance 0.64/0.36, and y.
/// let expected = 0.8 / 0.25 / (1.0 + 0.36 / 0.64 + 1.0 / 0.25);
/// let x0: Vec<f64> = x0.into_data().iter::<f64>().collect();
/// assert!((x0[0] - expected).abs() < 1e-6 && x0[1].abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems".
#[derive(Clone, Debug)]
pub struct PiGdm<T, O, const D: usize> {
    inner: T,
    measurement: Measurement<O, D>,
    variance: f64,
    scale: f64,
    checked: bool,
}

impl<T: Denoiser<D>, O: LinearOperator<D>, const D: usize> PiGdm<T, O, D> {
    /// For data of deviation 1.
    ///
    /// # Errors
    /// [`InverseError::NoSvd`] if the operator does not know its decomposition.
    pub fn new(inner: T, measurement: Measurement<O, D>) -> Result<Self, InverseError> {
        if measurement.operator().svd().is_none() {
            return Err(InverseError::NoSvd { method: NAME });
        }
        Ok(Self { inner, measurement, variance: 1.0, scale: 1.0, checked: false })
    }

    /// For data of another standard deviation.
    ///
    /// # Errors
    /// [`InverseError::Setting`] unless it is positive and finite.
    pub fn data_deviation(mut self, deviation: f64) -> Result<Self, InverseError> {
        self.variance = check_positive("the deviation of the data", deviation)?.powi(2);
        Ok(self)
    }

    /// Multiplies the guidance; 1 is the conditional score.
    ///
    /// # Errors
    /// [`InverseError::Setting`] unless the scale is positive and finite.
    pub fn scale(mut self, scale: f64) -> Result<Self, InverseError> {
        self.scale = check_positive("the guidance scale of ΠGDM", scale)?;
        Ok(self)
    }

    /// Reads a flag from the device for every answer and fails where the gradient is not finite. Without it only the end of a
    /// run looks.
    pub fn checked(mut self) -> Self {
        self.checked = true;
        self
    }

    /// What `Uᵀ·(y − A·x̂_0)` is multiplied by, with σ² in it: `σ²·s_i/(r²·s_i² + s²)`.
    fn filter(&self, level: &Level, singular: f64) -> f64 {
        if singular == 0.0 {
            return 0.0;
        }
        let variance = level.sigma * level.sigma;
        // r²/σ²
        let spread = self.variance / (level.alpha * level.alpha * self.variance + variance);
        let noise = self.measurement.noise();
        // With noise in y there is nothing to follow where there is none in x.
        let noise = if noise == 0.0 { 0.0 } else { noise * noise / variance };
        self.scale * singular / (spread * singular * singular + noise)
    }
}

impl<T: Denoiser<D>, O: LinearOperator<D>, const D: usize> Denoiser<D> for PiGdm<T, O, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let levels = query.levels;
        let svd = self.measurement.operator().svd().ok_or(InverseError::NoSvd { method: NAME })?;
        let graded = pull_back(&self.inner, query, |estimate| {
            let residual = svd.left(self.measurement.residual(estimate.x0()?.inner())?)?;
            let values = svd.singular_values(&residual.dims()[1..])?;
            Ok(svd.right_inverse(values.times_at(residual, levels, |level, s| self.filter(level, s))?)?)
        })?;
        if self.checked {
            check_gradient("the residual of the measurement", &graded.gradient)?;
        }
        graded.estimate.add_score(graded.gradient)
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_split(&self) -> bool {
        self.inner.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        Some(NAME)
    }

    fn beyond_output(&self) -> Option<&'static str> {
        self.inner.beyond_output()
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        // The gradient, which is part of ε̂, is that of x̂_0.
        None
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        check_autodiff(NAME, &self.inner)?;
        self.measurement.check(shape)?;
        self.inner.check(shape)
    }
}
