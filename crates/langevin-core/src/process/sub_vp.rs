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
            1.0009944990046723e-06,
            -0.050099500000000005,
            0.00044788078236640566,
            13.814516052648619,
        ],
        [0.01, 0.9990029973377464, 0.001993011310198551, -0.1495, 0.03450555183398814, 6.217111062805941],
        [0.25, 0.7236571850830864, 0.4763202784776236, -2.5374999999999996, 1.919174226725182, 0.4182272970708552],
        [0.75, 0.05866350301188082, 0.996558593414375, -7.512499999999999, 3.876186535079124, -2.832490158153722],
        [1.0, 0.006571586494929619, 0.9999568142509396, -10.0, 4.472135950829292, -5.024956813318408],
    ];

    #[test]
    fn published_values() {
        let process = SubVpSde::new(0.1, 20.0).unwrap();
        for [t, alpha, sigma, drift, g, lambda] in PUBLISHED {
            assert_close(process.alpha(t), alpha, 1e-14, "alpha");
            assert_close(process.sigma(t), sigma, 1e-9, "sigma");
            assert_close(process.drift(t), drift, 1e-14, "drift");
            assert_close(process.diffusion_squared(t).sqrt(), g, 1e-9, "diffusion");
            assert_close(process.lambda(t), lambda, 1e-9, "lambda");
        }
    }

    #[test]
    fn nothing_cancels_near_the_clean_end() {
        let process = SubVpSde::default().range(0.0, 1.0).unwrap();
        let t = 1e-13;
        let b: f64 = 0.1 * t + 0.5 * 19.9 * t * t;
        assert_close(process.sigma(t), b, 1e-13, "sigma");
        assert_close(process.diffusion_squared(t), 2.0 * (0.1 + 19.9 * t) * b, 1e-12, "diffusion");
        assert_close(process.time_at_lambda(process.lambda(t)).unwrap(), t, 1e-12, "inverse");
        assert_eq!((process.sigma(0.0), process.lambda(0.0)), (0.0, f64::INFINITY));
    }

    proptest! {
        #[test]
        fn laws(min in 0.01f64..1.0, rise in 0.0f64..30.0, t in 0.01f64..0.99) {
            obeys_the_laws(&SubVpSde::new(min, min + rise).unwrap(), t, 1e-5);
        }

        #[test]
        fn less_noise_than_vp_at_the_same_signal(t in 0.001f64..1.0) {
            let (sub, vp) = (SubVpSde::default(), super::super::VpSde::default());
            prop_assert_eq!(sub.alpha(t), vp.alpha(t));
            prop_assert!(sub.sigma(t) < vp.sigma(t));
        }
    }

    #[test]
    fn bad_parameters() {
        for (min, max) in [(-0.1, 20.0), (f64::NAN, 20.0), (0.1, f64::INFINITY), (2.0, 1.0)] {
            assert!(matches!(SubVpSde::new(min, max), Err(ProcessError::Parameter { .. })), "{min} {max}");
        }
        for (clean, noisy) in [(-0.1, 1.0), (0.5, 0.5), (0.1, 1.1), (f64::NAN, 1.0)] {
            assert!(matches!(SubVpSde::default().range(clean, noisy), Err(ProcessError::Range { .. })));
        }
        assert!(matches!(SubVpSde::default().network_time_scale(0.0), Err(ProcessError::Parameter { .. })));
    }

    #[test]
    fn serde() {
        let process = SubVpSde::new(0.2, 15.0).unwrap().network_time_scale(999.0).unwrap();
        assert_eq!((process.network_time(0.5), process.prior_std()), (499.5, 1.0));
        round_trips(&process, &[("0.2", "-1"), ("999.0", "-3"), ("0.001", "-0.001")]);
    }
}
