//! The gradient by products of some heads at a time, whose scores are written: by single numbers, and by matrices where heads are wider than
//! those of [`gradient_by_planes`](super::gradient_by_planes).

use burn::backend::ops::FloatTensorOps;
#[cfg(feature = "vulkan")]
use burn::tensor::DType;
use burn::tensor::{FloatDType, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::scores::{gradients_of_scores, weights};
use super::{By, How};
#[cfg(feature = "vulkan")]
use crate::additions::Added;
use crate::product::{Turned, times};
#[cfg(feature = "vulkan")]
use crate::product::{planes, workgroup};

/// Scores that are held at once: 64 Mi, which is 256 MiB in `f32`, as in attention by tensor operations.
const LARGEST_SCORES: usize = 1 << 26;

/// What belongs to the queries: `[heads, queries, ..]`.
struct OfQueries {
    query: CubeTensor,
    gradient: CubeTensor,
    /// What their scores begin with.
    starts: CubeTensor,
    /// The mean of each's gradients of weights.
    means: CubeTensor,
}

/// The gradients of queries, keys and values, from that of the output, what the scores of each query begin with, and the mean of each row. Some
/// heads, or some queries of a head, are taken at a time.
pub(super) fn gradients(
    [query, key, value, gradient]: [CubeTensor; 4],
    [starts, means]: [CubeTensor; 2],
    how: How,
) -> [CubeTensor; 3] {
    in_portions(&OfQueries { query, gradient, starts, means }, [&key, &value], how, LARGEST_SCORES)
}

fn in_portions(all: &OfQueries, [key, value]: [&CubeTensor; 2], how: How, largest: usize) -> [CubeTensor; 3] {
    let [heads, queries, _] = all.query.meta.shape().dims();
    let [_, keys, _] = key.meta.shape().dims();
    let together = (largest / (queries * keys)).clamp(1, heads);
    let portion = (largest / keys).clamp(1, queries);
    let part = |x: &CubeTensor, heads: [usize; 2], tokens: [usize; 2]| {
        let slices = [Slice::from(heads[0]..heads[1]), Slice::from(tokens[0]..tokens[1]), Slice::full()];
        let slices = &slices[..x.meta.num_dims()];
        into_contiguous(CubeBackend::float_slice(x.clone(), slices))
    };
    let mut found: [Vec<CubeTensor>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for head in (0..heads).step_by(together) {
        let some = [head, (head + together).min(heads)];
        let (key, value) = (part(key, some, [0, keys]), part(value, some, [0, keys]));
        let mut of_queries = Vec::new();
        let mut of_others: Option<[CubeTensor; 2]> = None;
        for from in (0..queries).step_by(portion) {
            let tokens = [from, (from + portion).min(queries)];
            let of_part = OfQueries {
                query: part(&all.query, some, tokens),
                gradient: part(&all.gradient, some, tokens),
                starts: part(&all.starts, some, tokens),
                means: part(&all.means, some, tokens),
            };
            let [of_query, of_key, of_value] = of_part.gradients(&key, &value, how);
            of_queries.push(of_query);
            of_others = Some(match of_others {
                None => [of_key, of_value],
                Some([keys, values]) => {
                    [CubeBackend::float_add(keys, of_key), CubeBackend::float_add(values, of_value)]
                }
            });
        }
        found[0].push(joined(of_queries, 1));
        let [of_key, of_value] = of_others.expect("a portion of the queries");
        found[1].push(of_key);
        found[2].push(of_value);
    }
    found.map(|parts| joined(parts, 0))
}

fn joined(mut parts: Vec<CubeTensor>, axis: usize) -> CubeTensor {
    if parts.len() == 1 { parts.remove(0) } else { CubeBackend::float_cat(parts, axis) }
}

impl OfQueries {
    /// With P = softmax(scale·Q·Kᵀ), which is exp(scale·(Q·Kᵀ + starts)), and the gradient G of P·V: Pᵀ·G for the values, and with
    /// S = scale·P ∘ (G·Vᵀ - means) S·K for the queries and Sᵀ·Q for the keys.
    fn gradients(self, key: &CubeTensor, value: &CubeTensor, how: How) -> [CubeTensor; 3] {
        let Self { query, gradient, starts, means } = self;
        let dtype = FloatDType::from(query.dtype);
        // Scores and their gradients are not rounded: what is subtracted from them is about as large.
        let wide = |left: &CubeTensor, right: &CubeTensor| {
            product(left.clone(), right.clone(), Turned { left: false, right: true }, true, how.by)
        };
        let times = |left: &CubeTensor, right: &CubeTensor, turned| {
            product(left.clone(), right.clone(), Turned { left: turned, right: false }, false, how.by)
        };
        let weights = weights(wide(&query, key), &starts, how.scale);
        let of_value = times(&CubeBackend::float_cast(weights.clone(), dtype), &gradient, true);
        let of_scores = gradients_of_scores(wide(&gradient, value), &weights, &means, how.scale);
        let of_scores = CubeBackend::float_cast(of_scores, dtype);
        [times(&of_scores, key, false), times(&of_scores, &query, true), of_value]
    }
}

/// `left·right`, in `f32` if it is `wide`.
fn product(left: CubeTensor, right: CubeTensor, turned: Turned, wide: bool, by: By) -> CubeTensor {
    match by {
        #[cfg(feature = "vulkan")]
        By::Planes { .. } => by_matrices(left, right, turned, wide),
        By::Single if wide => {
            let [left, right] = [left, right].map(|x| CubeBackend::float_cast(x, FloatDType::F32));
            times(left, right, turned)
        }
        By::Single => times(left, right, turned),
    }
}

/// A product by matrices of a workgroup or of a plane. Burn's products would be tried out first, for seconds.
#[cfg(feature = "vulkan")]
fn by_matrices(left: CubeTensor, right: CubeTensor, turned: Turned, wide: bool) -> CubeTensor {
    if !wide && workgroup::multiplies(&left, &right, turned) {
        let (left, right) = (into_contiguous(left), into_contiguous(right));
        let nothing = Added::nothing(&right);
        return workgroup::product(left, right, turned, nothing);
    }
    let to = if wide { DType::F32 } else { left.dtype };
    if planes::reaches(&left, &right, turned) {
        return planes::product_of_any(into_contiguous(left), into_contiguous(right), turned, to);
    }
    CubeBackend::float_cast(times(left, right, turned), FloatDType::from(to))
}
