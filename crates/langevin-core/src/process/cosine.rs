//! The squared cosine in continuous time.

use super::error::positive;
use super::{Process, ProcessError};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// Where ᾱ is held, so that neither data nor noise ever vanishes.
const RANGE: (f64, f64) = (1e-4, 0.9999);

/// The variance-preserving process with `ᾱ(t) = cos²(π/2·(t + s)/(1 + s))/cos²(π/2·s/(1 + s))` (Nichol & Dhariwal 2021,
/// eq. 17), in continuous time as Würstchen has it: held between 0.0001 and 0.9999, `α = √ᾱ` and `σ = √(1 − ᾱ)`.
///
/// Time runs in `[0, 1]` and is what the network is told. Near both ends ᾱ stands still.
///
/// ```
/// use langevin_core::{Process, process::Cosine};
/// let process = Cosine::default();
/// let t = process.time_at_lambda(0.0)?;
/// assert!((0.49..0.5).contains(&t)); // a little before half-way
/// assert!((process.sigma(0.0) - 0.01).abs() < 1e-12); // σ² = 0.0001
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Cosine {
    offset: f64,
    scaler: f64,
}

impl Default for Cosine {
    /// s = 0.008, as published.
    fn default() -> Self {
        Self { offset: 0.008, scaler: 1.0 }
    }
}

impl Cosine {
    /// With another offset s.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless `0 <= s`, finite.
    pub fn new(s: f64) -> Result<Self, ProcessError> {
        if !(s >= 0.0 && s.is_finite()) {
            return Err(ProcessError::Parameter {
                process: "the cosine process",
                parameter: "s",
                given: s,
                expected: "a number, 0 or above",
            });
        }
        Ok(Self { offset: s, ..Self::default() })
    }

    /// Runs through the same levels by another clock: `1 − (1 − t)^k` in place of t for a scaler k above 1, `t^k` below.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] unless k is positive and finite.
    pub fn scaler(mut self, scaler: f64) -> Result<Self, ProcessError> {
        self.scaler = positive("the cosine process", "scaler", scaler)?;
        Ok(self)
    }

    /// The clock and its derivative.
    fn clock(&self, t: f64) -> (f64, f64) {
        let k = self.scaler;
        if k > 1.0 {
            (1.0 - libm::pow(1.0 - t, k), k * libm::pow(1.0 - t, k - 1.0))
        } else if k < 1.0 {
            (libm::pow(t, k), k * libm::pow(t, k - 1.0))
        } else {
            (t, 1.0)
        }
    }

    fn angle(&self, u: f64) -> f64 {
        FRAC_PI_2 * (u + self.offset) / (1.0 + self.offset)
    }

    /// ᾱ before it is held.
    fn free(&self, t: f64) -> f64 {
        let ratio = libm::cos(self.angle(self.clock(t).0)) / libm::cos(self.angle(0.0));
        ratio * ratio
    }

    /// ᾱ(t).
    fn alpha_bar(&self, t: f64) -> f64 {
        self.free(t).clamp(RANGE.0, RANGE.1)
    }
}

impl Process for Cosine {
    fn alpha(&self, t: f64) -> f64 {
        self.alpha_bar(t).sqrt()
    }
    fn sigma(&self, t: f64) -> f64 {
        (1.0 - self.alpha_bar(t)).sqrt()
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        let bar = self.free(t);
        if !(RANGE.0 < bar && bar < RANGE.1) {
            return 0.0;
        }
        let (u, slope) = self.clock(t);
        let angle_dot = FRAC_PI_2 * slope / (1.0 + self.offset);
        -libm::sin(self.angle(u)) * angle_dot / libm::cos(self.angle(0.0))
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)
    }
    fn time_range(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
    fn prior_std(&self) -> f64 {
        1.0
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    s: f64,
    scaler: f64,
}

impl TryFrom<Form> for Cosine {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::new(form.s)?.scaler(form.scaler)
    }
}

impl From<Cosine> for Form {
    fn from(process: Cosine) -> Self {
        Self { s: process.offset, scaler: process.scaler }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn laws(t in 0.2f64..0.8, scaler in 0.5f64..1.8, s in 0.001f64..0.05) {
            let process = Cosine::new(s).unwrap().scaler(scaler).unwrap();
            obeys_the_laws(&process, t, 1e-5);
        }
    }

    #[test]
    fn values_are_those_of_the_formula() {
        let process = Cosine::default();
        let bar = |t: f64| {
            let f = |t: f64| (FRAC_PI_2 * (t + 0.008) / 1.008).cos().powi(2);
            f(t) / f(0.0)
        };
        for t in [0.1, 0.25, 0.5, 0.9] {
            assert_close(process.alpha(t).powi(2), bar(t), 1e-13, "ᾱ");
            assert_close(process.scaler_of(2.0).alpha(t).powi(2), bar(1.0 - (1.0 - t) * (1.0 - t)), 1e-12, "scaler 2");
            assert_close(process.scaler_of(0.5).alpha(t).powi(2), bar(t.sqrt()), 1e-12, "scaler 0.5");
        }
        assert_close(process.alpha(0.0).powi(2), 0.9999, 1e-14, "the clean end");
        assert_close(process.alpha(1.0).powi(2), 1e-4, 1e-14, "the noisy end");
        assert_eq!((process.alpha_dot(0.001), process.sigma_dot(0.999)), (0.0, 0.0));
    }

    impl Cosine {
        fn scaler_of(&self, scaler: f64) -> Self {
            self.clone().scaler(scaler).unwrap()
        }
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for s in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(Cosine::new(s), Err(ProcessError::Parameter { parameter: "s", .. })));
        }
        for scaler in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Cosine::default().scaler(scaler).unwrap_err();
            assert!(matches!(error, ProcessError::Parameter { parameter: "scaler", .. }));
        }
        round_trips(&Cosine::default(), &[("0.008", "-1.0"), ("\"scaler\":1.0", "\"scaler\":0.0")]);
    }
}
