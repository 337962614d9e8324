//! How long a step may be: the controller and the clock of each sample.

use crate::sampler::SampleError;

/// Settings of the step size control.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    pub rtol: f64,
    pub atol: f64,
    /// Share of the step size that the error estimate would allow.
    pub safety: f64,
    /// Smallest factor from one step size to the next.
    pub shrink: f64,
    /// Largest factor.
    pub grow: f64,
    /// Exponent of the error: one over the order of the error estimate, or what a method takes for it.
    pub exponent: f64,
    /// Exponent of the last error: the integral part of the controller acts with `exponent − ¾·beta`.
    pub beta: f64,
    /// The first step size; chosen from the problem if `None`.
    pub first_step: Option<f64>,
    /// Largest step size, infinity if there is none.
    pub max_step: f64,
    /// Most attempts a sample may make.
    pub limit: usize,
}

/// Errors below this do not slow the next step down.
const ERROR_FLOOR: f64 = 1e-4;

impl Control {
    pub fn new(rtol: f64, atol: f64) -> Self {
        Self {
            rtol,
            atol,
            safety: 0.9,
            shrink: 0.2,
            grow: 10.0,
            exponent: 0.2,
            beta: 0.04,
            first_step: None,
            max_step: f64::INFINITY,
            limit: 10_000,
        }
    }

    /// All numbers but the exponent, for fingerprints.
    pub fn numbers(&self) -> [f64; 9] {
        let first = self.first_step.unwrap_or(0.0);
        [self.rtol, self.atol, self.safety, self.shrink, self.grow, self.beta, first, self.max_step, self.limit as f64]
    }

    /// The explicit first guess of Hairer, Nørsett & Wanner (II.4): a hundredth of the time in which the state changes
    /// by its own size, from the norms of state and slope.
    pub fn first_guess(&self, of_x: f64, of_slope: f64, span: f64) -> f64 {
        let guess = if of_x < 1e-5 || of_slope < 1e-5 { 1e-6 } else { 0.01 * (of_x / of_slope) };
        guess.min(span).min(self.max_step)
    }

    /// The first step size, from the guess and the norm of the second derivative.
    pub fn first_step(&self, guess: f64, of_slope: f64, of_change: f64, span: f64) -> f64 {
        let steepest = of_slope.max(of_change);
        let second = if steepest <= 1e-15 { (guess * 1e-3).max(1e-6) } else { libm::pow(0.01 / steepest, 0.2) };
        (100.0 * guess).min(second).min(span).min(self.max_step)
    }
}

/// The clock of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clock {
    pub t: f64,
    /// Next step size, with the sign of the direction.
    pub h: f64,
    /// Error of the last accepted step, for the proportional part of the controller.
    last_error: f64,
    /// Whether the last attempt was rejected.
    rejected: bool,
    attempts: usize,
}

/// A step that is about to be tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    pub h: f64,
    /// Where it ends; exactly the end of the run for the last step.
    pub to: f64,
}

impl Clock {
    /// How many numbers a saved clock takes.
    pub const NUMBERS: usize = 5;

    pub fn new(t: f64, h: f64) -> Self {
        Self { t, h, last_error: ERROR_FLOOR, rejected: false, attempts: 0 }
    }

    pub fn save(&self) -> [f64; Self::NUMBERS] {
        [self.t, self.h, self.last_error, f64::from(u8::from(self.rejected)), self.attempts as f64]
    }

    pub fn restore(numbers: &[f64]) -> Option<Self> {
        let &[t, h, last_error, rejected, attempts] = numbers else { return None };
        Some(Self { t, h, last_error, rejected: rejected != 0.0, attempts: attempts as usize })
    }

    /// The step to try next; of length 0 for a sample that has arrived.
    ///
    /// # Errors
    /// [`SampleError::StepSize`] if time cannot resolve the step any more, [`SampleError::TooManySteps`].
    pub fn trial(&self, control: &Control, end: f64, sample: u64) -> Result<Trial, SampleError> {
        let left = end - self.t;
        if left == 0.0 {
            return Ok(Trial { h: 0.0, to: end });
        }
        if self.attempts >= control.limit {
            return Err(SampleError::TooManySteps { limit: control.limit });
        }
        // A last step of up to 1 % more than planned avoids a tiny one after it.
        if 1.01 * self.h.abs() >= left.abs() {
            return Ok(Trial { h: left, to: end });
        }
        if !(self.h.abs() > 4.0 * f64::EPSILON * self.t.abs()) {
            return Err(SampleError::StepSize { step: self.h, t: self.t, sample });
        }
        Ok(Trial { h: self.h, to: self.t + self.h })
    }

