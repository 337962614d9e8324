//! Rectified flow.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// Straight lines between data and noise: `α = 1 − u`, `σ = u` (Liu et al. 2022; Lipman et al. 2022).
///
/// Without a shift `u = t`. A shift s moves the times of large images towards noise, `u = s·t/(1 + (s − 1)·t)`
/// (Esser et al. 2024, eq. 23); the network is fed `u`, times 1000 if asked for.
///
/// Time runs in `[0, 1]`, both ends exact: pure data at 0, pure noise at 1. The probability-flow ODE
/// `dx/dt = α̇·x̂_0 + σ̇·ε̂` is regular on all of it. Not so the SDE: its drift `α̇/α` and its diffusion are infinite at
/// t = 1, and λ is infinite at both ends. For SDE solvers and grids in λ or σ/α take a smaller [`range`](Self::range),
/// for instance `[0.001, 0.999]`.
///
/// ```
/// use langevin_core::{Process, process::RectifiedFlow};
/// let flow = RectifiedFlow::new().shift(3.0)?;
/// assert_eq!(flow.sigma(0.5), 0.75);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct RectifiedFlow {
    shift: f64,
    range: (f64, f64),
    time_scale: f64,
}

impl Default for RectifiedFlow {
    fn default() -> Self {
        Self::new()
    }
}

impl RectifiedFlow {
    /// The flow without a shift, on `[0, 1]`.
    pub fn new() -> Self {
        Self { shift: 1.0, range: (0.0, 1.0), time_scale: 1.0 }
    }

    /// Shifts times towards noise (s > 1) or data (s < 1).
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless the shift is positive and finite.
    pub fn shift(mut self, shift: f64) -> Result<Self, ProcessError> {
        self.shift = positive("rectified flow", "shift", shift)?;
        Ok(self)
    }

    /// Feeds the network `scale·u` instead of `u`; 1000 is common.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless the scale is positive and finite.
    pub fn network_time_scale(mut self, scale: f64) -> Result<Self, ProcessError> {
        self.time_scale = positive("rectified flow", "network_time_scale", scale)?;
        Ok(self)
    }

    /// Another time range, inside `[0, 1]`.
    ///
    /// # Errors
    /// [`ProcessError::Range`] unless `0 <= clean < noisy <= 1`.
    pub fn range(mut self, clean: f64, noisy: f64) -> Result<Self, ProcessError> {
        self.range = unit_range("rectified flow", clean, noisy, false)?;
        Ok(self)
    }

    /// `1 + (s − 1)·t`.
    fn denominator(&self, t: f64) -> f64 {
        1.0 + (self.shift - 1.0) * t
    }

    /// du/dt.
    fn speed(&self, t: f64) -> f64 {
        let d = self.denominator(t);
        self.shift / (d * d)
    }
}

impl Process for RectifiedFlow {
    fn alpha(&self, t: f64) -> f64 {
        (1.0 - t) / self.denominator(t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.shift * t / self.denominator(t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -self.speed(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.speed(t)
    }
    fn time_range(&self) -> (f64, f64) {
        self.range
    }
    fn network_time(&self, t: f64) -> f64 {
        self.time_scale * self.sigma(t)
    }
    fn prior_std(&self) -> f64 {
        1.0
    }
    fn lambda(&self, t: f64) -> f64 {
        libm::log1p(-t) - libm::log(self.shift * t)
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        Ok((1.0 / (1.0 + self.shift * libm::exp(lambda))).clamp(min, max))
    }
    fn drift(&self, t: f64) -> f64 {
        -self.shift / (self.denominator(t) * (1.0 - t))
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        2.0 * self.sigma(t) * self.speed(t) / self.alpha(t)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    shift: f64,
    range: (f64, f64),
    network_time_scale: f64,
}

impl TryFrom<Form> for RectifiedFlow {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new().shift(form.shift)?.range(form.range.0, form.range.1)?.network_time_scale(form.network_time_scale)
    }
}

impl From<RectifiedFlow> for Form {
    fn from(flow: RectifiedFlow) -> Self {
        Self { shift: flow.shift, range: flow.range, network_time_scale: flow.time_scale }
    }
}
