//! Attention in half precision that never writes its scores, by matrices of a workgroup.

mod kernels;
mod ops;

use burn::tensor::{DType, Device, Tensor};

use ops::{AttentionOps, Dispatch};

/// Whether [`attend`] can be asked for: keys in multiples of 32, heads of at most 160 numbers, `f16`, and a Vulkan
/// driver with `VK_NV_cooperative_matrix2`.
#[must_use]
pub fn attends(device: &Device, dtype: DType, keys: usize, widths: [usize; 2]) -> bool {
    keys > 0
        && keys.is_multiple_of(kernels::KEYS)
        && widths.iter().all(|width| (1..=160).contains(width))
        && crate::workgroup::multiplies(device, dtype)
}

/// `softmax(scale·q·kᵀ)·v` of each head, for a positive scale. Going back, the scores are computed again.
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
/// Dao et al. 2022, [arXiv:2205.14135](https://arxiv.org/abs/2205.14135), for the tiles. The largest score of each query is found
/// beforehand, in a pass of its own over the keys, where they carry it along.
///
/// # Panics
///
/// On the device, if it does not [`attends`].
#[must_use]
pub fn attend(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, scale: f64) -> Tensor<3> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(query, key, value, scale))
}
