//! Weighted sums in one pass, and sums along axes.

use rayon::prelude::*;

use crate::normalization::sum;
use crate::rows::TOGETHER;
use crate::vectors::{kernel, on_vectors};

/// Numbers that a thread takes at once.
const PORTION: usize = 1 << 15;
/// Numbers of each term that are near at once.
const NEAR: usize = 1 << 10;

/// A factor and numbers.
type Term<'a> = (f32, &'a [f32]);

kernel!(AddSome: add_some((&'a [Term<'a>], usize, &'a mut [f32])) -> ());
kernel!(OfPlane: of_plane(&'a [f32]) -> f64);
kernel!(OfSomeRows: of_some_rows((&'a [f32], usize)) -> Vec<f32>);

/// Writes a part of the sum, which begins at `from`.
#[inline(always)]
fn add_some((terms, from, out): (&[Term<'_>], usize, &mut [f32])) {
    for (portion, out) in out.chunks_mut(NEAR).enumerate() {
        let from = from + portion * NEAR;
        let count = out.len();
        for (n, (factor, term)) in terms.iter().enumerate() {
            let numbers = out.iter_mut().zip(&term[from..from + count]);
            match (n, *factor) {
                (0, factor) => numbers.for_each(|(out, x)| *out = factor * x),
                (_, 1.0) => numbers.for_each(|(out, x)| *out += x),
                (_, factor) => numbers.for_each(|(out, x)| *out += factor * x),
            }
        }
    }
}

/// Writes the sum of terms, each a factor and numbers, in their order: the same bits as one multiplication and one addition after
/// the other.
///
/// # Example
///
/// ```
/// let mut out = [0.0; 2];
/// langevin_kernels::sums::weighted(&[(2.0, &[1.0, 2.0]), (-1.0, &[0.5, 0.5])], &mut out);
/// assert_eq!(out, [1.5, 3.5]);
/// ```
///
/// # Panics
///
/// If there is no term, or one has another length than `out`.
pub fn weighted(terms: &[(f32, &[f32])], out: &mut [f32]) {
    assert!(!terms.is_empty(), "a sum of nothing");
    assert!(terms.iter().all(|(_, term)| term.len() == out.len()), "terms of the same length as the sum");
    out.par_chunks_mut(PORTION).enumerate().for_each(|(at, out)| on_vectors(AddSome, (terms, at * PORTION, out)));
}

/// The sum of each channel of `[batch, channels, pixels]`.
///
/// # Example
///
/// ```
/// assert_eq!(langevin_kernels::sums::of_channels(&[1.0, 2.0, 3.0, 4.0], 2, 2), [3.0, 7.0]);
/// ```
///
/// # Panics
///
/// If a size is zero or `x` is no whole number of samples.
#[must_use]
pub fn of_channels(x: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    assert!(channels > 0 && pixels > 0 && x.len().is_multiple_of(channels * pixels), "{channels} channels of {pixels}");
    let of_planes: Vec<f64> = x.par_chunks(pixels).map(|plane| on_vectors(OfPlane, plane)).collect();
    let sum = |channel| of_planes[channel..].iter().step_by(channels).sum::<f64>() as f32;
    if of_planes.is_empty() { vec![0.0; channels] } else { (0..channels).map(sum).collect() }
}

#[inline(always)]
fn of_plane(x: &[f32]) -> f64 {
    sum(x, |x| x)
}

/// The sum of each column of `[rows, width]`.
///
/// # Example
///
/// ```
/// assert_eq!(langevin_kernels::sums::of_columns(&[1.0, 2.0, 3.0, 4.0], 2), [4.0, 6.0]);
/// ```
///
/// # Panics
///
/// If the width is zero or `x` is no whole number of rows.
#[must_use]
pub fn of_columns(x: &[f32], width: usize) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(width), "rows of {width}");
    let parts: Vec<Vec<f32>> =
        x.par_chunks(TOGETHER * width).map(|rows| on_vectors(OfSomeRows, (rows, width))).collect();
    let mut total = vec![0.0f64; width];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, sum)| *total += f64::from(sum));
    }
    total.into_iter().map(|sum| sum as f32).collect()
}

#[inline(always)]
fn of_some_rows((rows, width): (&[f32], usize)) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn sums_of_channels_and_columns_are_those_of_the_definition() {
        for (batch, channels, pixels) in [(1, 1, 1), (3, 5, 7), (2, 3, 5000), (200, 17, 1)] {
            let x = numbers(batch * channels * pixels, 3);
            let mut expected = vec![0.0; channels];
            x.iter().enumerate().for_each(|(at, x)| expected[at / pixels % channels] += f64::from(*x));
            assert_close(&of_channels(&x, channels, pixels), &expected, 2e-6);
            let mut expected = vec![0.0; channels];
            x.iter().enumerate().for_each(|(at, x)| expected[at % channels] += f64::from(*x));
            assert_close(&of_columns(&x, channels), &expected, 2e-6);
        }
        assert_eq!((of_channels(&[], 2, 3), of_columns(&[], 2)), (vec![0.0; 2], vec![0.0; 2]));
    }

    #[test]
    fn sums_have_the_bits_of_single_steps() {
        for count in [1, 15, 1024, 1025, 100_000] {
            let terms: Vec<_> = (0..5).map(|seed| numbers(count, seed + 1)).collect();
            for factors in [vec![0.3], vec![1.0, -0.7], vec![0.1, 1.0, -2.5, 0.0, 1.7]] {
                let given: Vec<_> = factors.iter().copied().zip(terms.iter().map(Vec::as_slice)).collect();
                let mut out = vec![f32::NAN; count];
                weighted(&given, &mut out);
                for (at, out) in out.iter().enumerate() {
                    let mut expected = factors[0] * terms[0][at];
                    for (factor, term) in factors.iter().zip(&terms).skip(1) {
                        let part = factor * term[at];
                        expected += part;
                    }
                    assert_eq!(out.to_bits(), expected.to_bits());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the same length")]
    fn refuses_terms_of_other_lengths() {
        weighted(&[(1.0, &[1.0])], &mut [0.0; 2]);
    }
}
