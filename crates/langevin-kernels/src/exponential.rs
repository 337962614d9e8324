//! The exponential and what follows from it, for many numbers at once: without branches, so that the compiler makes them
//! instructions on vectors.

use std::f32::consts::LOG2_E;

/// Whole powers of two are made from bits; the rest lies within ±ln(2)/2. Adding 1.5·2²³ rounds to a whole number.
const ROUND: f32 = 12_582_912.0;
/// ln(2) in parts, of which the first has few digits.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// A fit to (eʳ - 1 - r)/r² with the least relative error, after Cephes.
const FIT: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// `eˣ`, within 2e-7 of its size. Below -87 it is that of -87, 1.6e-38; above 88 that of 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let r = x - whole * LN2[0] - whole * LN2[1];
    let p = FIT[1..].iter().fold(FIT[0], |p, term| p * r + term);
    let p = p * r * r + r + 1.0;
    f32::from_bits((rounded.to_bits().wrapping_add(127)) << 23) * p
}

/// [`exp`] of a vector, with sums and products in one instruction where the processor has that.
#[inline(always)]
pub(crate) fn exp_of<S: pulp::Simd>(simd: S, x: S::f32s) -> S::f32s {
    let all = |x: f32| simd.splat_f32s(x);
    // By comparisons, which NaN passes; the least and the largest of two would lose it on some processors.
    let x = simd.select_f32s(simd.less_than_f32s(x, all(-87.0)), all(-87.0), x);
    let x = simd.select_f32s(simd.greater_than_f32s(x, all(88.0)), all(88.0), x);
    let rounded = simd.mul_add_e_f32s(x, all(LOG2_E), all(ROUND));
    let whole = simd.sub_f32s(rounded, all(ROUND));
    let r = simd.mul_add_e_f32s(whole, all(-LN2[0]), x);
    let r = simd.mul_add_e_f32s(whole, all(-LN2[1]), r);
    let mut p = all(FIT[0]);
    for term in &FIT[1..] {
        p = simd.mul_add_e_f32s(p, r, all(*term));
    }
    let p = simd.add_f32s(simd.mul_add_e_f32s(simd.mul_f32s(p, r), r, r), all(1.0));
    let power = simd.add_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(power, simd.splat_u32s(23));
    simd.mul_f32s(simd.transmute_f32s_u32s(power), p)
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

    /// Takes the exponential of each number.
    struct Each<'a>(&'a mut [f32]);

    impl pulp::WithSimd for Each<'_> {
        type Output = ();

        fn with_simd<S: pulp::Simd>(self, simd: S) {
            let (whole, rest) = S::as_mut_simd_f32s(self.0);
            whole.iter_mut().for_each(|x| *x = exp_of(simd, *x));
            let last = exp_of(simd, simd.partial_load_f32s(rest));
            simd.partial_store_f32s(rest, last);
        }
    }

    #[test]
    fn vectors_follow_the_definition_with_the_widest_and_without() {
        let special = [f32::NEG_INFINITY, -1e4, 1e4, f32::NAN, 0.0];
        let x: Vec<f32> = points().chain(special).collect();
        let (mut widest, mut single) = (x.clone(), x.clone());
        pulp::Arch::new().dispatch(Each(&mut widest));
        pulp::Arch::Scalar.dispatch(Each(&mut single));
        for given in [widest, single] {
            for (x, y) in x.iter().zip(given) {
                let expected = f64::from(x.clamp(-87.0, 88.0)).exp();
                assert!((f64::from(y) / expected - 1.0).abs() < 2e-7 || (x.is_nan() && y.is_nan()), "{x}: {y}");
            }
        }
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
