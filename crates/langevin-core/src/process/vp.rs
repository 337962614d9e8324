//! The variance-preserving SDE.

use super::error::{positive, range_with_lambda, unit_range};
use super::{Process, ProcessError, Transition};
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
pub(crate) struct LinearBeta {
    pub(super) min: f64,
    pub(super) max: f64,
}

impl LinearBeta {
    pub(crate) fn new(process: &'static str, min: f64, max: f64) -> Result<Self, ProcessError> {
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

    /// The integral of β from `s` to `t`, exact for close times.
    fn between(self, s: f64, t: f64) -> f64 {
        (t - s) * (self.min + 0.5 * (s + t) * (self.max - self.min))
    }

    /// The time at which the integral is `b`: the root of a quadratic, in the form that does not cancel.
    pub(super) fn time_at_integral(self, b: f64) -> f64 {
        if b == 0.0 {
            return 0.0;
        }
        2.0 * b / (self.min + (self.min * self.min + 2.0 * (self.max - self.min) * b).sqrt())
    }

    /// λ of the VP SDE at a time.
    pub(crate) fn lambda(self, t: f64) -> f64 {
        // α²/σ² = 1/(e^B − 1).
        -0.5 * libm::log(libm::expm1(self.integral(t)))
    }

    /// The time at which the VP SDE has this λ, beyond its range as well.
    pub(crate) fn time_at_lambda(self, lambda: f64) -> f64 {
        // B = ln(1 + e^(−2λ)), without overflow for very negative λ.
        let b = (-2.0 * lambda).max(0.0) + libm::log1p(libm::exp(-2.0 * lambda.abs()));
        self.time_at_integral(b)
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
        self.schedule.lambda(t)
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        Ok(self.schedule.time_at_lambda(lambda).clamp(min, max))
    }
    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.schedule.at(t)
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        self.schedule.at(t)
    }
    fn transition(&self, s: f64, t: f64) -> Transition {
        let b = self.schedule.between(s, t);
        Transition { scale: libm::exp(-0.5 * b), variance: -libm::expm1(-b) }
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

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    /// t, α, σ, drift, g and λ of the published code at β from 0.1 to 20.
    const PUBLISHED: [[f64; 6]; 5] = [
        [
            1e-5,
            0.9999994995026252,
            0.0010004971259352385,
            -0.050099500000000005,
            0.31654225626288823,
            6.907257776075559,
        ],
        [0.01, 0.9990029973377464, 0.04464315524465706, -0.1495, 0.5468089245796927, 3.1080567814029703],
        [0.25, 0.7236571850830864, 0.6901596036263088, -2.5374999999999996, 2.252776065213762, 0.04739489853542757],
        [0.75, 0.05866350301188082, 0.9982778137444381, -7.512499999999999, 3.876209488662861, -2.834213829076861],
        [1.0, 0.006571586494929619, 0.9999784068923386, -10.0, 4.47213595499958, -5.024978406659204],
    ];

    #[test]
    fn published_values() {
        let vp = VpSde::new(0.1, 20.0).unwrap();
        for [t, alpha, sigma, drift, g, lambda] in PUBLISHED {
            assert_close(vp.alpha(t), alpha, 1e-14, "alpha");
            assert_close(vp.sigma(t), sigma, 1e-10, "sigma");
            assert_close(vp.drift(t), drift, 1e-14, "drift");
            assert_close(vp.diffusion_squared(t).sqrt(), g, 1e-14, "diffusion");
            assert_close(vp.lambda(t), lambda, 1e-9, "lambda");
        }
    }

    #[test]
    fn nothing_cancels_near_the_clean_end() {
        // σ² = B − B²/2 + …, with B = β_min·t to first order.
        let vp = VpSde::default();
        for t in [1e-14, 1e-10] {
            let b: f64 = 0.1 * t + 0.5 * 19.9 * t * t;
            assert_close(vp.sigma(t), (b - 0.5 * b * b).sqrt(), 1e-15, "sigma");
            assert_close(vp.lambda(t), -0.5 * b.ln(), 1e-12, "lambda");
            assert_close(vp.transition(0.5, 0.5 + t).variance, 10.05 * ((0.5 + t) - 0.5), 1e-9, "variance");
        }
    }

    proptest! {
        #[test]
        fn laws(min in 0.01f64..1.0, rise in 0.0f64..30.0, t in 0.01f64..0.99) {
            obeys_the_laws(&VpSde::new(min, min + rise).unwrap(), t, 1e-5);
        }
    }

    #[test]
    fn lambda_inverse_reaches_both_ends_and_no_further() {
        let vp = VpSde::default();
        for end in [1e-3, 1.0] {
            assert_close(vp.time_at_lambda(vp.lambda(end)).unwrap(), end, 1e-12, "end");
        }
        for lambda in [vp.lambda(1.0) - 1e-6, vp.lambda(1e-3) + 1e-6, f64::NAN, f64::INFINITY] {
            assert!(matches!(vp.time_at_lambda(lambda), Err(ProcessError::LambdaOutOfRange { .. })), "{lambda}");
        }
    }

    #[test]
    fn network_time_and_prior() {
        let vp = VpSde::default();
        assert_eq!((vp.network_time(0.5), vp.prior_std()), (0.5, 1.0));
        assert_eq!(vp.network_time_scale(999.0).unwrap().level(0.5).time, 499.5);
    }

    #[test]
    fn bad_parameters() {
        for (min, max) in
            [(-0.1, 20.0), (f64::NAN, 20.0), (0.1, f64::NAN), (0.1, f64::INFINITY), (0.0, 0.0), (2.0, 1.0)]
        {
            assert!(matches!(VpSde::new(min, max), Err(ProcessError::Parameter { .. })), "{min} {max}");
        }
        for (clean, noisy) in [(0.0, 1.0), (0.5, 0.5), (0.1, 1.1), (f64::NAN, 1.0), (0.1, f64::NAN)] {
            assert!(matches!(VpSde::default().range(clean, noisy), Err(ProcessError::Range { .. })), "{clean} {noisy}");
        }
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(VpSde::default().network_time_scale(scale), Err(ProcessError::Parameter { .. })));
        }
    }

    #[test]
    fn serde() {
        let vp = VpSde::new(0.2, 15.0).unwrap().range(1e-4, 0.9).unwrap().network_time_scale(1000.0).unwrap();
        round_trips(&vp, &[("0.2", "-1"), ("0.9", "2"), ("1000.0", "0"), ("beta_min", "beta_mim")]);
    }
}
