//! The exponential and what follows from it, for many numbers at once: without branches, so that the compiler makes them
//! instructions on vectors.

use std::f32::consts::LOG2_E;

/// `eˣ`, within 2e-7 of its size. Below -87 it is that of -87, 1.6e-38; above 88 that of 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Whole powers of two are made from bits; the rest lies within ±ln(2)/2. Adding 1.5·2²³ rounds to a whole number. The
    // two constants are ln(2) in parts, of which the first has few digits.
    const ROUND: f32 = 12_582_912.0;
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let r = x - whole * LN2[0] - whole * LN2[1];
    // A fit to eʳ - 1 - r with the least relative error, after Cephes.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    f32::from_bits((rounded.to_bits().wrapping_add(127)) << 23) * p
}

/// `1 / (1 + e⁻ˣ)`
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh(x)`
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Near zero the quotient would cancel: there the first terms of the series.
    let square = x * x;
    let near = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 + square * (-17.0 / 315.0))));
    let far = 1.0 - 2.0 / (1.0 + exp(2.0 * x));
    if square < 0.04 { near } else { far }
}

/// `erf(x)`, within 3e-7.
///
/// Abramowitz, Stegun 1964, eq. 7.1.26: `1 - (a₁t + … + a₅t⁵)·e^(-x²)` with `t = 1/(1 + p·x)`; near zero, where that cancels,
/// the series 7.1.5.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let far = (1.0 - p * t * exp(-size * size)).copysign(x);
    let square = x * x;
    let s = 1.0 / 216.0 - square * (1.0 / 1320.0);
    let s = 1.0 / 42.0 - square * s;
    let s = 0.1 - square * s;
    let s = 1.0 / 3.0 - square * s;
    let near = std::f32::consts::FRAC_2_SQRT_PI * x * (1.0 - square * s);
    if square < 0.25 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(|i| i as f32 * 4.3e-3)
    }

    #[test]
    fn the_exponential_is_exact_to_the_last_digits() {
        for x in points() {
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2e-7, "{x}");
        }
        assert!(exp(-1e4) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38 && exp(1e4).is_finite());
        assert!(
            exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && erf(f32::NAN).is_nan()
        );
    }

    #[test]
    fn the_others_follow() {
        for x in points() {
            let wide = f64::from(x);
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs() < 2e-7, "{x}");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 3e-7, "{x}");
            assert!((f64::from(erf(x)) - libm::erf(wide)).abs() < 3e-7, "{x}");
        }
    }
}
