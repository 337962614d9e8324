//! The sub-VP SDE.

use super::error::{positive, range_with_lambda, unit_range};
use super::vp::LinearBeta;
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// The sub-VP SDE `dx = −½β(t)·x dt + √(β(t)(1 − exp(−2B(t)))) dw` (Song et al. 2021, eq. 29).
///
/// With `B` the integral of β as in [`VpSde`](super::VpSde): `α = exp(−B/2)` and `σ = 1 − exp(−B)`, never more noise than
/// VP. Time runs in `[0.001, 1]`.
///
/// ```
/// use langevin_core::{Process, process::SubVpSde};
/// let process = SubVpSde::new(0.1, 20.0)?;
/// let t = process.time_at_lambda(1.5)?;
/// assert!((process.lambda(t) - 1.5).abs() < 1e-12);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct SubVpSde {
    schedule: LinearBeta,
    range: (f64, f64),
    time_scale: f64,
}

impl Default for SubVpSde {
    /// β from 0.1 to 20, as published.
    fn default() -> Self {
        Self { schedule: LinearBeta { min: 0.1, max: 20.0 }, range: (1e-3, 1.0), time_scale: 1.0 }
    }
}

impl SubVpSde {
    /// The SDE with β from `beta_min` at time 0 to `beta_max` at time 1.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless `0 <= beta_min <= beta_max`, both finite, `beta_max > 0`.
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, ProcessError> {
        Ok(Self { schedule: LinearBeta::new("the sub-VP SDE", beta_min, beta_max)?, ..Self::default() })
    }

    /// Feeds the network `scale·t` instead of `t`; 999 is the convention of the published score-SDE checkpoints.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless the scale is positive and finite.
    pub fn network_time_scale(mut self, scale: f64) -> Result<Self, ProcessError> {
        self.time_scale = positive("the sub-VP SDE", "network_time_scale", scale)?;
        Ok(self)
    }

    /// Another time range, inside `[0, 1]`.
    ///
    /// # Errors
    /// [`ProcessError::Range`] unless `0 <= clean < noisy <= 1`.
    pub fn range(mut self, clean: f64, noisy: f64) -> Result<Self, ProcessError> {
        self.range = unit_range("the sub-VP SDE", clean, noisy, false)?;
        Ok(self)
    }
}

impl Process for SubVpSde {
    fn alpha(&self, t: f64) -> f64 {
        libm::exp(-0.5 * self.schedule.integral(t))
    }
    fn sigma(&self, t: f64) -> f64 {
        -libm::expm1(-self.schedule.integral(t))
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -0.5 * self.schedule.at(t) * self.alpha(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.schedule.at(t) * libm::exp(-self.schedule.integral(t))
    }
    fn time_range(&self) -> (f64, f64) {
        self.range
    }
    fn network_time(&self, t: f64) -> f64 {
        self.time_scale * t
    }
    fn prior_std(&self) -> f64 {
        1.0
    }
    fn lambda(&self, t: f64) -> f64 {
        -0.5 * self.schedule.integral(t) - libm::log(self.sigma(t))
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        // α/(1 − α²) = e^λ is a quadratic in α; each branch is the form that neither cancels nor overflows.
        let b = if lambda > 0.0 {
            let u = libm::exp(-lambda);
            let alpha = 2.0 / (u + (u * u + 4.0).sqrt());
            -libm::log1p(-alpha * u)
        } else {
            let e = libm::exp(lambda);
            -2.0 * libm::log(2.0 * e / (1.0 + (1.0 + 4.0 * e * e).sqrt()))
        };
        Ok(self.schedule.time_at_integral(b).clamp(min, max))
    }
    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.schedule.at(t)
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        -self.schedule.at(t) * libm::expm1(-2.0 * self.schedule.integral(t))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    beta_min: f64,
    beta_max: f64,
    range: (f64, f64),
    network_time_scale: f64,
}

impl TryFrom<Form> for SubVpSde {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new(form.beta_min, form.beta_max)?
            .range(form.range.0, form.range.1)?
            .network_time_scale(form.network_time_scale)
    }
}

impl From<SubVpSde> for Form {
    fn from(process: SubVpSde) -> Self {
        let LinearBeta { min, max } = process.schedule;
        Self { beta_min: min, beta_max: max, range: process.range, network_time_scale: process.time_scale }
    }
}
