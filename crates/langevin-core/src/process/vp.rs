//! The variance-preserving SDE.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// The variance-preserving SDE `dx = −½β(t)·x dt + √β(t) dw` with linear `β(t)` (Song et al. 2021, eq. 32 and 33).
///
/// With `B(t) = β_min·t + ½(β_max − β_min)·t²`: `α = exp(−B/2)` and `σ = √(1 − exp(−B))`, so α² + σ² = 1.
/// Time runs in `[0.001, 1]`; σ̇ is infinite at 0, which is why the range leaves it out.
///
/// ```
/// use langevin_core::{Process, process::VpSde};
/// let vp = VpSde::new(0.1, 20.0)?;
/// let (a, s) = (vp.alpha(0.3), vp.sigma(0.3));
/// assert!((a * a + s * s - 1.0).abs() < 1e-14);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct VpSde {
    schedule: LinearBeta,
    range: (f64, f64),
    time_scale: f64,
}

/// β rising linearly over `[0, 1]`, and its integral.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LinearBeta {
    pub(super) min: f64,
    pub(super) max: f64,
}

impl LinearBeta {
    pub(super) fn new(process: &'static str, min: f64, max: f64) -> Result<Self, ProcessError> {
        if !(min >= 0.0 && min.is_finite()) {
            let expected = "a finite number, 0 or above";
            return Err(ProcessError::Parameter { process, parameter: "beta_min", given: min, expected });
        }
        positive(process, "beta_max", max)?;
        if max < min {
            let expected = "beta_min or more";
            return Err(ProcessError::Parameter { process, parameter: "beta_max", given: max, expected });
        }
        Ok(Self { min, max })
    }

    pub(super) fn at(self, t: f64) -> f64 {
        self.min + t * (self.max - self.min)
    }

    /// `B(t)`, the integral of β from 0.
    pub(super) fn integral(self, t: f64) -> f64 {
        t * (self.min + 0.5 * t * (self.max - self.min))
    }

    /// The time at which the integral is `b`: the root of a quadratic, in the form that does not cancel.
    pub(super) fn time_at_integral(self, b: f64) -> f64 {
        if b == 0.0 {
            return 0.0;
        }
        2.0 * b / (self.min + (self.min * self.min + 2.0 * (self.max - self.min) * b).sqrt())
    }
}

impl Default for VpSde {
    /// β from 0.1 to 20, as published.
    fn default() -> Self {
        Self { schedule: LinearBeta { min: 0.1, max: 20.0 }, range: (1e-3, 1.0), time_scale: 1.0 }
    }
}

impl VpSde {
    /// The SDE with β from `beta_min` at time 0 to `beta_max` at time 1.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless `0 <= beta_min <= beta_max`, both finite, `beta_max > 0`.
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, ProcessError> {
        Ok(Self { schedule: LinearBeta::new("the VP SDE", beta_min, beta_max)?, ..Self::default() })
    }

    /// Feeds the network `scale·t` instead of `t`; 999 is the convention of the published score-SDE checkpoints.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless the scale is positive and finite.
    pub fn network_time_scale(mut self, scale: f64) -> Result<Self, ProcessError> {
        self.time_scale = positive("the VP SDE", "network_time_scale", scale)?;
        Ok(self)
    }

    /// Another time range, inside `(0, 1]`.
    ///
    /// # Errors
    /// [`ProcessError::Range`] unless `0 < clean < noisy <= 1`.
    pub fn range(mut self, clean: f64, noisy: f64) -> Result<Self, ProcessError> {
        self.range = unit_range("the VP SDE", clean, noisy, true)?;
        Ok(self)
    }
}

impl Process for VpSde {
    fn alpha(&self, t: f64) -> f64 {
        libm::exp(-0.5 * self.schedule.integral(t))
    }
    fn sigma(&self, t: f64) -> f64 {
        (-libm::expm1(-self.schedule.integral(t))).sqrt()
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -0.5 * self.schedule.at(t) * self.alpha(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        0.5 * self.schedule.at(t) * libm::exp(-self.schedule.integral(t)) / self.sigma(t)
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
        // α²/σ² = 1/(e^B − 1).
        -0.5 * libm::log(libm::expm1(self.schedule.integral(t)))
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        // B = ln(1 + e^(−2λ)), without overflow for very negative λ.
        let b = (-2.0 * lambda).max(0.0) + libm::log1p(libm::exp(-2.0 * lambda.abs()));
        Ok(self.schedule.time_at_integral(b).clamp(min, max))
    }
    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.schedule.at(t)
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        self.schedule.at(t)
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

impl TryFrom<Form> for VpSde {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new(form.beta_min, form.beta_max)?
            .range(form.range.0, form.range.1)?
            .network_time_scale(form.network_time_scale)
    }
}

impl From<VpSde> for Form {
    fn from(vp: VpSde) -> Self {
        let LinearBeta { min, max } = vp.schedule;
        Self { beta_min: min, beta_max: max, range: vp.range, network_time_scale: vp.time_scale }
    }
}
