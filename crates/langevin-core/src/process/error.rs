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
    /// A chain given as a list whose length is not its number of steps.
    #[error("{given} betas were given for a chain of {steps} steps: give one for each step")]
    CustomLength {
        /// Betas given.
        given: usize,
        /// Steps of the chain.
        steps: usize,
    },
    /// Two neighboring steps of a chain have the same level.
    #[error(
        "step {step} of the chain is no noisier than step {} in {arithmetic} arithmetic: its beta {beta} is too small, or \
         no signal is left before it",
        step - 1
    )]
    NotNoisier {
        /// The step.
        step: usize,
        /// Its beta.
        beta: f64,
        /// The arithmetic of the chain, in words.
        arithmetic: &'static str,
    },
    /// A time range that is none.
    #[error("the time range of {process} is [{min}, {max}], expected {expected}")]
    Range {
        /// Which process.
        process: &'static str,
        /// Clean end.
        min: f64,
        /// Noisy end.
        max: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A function of a process is NaN, infinite or negative somewhere.
    #[error("{quantity} of the process is {value} at t = {t}, expected {expected}")]
    Value {
        /// Which function: "alpha", "sigma", …
        quantity: &'static str,
        /// The time.
        t: f64,
        /// Its value there.
        value: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A derivative of a process is not that of its function.
    #[error(
        "{quantity} of the process is {given} at t = {t}, but differences of {} give {expected} there: derive it anew, and \
         look for a dropped factor, such as that of an inner function",
        quantity.trim_end_matches("_dot")
    )]
    Derivative {
        /// Which derivative: "alpha_dot" or "sigma_dot".
        quantity: &'static str,
        /// The time.
        t: f64,
        /// Its value there.
        given: f64,
        /// What differences of the function give.
        expected: f64,
    },
    /// The half-log-SNR of a process does not fall with time.
    #[error(
        "the half-log-SNR of the process does not fall: it is {before} at t = {from} and {after} at t = {to}; time must run \
         from data to noise"
    )]
    NotFalling {
        /// An earlier, cleaner time.
        from: f64,
        /// λ there.
        before: f64,
        /// A later time.
        to: f64,
        /// λ there.
        after: f64,
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

/// The time range of `process`, if it contains `lambda`.
pub(super) fn range_with_lambda<P: Process + ?Sized>(process: &P, lambda: f64) -> Result<(f64, f64), ProcessError> {
    let (min, max) = process.time_range();
    let (lambda_max, lambda_min) = (process.lambda(min), process.lambda(max));
    if lambda >= lambda_min && lambda <= lambda_max {
        Ok((min, max))
    } else {
        Err(ProcessError::LambdaOutOfRange { lambda, lambda_min, lambda_max, min, max })
    }
}

/// Solves λ(t) = `lambda` by bisection to the last bit.
pub(super) fn bisect_lambda<P: Process + ?Sized>(process: &P, lambda: f64) -> Result<f64, ProcessError> {
    let (mut clean, mut noisy) = range_with_lambda(process, lambda)?;
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

/// Checks that a parameter is a positive finite number.
pub(super) fn positive(process: &'static str, parameter: &'static str, given: f64) -> Result<f64, ProcessError> {
    if given > 0.0 && given.is_finite() {
        Ok(given)
    } else {
        Err(ProcessError::Parameter { process, parameter, given, expected: "a positive finite number" })
    }
}

/// Checks a time range inside `[0, 1]`; with `open`, 0 itself is not allowed.
pub(super) fn unit_range(process: &'static str, min: f64, max: f64, open: bool) -> Result<(f64, f64), ProcessError> {
    let from = if open { min > 0.0 } else { min >= 0.0 };
    if from && min < max && max <= 1.0 {
        return Ok((min, max));
    }
    let expected = if open { "0 < clean end < noisy end <= 1" } else { "0 <= clean end < noisy end <= 1" };
    Err(ProcessError::Range { process, min, max, expected })
}
