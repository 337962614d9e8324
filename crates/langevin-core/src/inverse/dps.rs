//! Diffusion posterior sampling, DPS (Chung et al. 2023).

use super::error::InverseError;
use super::measurement::Measurement;
use super::operator::LinearOperator;
use super::residual::check_positive;
use crate::denoiser::{DenoiseError, Denoiser, Estimate, Query, check_autodiff, check_gradient};

const NAME: &str = "DPS";

/// A denoiser that heeds a measurement through the gradient of `‖y − A·x̂_0‖²`, for any operator and under any solver.
///
/// The score gains `−½·w·∇‖y − A·x̂_0(x)‖²`, the gradient of `ln N(y; A·x̂_0, 1/w)`: the likelihood as if x_0 were x̂_0 for
/// certain, with w = 1/s² for noise of standard deviation s (equation 16 of the paper). That certainty is false while there
/// is noise in x: the gradient is then too long, and samples spread less than the posterior does, even where data is Gaussian;
/// [`PiGdm`](super::PiGdm) accounts for it where A can be inverted. With small s the gradient is so long that few steps do not
/// follow it: take more of them, a smaller [`weight`](Self::weight), or [`normalized`](Self::normalized).
///
/// Needs a denoiser made of tensor operations, and costs one backward pass for each evaluation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::inverse::{Dps, Masking, Measurement};
/// use langevin_core::{Denoiser, Level, Prediction, Query, noise::Seeded};
/// let device = Device::flex();
/// // Of points in the plane, x is measured.
/// let first = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let measurement = Measurement::new(first, Tensor::from_floats([[0.8, 0.0]], &device), 0.1)?;
/// let denoiser = Dps::new(correlated_mixture()?.denoiser(Prediction::Epsilon)?, measurement)?;
/// let (x, levels) = (Tensor::zeros([4, 2], &device), Level { alpha: 0.9, sigma: 0.44, time: 0.5 }.into());
/// let estimate = denoiser.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?;
/// assert_eq!(estimate.x0()?.dims(), [4, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Chung et al. 2023, "Diffusion posterior sampling for general noisy inverse problems".
#[derive(Clone, Debug)]
pub struct Dps<T, O, const D: usize> {
    inner: T,
    measurement: Measurement<O, D>,
    weight: f64,
    normalized: bool,
    checked: bool,
}

impl<T: Denoiser<D>, O: LinearOperator<D>, const D: usize> Dps<T, O, D> {
    /// Weighs the residual by its likelihood, `w = 1/s²`.
    ///
    /// # Errors
    /// [`InverseError::Setting`] for a measurement without noise, whose likelihood has no gradient: give a noise level, or take
    /// [`with_weight`](Self::with_weight).
    pub fn new(inner: T, measurement: Measurement<O, D>) -> Result<Self, InverseError> {
        let noise = measurement.noise();
        if noise == 0.0 {
            let expected = "a positive number for the likelihood of DPS; or give a weight by `Dps::with_weight`";
            return Err(InverseError::Setting { setting: "the noise of the measurement", given: noise, expected });
        }
        Self::with_weight(inner, measurement, 1.0 / (noise * noise))
    }

    /// With another weight w of the residual, the step size of the method.
    ///
    /// # Errors
    /// [`InverseError::Setting`] unless the weight is positive and finite.
    pub fn with_weight(inner: T, measurement: Measurement<O, D>, weight: f64) -> Result<Self, InverseError> {
        let weight = check_positive("the step size of DPS", weight)?;
        Ok(Self { inner, measurement, weight, normalized: false, checked: false })
    }

    /// Divides the weight by the length of each sample's residual: the score gains `−w·∇‖y − A·x̂_0‖`.
    ///
    /// In the paper each step of the solver moves the state by such a gradient, whatever the level: that is the sampler
    /// `DpsSteps` of langevin-schedulers.
    pub fn normalized(mut self) -> Self {
        self.normalized = true;
        self
    }

    /// Reads a flag from the device for every answer and fails where the gradient is not finite. Without it only the end of a
    /// run looks.
    pub fn checked(mut self) -> Self {
        self.checked = true;
        self
    }

    /// The weight of the residual.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

impl<T: Denoiser<D>, O: LinearOperator<D>, const D: usize> Denoiser<D> for Dps<T, O, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let found = self.measurement.look_back(&self.inner, query)?;
        let gradient = if self.normalized { found.normalized() } else { found.direction };
        if self.checked {
            check_gradient("the residual of the measurement", &gradient)?;
        }
        let weight = found.estimate.levels().map(|level| self.weight * level.sigma * level.sigma);
        found.estimate.add_score(weight.times(gradient))
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
