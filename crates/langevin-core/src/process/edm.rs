//! The process of EDM.

use super::error::range_with_lambda;
use super::ve::rising_sigmas;
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// The process in which time is the noise level itself: `α = 1`, `σ(t) = t` (Karras et al. 2022).
///
/// Time runs in `[σ_min, σ_max]`, by default `[0.002, 80]`; the network is fed `c_noise = ln(σ)/4` (table 1). The network's
/// preconditioning is [`Prediction::Edm`](crate::Prediction::Edm), which is independent of the process.
///
/// ```
/// use langevin_core::{Process, process::Edm};
/// let edm = Edm::new(0.002, 80.0)?;
/// assert_eq!((edm.alpha(3.0), edm.sigma(3.0), edm.prior_std()), (1.0, 3.0, 80.0));
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Edm {
    sigma_min: f64,
    sigma_max: f64,
}

impl Default for Edm {
    /// σ from 0.002 to 80, as published.
    fn default() -> Self {
        Self { sigma_min: 0.002, sigma_max: 80.0 }
    }
}

impl Edm {
    /// The process between two noise levels.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless `0 < sigma_min < sigma_max`, both finite.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, ProcessError> {
        let (sigma_min, sigma_max) = rising_sigmas("EDM", sigma_min, sigma_max)?;
        Ok(Self { sigma_min, sigma_max })
    }
}

impl Process for Edm {
    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }
    fn sigma(&self, t: f64) -> f64 {
        t
    }
    fn alpha_dot(&self, _t: f64) -> f64 {
        0.0
    }
    fn sigma_dot(&self, _t: f64) -> f64 {
        1.0
    }
    fn time_range(&self) -> (f64, f64) {
        (self.sigma_min, self.sigma_max)
    }
    fn network_time(&self, t: f64) -> f64 {
        0.25 * libm::log(t)
    }
    fn lambda(&self, t: f64) -> f64 {
        -libm::log(t)
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        Ok(libm::exp(-lambda).clamp(min, max))
    }
    fn drift(&self, _t: f64) -> f64 {
        0.0
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        2.0 * t
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sigma_min: f64,
    sigma_max: f64,
}

impl TryFrom<Form> for Edm {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new(form.sigma_min, form.sigma_max)
    }
}

impl From<Edm> for Form {
    fn from(edm: Edm) -> Self {
        Self { sigma_min: edm.sigma_min, sigma_max: edm.sigma_max }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn laws(t in 0.01f64..79.0) {
            obeys_the_laws(&Edm::default(), t, 1e-5 * t);
        }
    }

    #[test]
    fn values() {
        let edm = Edm::default();
        assert_eq!((edm.drift(2.0), edm.diffusion_squared(2.0), edm.prior_std()), (0.0, 4.0, 80.0));
        assert_close(edm.network_time(std::f64::consts::E), 0.25, 1e-15, "c_noise");
        let clean = edm.clean();
        assert_eq!((clean.t, clean.level.alpha, clean.level.sigma), (0.0, 1.0, 0.0));
        assert!(clean.level.time.is_finite());
    }

    #[test]
    fn bad_parameters() {
        for (min, max) in [(0.0, 80.0), (-1.0, 80.0), (f64::NAN, 80.0), (0.002, f64::NAN), (80.0, 0.002)] {
            assert!(matches!(Edm::new(min, max), Err(ProcessError::Parameter { .. })), "{min} {max}");
        }
    }

    #[test]
    fn serde() {
        round_trips(&Edm::new(0.3, 500.0).unwrap(), &[("0.3", "0"), ("500.0", "0.1"), ("sigma_max", "sigma_mix")]);
    }
}
