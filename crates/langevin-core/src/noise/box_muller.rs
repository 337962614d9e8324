//! Pairs of standard normal values from pairs of words, without a branch.
//!
//! The logarithm, sine and cosine are those of fdlibm, with its coefficients and in its order of operations, restricted
//! to the arguments that occur here: so they have the bits of `libm`, and a compiler can do several at once.
//!
//! fdlibm: Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems,
//! Inc. business. Permission to use, copy, modify, and distribute this software is freely granted, provided that this
//! notice is preserved.

use std::f64::consts::FRAC_PI_2;

/// 2⁵² and 2⁸⁴: the last place of a number between each and its double is 1 and 2³².
const ONE_IN_LAST_PLACE: f64 = 4_503_599_627_370_496.0;
const TWO_32_IN_LAST_PLACE: f64 = 19_342_813_113_834_066_795_298_816.0;

/// Two standard normal values from two words (Box & Muller 1958).
///
/// The first word is the radius: 53 bits, a uniform number in (0, 1]. Of the second two bits are the quadrant and 52 an
/// angle in (-π/4, π/4), where neither sine nor cosine needs an argument reduction.
#[inline(always)]
pub(super) fn pair(radius: u64, angle: u64) -> [f64; 2] {
    let radius = (-2.0 * log(uniform(radius))).sqrt();
    let turn = (float((angle >> 10) & ((1 << 52) - 1)) + 0.5) * (1.0 / (1u64 << 52) as f64) - 0.5;
    let (sin, cos) = sin_cos(turn * FRAC_PI_2);
    let (x, y) = ((radius * cos).to_bits(), (radius * sin).to_bits());
    // (x, y), (-y, x), (-x, -y), (y, -x): odd quadrants swap, then signs.
    let quadrant = angle >> 62;
    let swap = (x ^ y) & 0u64.wrapping_sub(quadrant & 1);
    let negate_first = (quadrant ^ quadrant >> 1) << 63;
    let negate_second = quadrant >> 1 << 63;
    [f64::from_bits(x ^ swap ^ negate_first), f64::from_bits(y ^ swap ^ negate_second)]
}

/// A uniform number in (0, 1] from the upper 53 bits of a word.
#[inline(always)]
pub(super) fn uniform(word: u64) -> f64 {
    float((word >> 11) + 1) * (1.0 / (1u64 << 53) as f64)
}

/// An integer up to 2⁵³, exactly: `as f64` says the same and is not vectorized everywhere.
#[inline(always)]
fn float(integer: u64) -> f64 {
    let high = f64::from_bits(integer >> 32 | TWO_32_IN_LAST_PLACE.to_bits());
    let low = f64::from_bits(integer & 0xffff_ffff | ONE_IN_LAST_PLACE.to_bits());
    (high - (TWO_32_IN_LAST_PLACE + ONE_IN_LAST_PLACE)) + low
}

/// The natural logarithm of a normal positive number.
#[inline(always)]
fn log(x: f64) -> f64 {
    // x = 2^k·(1 + f) with 1 + f in (√½, √2); the upper half of √½ is SQRT_HALF.
    const SQRT_HALF: u64 = 0x3fe6_a09e << 32;
    const ONE: u64 = 0x3ff0_0000 << 32;
    const LN_2: (f64, f64) = (0.6931471803691238, 1.9082149292705877e-10);
    let shifted = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let k = f64::from_bits(shifted >> 52 | ONE_IN_LAST_PLACE.to_bits()) - (ONE_IN_LAST_PLACE + 1023.0);
    let f = f64::from_bits((shifted & ((1 << 52) - 1)) + SQRT_HALF) - 1.0;
    // ln(1 + f) = f − f²/2 + s·(f²/2 + R(s²)) with s = f/(2 + f).
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (0.3999999999940942 + w * (0.22222198432149784 + w * 0.15313837699209373));
    let odd = z * (0.6666666666666735 + w * (0.2857142874366239 + w * (0.1818357216161805 + w * 0.14798198605116586)));
    let r = odd + even;
    s * (half_square + r) + k * LN_2.1 - half_square + f + k * LN_2.0
}

