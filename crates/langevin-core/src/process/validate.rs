//! A check of processes that users write.

use super::{Process, ProcessError};

/// Points of the range that [`validate`] looks at.
const PROBES: usize = 64;

/// Probes a process: its range, signs, NaN anywhere, and that its half-log-SNR falls.
///
/// Grids call it before they use a process.
///
/// # Errors
/// [`ProcessError::Range`], [`ProcessError::Value`] or [`ProcessError::NotFalling`], naming time and value.
///
/// ```
/// use langevin_core::process::{VpSde, validate};
/// validate(&VpSde::default())?;
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
pub fn validate(process: &dyn Process) -> Result<(), ProcessError> {
    if process.chain().is_some() {
        // A chain checks every step when it is made.
        return Ok(());
    }
    let (min, max) = process.time_range();
    if !(min < max && min.is_finite() && max.is_finite()) {
        return Err(ProcessError::Range { process: "the process", min, max, expected: "two finite times, rising" });
    }
    let prior = process.prior_std();
    if !(prior > 0.0 && prior.is_finite()) {
        let expected = "a positive finite number";
        return Err(ProcessError::Value { quantity: "prior_std", t: max, value: prior, expected });
    }
    let mut before: Option<(f64, f64)> = None;
    for i in 0..=PROBES {
        let t = if i == PROBES { max } else { min + (max - min) * i as f64 / PROBES as f64 };
        let lambda = probe(process, t)?;
        if let Some((from, before)) = before {
            if !(lambda < before) {
                return Err(ProcessError::NotFalling { from, before, to: t, after: lambda });
            }
        }
        before = Some((t, lambda));
    }
    Ok(())
}

/// Checks one time; returns λ there.
fn probe(process: &dyn Process, t: f64) -> Result<f64, ProcessError> {
    for (quantity, value) in [("alpha", process.alpha(t)), ("sigma", process.sigma(t))] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(ProcessError::Value { quantity, t, value, expected: "a finite number, 0 or above" });
        }
    }
    // Derivatives may be infinite at the ends (σ of VP at 0), but never NaN.
    let lambda = process.lambda(t);
    for (quantity, value) in
        [("alpha_dot", process.alpha_dot(t)), ("sigma_dot", process.sigma_dot(t)), ("lambda", lambda)]
    {
        if value.is_nan() {
            return Err(ProcessError::Value { quantity, t, value, expected: "a number" });
        }
    }
    let value = process.network_time(t);
    if !value.is_finite() {
        return Err(ProcessError::Value { quantity: "network_time", t, value, expected: "a finite number" });
    }
    Ok(lambda)
}
