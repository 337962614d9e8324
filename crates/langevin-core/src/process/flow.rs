//! Rectified flow.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// Straight lines between data and noise: `α = 1 − u`, `σ = u` (Liu et al. 2022; Lipman et al. 2022).
///
/// Without a shift `u = t`. A shift s moves the times of large images towards noise, `u = s·t/(1 + (s − 1)·t)`
/// (Esser et al. 2024, eq. 23); the network is fed `u`, times 1000 if asked for. [`ResolutionShift`](super::ResolutionShift)
/// has the shifts of image sizes.
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

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn laws(shift in 0.2f64..10.0, t in 0.01f64..0.99) {
            let flow = RectifiedFlow::new().shift(shift).unwrap().range(1e-3, 0.999).unwrap();
            obeys_the_laws(&flow, t, 1e-5 * t.min(1.0 - t));
        }

        #[test]
        fn a_shift_is_a_shift_of_lambda(shift in 0.2f64..10.0, t in 0.01f64..0.99) {
            // u = st/(1 + (s − 1)t) turns u/(1 − u) into s·t/(1 − t).
            let (plain, shifted) = (RectifiedFlow::new(), RectifiedFlow::new().shift(shift).unwrap());
            let difference = plain.lambda(t) - shifted.lambda(t);
            prop_assert!((difference - shift.ln()).abs() < 1e-12);
            prop_assert!((shifted.alpha(t) + shifted.sigma(t) - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let flow = RectifiedFlow::new().shift(3.0).unwrap();
        assert_eq!((flow.alpha(0.0), flow.sigma(0.0)), (1.0, 0.0));
        assert_eq!((flow.alpha(1.0), flow.sigma(1.0)), (0.0, 1.0));
        assert_eq!((flow.alpha_dot(1.0), flow.sigma_dot(1.0)), (-1.0 / 3.0, 1.0 / 3.0));
        assert_eq!((flow.lambda(0.0), flow.lambda(1.0)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!((flow.drift(1.0), flow.diffusion_squared(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(flow.time_at_lambda(f64::INFINITY).unwrap(), 0.0);
        assert_eq!(flow.time_at_lambda(f64::NEG_INFINITY).unwrap(), 1.0);
        assert_eq!(flow.prior_std(), 1.0);
        super::super::validate(&flow).unwrap();
    }

    #[test]
    fn network_time_is_the_shifted_one() {
        let flow = RectifiedFlow::new().shift(3.0).unwrap().network_time_scale(1000.0).unwrap();
        assert_close(flow.network_time(0.5), 750.0, 1e-15, "time");
    }

    #[test]
    fn bad_parameters() {
        for shift in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(RectifiedFlow::new().shift(shift), Err(ProcessError::Parameter { .. })));
        }
        assert!(matches!(RectifiedFlow::new().network_time_scale(f64::NAN), Err(ProcessError::Parameter { .. })));
        assert!(matches!(RectifiedFlow::new().range(-0.5, 1.0), Err(ProcessError::Range { .. })));
    }

    #[test]
    fn serde() {
        let flow = RectifiedFlow::new().shift(3.0).unwrap().range(0.001, 0.999).unwrap();
        round_trips(&flow, &[("3.0", "0"), ("0.001", "1.5"), ("shift", "shft")]);
    }
}
