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
        if let Some((from, before)) = before
            && lambda >= before
        {
            return Err(ProcessError::NotFalling { from, before, to: t, after: lambda });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// σ² = t with one thing broken.
    #[derive(Debug)]
    struct Broken(&'static str);
    impl Broken {
        fn or(&self, part: &str, t: f64, broken: f64, sound: f64) -> f64 {
            if self.0 == part && t > 0.4 { broken } else { sound }
        }
    }
    impl Process for Broken {
        fn alpha(&self, t: f64) -> f64 {
            self.or("alpha", t, f64::NAN, 1.0)
        }
        fn sigma(&self, t: f64) -> f64 {
            self.or("sigma", t, -1.0, self.or("order", t, 0.5 / t, t.sqrt()))
        }
        fn alpha_dot(&self, t: f64) -> f64 {
            self.or("alpha_dot", t, f64::NAN, 0.0)
        }
        fn sigma_dot(&self, t: f64) -> f64 {
            self.or("sigma_dot", t, f64::NAN, 0.5 / t.sqrt())
        }
        fn time_range(&self) -> (f64, f64) {
            if self.0 == "range" { (1.0, 0.0) } else { (0.0, 1.0) }
        }
        fn network_time(&self, t: f64) -> f64 {
            self.or("network_time", t, f64::INFINITY, t)
        }
        fn prior_std(&self) -> f64 {
            if self.0 == "prior_std" { f64::NAN } else { 1.0 }
        }
    }

    #[test]
    fn a_sound_process_passes() {
        // σ̇ is infinite at 0 and λ too: allowed.
        validate(&Broken("nothing")).unwrap();
    }

    #[test]
    fn what_is_broken_is_named() {
        for part in ["alpha", "sigma", "alpha_dot", "sigma_dot", "network_time", "prior_std"] {
            match validate(&Broken(part)) {
                Err(ProcessError::Value { quantity, t, value, .. }) => {
                    assert_eq!(quantity, part);
                    assert!(t > 0.4 && !(value >= 0.0 && value.is_finite()), "{part}: {value} at {t}");
                }
                other => panic!("{part}: {other:?}"),
            }
        }
        assert!(matches!(validate(&Broken("range")), Err(ProcessError::Range { .. })));
        assert!(matches!(validate(&Broken("order")), Err(ProcessError::NotFalling { .. })));
    }

    #[test]
    fn pointers_are_processes() {
        fn lambda<P: Process>(process: P) -> f64 {
            process.lambda(0.25)
        }
        let edm = || super::super::Edm::default();
        let boxed: Box<dyn Process> = Box::new(edm());
        let shared: std::sync::Arc<dyn Process> = std::sync::Arc::new(edm());
        let borrowed: &dyn Process = &edm();
        let expected = 4.0f64.ln();
        for value in [lambda(borrowed), lambda(boxed), lambda(shared)] {
            assert!((value - expected).abs() < 1e-15);
        }
        let chain = super::super::DiscreteChain::new(super::super::Betas::DDPM, 10).unwrap();
        let pointer: &dyn Process = &chain;
        assert_eq!((pointer.chain().map(|c| c.steps()), pointer.clean().t), (Some(10), -1.0));
    }
}
