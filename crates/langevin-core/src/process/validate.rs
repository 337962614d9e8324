//! A check of processes that users write.

use super::{Process, ProcessError};

/// Points of the range that [`validate`] looks at.
const PROBES: usize = 64;

/// Times inside the range at which derivatives are compared with differences.
const SLOPES: usize = 12;

/// Relative difference between a derivative and a difference that is a disagreement.
const TOLERANCE: f64 = 1e-3;

/// Probes a process: its range, signs, NaN anywhere, that its half-log-SNR falls, and that its derivatives are those of α
/// and σ. Where a schedule is held fast the half-log-SNR may stand still, but not from one end to the other.
///
/// Grids call it before they use a process. Derivatives are compared with central differences at twelve times, and must be
/// off by more than a thousandth at most of them to be refused: kinks are allowed.
///
/// # Errors
/// [`ProcessError::Range`], [`ProcessError::Value`], [`ProcessError::NotFalling`] or [`ProcessError::Derivative`], naming
/// time and value.
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
    let mut first = None;
    for i in 0..=PROBES {
        let t = if i == PROBES { max } else { min + (max - min) * i as f64 / PROBES as f64 };
        let lambda = probe(process, t)?;
        if let Some((from, before)) = before
            && lambda > before
        {
            return Err(ProcessError::NotFalling { from, before, to: t, after: lambda });
        }
        before = Some((t, lambda));
        first.get_or_insert((t, lambda));
    }
    if let (Some((from, before)), Some((to, after))) = (first, before)
        && !(after < before)
    {
        return Err(ProcessError::NotFalling { from, before, to, after });
    }
    slopes("alpha_dot", (min, max), |t| process.alpha(t), |t| process.alpha_dot(t))?;
    slopes("sigma_dot", (min, max), |t| process.sigma(t), |t| process.sigma_dot(t))
}