    /// Accepts or rejects a trial from its error in units of the tolerance, and chooses the next step size
    /// (PI control: Gustafsson 1991; Hairer & Wanner, *Solving ODEs II*, IV.2).
    pub fn judge(&mut self, control: &Control, trial: Trial, error: f64) -> bool {
        self.attempts += 1;
        let integral = libm::pow(error, control.exponent - 0.75 * control.beta) / control.safety;
        let accepted = error <= 1.0;
        if accepted {
            let slower = integral / libm::pow(self.last_error, control.beta);
            let factor = 1.0 / slower.clamp(1.0 / control.grow, 1.0 / control.shrink);
            let factor = if self.rejected { factor.min(1.0) } else { factor };
            let size = (trial.h.abs() * factor).min(control.max_step);
            *self = Self { t: trial.to, h: size.copysign(trial.h), last_error: error.max(ERROR_FLOOR), ..*self };
        } else {
            // An error that is not a number takes the smallest factor.
            self.h = trial.h / integral.min(1.0 / control.shrink);
        }
        self.rejected = !accepted;
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        Control::new(1e-6, 1e-6)
    }

    #[test]
    fn error_at_the_tolerance_shrinks_by_the_safety_factor() {
        let mut clock = Clock { last_error: 1.0, ..Clock::new(0.0, 0.1) };
        assert!(clock.judge(&control(), Trial { h: 0.1, to: 0.1 }, 1.0));
        assert!((clock.h - 0.09).abs() < 1e-15);
        assert_eq!(clock.t, 0.1);
    }

    #[test]
    fn factors_are_bounded_both_ways() {
        let mut clock = Clock::new(1.0, -0.1);
        assert!(clock.judge(&control(), Trial { h: -0.1, to: 0.9 }, 0.0));
        assert!((clock.h + 1.0).abs() < 1e-12);
        for error in [1e9, f64::INFINITY, f64::NAN] {
            let mut clock = Clock::new(1.0, -0.1);
            assert!(!clock.judge(&control(), Trial { h: -0.1, to: 0.9 }, error));
            assert!((clock.h + 0.02).abs() < 1e-12, "{error}: {}", clock.h);
            assert_eq!(clock.t, 1.0);
            // Right after a rejection the step does not grow, however small the error.
            assert!(clock.judge(&control(), Trial { h: -0.02, to: 0.98 }, 0.0));
            assert!((clock.h + 0.02).abs() < 1e-12);
        }
    }

    #[test]
    fn integral_exponent_is_a_fifth_without_the_proportional_part() {
        let control = Control { beta: 0.0, ..control() };
        let mut clock = Clock::new(0.0, 1.0);
        assert!(!clock.judge(&control, Trial { h: 1.0, to: 1.0 }, 32.0));
        assert!((clock.h - 0.45).abs() < 1e-14);
    }

    #[test]
    fn last_step_lands_on_the_end() {
        let clock = Clock::new(0.7, 0.299);
        assert_eq!(clock.trial(&control(), 1.0, 0), Ok(Trial { h: 1.0 - 0.7, to: 1.0 }));
        assert_eq!(Clock::new(1.0, 0.3).trial(&control(), 1.0, 0), Ok(Trial { h: 0.0, to: 1.0 }));
    }

    #[test]
    fn steps_that_time_cannot_resolve_are_errors() {
        for step in [1e-17, 0.0, f64::NAN] {
            let error = Clock::new(0.5, step).trial(&control(), 1.0, 3);
            assert!(matches!(error, Err(SampleError::StepSize { t: 0.5, sample: 3, .. })), "{step}: {error:?}");
        }
    }

    #[test]
    fn clocks_survive_saving() {
        let mut clock = Clock::new(0.5, -0.1);
        clock.judge(&control(), Trial { h: -0.1, to: 0.4 }, 3.0);
        assert_eq!(Clock::restore(&clock.save()), Some(clock));
        assert_eq!(Clock::restore(&[0.0]), None);
    }
}
