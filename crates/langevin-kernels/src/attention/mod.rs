//! Attention that never holds all scores: a block of queries meets the keys block by block.

mod gradient;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::exponential::exp_of;
use crate::product::{Matrix, Write, product};
use crate::scratch::Scratch;

/// Queries that a thread takes at once, and keys that they meet at once: their scores, 128 KiB, stay in a core's cache.
const QUERIES: usize = 64;
/// See [`QUERIES`].
const KEYS: usize = 256;

/// Sizes of attention: `softmax(scale·q·kᵀ + bias)·v`. A query from which a bias of minus infinity hides every key gets the mean of
/// the values.
///
/// Blocks of queries are shared among threads, and in the gradient parts of heads.
///
/// # References
///
/// The softmax of blocks: Milakov, Gimelshein 2018, [arXiv:1805.02867](https://arxiv.org/abs/1805.02867); the gradient without
/// stored scores: Dao, Fu, Ermon, Rudra, Ré 2022, [arXiv:2205.14135](https://arxiv.org/abs/2205.14135).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSizes {
    /// Samples.
    pub batch: usize,
    /// Heads of a sample.
    pub heads: usize,
    /// Queries of a head.
    pub queries: usize,
    /// Keys of a head.
    pub keys: usize,
    /// Numbers of a query and of a key.
    pub width: usize,
    /// Numbers of a value.
    pub value_width: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
}

/// What is added to scores, with distances between batch, heads and queries: zero where one serves all. Keys lie side by side.
#[derive(Debug, Clone, Copy)]
pub struct Bias<'a> {
    /// The numbers.
    pub values: &'a [f32],
    /// Distances between the rows of two samples, two heads, two queries.
    pub steps: [usize; 3],
}

/// What came of attention, for its gradient.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// What [`forward`](AttentionSizes::forward) wrote.
    pub out: &'a [f32],
    /// What it returned.
    pub sums: &'a [f32],
    /// The gradient with respect to `out`.
    pub gradient: &'a [f32],
}

impl<'a> Bias<'a> {
    /// What is added to the scores of the queries and keys of a head from the first ones given, and the distance between
    /// queries.
    fn from(&self, sizes: &AttentionSizes, head: usize, query: usize, key: usize) -> (&'a [f32], usize) {
        let at = head / sizes.heads * self.steps[0] + head % sizes.heads * self.steps[1] + query * self.steps[2];
        (&self.values[at + key..], self.steps[2])
    }
}

/// How many of `count` keys, from the first on, any of `some` queries sees: those behind are hidden from all by minus infinity, as half
/// of all are where no token sees a later one. All of them if a query sees none, and is not `known` to see others: every key counts for it.
fn seen((bias, step): (&[f32], usize), some: usize, count: usize, known: impl Fn(usize) -> bool) -> usize {
    let hidden = |value: &f32| *value == f32::NEG_INFINITY;
    let rows = if step == 0 { 1 } else { some };
    let row = |query: usize| &bias[query * step..][..count];
    let mut most = 0;
    for query in (0..rows).rev() {
        let row = row(query);
        most = row[most..].iter().rposition(|value| !hidden(value)).map_or(most, |at| most + at + 1);
    }
    if most < count && !(0..some).all(|query| known(query) || !row(query.min(rows - 1)).iter().all(hidden)) {
        return count;
    }
    most
}

/// A number for each query of a block.
type OfQueries = [f32; QUERIES];

/// What is known of a block of queries after some of the keys.
struct Weights {
    /// The largest score.
    tops: OfQueries,
    /// The sum of exponentials of the differences from it.
    sums: OfQueries,
}

