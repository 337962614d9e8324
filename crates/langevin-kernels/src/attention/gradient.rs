//! The gradient of attention, by parts of heads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{Answered, AttentionSizes, Bias, KEYS, seen};
use crate::exponential::exp_of;
use crate::product::{Matrix, Write, product};
use crate::scratch::Scratch;

/// Queries that meet a block of keys at once: their scores and slopes, 512 KiB, stay in a core's cache. With 64, as forward, the gradient
/// takes up to 1.4 times as long.
const QUERIES: usize = 256;
/// Parts of all heads together that are worth the memory which each split costs.
const PARTS: usize = 32;

/// Takes scores `[.., count]` to weights, and the slopes of the weights to those of the scores.
struct Slope<'a> {
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    count: usize,
    bias: Option<(&'a [f32], usize)>,
    sums: &'a [f32],
    shifts: &'a [f32],
    /// Keys of all blocks.
    keys: usize,
}

impl WithSimd for Slope<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, slopes, count, bias, sums, shifts, keys } = self;
        let rows = scores.chunks_exact_mut(count).zip(slopes.chunks_exact_mut(count));
        for (row, (scores, slopes)) in rows.enumerate() {
            if let Some((bias, step)) = bias {
                scores.iter_mut().zip(&bias[row * step..]).for_each(|(s, b)| *s += b);
            }
            if sums[row] == f32::NEG_INFINITY {
                // Every key is hidden: each has the same weight, whatever its score.
                scores.fill(1.0 / keys as f32);
                slopes.fill(0.0);
                continue;
            }
            let (sum, shift) = (simd.splat_f32s(sums[row]), simd.splat_f32s(shifts[row]));
            let weight = |score| exp_of(simd, simd.sub_f32s(score, sum));
            let sloped = |slope, weight| simd.mul_f32s(simd.sub_f32s(slope, shift), weight);
            let ((scores, last), (slopes, last_slopes)) = (S::as_mut_simd_f32s(scores), S::as_mut_simd_f32s(slopes));
            for (score, slope) in scores.iter_mut().zip(slopes) {
                *score = weight(*score);
                *slope = sloped(*slope, *score);
            }
            let score = weight(simd.partial_load_f32s(last));
            let slope = sloped(simd.partial_load_f32s(last_slopes), score);
            simd.partial_store_f32s(last, score);
            simd.partial_store_f32s(last_slopes, slope);
        }
    }
}

/// How the gradient of a head is split: some queries meet some keys. The gradients of queries are then sums over
/// parts of the keys, those of keys and values over parts of the queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Queries of a part, whole blocks, but for the last.
    queries: usize,
    /// Keys of a part, whole blocks, but for the last.
    keys: usize,
}

impl Split {
    /// By the sizes alone, so that results do not depend on threads: halves, of what costs less memory, until there are enough parts.
    fn of(sizes: &AttentionSizes) -> Self {
        let (mut of_queries, mut of_keys) = (1, 1);
        while sizes.batch * sizes.heads * of_queries * of_keys < PARTS {
            let queries = sizes.queries >= 2 * of_queries * QUERIES;
            let keys = sizes.keys >= 2 * of_keys * KEYS;
            // A part more needs room for the gradients that it adds to.
            let cost = of_queries * sizes.keys * (sizes.width + sizes.value_width);
            let other = of_keys * sizes.queries * sizes.width;
            match (queries, keys) {
                (true, true) if cost <= other => of_queries *= 2,
                (true, false) => of_queries *= 2,
                (_, true) => of_keys *= 2,
                (false, false) => break,
            }
        }
        let part = |size: usize, count: usize, block: usize| size.div_ceil(count).next_multiple_of(block);
        Self { queries: part(sizes.queries, of_queries, QUERIES), keys: part(sizes.keys, of_keys, KEYS) }
    }
}

