//! Attention that never writes its scores: in half precision by matrices of a plane, and by single numbers where no hardware multiplies
//! matrices of a type, `f32` above all.

#[cfg(feature = "vulkan")]
mod gradient_by_planes;
mod gradient_by_products;
mod ops;
#[cfg(feature = "vulkan")]
mod planes;
mod scores;
mod single;

use burn::tensor::{DType, Device, Tensor};

use ops::{AttentionOps, Dispatch};

/// Who computes attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Single numbers.
    Single,
    /// Matrices of a plane, and where heads are narrow enough the gradient, too.
    #[cfg(feature = "vulkan")]
    Planes { back: bool },
}

/// What is computed, and by whom.
#[derive(Clone, Copy, Debug)]
struct How {
    scale: f64,
    by: By,
}

impl By {
    /// For queries `[heads, queries, d]` and values `[heads, keys, width]`.
    fn of(device: &Device, dtype: DType, queries: [usize; 3], values: [usize; 3]) -> Option<Self> {
        #[cfg(feature = "vulkan")]
        if planes::serves(queries, values) && crate::planes::multiplies(device, dtype) {
            return Some(Self::Planes { back: gradient_by_planes::serves(queries, values) });
        }
        single::serves(&crate::client(device)?, dtype, queries, values).then_some(Self::Single)
    }
}

/// Whether [`attend`] can be asked for queries `[heads, queries, d]` and values `[heads, keys, width]`, with no more heads than one launch of a
/// kernel reaches: by matrices of a plane, of a Vulkan driver with `VK_NV_cooperative_matrix2` and planes (subgroups) of 32 threads in `f16`,
/// with at most 256 numbers for d and width; by single numbers, of every device that compiles kernels, has no matrices of this type in
/// hardware and 32 KiB of memory for a workgroup, in `f32`, `f16` and `bf16`, with at most 128 numbers for width. Nothing is empty.
#[must_use]
pub fn attends(device: &Device, dtype: DType, queries: [usize; 3], values: [usize; 3]) -> bool {
    By::of(device, dtype, queries, values).is_some()
}

/// `softmax(scale·q·kᵀ)·v` of each head, for a positive scale. Going back, the scores are computed again: by matrices of a plane, too, for
/// heads of at most 128 numbers in `f16`, and else by products of some heads at a time.
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
/// Dao et al. 2022, [arXiv:2205.14135](https://arxiv.org/abs/2205.14135), for the tiles. By matrices of a plane, what is subtracted from the
/// scores is not their largest so far, but follows it where a weight would pass e⁷: between, nothing is scaled anew.
///
/// # Panics
///
/// If it cannot be asked for ([`attends`]), the scale is not positive, or the types differ.
#[must_use]
pub fn attend(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, scale: f64) -> Tensor<3> {
    let dtype = query.dtype();
    let by = By::of(&query.device(), dtype, query.dims(), value.dims()).expect("a kernel for this attention");
    assert!(key.dtype() == dtype && value.dtype() == dtype, "queries, keys and values of one type");
    assert!(scale > 0.0, "a scale that keeps the largest score the largest");
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(query, key, value, How { scale, by }))
}