/// Takes the scores `[keys, QUERIES]` of a block of keys to exponentials, and what was computed of earlier blocks, `[.., QUERIES]`,
/// to the same top. Of the queries, `some` are there.
struct Weigh<'a> {
    scores: &'a mut [f32],
    some: usize,
    bias: Option<(&'a [f32], usize)>,
    weights: &'a mut Weights,
    out: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, some, bias, weights, out } = self;
        if let Some((bias, step)) = bias {
            for (key, scores) in scores.chunks_exact_mut(QUERIES).enumerate() {
                for (query, score) in scores[..some].iter_mut().enumerate() {
                    *score += bias[query * step + key];
                }
            }
        }
        let vectors = QUERIES / S::F32_LANES;
        let (scores, _) = S::as_mut_simd_f32s(scores);
        let (out, _) = S::as_mut_simd_f32s(out);
        let (tops, _) = S::as_mut_simd_f32s(&mut weights.tops);
        let (sums, _) = S::as_mut_simd_f32s(&mut weights.sums);
        // A few vectors of queries at a time, whose numbers stay in registers.
        if vectors.is_multiple_of(4) {
            (0..vectors).step_by(4).for_each(|at| weigh::<S, 4>(simd, scores, vectors, at, tops, sums, out));
        } else {
            (0..vectors).for_each(|at| weigh::<S, 1>(simd, scores, vectors, at, tops, sums, out));
        }
    }
}

#[inline(always)]
fn weigh<S: Simd, const G: usize>(
    simd: S,
    scores: &mut [S::f32s],
    vectors: usize,
    at: usize,
    tops: &mut [S::f32s],
    sums: &mut [S::f32s],
    out: &mut [S::f32s],
) {
    let before: [S::f32s; G] = std::array::from_fn(|g| tops[at + g]);
    let mut top = before;
    for scores in scores.chunks_exact(vectors) {
        let scores: &[S::f32s; G] = scores[at..].first_chunk().expect("vectors of queries");
        for g in 0..G {
            top[g] = simd.max_f32s(top[g], scores[g]);
        }
    }
    // Where every key so far is hidden, by minus infinity, nothing is subtracted: the exponentials are then as good as zero, and
    // the factor of what comes next makes them so.
    let none = simd.splat_f32s(f32::NEG_INFINITY);
    let zero = simd.splat_f32s(0.0);
    let shift: [S::f32s; G] = top.map(|top| simd.select_f32s(simd.equal_f32s(top, none), zero, top));
    let mut sum = [zero; G];
    for scores in scores.chunks_exact_mut(vectors) {
        let scores: &mut [S::f32s; G] = scores[at..].first_chunk_mut().expect("vectors of queries");
        for g in 0..G {
            scores[g] = exp_of(simd, simd.sub_f32s(scores[g], shift[g]));
            sum[g] = simd.add_f32s(sum[g], scores[g]);
        }
    }
    let mut factor = [zero; G];
    for g in 0..G {
        let gone = exp_of(simd, simd.sub_f32s(before[g], shift[g]));
        // Hidden keys count for nothing beside others, and all the same among themselves.
        let hidden = simd.select_f32s(simd.equal_f32s(top[g], none), simd.splat_f32s(1.0), zero);
        factor[g] = simd.select_f32s(simd.equal_f32s(before[g], none), hidden, gone);
        sums[at + g] = simd.mul_add_e_f32s(sums[at + g], factor[g], sum[g]);
        tops[at + g] = top[g];
    }
    for out in out.chunks_exact_mut(vectors) {
        let out: &mut [S::f32s; G] = out[at..].first_chunk_mut().expect("vectors of queries");
        for g in 0..G {
            out[g] = simd.mul_f32s(out[g], factor[g]);
        }
    }
}

impl AttentionSizes {
    fn check(&self, q: &[f32], k: &[f32], v: &[f32], bias: Option<Bias<'_>>, out: &[f32]) {
        let heads = self.batch * self.heads;
        let sizes = [heads, self.queries, self.keys, self.width, self.value_width];
        assert!(!sizes.contains(&0), "a size is zero: {self:?}");
        assert_eq!(q.len(), heads * self.queries * self.width, "queries of {self:?}");
        assert_eq!(k.len(), heads * self.keys * self.width, "keys of {self:?}");
        assert_eq!(v.len(), heads * self.keys * self.value_width, "values of {self:?}");
        assert_eq!(out.len(), heads * self.queries * self.value_width, "results of {self:?}");
        if let Some(bias) = bias {
            let (last, _) = bias.from(self, heads - 1, self.queries - 1, 0);
            assert!(last.len() >= self.keys, "a bias of {self:?}");
        }
    }