/// The parts, of `some` rows each, of a gradient `[heads, rows, width]` and of the copies of it. With each its copy, head and part.
fn parts<'a>(
    first: &'a mut [f32],
    copies: &'a mut [f32],
    rows: usize,
    some: usize,
    width: usize,
) -> impl Iterator<Item = ([usize; 3], &'a mut [f32])> {
    let copies = copies.chunks_exact_mut(first.len());
    std::iter::once(first).chain(copies).enumerate().flat_map(move |(copy, all)| {
        all.chunks_exact_mut(rows * width).enumerate().flat_map(move |(head, of_head)| {
            of_head.chunks_mut(some * width).enumerate().map(move |(part, slice)| ([copy, head, part], slice))
        })
    })
}

/// Adds the copies to the gradient.
fn add(copies: &[f32], gradient: &mut [f32]) {
    const PIECE: usize = 1 << 14;
    let count = gradient.len();
    gradient.par_chunks_mut(PIECE).enumerate().for_each(|(piece, gradient)| {
        for copy in copies.chunks_exact(count) {
            gradient.iter_mut().zip(&copy[piece * PIECE..]).for_each(|(sum, more)| *sum += more);
        }
    });
}

/// A part of a head: its first query and key, and the gradients that it computes.
struct Part<'a> {
    head: usize,
    from: [usize; 2],
    of_q: &'a mut [f32],
    of_k: &'a mut [f32],
    of_v: &'a mut [f32],
}