/// Sine and cosine of a number in [-π/4, π/4].
#[inline(always)]
fn sin_cos(x: f64) -> (f64, f64) {
    let z = x * x;
    let w = z * z;
    let r = 0.00833333333332249
        + z * (-0.0001984126982985795 + z * 2.7557313707070068e-06)
        + z * w * (-2.5050760253406863e-08 + z * 1.58969099521155e-10);
    let sin = x + z * x * (-0.16666666666666632 + z * r);
    let r = z * (0.0416666666666666 + z * (-0.001388888888887411 + z * 2.480158728947673e-05))
        + w * w * (-2.7557314351390663e-07 + z * (2.087572321298175e-09 + z * -1.1359647557788195e-11));
    let half = 0.5 * z;
    let near_one = 1.0 - half;
    (sin, near_one + (((1.0 - near_one) - half) + z * r))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// The definition, by `libm`.
    fn reference(first: u64, second: u64) -> [f64; 2] {
        let uniform = ((first >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let radius = (-2.0 * libm::log(uniform)).sqrt();
        let turn = (((second >> 10) & ((1 << 52) - 1)) as f64 + 0.5) / (1u64 << 52) as f64 - 0.5;
        let (sin, cos) = libm::sincos(turn * FRAC_PI_2);
        let (x, y) = (radius * cos, radius * sin);
        match second >> 62 {
            0 => [x, y],
            1 => [-y, x],
            2 => [-x, -y],
            _ => [y, -x],
        }
    }

    fn check(first: u64, second: u64) {
        let (found, expected) = (pair(first, second), reference(first, second));
        assert_eq!(
            found.map(f64::to_bits),
            expected.map(f64::to_bits),
            "{first:#x} {second:#x}: {found:?} {expected:?}"
        );
    }

    #[test]
    fn bits_are_those_of_libm() {
        let mut random = ChaCha8Rng::seed_from_u64(20);
        for _ in 0..2_000_000 {
            check(random.next_u64(), random.next_u64());
        }
    }

    #[test]
    fn bits_are_those_of_libm_at_the_ends_and_at_every_size() {
        // Each power of two as a uniform number and as an angle, with its neighbors: far tails, u = 1, tiny angles of
        // both signs, the borders of the logarithm's range reduction and of the quadrants.
        let mut words = vec![0, u64::MAX, 0x5a82_7999_fcef_3242, 0xb504_f333_f9de_6484];
        words.extend((0..64).map(|bit| 1u64 << bit));
        words.extend((0..64).map(|bit| u64::MAX >> bit));
        let center = 1u64 << 61;
        words.extend((0..61).flat_map(|bit| [center + (1 << bit), center - (1 << bit)]));
        let near = |word: u64| (-3..=3i64).map(move |n| word.wrapping_add_signed(n << 10));
        let words: Vec<u64> = words.into_iter().flat_map(near).collect();
        for &first in &words {
            for &second in &words {
                for quadrant in 0..4u64 {
                    check(first, second & (u64::MAX >> 2) | quadrant << 62);
                }
            }
        }
    }

    #[test]
    fn integers_are_exact() {
        let mut random = ChaCha8Rng::seed_from_u64(21);
        for bits in 0..=53 {
            for _ in 0..1000 {
                let integer = random.next_u64() >> 11 & ((1u64 << bits) - 1);
                assert_eq!(float(integer), integer as f64);
            }
            assert_eq!(float(1 << bits), (1u64 << bits) as f64);
        }
        assert_eq!((uniform(0), uniform(u64::MAX)), (libm::ldexp(1.0, -53), 1.0));
    }

    /// Against identities and series that share nothing with the polynomials.
    #[test]
    fn functions_are_right_to_a_unit_in_the_last_place() {
        for n in 1..=4000 {
            let x = f64::from(n) / 4000.0;
            // ln x = 2·atanh((x − 1)/(x + 1)), whose series is summed from its small end.
            if x > 0.5 {
                let s = (x - 1.0) / (x + 1.0);
                let series = (0..40).rev().fold(0.0, |sum, k| sum * s * s + 2.0 / f64::from(2 * k + 1)) * s;
                assert!((log(x) - series).abs() <= 4.0 * f64::EPSILON * series.abs(), "ln {x}");
            }
            let angle = (x - 0.5) * FRAC_PI_2;
            let (sin, cos) = sin_cos(angle);
            let series = |from: i32| {
                let terms = (0..12).rev().map(|k| 2 * k + from);
                terms.fold(0.0, |sum, n| 1.0 - sum * angle * angle / f64::from((n + 1) * (n + 2)))
            };
            assert!((sin - angle * series(1)).abs() <= 2.0 * f64::EPSILON * sin.abs(), "sin {angle}");
            assert!((cos - series(0)).abs() <= 2.0 * f64::EPSILON, "cos {angle}");
        }
    }
}
