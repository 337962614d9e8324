//! 16-bit floats to `f32` and back.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::vectors::{kernel, on_vectors};

/// Numbers that a thread converts at once.
const PIECE: usize = 1 << 14;

/// A 16-bit float: `f16` or `bf16`.
pub trait Half: Copy + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;

    /// Writes the same numbers in `f32`, on the thread that asks.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    fn widen_piece(from: &[Self], to: &mut [f32]);

    /// Writes the nearest 16-bit numbers, even ones in the middle, on the thread that asks.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    fn narrow_piece(from: &[f32], to: &mut [Self]);
}

impl Half for f16 {
    const ZERO: Self = Self::ZERO;

    fn widen_piece(from: &[Self], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many numbers as places");
        on_vectors(WidenF16, (from, to));
    }

    fn narrow_piece(from: &[f32], to: &mut [Self]) {
        assert_eq!(from.len(), to.len(), "as many numbers as places");
        on_vectors(NarrowF16, (from, to));
    }
}

impl Half for bf16 {
    const ZERO: Self = Self::ZERO;

    fn widen_piece(from: &[Self], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many numbers as places");
        on_vectors(WidenBf16, (from, to));
    }

    fn narrow_piece(from: &[f32], to: &mut [Self]) {
        assert_eq!(from.len(), to.len(), "as many numbers as places");
        on_vectors(NarrowBf16, (from, to));
    }
}

kernel!(WidenF16: widen_f16((&'a [f16], &'a mut [f32])) -> ());
kernel!(NarrowF16: narrow_f16((&'a [f32], &'a mut [f16])) -> ());
kernel!(WidenBf16: widen_bf16((&'a [bf16], &'a mut [f32])) -> ());
kernel!(NarrowBf16: narrow_bf16((&'a [f32], &'a mut [bf16])) -> ());

#[inline(always)]
fn widen_f16((from, to): (&[f16], &mut [f32])) {
    // What the exponents of the two types differ by, as a factor: small numbers below the least exponent come out right, too.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    for (to, from) in to.iter_mut().zip(from) {
        let bits = u32::from(from.to_bits());
        let size = (f32::from_bits((bits & 0x7fff) << 13) * SCALE).to_bits();
        let beyond = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        *to = f32::from_bits((bits & 0x8000) << 16 | size | beyond);
    }
}

#[inline(always)]
fn narrow_f16((from, to): (&[f32], &mut [f16])) {
    // From here on everything is infinite, and below the other the distance of numbers stays the same.
    const BEYOND: u32 = (127 + 16) << 23;
    const SMALL: u32 = (127 - 14) << 23;
    for (to, from) in to.iter_mut().zip(from) {
        let size = from.to_bits() & 0x7fff_ffff;
        // Beside one half, the last places are those of small numbers, and the sum rounds to them.
        let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        // Half of the last place is added, less a little where that place is even; the exponent counts from another number.
        let usual = size.wrapping_add(0xfff + (size >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
        let beyond = if size > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        let finite = if size < SMALL { small } else { usual };
        let bits = if size >= BEYOND { beyond } else { finite };
        *to = f16::from_bits((from.to_bits() >> 16 & 0x8000 | bits) as u16);
    }
}

#[inline(always)]
fn widen_bf16((from, to): (&[bf16], &mut [f32])) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f32::from_bits(u32::from(from.to_bits()) << 16));
}

#[inline(always)]
fn narrow_bf16((from, to): (&[f32], &mut [bf16])) {
    for (to, from) in to.iter_mut().zip(from) {
        let bits = from.to_bits();
        // Half of the last place is added, less a little where that place is even. What is not a number stays so.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let bits = if from.is_nan() { bits | 0x40_0000 } else { rounded };
        *to = bf16::from_bits((bits >> 16) as u16);
    }
}

/// Writes the same numbers in `f32`.
///
/// # Panics
///
/// If the lengths differ.
pub fn widen<H: Half>(from: &[H], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many numbers as places");
    from.par_chunks(PIECE).zip(to.par_chunks_mut(PIECE)).for_each(|(from, to)| H::widen_piece(from, to));
}

/// Writes the nearest 16-bit numbers, even ones in the middle.
///
/// # Panics
///
/// If the lengths differ.
pub fn narrow<H: Half>(from: &[f32], to: &mut [H]) {
    assert_eq!(from.len(), to.len(), "as many numbers as places");
    from.par_chunks(PIECE).zip(to.par_chunks_mut(PIECE)).for_each(|(from, to)| H::narrow_piece(from, to));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 16-bit number there and back, and what lies between two.
    fn agrees<H: Half>(every: &[H], to_f32: fn(H) -> f32, from_f32: fn(f32) -> H, bits: fn(H) -> u16) {
        let mut wide = vec![0.0f32; every.len()];
        widen(every, &mut wide);
        for (wide, half) in wide.iter().zip(every) {
            let expected = to_f32(*half);
            assert!(wide.to_bits() == expected.to_bits() || wide.is_nan() && expected.is_nan());
        }
        // As they are, a little more, a little less, in the middle of two, and large.
        let values: Vec<f32> = wide
            .iter()
            .flat_map(|x| [*x, f32::from_bits(x.to_bits() ^ 1), x * 1.000_3, x * 1.003, x * 1e30])
            .chain(wide.windows(2).map(|pair| pair[0] / 2.0 + pair[1] / 2.0))
            .collect();
        let mut narrowed = vec![H::ZERO; values.len()];
        narrow(&values, &mut narrowed);
        for (given, value) in narrowed.iter().zip(&values) {
            let expected = from_f32(*value);
            assert!(bits(*given) == bits(expected) || to_f32(*given).is_nan() && value.is_nan(), "{value}");
        }
    }

    #[test]
    fn numbers_are_converted_as_one_by_one() {
        let every = |from: fn(u16) -> f16| (0..=u16::MAX).map(from).collect::<Vec<_>>();
        agrees(&every(f16::from_bits), f16::to_f32, f16::from_f32, f16::to_bits);
        let every: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        agrees(&every, bf16::to_f32, bf16::from_f32, bf16::to_bits);
    }

    #[test]
    #[should_panic(expected = "as many numbers as places")]
    fn refuses_other_lengths() {
        widen(&[f16::ONE; 3], &mut [0.0; 2]);
    }
}
