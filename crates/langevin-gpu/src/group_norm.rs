//! Group normalization with the activation after it, channels last.
//!
//! Forward the image is read twice, or three times by one workgroup where groups are small, and written once; backward image and gradient are read twice each. All sums are in `f32`.

mod kernels;
mod ops;
mod whole;

use burn::tensor::{DType, Device, Tensor};

use crate::LARGEST_COUNT;
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

/// Whether [`group_norm`] can be asked for images `[batch, pixels, channels]`: of a device whose backend compiles kernels, in 16 or 32 bits,
/// where there are any numbers, and no more groups of all samples than one launch of a kernel reaches.
#[must_use]
pub fn normalizes(device: &Device, dtype: DType, [batch, pixels, channels]: [usize; 3], groups: usize) -> bool {
    crate::compiles_kernels(device)
        && matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
        && batch * pixels * channels > 0
        && batch * groups <= LARGEST_COUNT
}

/// `(x - mean) / √(variance + ε) · weight + bias` for each group of channels of each sample, with SiLU after it if asked
/// for. Half-precision inputs are normalized in `f32` and returned in their own type.
///
/// # Shapes
///
/// - x and output: `[batch, pixels, channels]`
/// - weight and bias: `[channels]`, of the type of x
///
/// # Panics
///
/// If the shapes or types do not fit, or it cannot be asked for ([`normalizes`]).
///
/// # References
///
/// Wu, He 2018, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
#[must_use]
pub fn group_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, normalization: Normalization) -> Tensor<3> {
    let ([_, _, channels], dtype, groups) = (x.dims(), x.dtype(), normalization.groups);
    assert!(normalizes(&x.device(), dtype, x.dims(), groups), "an image that the kernel normalizes");
    assert!(groups > 0 && channels.is_multiple_of(groups), "{groups} groups of {channels} channels");
    for parameter in [&weight, &bias] {
        assert_eq!((parameter.dims(), parameter.dtype()), ([channels], dtype), "a parameter of the normalization");
    }
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::group_norm(x, weight, bias, normalization))
}