    /// Writes the results to `out`, and returns the logarithm of each query's sum of exponentials, which the gradient needs.
    ///
    /// # Shapes
    ///
    /// - q: `[batch, heads, queries, width]`
    /// - k: `[batch, heads, keys, width]`
    /// - v: `[batch, heads, keys, value_width]`
    /// - out: `[batch, heads, queries, value_width]`
    /// - returned: `[batch, heads, queries]`
    ///
    /// # Panics
    ///
    /// If a slice has another length than these, or a size is zero.
    pub fn forward(&self, q: &[f32], k: &[f32], v: &[f32], bias: Option<Bias<'_>>, out: &mut [f32]) -> Vec<f32> {
        self.check(q, k, v, bias, out);
        let &Self { queries, keys, width, value_width: deep, scale, .. } = self;
        let mut sums = vec![0.0f32; self.batch * self.heads * queries];
        // One piece of work for each block of queries of each head.
        let of_heads = out.par_chunks_mut(queries * deep).zip(sums.par_chunks_mut(queries)).enumerate();
        of_heads
            .flat_map(|(head, (out, sums))| {
                let blocks = out.par_chunks_mut(QUERIES * deep).zip(sums.par_chunks_mut(QUERIES)).enumerate();
                blocks.map(move |(block, (out, sums))| (head, block * QUERIES, out, sums))
            })
            .for_each_init(
                || [width * QUERIES, KEYS.min(keys) * QUERIES, deep * QUERIES].map(Scratch::new),
                |[turned, scores, turned_out], (head, first, out, sums)| {
                    // Queries side by side, whatever their width: the products then fill the vectors.
                    let some = sums.len();
                    turned.fill(0.0);
                    for (query, q) in q[(head * queries + first) * width..].chunks_exact(width).take(some).enumerate() {
                        q.iter().zip(turned.chunks_exact_mut(QUERIES)).for_each(|(q, turned)| turned[query] = *q);
                    }
                    turned_out.fill(0.0);
                    let mut weights = Weights { tops: [f32::NEG_INFINITY; QUERIES], sums: [0.0; QUERIES] };
                    for from in (0..keys).step_by(KEYS) {
                        let own = bias.map(|bias| bias.from(self, head, first, from));
                        let known = |query: usize| weights.tops[query] > f32::NEG_INFINITY;
                        let count = KEYS.min(keys - from);
                        let count = own.map_or(count, |own| seen(own, some, count, known));
                        if count == 0 {
                            continue;
                        }
                        let k = Matrix::new(&k[(head * keys + from) * width..], count, width);
                        let scores = &mut scores[..count * QUERIES];
                        product(k, Matrix::new(turned, width, QUERIES), scale, Write::Over, scores, QUERIES);
                        let (scores, out) = (&mut scores[..], &mut turned_out[..]);
                        Arch::new().dispatch(Weigh { scores, some, bias: own, weights: &mut weights, out });
                        let v = Matrix::new(&v[(head * keys + from) * deep..], count, deep).transposed();
                        product(v, Matrix::new(scores, count, QUERIES), 1.0, Write::Add, turned_out, QUERIES);
                    }
                    for (query, (out, sum)) in out.chunks_exact_mut(deep).zip(sums).enumerate() {
                        let factor = 1.0 / weights.sums[query];
                        let of_query = turned_out.chunks_exact(QUERIES);
                        out.iter_mut().zip(of_query).for_each(|(o, turned)| *o = turned[query] * factor);
                        *sum = weights.tops[query] + weights.sums[query].ln();
                    }
                },
            );
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// The definition in f64: results, and gradients of the sum of out·g.
    fn by_hand(
        s: &AttentionSizes,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        bias: Option<Bias<'_>>,
        g: &[f32],
    ) -> [Vec<f64>; 4] {
        let (d, e) = (s.width, s.value_width);
        let mut out = vec![0.0; g.len()];
        let (mut of_q, mut of_k, mut of_v) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        let wide = |x: &[f32], at: usize| f64::from(x[at]);
        for row in 0..s.batch * s.heads * s.queries {
            let (head, query) = (row / s.queries, row % s.queries);
            let mut p: Vec<f64> = (0..s.keys)
                .map(|j| {
                    let dot: f64 = (0..d).map(|i| wide(q, row * d + i) * wide(k, (head * s.keys + j) * d + i)).sum();
                    f64::from(s.scale) * dot + bias.map_or(0.0, |b| wide(b.from(s, head, query, 0).0, j))
                })
                .collect();
            let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            p.iter_mut().for_each(|p| *p = (*p - top).exp());
            let sum: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= sum);
            let dp: Vec<f64> = (0..s.keys)
                .map(|j| (0..e).map(|c| wide(g, row * e + c) * wide(v, (head * s.keys + j) * e + c)).sum())
                .collect();
            let shift: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
            for j in 0..s.keys {
                let at = head * s.keys + j;
                for c in 0..e {
                    out[row * e + c] += p[j] * wide(v, at * e + c);
                    of_v[at * e + c] += p[j] * wide(g, row * e + c);
                }
                let slope = f64::from(s.scale) * p[j] * (dp[j] - shift);
                for i in 0..d {
                    of_q[row * d + i] += slope * wide(k, at * d + i);
                    of_k[at * d + i] += slope * wide(q, row * d + i);
                }
            }
        }
        [out, of_q, of_k, of_v]
    }

