//! Laws that every process obeys, for the tests of each.

use super::{Process, validate};

/// Relative difference, absolute below 1.
pub(super) fn close(given: f64, expected: f64, tolerance: f64) -> bool {
    (given - expected).abs() <= tolerance * expected.abs().max(1.0)
}

pub(super) fn assert_close(given: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (given - expected).abs() <= tolerance * expected.abs(),
        "{what}: {given:e} is not {expected:e} within {tolerance:e}"
    );
}

/// Checks derivatives by central differences, SDE coefficients and λ by their definitions, the inverse of λ, and that
/// transitions compose, at an inner time `t`.
pub(super) fn obeys_the_laws(process: &dyn Process, t: f64, step: f64) {
    validate(process).unwrap();
    let (a, s) = (process.alpha(t), process.sigma(t));
    let (a_dot, s_dot) = (process.alpha_dot(t), process.sigma_dot(t));
    let slope = |f: &dyn Fn(f64) -> f64| (f(t + step) - f(t - step)) / (2.0 * step);
    let scale = (a / step).abs() * 1e-15 + 1e-6 * a_dot.abs();
    assert!((slope(&|t| process.alpha(t)) - a_dot).abs() <= scale, "{process:?}: alpha_dot at {t}");
    let scale = (s / step).abs() * 1e-15 + 1e-6 * s_dot.abs();
    assert!((slope(&|t| process.sigma(t)) - s_dot).abs() <= scale, "{process:?}: sigma_dot at {t}");

    let f = a_dot / a;
    assert!(close(process.drift(t), f, 1e-10), "{process:?}: drift at {t}");
    let g2 = 2.0 * s * (s_dot - f * s);
    assert!(close(process.diffusion_squared(t), g2, 1e-9), "{process:?}: diffusion at {t}");

    let lambda = process.lambda(t);
    assert!(close(lambda, (a / s).ln(), 1e-11), "{process:?}: lambda at {t}");
    let back = process.time_at_lambda(lambda).unwrap();
    assert!(close(process.lambda(back), lambda, 1e-11), "{process:?}: inverse of lambda at {t}: {back}");

    let (start, end) = process.time_range();
    let early = 0.5 * (start + t);
    let (first, second) = (process.transition(early, t), process.transition(t, 0.5 * (t + end)));
    let whole = process.transition(early, 0.5 * (t + end));
    assert!(close(first.scale * second.scale, whole.scale, 1e-12), "{process:?}: scale through {t}");
    let variance = second.scale * second.scale * first.variance + second.variance;
    assert!(close(variance, whole.variance, 1e-10), "{process:?}: variance through {t}");
}

/// Checks that a process survives JSON, and that its form refuses what the constructor refuses.
pub(super) fn round_trips<P>(process: &P, broken: &[(&str, &str)])
where
    P: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_string(process).unwrap();
    assert_eq!(&serde_json::from_str::<P>(&json).unwrap(), process);
    for (from, to) in broken {
        let bad = json.replace(from, to);
        assert_ne!(bad, json, "{from} is not in {json}");
        assert!(serde_json::from_str::<P>(&bad).is_err(), "{bad} was accepted");
    }
}