impl AttentionSizes {
    /// Writes the gradients with respect to queries, keys and values, given that with respect to the results. Shapes are those
    /// of [`forward`](Self::forward).
    ///
    /// Where there are few heads, the queries and keys of each are shared among threads, and every part has memory of its own for what
    /// it adds to.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn gradient(
        &self,
        [q, k, v]: [&[f32]; 3],
        bias: Option<Bias<'_>>,
        answered: Answered<'_>,
        [of_q, of_k, of_v]: [&mut [f32]; 3],
    ) {
        self.check(q, k, v, bias, answered.out);
        self.check(of_q, of_k, of_v, bias, answered.gradient);
        let &Self { queries, keys, width, value_width: deep, .. } = self;
        let heads = self.batch * self.heads;
        assert_eq!(answered.sums.len(), heads * queries, "sums of {self:?}");
        let split = Split::of(self);
        let more_keys = queries.div_ceil(split.queries) - 1;
        let more_queries = keys.div_ceil(split.keys) - 1;
        let [mut more_q, mut more_k, mut more_v] =
            [of_q.len() * more_queries, of_k.len() * more_keys, of_v.len() * more_keys].map(Scratch::new);
        // A part of the queries meets one of the keys: it writes to the copy of the queries' gradient that the keys have, and the
        // other way round.
        let mut of_queries: Vec<_> = parts(of_q, &mut more_q, queries, split.queries, width)
            .map(|([keys, head, queries], of_q)| ([head, queries, keys], of_q))
            .collect();
        of_queries.sort_unstable_by_key(|(place, _)| *place);
        let mut of_keys: Vec<_> = parts(of_k, &mut more_k, keys, split.keys, width)
            .zip(parts(of_v, &mut more_v, keys, split.keys, deep))
            .map(|(([queries, head, keys], of_k), (_, of_v))| ([head, queries, keys], of_k, of_v))
            .collect();
        of_keys.sort_unstable_by_key(|(place, ..)| *place);
        let of_parts = of_queries.into_par_iter().zip(of_keys);
        of_parts.for_each_init(
            || [(); 2].map(|()| Scratch::new(QUERIES.min(queries) * KEYS.min(keys))),
            |scratch, (([head, queries, keys], of_q), (_, of_k, of_v))| {
                let from = [queries * split.queries, keys * split.keys];
                self.gradient_of_part([q, k, v], bias, answered, Part { head, from, of_q, of_k, of_v }, scratch);
            },
        );
        add(&more_q, of_q);
        add(&more_k, of_k);
        add(&more_v, of_v);
    }

    fn gradient_of_part(
        &self,
        [q, k, v]: [&[f32]; 3],
        bias: Option<Bias<'_>>,
        Answered { out, sums, gradient }: Answered<'_>,
        Part { head, from: [first_query, first_key], of_q, of_k, of_v }: Part<'_>,
        [scores, slopes]: &mut [Scratch; 2],
    ) {
        let &Self { width, value_width: deep, scale, .. } = self;
        let (queries, keys) = (of_q.len() / width, of_k.len() / width);
        [&mut *of_q, &mut *of_k, &mut *of_v].into_iter().for_each(|gradient| gradient.fill(0.0));
        for first in (0..queries).step_by(QUERIES) {
            let some = QUERIES.min(queries - first);
            let at = head * self.queries + first_query + first;
            let (out, gradient) = (&out[at * deep..][..some * deep], &gradient[at * deep..][..some * deep]);
            // What a row of the softmax's slopes is shifted by: the sum of out·gradient.
            let mut shifts = [0.0f32; QUERIES];
            for (row, shift) in shifts[..some].iter_mut().enumerate() {
                let rows = out[row * deep..][..deep].iter().zip(&gradient[row * deep..][..deep]);
                *shift = rows.map(|(o, g)| o * g).sum();
            }
            let q = Matrix::new(&q[at * width..], some, width);
            let gradient = Matrix::new(gradient, some, deep);
            for from in (0..keys).step_by(KEYS) {
                let bias = bias.map(|bias| bias.from(self, head, first_query + first, first_key + from));
                let count = KEYS.min(keys - from);
                let known = |query: usize| sums[at + query] > f32::NEG_INFINITY;
                let count = bias.map_or(count, |bias| seen(bias, some, count, known));
                if count == 0 {
                    continue;
                }
                let key = head * self.keys + first_key + from;
                let k = Matrix::new(&k[key * width..], count, width);
                let v = Matrix::new(&v[key * deep..], count, deep);
                let (scores, slopes) = (&mut scores[..some * count], &mut slopes[..some * count]);
                product(q, k.transposed(), scale, Write::Over, scores, count);
                product(gradient, v.transposed(), 1.0, Write::Over, slopes, count);
                Arch::new().dispatch(Slope {
                    scores: &mut *scores,
                    slopes: &mut *slopes,
                    count,
                    bias,
                    sums: &sums[at..],
                    shifts: &shifts,
                    keys: self.keys,
                });
                let (scores, slopes) = (Matrix::new(scores, some, count), Matrix::new(slopes, some, count));
                product(scores.transposed(), gradient, 1.0, Write::Add, &mut of_v[from * deep..], deep);
                product(slopes, k, scale, Write::Add, &mut of_q[first * width..], width);
                product(slopes.transposed(), q, scale, Write::Add, &mut of_k[from * width..], width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_heads_are_split() {
        let sizes = |heads, queries, keys, width| {
            let sizes = AttentionSizes { batch: 1, heads, queries, keys, width, value_width: width, scale: 1.0 };
            let Split { queries: some, keys: others } = Split::of(&sizes);
            [queries.div_ceil(some), keys.div_ceil(others)]
        };
        // Enough heads, or too few queries and keys.
        assert_eq!(sizes(32, 4096, 4096, 64), [1, 1]);
        assert_eq!(sizes(1, 255, 511, 64), [1, 1]);
        // The copies of what is smaller are kept.
        assert_eq!(sizes(8, 4096, 4096, 40), [2, 2]);
        assert_eq!(sizes(8, 4096, 77, 40), [4, 1]);
        assert_eq!(sizes(1, 60, 4096, 40), [1, 16]);
        let [queries, keys] = sizes(1, 4096, 4096, 512);
        assert_eq!([queries * keys, queries], [32, 4]);
    }
}
