//! How long a step of the adaptive DPM-Solver may be: the controller and the clock of each sample, in λ.

use crate::sampler::SampleError;

/// Settings of the step size control.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Control {
    pub rtol: f64,
    pub atol: f64,
    pub first_step: f64,
    /// Proportional, integral, derivative.
    pub coefficients: [f64; 3],
    /// Smallest factor of the step size with which a step is accepted.
    pub accept: f64,
    /// Most attempts a sample may make.
    pub limit: usize,
}

/// Keeps the inverse of an error finite.
const SMALLEST_ERROR: f64 = 1e-8;

/// A step that would leave this much of the way goes on to the end. The published loop stops there.
const REST: f64 = 1e-5;

impl Control {
    pub fn new(rtol: f64, atol: f64) -> Self {
        Self { rtol, atol, first_step: 0.05, coefficients: [0.0, 1.0, 0.0], accept: 0.81, limit: 10_000 }
    }

    /// All numbers, for fingerprints.
    pub fn numbers(&self) -> [f64; 8] {
        let [p, i, d] = self.coefficients;
        [self.rtol, self.atol, self.first_step, p, i, d, self.accept, self.limit as f64]
    }

    /// Exponents of the inverse errors of this attempt and of the last two accepted ones, for a method whose local error
    /// has this order.
    fn exponents(&self, order: f64) -> [f64; 3] {
        let [p, i, d] = self.coefficients;
        [(p + i + d) / order, -(p + 2.0 * d) / order, d / order]
    }
}

/// The clock of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clock {
    pub lambda: f64,
    /// Next step size, with the sign of the direction.
    h: f64,
    /// Inverse errors of the last two accepted steps, newest first; 0 before the first attempt.
    inverse: [f64; 2],
    attempts: usize,
    /// Accepted steps.
    pub accepted: usize,
}

impl Clock {
    /// How many numbers a saved clock takes.
    pub const NUMBERS: usize = 6;

    pub fn new(lambda: f64, h: f64) -> Self {
        Self { lambda, h, inverse: [0.0; 2], attempts: 0, accepted: 0 }
    }

    pub fn save(&self) -> [f64; Self::NUMBERS] {
        let [first, second] = self.inverse;
        [self.lambda, self.h, first, second, self.attempts as f64, self.accepted as f64]
    }

    pub fn restore(numbers: &[f64]) -> Option<Self> {
        let &[lambda, h, first, second, attempts, accepted] = numbers else { return None };
        let (attempts, accepted) = (attempts as usize, accepted as usize);
        Some(Self { lambda, h, inverse: [first, second], attempts, accepted })
    }

    /// Where the next attempt ends: exactly `end` for the last one, and where it stands for a sample that has arrived.
    ///
    /// # Errors
    /// [`SampleError::StepSize`] if λ cannot resolve the step any more, [`SampleError::TooManySteps`].
    pub fn target(&self, control: &Control, end: f64, sample: u64) -> Result<f64, SampleError> {
        if self.lambda == end {
            return Ok(end);
        }
        if self.attempts >= control.limit {
            return Err(SampleError::TooManySteps { limit: control.limit });
        }
        // Also for a step size that is not a number.
        if !(self.h.abs() > 4.0 * f64::EPSILON * self.lambda.abs().max(1.0)) {
            return Err(SampleError::StepSize { step: self.h, t: self.lambda, sample });
        }
        let left = (end - self.lambda) * self.h.signum();
        Ok(if self.h.abs() > left - REST { end } else { self.lambda + self.h })
    }

    /// Accepts or rejects an attempt to reach λ = `to` from its error in units of the tolerance, and chooses the next step
    /// size.
    pub fn judge(&mut self, control: &Control, order: f64, to: f64, error: f64) -> bool {
        self.attempts += 1;
        // An error that is not a number takes the smallest factor.
        let inverse = if error.is_nan() { 0.0 } else { 1.0 / (error + SMALLEST_ERROR) };
        if self.inverse[0] == 0.0 {
            self.inverse = [inverse; 2];
        }
        let exponents = control.exponents(order);
        let all = [inverse, self.inverse[0], self.inverse[1]];
        let factor: f64 = all.iter().zip(exponents).map(|(value, power)| libm::pow(*value, power)).product();
        let factor = if factor.is_nan() { 0.0 } else { factor };
        let factor = 1.0 + libm::atan(factor - 1.0);
        let accepted = !error.is_nan() && factor >= control.accept;
        if accepted {
            self.inverse = [inverse, self.inverse[0]];
            self.lambda = to;
            self.accepted += 1;
        }
        self.h *= factor;
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        Control::new(0.05, 0.0078)
    }

