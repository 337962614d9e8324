//! The variance-exploding SDE.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError, Transition};
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
    fn transition(&self, s: f64, t: f64) -> Transition {
        let sigma = self.sigma(s);
        Transition { scale: 1.0, variance: sigma * sigma * libm::expm1(2.0 * self.rate() * (t - s)) }
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

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    /// t, σ, g and λ of the published code at σ from 0.01 to 50.
    const PUBLISHED: [[f64; 4]; 5] = [
        [1e-5, 0.010000851755591462, 0.04127625023325711, 4.605085014056177],
        [0.01, 0.010889042680001354, 0.04494205708119418, 4.519998254073929],
        [0.25, 0.08408964152537145, 0.34706094745235494, 2.4758718881340323],
        [0.75, 5.946035575013606, 24.540914942858823, -1.7827247075740869],
        [1.0, 50.0, 206.36367402496302, -3.912023005428146],
    ];

    #[test]
    fn published_values() {
        let ve = VeSde::new(0.01, 50.0).unwrap();
        for [t, sigma, g, lambda] in PUBLISHED {
            assert_eq!((ve.alpha(t), ve.drift(t)), (1.0, 0.0));
            assert_close(ve.sigma(t), sigma, 1e-13, "sigma");
            assert_close(ve.diffusion_squared(t).sqrt(), g, 1e-13, "diffusion");
            assert_close(ve.lambda(t), lambda, 1e-13, "lambda");
        }
        assert_close(ve.prior_std(), 50.0, 1e-14, "prior");
        assert_close(ve.sigma(0.0), 0.01, 1e-15, "sigma at 0");
    }

    proptest! {
        #[test]
        fn laws(min in 1e-3f64..0.5, ratio in 2.0f64..1e5, t in 0.01f64..0.99) {
            obeys_the_laws(&VeSde::new(min, min * ratio).unwrap(), t, 1e-5);
        }
    }

    #[test]
    fn transitions_of_close_times_do_not_cancel() {
        let ve = VeSde::default();
        let (s, t) = (0.5, 0.5 + 1e-12);
        assert_close(ve.transition(s, t).variance, ve.diffusion_squared(s) * (t - s), 1e-10, "variance");
    }

    #[test]
    fn network_inputs() {
        let ve = VeSde::default();
        assert_eq!(ve.network_time(0.5), 0.5);
        assert_close(ve.clone().network_input(VeInput::Sigma).network_time(0.5), 0.5f64.sqrt(), 1e-13, "sigma");
        assert_close(ve.network_input(VeInput::LogSigma).network_time(0.5), 0.5f64.sqrt().ln(), 1e-13, "log sigma");
    }

    #[test]
    fn bad_parameters() {
        for (min, max) in
            [(0.0, 50.0), (f64::NAN, 50.0), (0.01, f64::INFINITY), (0.01, f64::NAN), (1.0, 1.0), (2.0, 1.0)]
        {
            assert!(matches!(VeSde::new(min, max), Err(ProcessError::Parameter { .. })), "{min} {max}");
        }
        assert!(matches!(VeSde::default().range(0.5, 1.5), Err(ProcessError::Range { .. })));
    }

    #[test]
    fn serde() {
        let ve = VeSde::new(0.02, 90.0).unwrap().range(1e-3, 1.0).unwrap().network_input(VeInput::Sigma);
        round_trips(&ve, &[("0.02", "0"), ("90.0", "0.01"), ("0.001", "-1"), ("\"Sigma\"", "\"Sgma\"")]);
    }
}
