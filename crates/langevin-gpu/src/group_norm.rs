//! Group normalization with the activation after it, channels last.
//!
//! Forward the image is read twice, or three times by one workgroup where groups are small, and written once; backward image and gradient are read twice each. All sums are in `f32`.

mod kernels;
mod ops;
mod whole;

use burn::tensor::Tensor;

use ops::Dispatch;
pub(crate) use ops::GroupNormOps;
#[cfg(feature = "vulkan")]
pub(crate) use {ops::normalized, whole::at_once};

/// How to normalize.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Groups, which divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether SiLU comes after.
    pub silu: bool,
}

/// `(x - mean) / √(variance + ε) · weight + bias` for each group of channels of each sample, with SiLU after it if asked
/// for. Half-precision inputs are normalized in `f32` and returned in their own type.
///
/// # Shapes
///
/// - x and output: `[batch, pixels, channels]`
/// - weight and bias: `[channels]`
///
/// # References
///
/// Wu, He 2018, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
#[must_use]
pub fn group_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, normalization: Normalization) -> Tensor<3> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::group_norm(x, weight, bias, normalization))
}
