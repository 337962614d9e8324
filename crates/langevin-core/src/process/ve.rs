//! The variance-exploding SDE.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// The variance-exploding SDE with geometric σ (Song et al. 2021, eq. 30 and 31).
///
/// `α = 1` and `σ(t) = σ_min·(σ_max/σ_min)^t`, as the published code has it: σ_min² is not subtracted, so σ(0) = σ_min.
/// Time runs in `[1e-5, 1]`; the prior has deviation σ_max.
///
/// ```
/// use langevin_core::{Process, process::VeSde};
/// let ve = VeSde::new(0.01, 50.0)?;
/// assert!((ve.sigma(0.5) - 0.5f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct VeSde {
    sigma_min: f64,
    sigma_max: f64,
    range: (f64, f64),
    input: VeInput,
}

/// What a network on the [`VeSde`] is fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VeInput {
    /// The time t in `[0, 1]`.
    #[default]
    Time,
    /// σ(t): the published score-SDE networks, which take its logarithm themselves.
    Sigma,
    /// `ln σ(t)`.
    LogSigma,
}

impl Default for VeSde {
    /// σ from 0.01 to 50, as published for 32x32 images.
    fn default() -> Self {
        Self { sigma_min: 0.01, sigma_max: 50.0, range: (1e-5, 1.0), input: VeInput::Time }
    }
}

impl VeSde {
    /// The SDE with σ from `sigma_min` at time 0 to `sigma_max` at time 1.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless `0 < sigma_min < sigma_max`, both finite.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, ProcessError> {
        let (sigma_min, sigma_max) = rising_sigmas("the VE SDE", sigma_min, sigma_max)?;
        Ok(Self { sigma_min, sigma_max, ..Self::default() })
    }

    /// What the network is fed; the time by default.
    pub fn network_input(mut self, input: VeInput) -> Self {
        self.input = input;
        self
    }

    /// Another time range, inside `[0, 1]`.
    ///
    /// # Errors
    /// [`ProcessError::Range`] unless `0 <= clean < noisy <= 1`.
    pub fn range(mut self, clean: f64, noisy: f64) -> Result<Self, ProcessError> {
        self.range = unit_range("the VE SDE", clean, noisy, false)?;
        Ok(self)
    }

    /// `ln(σ_max/σ_min)`, the growth rate of σ.
    fn rate(&self) -> f64 {
        libm::log(self.sigma_max / self.sigma_min)
    }
}

/// Checks `0 < min < max < ∞`.
pub(super) fn rising_sigmas(process: &'static str, min: f64, max: f64) -> Result<(f64, f64), ProcessError> {
    positive(process, "sigma_min", min)?;
    positive(process, "sigma_max", max)?;
    if max > min {
        Ok((min, max))
    } else {
        let expected = "a number above sigma_min";
        Err(ProcessError::Parameter { process, parameter: "sigma_max", given: max, expected })
    }
}

impl Process for VeSde {
    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }
    fn sigma(&self, t: f64) -> f64 {
        self.sigma_min * libm::pow(self.sigma_max / self.sigma_min, t)
    }
    fn alpha_dot(&self, _t: f64) -> f64 {
        0.0
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.sigma(t) * self.rate()
    }
    fn time_range(&self) -> (f64, f64) {
        self.range
    }
    fn network_time(&self, t: f64) -> f64 {
        match self.input {
            VeInput::Time => t,
            VeInput::Sigma => self.sigma(t),
            VeInput::LogSigma => -self.lambda(t),
        }
    }
    fn lambda(&self, t: f64) -> f64 {
        -libm::log(self.sigma_min) - t * self.rate()
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        Ok(((-lambda - libm::log(self.sigma_min)) / self.rate()).clamp(min, max))
    }
    fn drift(&self, _t: f64) -> f64 {
        0.0
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        let sigma = self.sigma(t);
        2.0 * sigma * sigma * self.rate()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sigma_min: f64,
    sigma_max: f64,
    range: (f64, f64),
    network_input: VeInput,
}

impl TryFrom<Form> for VeSde {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        let ve = Self::new(form.sigma_min, form.sigma_max)?.range(form.range.0, form.range.1)?;
        Ok(ve.network_input(form.network_input))
    }
}

impl From<VeSde> for Form {
    fn from(ve: VeSde) -> Self {
        Self { sigma_min: ve.sigma_min, sigma_max: ve.sigma_max, range: ve.range, network_input: ve.input }
    }
}