    #[test]
    fn values_and_gradients_agree_with_the_definition() {
        for (batch, heads, queries, keys, width, value_width) in [
            (1, 1, 1, 1, 1, 1),
            (2, 3, 7, 5, 4, 6),
            (1, 2, 130, 77, 40, 40),
            (1, 1, 65, 1100, 8, 5),
            (1, 1, 700, 9, 4, 3),
            (1, 2, 530, 800, 3, 4),
            (2, 1, 3, 512, 16, 16),
        ] {
            let s = AttentionSizes { batch, heads, queries, keys, width, value_width, scale: 0.7 };
            let count = batch * heads;
            let [q, k, v, g] = [queries * width, keys * width, keys * value_width, queries * value_width]
                .map(|n| numbers(count * n, n as u64 + 1));
            let shared = numbers(keys, 8);
            let own = numbers(count * queries * keys, 9);
            // The first query sees the first key, each one more, and the last ones all.
            let seen = |at: usize| (at % keys) * queries.min(keys) <= (at / keys) * keys;
            let causal: Vec<f32> =
                (0..queries * keys).map(|at| if seen(at) { own[at] } else { f32::NEG_INFINITY }).collect();
            let biases = [
                Some(Bias { values: &causal, steps: [0, 0, keys] }),
                None,
                Some(Bias { values: &shared, steps: [0; 3] }),
                Some(Bias { values: &own, steps: [heads * queries * keys, queries * keys, keys] }),
            ];
            for bias in biases {
                let [out, of_q, of_k, of_v] = by_hand(&s, &q, &k, &v, bias, &g);
                let mut given = vec![f32::NAN; out.len()];
                let sums = s.forward(&q, &k, &v, bias, &mut given);
                assert_close(&given, &out, 2e-6);
                let mut gradients = [&of_q, &of_k, &of_v].map(|e| vec![f32::NAN; e.len()]);
                let [a, b, c] = &mut gradients;
                s.gradient([&q, &k, &v], bias, Answered { out: &given, sums: &sums, gradient: &g }, [a, b, c]);
                let largest = of_q.iter().chain(&of_k).chain(&of_v).fold(0.0f64, |m, v| m.max(v.abs()));
                for (given, expected) in gradients.iter().zip([of_q, of_k, of_v]) {
                    for (given, expected) in given.iter().zip(expected) {
                        assert!((f64::from(*given) - expected).abs() <= 1e-5 * largest.max(1e-6), "{s:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_hidden_in_whole_blocks_are_not_seen() {
        let keys = 2 * KEYS + 7;
        let s = AttentionSizes { batch: 1, heads: 1, queries: 3, keys, width: 2, value_width: 2, scale: 0.5 };
        let (q, k, v, g) = (numbers(6, 1), numbers(2 * keys, 2), numbers(2 * keys, 3), numbers(6, 4));
        for hidden in [0..KEYS, KEYS..2 * KEYS, 0..2 * KEYS, KEYS + 3..keys] {
            let bias: Vec<f32> = (0..keys).map(|j| if hidden.contains(&j) { f32::NEG_INFINITY } else { 0.1 }).collect();
            let bias = Some(Bias { values: &bias, steps: [0; 3] });
            let [out, of_q, of_k, of_v] = by_hand(&s, &q, &k, &v, bias, &g);
            let mut given = vec![f32::NAN; 6];
            let sums = s.forward(&q, &k, &v, bias, &mut given);
            assert_close(&given, &out, 2e-6);
            let (mut a, mut b, mut c) = (vec![f32::NAN; 6], vec![f32::NAN; 2 * keys], vec![f32::NAN; 2 * keys]);
            let answered = Answered { out: &given, sums: &sums, gradient: &g };
            s.gradient([&q, &k, &v], bias, answered, [&mut a, &mut b, &mut c]);
            assert_close(&a, &of_q, 1e-5);
            assert_close(&b, &of_k, 1e-5);
            assert_close(&c, &of_v, 1e-5);
        }
    }

    #[test]
    fn a_query_without_keys_gets_the_mean_of_the_values() {
        for keys in [5, 2 * KEYS + 7] {
            let s = AttentionSizes { batch: 1, heads: 1, queries: 2, keys, width: 2, value_width: 2, scale: 0.5 };
            let (q, k, v, g) = (numbers(4, 1), numbers(2 * keys, 2), numbers(2 * keys, 3), numbers(4, 4));
            // The second query sees all.
            let bias: Vec<f32> = (0..2 * keys).map(|at| if at < keys { f32::NEG_INFINITY } else { 0.0 }).collect();
            let bias = Some(Bias { values: &bias, steps: [0, 0, keys] });
            let mut out = vec![f32::NAN; 4];
            let sums = s.forward(&q, &k, &v, bias, &mut out);
            let mean = |column: usize| (0..keys).map(|j| f64::from(v[2 * j + column])).sum::<f64>() / keys as f64;
            assert_close(&out[..2], &[mean(0), mean(1)], 1e-5);
            let [mut a, mut b, mut c] = [4, 2 * keys, 2 * keys].map(|count| vec![f32::NAN; count]);
            let answered = Answered { out: &out, sums: &sums, gradient: &g };
            s.gradient([&q, &k, &v], bias, answered, [&mut a, &mut b, &mut c]);
            // What the first query's results depend on is the values alone, each by its share.
            assert_eq!(a[..2], [0.0; 2]);
            let other = AttentionSizes { queries: 1, ..s };
            let [_, of_q, of_k, of_v] = by_hand(&other, &q[2..], &k, &v, None, &g[2..]);
            assert_close(&a[2..], &of_q, 1e-5);
            assert_close(&b, &of_k, 1e-5);
            let of_v: Vec<f64> =
                of_v.iter().enumerate().map(|(at, of)| of + f64::from(g[at % 2]) / keys as f64).collect();
            assert_close(&c, &of_v, 1e-5);
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_lost() {
        let s = AttentionSizes { batch: 1, heads: 1, queries: 3, keys: 40, width: 2, value_width: 2, scale: 0.5 };
        let (mut q, k, v) = (numbers(6, 1), numbers(80, 2), numbers(80, 3));
        q[2] = f32::NAN;
        let mut out = vec![0.0; 6];
        s.forward(&q, &k, &v, None, &mut out);
        let lost: Vec<bool> = out.iter().map(|x| x.is_nan()).collect();
        assert_eq!(lost, [false, false, true, true, false, false]);
    }

    #[test]
    fn hidden_keys_are_not_seen() {
        let s = AttentionSizes { batch: 1, heads: 1, queries: 2, keys: 3, width: 1, value_width: 1, scale: 1.0 };
        let hidden = [0.0, f32::NEG_INFINITY, -1e4];
        let mut out = [0.0; 2];
        let bias = Some(Bias { values: &hidden, steps: [0; 3] });
        s.forward(&[1.0, 2.0], &[0.5, 9.0, 9.0], &[4.0, 50.0, 60.0], bias, &mut out);
        assert_eq!(out, [4.0, 4.0]);
    }
}
