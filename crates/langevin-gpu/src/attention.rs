//! Attention in half precision that never writes its scores, by matrices of a plane.

mod gradient;
mod kernels;
mod ops;

use burn::tensor::{DType, Device, Tensor};

use ops::{AttentionOps, Dispatch};

/// Whether [`attend`] can be asked for queries `[heads, queries, d]` and values `[heads, keys, width]`: a Vulkan driver with
/// `VK_NV_cooperative_matrix2` and planes (subgroups) of 32 threads, `f16`, at most 256 numbers for d and width, and no more heads than one
/// launch of a kernel reaches.
#[must_use]
pub fn attends(device: &Device, dtype: DType, queries: [usize; 3], values: [usize; 3]) -> bool {
    kernels::serves(queries, values) && crate::planes::multiplies(device, dtype)
}

/// `softmax(scale·q·kᵀ)·v` of each head, for a positive scale. Going back, the scores are computed again: by matrices of a plane, too, for
/// heads of at most 128 numbers, and by products of some heads at a time for wider ones.
///
/// # Shapes
///
/// - query: `[heads, queries, d]`
/// - key: `[heads, keys, d]`
/// - value: `[heads, keys, width]`
/// - output: `[heads, queries, width]`
///
/// # References
///
/// Dao et al. 2022, [arXiv:2205.14135](https://arxiv.org/abs/2205.14135), for the tiles. What is subtracted from the scores is not their
/// largest so far, but follows it where a weight would pass e⁷: between, nothing is scaled anew.
///
/// # Panics
///
/// If it cannot be asked for ([`attends`]), the scale is not positive, or the types differ.
#[must_use]
pub fn attend(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, scale: f64) -> Tensor<3> {
    let dtype = query.dtype();
    assert!(attends(&query.device(), dtype, query.dims(), value.dims()), "no kernel for this attention");
    assert!(key.dtype() == dtype && value.dtype() == dtype, "queries, keys and values of one type");
    assert!(scale > 0.0, "a scale that keeps the largest score the largest");
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(query, key, value, scale))
}
