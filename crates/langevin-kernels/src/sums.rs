//! Weighted sums in one pass.

use rayon::prelude::*;

use crate::vectors::on_vectors;

/// Numbers that a thread takes at once.
const PORTION: usize = 1 << 15;
/// Numbers of each term that are near at once.
const NEAR: usize = 1 << 10;

/// A factor and numbers.
type Term<'a> = (f32, &'a [f32]);

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
    out.par_chunks_mut(PORTION).enumerate().for_each(|(at, out)| on_vectors(add_some, (terms, at * PORTION, out)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

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