/// Compares a derivative with central differences.
fn slopes(
    quantity: &'static str,
    (min, max): (f64, f64),
    value: impl Fn(f64) -> f64,
    slope: impl Fn(f64) -> f64,
) -> Result<(), ProcessError> {
    let h = 1e-4 * (max - min);
    let disagrees = |i: usize| {
        let t = min + (max - min) * (i as f64 + 0.5) / SLOPES as f64;
        let (given, here) = (slope(t), value(t));
        let expected = (value(t + h) - value(t - h)) / (2.0 * h);
        // Slopes that would not change the value by a millionth over the whole range are not looked at.
        let slack = 1e-6 * here.abs() / (max - min) + TOLERANCE * expected.abs();
        let agrees = (given - expected).abs() <= slack;
        (!agrees).then_some(ProcessError::Derivative { quantity, t, given, expected })
    };
    let mut wrong: Vec<ProcessError> = (0..SLOPES).filter_map(disagrees).collect();
    if 2 * wrong.len() > SLOPES { Err(wrong.swap_remove(0)) } else { Ok(()) }
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

    /// α = 1 − 0.9·t and σ = t, with derivatives times a factor each, and a kink in σ on request.
    #[derive(Debug)]
    struct Sloped {
        alpha: f64,
        sigma: f64,
        kink: f64,
    }
    impl Process for Sloped {
        fn alpha(&self, t: f64) -> f64 {
            1.0 - 0.9 * t
        }
        fn sigma(&self, t: f64) -> f64 {
            t + self.kink * (t - 0.5).max(0.0)
        }
        fn alpha_dot(&self, _t: f64) -> f64 {
            -0.9 * self.alpha
        }
        fn sigma_dot(&self, t: f64) -> f64 {
            self.sigma * (1.0 + if t > 0.5 { self.kink } else { 0.0 })
        }
        fn time_range(&self) -> (f64, f64) {
            (0.0, 1.0)
        }
    }

    #[test]
    fn derivatives_that_are_off_are_named() {
        let sloped = |alpha, sigma| Sloped { alpha, sigma, kink: 0.0 };
        validate(&sloped(1.0, 1.0)).unwrap();
        validate(&sloped(1.0005, 0.9995)).unwrap();
        for off in [1.1, 0.9, 1.002, -1.0, 0.0, f64::INFINITY] {
            let error = validate(&sloped(off, 1.0)).unwrap_err();
            let ProcessError::Derivative { quantity: "alpha_dot", t, given, expected } = error else {
                panic!("{error:?}")
            };
            assert!((0.0..1.0).contains(&t) && given == -0.9 * off && (expected + 0.9).abs() < 1e-9);
            assert!(matches!(validate(&sloped(1.0, off)), Err(ProcessError::Derivative { quantity: "sigma_dot", .. })));
        }
        let text = validate(&sloped(1.1, 1.0)).unwrap_err().to_string();
        for part in ["alpha_dot of the process is -0.99", "at t = 0.041", "-0.9", "dropped factor"] {
            assert!(text.contains(part), "{text}");
        }
    }

    /// A schedule may be held fast in places, but something has to happen in between.
    #[test]
    fn a_process_that_never_moves_is_refused() {
        #[derive(Debug)]
        struct Held(f64);
        impl Process for Held {
            fn alpha(&self, _t: f64) -> f64 {
                1.0
            }
            fn sigma(&self, t: f64) -> f64 {
                t.clamp(0.3, self.0)
            }
            fn alpha_dot(&self, _t: f64) -> f64 {
                0.0
            }
            fn sigma_dot(&self, t: f64) -> f64 {
                if (0.3..self.0).contains(&t) { 1.0 } else { 0.0 }
            }
            fn time_range(&self) -> (f64, f64) {
                (0.0, 1.0)
            }
        }
        validate(&Held(0.7)).unwrap();
        assert!(matches!(validate(&Held(0.3)), Err(ProcessError::NotFalling { from: 0.0, to: 1.0, .. })));
    }

    #[test]
    fn kinks_and_jumps_in_a_slope_are_allowed() {
        validate(&Sloped { alpha: 1.0, sigma: 1.0, kink: 3.0 }).unwrap();
        // α and σ along straight lines between the steps of a table, whose slope at a step is that of one side.
        #[derive(Debug)]
        struct Table(Vec<f64>);
        impl Process for Table {
            fn alpha(&self, _t: f64) -> f64 {
                1.0
            }
            fn sigma(&self, t: f64) -> f64 {
                let i = (t as usize).min(self.0.len() - 2);
                self.0[i] + (t - i as f64) * (self.0[i + 1] - self.0[i])
            }
            fn alpha_dot(&self, _t: f64) -> f64 {
                0.0
            }
            fn sigma_dot(&self, t: f64) -> f64 {
                let i = (t as usize).min(self.0.len() - 2);
                self.0[i + 1] - self.0[i]
            }
            fn time_range(&self) -> (f64, f64) {
                (0.0, (self.0.len() - 1) as f64)
            }
        }
        for steps in [2, 5, 13, 100, 1000] {
            validate(&Table((0..steps).map(|i| (1.0 + f64::from(i)).powi(2)).collect())).unwrap();
        }
    }

    #[test]
    fn every_process_of_the_library_passes() {
        use super::super::{Cosine, Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
        let processes: Vec<Box<dyn Process>> = vec![
            Box::new(VpSde::default()),
            Box::new(VpSde::new(0.001, 500.0).unwrap().range(1e-5, 1.0).unwrap()),
            Box::new(SubVpSde::default()),
            Box::new(VeSde::default()),
            Box::new(VeSde::new(0.01, 1348.0).unwrap()),
            Box::new(VeSde::new(1e-6, 1e6).unwrap()),
            Box::new(Edm::default()),
            Box::new(Edm::new(1e-5, 1e5).unwrap()),
            Box::new(RectifiedFlow::new()),
            Box::new(Cosine::default()),
            Box::new(Cosine::default().scaler(2.0).unwrap()),
            Box::new(Cosine::default().scaler(0.5).unwrap()),
            Box::new(RectifiedFlow::new().shift(12.0).unwrap()),
            Box::new(RectifiedFlow::new().shift(0.05).unwrap().range(1e-4, 0.9999).unwrap()),
        ];
        for process in &processes {
            validate(process).unwrap_or_else(|error| panic!("{process:?}: {error}"));
        }
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
