//! Errors of processes, and the inverse of λ by bisection.

use super::Process;

/// A process that cannot be, or a question it cannot answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProcessError {
    /// A parameter is out of range.
    #[error("{parameter} of {process} is {given}, expected {expected}")]
    Parameter {
        /// Which process.
        process: &'static str,
        /// Which parameter.
        parameter: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A chain without steps.
    #[error("a chain needs at least {needed} training steps, got {given}")]
    TooFewSteps {
        /// Steps given.
        given: usize,
        /// Steps needed.
        needed: usize,
    },
    /// A beta that is not a probability-like number.
    #[error("beta at step {step} is {given}, expected a number in (0, 1)")]
    Beta {
        /// The step.
        step: usize,
        /// The value there.
        given: f64,
    },
    /// No time has this λ.
    #[error("no time in [{min}, {max}] has half-log-SNR {lambda}; the process covers [{lambda_min}, {lambda_max}]")]
    LambdaOutOfRange {
        /// The λ asked for.
        lambda: f64,
        /// λ at the noisy end.
        lambda_min: f64,
        /// λ at the clean end.
        lambda_max: f64,
        /// Clean end of the time range.
        min: f64,
        /// Noisy end of the time range.
        max: f64,
    },
    /// Interpolating between the steps of a chain in a variable that is infinite at its last step.
    #[error(
        "a chain with zero terminal SNR cannot be interpolated in {interpolation}: it is infinite at the last step; use the angle"
    )]
    Interpolation {
        /// The interpolation asked for.
        interpolation: &'static str,
    },
}

/// Solves λ(t) = `lambda` by bisection to the last bit.
pub(super) fn bisect_lambda<P: Process + ?Sized>(process: &P, lambda: f64) -> Result<f64, ProcessError> {
    let (min, max) = process.time_range();
    let (lambda_max, lambda_min) = (process.lambda(min), process.lambda(max));
    if !(lambda >= lambda_min && lambda <= lambda_max) {
        return Err(ProcessError::LambdaOutOfRange { lambda, lambda_min, lambda_max, min, max });
    }
    let (mut clean, mut noisy) = (min, max);
    loop {
        let middle = 0.5 * (clean + noisy);
        if !(middle > clean && middle < noisy) {
            return Ok(middle);
        }
        if process.lambda(middle) > lambda {
            clean = middle;
        } else {
            noisy = middle;
        }
    }
}
