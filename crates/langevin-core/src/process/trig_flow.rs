//! TrigFlow.

use super::error::{positive, range_with_lambda};
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// The process that turns data into noise on a circle: `α = cos t`, `σ = σ_d·sin t`, where σ_d is the data's deviation
/// (Lu & Song 2025, "Simplifying, stabilizing and scaling continuous-time consistency models", section 3).
///
/// Time is the angle, in `[0, π/2]`, both ends exact; the deviation of a state is σ_d throughout. It is EDM's process with
/// the noise level `σ_d·tan t`, and [`Prediction::EdmVelocity`](crate::Prediction::EdmVelocity) with the same σ_d is its
/// network's output F, `x̂_0 = cos(t)·x − sin(t)·σ_d·F(x/σ_d, t)`. The network is fed the angle.
///
/// At the noisy end the SDE's drift and diffusion are infinite, and so is λ at both ends: for SDE solvers and grids in λ or
/// σ/α take a smaller [`range`](Self::range), for instance `[0.01, 1.55]`.
///
/// ```
/// use langevin_core::{Process, process::TrigFlow};
/// let flow = TrigFlow::new(0.5)?;
/// let level = flow.level(std::f64::consts::FRAC_PI_4);
/// assert!((level.sigma / level.alpha - 0.5).abs() < 1e-15);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct TrigFlow {
    sigma_data: f64,
    range: (f64, f64),
}

const NAME: &str = "TrigFlow";

impl TrigFlow {
    /// For data of deviation `sigma_data`; 0.5 in the paper.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless it is positive and finite.
    pub fn new(sigma_data: f64) -> Result<Self, ProcessError> {
        Ok(Self { sigma_data: positive(NAME, "sigma_data", sigma_data)?, range: (0.0, FRAC_PI_2) })
    }

    /// Another time range, inside `[0, π/2]`.
    ///
    /// # Errors
    /// [`ProcessError::Range`] unless `0 <= clean < noisy <= π/2`.
    pub fn range(mut self, clean: f64, noisy: f64) -> Result<Self, ProcessError> {
        if !(clean >= 0.0 && clean < noisy && noisy <= FRAC_PI_2) {
            let expected = "0 <= clean end < noisy end <= π/2";
            return Err(ProcessError::Range { process: NAME, min: clean, max: noisy, expected });
        }
        self.range = (clean, noisy);
        Ok(self)
    }
}

impl Process for TrigFlow {
    fn alpha(&self, t: f64) -> f64 {
        // Exactly zero at π/2.
        libm::sin(FRAC_PI_2 - t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.sigma_data * libm::sin(t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -libm::sin(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.sigma_data * self.alpha(t)
    }
    fn time_range(&self) -> (f64, f64) {
        self.range
    }
    fn prior_std(&self) -> f64 {
        self.sigma_data
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        Ok(libm::atan(libm::exp(-lambda) / self.sigma_data).clamp(min, max))
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        2.0 * self.sigma_data * self.sigma(t) / self.alpha(t)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sigma_data: f64,
    range: (f64, f64),
}

impl TryFrom<Form> for TrigFlow {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new(form.sigma_data)?.range(form.range.0, form.range.1)
    }
}

impl From<TrigFlow> for Form {
    fn from(flow: TrigFlow) -> Self {
        Self { sigma_data: flow.sigma_data, range: flow.range }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::{obeys_the_laws, round_trips};
    use super::*;
    use crate::Prediction;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn laws(sigma_data in 0.1f64..3.0, t in 0.02f64..1.5) {
            let flow = TrigFlow::new(sigma_data).unwrap().range(1e-3, 1.569).unwrap();
            obeys_the_laws(&flow, t, 1e-5 * t.min(1.57 - t));
        }

        /// The paper's `cos(t)·x − sin(t)·σ_d·F(x/σ_d)`.
        #[test]
        fn its_networks_are_those_of_edm(sigma_data in 0.1f64..3.0, t in 0.0f64..std::f64::consts::FRAC_PI_2 - 1e-4) {
            let level = TrigFlow::new(sigma_data).unwrap().level(t);
            let p = Prediction::EdmVelocity { sigma_data };
            let x0 = p.x0(&level).unwrap();
            prop_assert!((x0.x - t.cos()).abs() < 1e-14 && (x0.output + sigma_data * t.sin()).abs() < 1e-14);
            prop_assert!((p.input_scale(&level).unwrap() * sigma_data - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let flow = TrigFlow::new(0.5).unwrap();
        assert_eq!((flow.alpha(0.0), flow.sigma(0.0)), (1.0, 0.0));
        assert_eq!((flow.alpha(FRAC_PI_2), flow.sigma(FRAC_PI_2)), (0.0, 0.5));
        assert_eq!((flow.lambda(0.0), flow.lambda(FRAC_PI_2)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!(flow.time_at_lambda(f64::INFINITY).unwrap(), 0.0);
        assert_eq!(flow.time_at_lambda(f64::NEG_INFINITY).unwrap(), FRAC_PI_2);
        assert_eq!(flow.prior_std(), 0.5);
        super::super::validate(&flow).unwrap();
    }

    #[test]
    fn bad_parameters() {
        for given in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(TrigFlow::new(given), Err(ProcessError::Parameter { .. })));
        }
        for (clean, noisy) in [(-0.1, 1.0), (0.5, 0.5), (0.1, 1.58), (f64::NAN, 1.0)] {
            assert!(matches!(TrigFlow::new(0.5).unwrap().range(clean, noisy), Err(ProcessError::Range { .. })));
        }
    }

    #[test]
    fn serde() {
        let flow = TrigFlow::new(0.5).unwrap().range(0.01, 1.5).unwrap();
        round_trips(&flow, &[("0.5,", "0,"), ("0.01", "1.55"), ("sigma_data", "sigma_dat")]);
    }
}