    #[test]
    fn steps_follow_the_published_formula() {
        let mut clock = Clock::new(-2.0, 0.1);
        // f = (1/error)^(1/3), and the factor 1 + atan(f − 1).
        assert!(clock.judge(&control(), 3.0, -1.9, 0.125));
        assert!((clock.h - 0.1 * (1.0 + 1f64.atan())).abs() < 1e-7, "{}", clock.h);
        assert_eq!((clock.lambda, clock.accepted), (-1.9, 1));
        let before = clock.h;
        assert!(!clock.judge(&control(), 3.0, -1.7, 8.0));
        assert!((clock.h - before * (1.0 + (-0.5f64).atan())).abs() < 1e-7);
        assert_eq!((clock.lambda, clock.accepted, clock.attempts), (-1.9, 1, 2));
    }

    #[test]
    fn three_errors_enter_by_their_coefficients() {
        let control = Control { coefficients: [0.2, 0.7, 0.1], ..control() };
        let mut clock = Clock::new(0.0, 0.1);
        for error in [0.5, 0.25, 0.8] {
            clock.judge(&control, 2.0, clock.lambda + clock.h, error);
        }
        // Accepted: 0.5, 0.25; now 0.8. The exponents are 1.0/2, −0.4/2, 0.1/2.
        let f = (1.0f64 / 0.8).powf(0.5) * 4f64.powf(-0.2) * 2f64.powf(0.05);
        let factors =
            [1.0 / 0.5f64.powf(0.5) * 2f64.powf(-0.2) * 2f64.powf(0.05), 4f64.powf(0.5) * 2f64.powf(-0.15), f];
        let h = factors.iter().fold(0.1, |h, f| h * (1.0 + (f - 1.0).atan()));
        assert!((clock.h / h - 1.0).abs() < 1e-7, "{} and {h}", clock.h);
    }

    #[test]
    fn errors_that_are_no_numbers_are_rejected() {
        for error in [f64::NAN, f64::INFINITY] {
            let mut clock = Clock::new(1.0, -0.1);
            assert!(!clock.judge(&control(), 3.0, 0.9, error));
            assert!((clock.h + 0.1 * (1.0 - 1f64.atan())).abs() < 1e-3, "{}", clock.h);
            // And a good attempt after them is taken.
            assert!(clock.judge(&control(), 3.0, 0.95, 0.1) && clock.h.is_finite());
        }
    }

    #[test]
    fn the_last_step_lands_on_the_end() {
        let clock = Clock::new(0.7, 0.4);
        assert_eq!(clock.target(&control(), 1.0, 0), Ok(1.0));
        assert_eq!(clock.target(&control(), 1.1 + 1e-6, 0), Ok(1.1 + 1e-6));
        assert_eq!(clock.target(&control(), 2.0, 0), Ok(0.7 + 0.4));
        assert_eq!(Clock::new(1.0, f64::NAN).target(&control(), 1.0, 0), Ok(1.0));
        assert_eq!(Clock::new(0.3, -0.4).target(&control(), 0.0, 0), Ok(0.0));
    }

    #[test]
    fn steps_that_lead_nowhere_are_errors() {
        for h in [1e-17, 0.0, f64::NAN] {
            let error = Clock::new(0.5, h).target(&control(), 1.0, 3);
            assert!(matches!(error, Err(SampleError::StepSize { sample: 3, .. })), "{h}: {error:?}");
        }
        let tired = Clock { attempts: 10_000, ..Clock::new(0.5, 0.1) };
        assert_eq!(tired.target(&control(), 1.0, 0), Err(SampleError::TooManySteps { limit: 10_000 }));
    }

    #[test]
    fn clocks_survive_saving() {
        let mut clock = Clock::new(-0.5, 0.1);
        clock.judge(&control(), 3.0, -0.4, 0.3);
        assert_eq!(Clock::restore(&clock.save()), Some(clock));
        assert_eq!(Clock::restore(&[0.0]), None);
    }
}
