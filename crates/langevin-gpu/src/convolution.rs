//! Convolutions in half precision, by matrices of a workgroup: an image with a border of zeros is read at nine places, and each
//! place is a matrix product.

mod kernels;
mod ops;
mod tile;

use burn::tensor::{DType, Device, Tensor};

use ops::{ConvolutionOps, Dispatch};

/// Whether [`convolve`] can be asked for: 3 x 3, stride 1, one pixel of padding, channels in multiples of 32, `f16`, and
/// a Vulkan driver with `VK_NV_cooperative_matrix2`.
#[must_use]
pub fn convolves(device: &Device, dtype: DType, channels: [usize; 2]) -> bool {
    channels.iter().all(|channels| channels.is_multiple_of(32)) && crate::workgroup::multiplies(device, dtype)
}

/// The convolution of an image with a 3 x 3 kernel, stride 1, one pixel of padding.
///
/// # Shapes
///
/// - image: `[batch, height, width, input]`
/// - weight: `[output, input, 3, 3]`
/// - output: `[batch, height, width, output]`
///
/// # Panics
///
/// On the device, if it does not [`convolves`].
#[must_use]
pub fn convolve(image: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::convolve(image.into_dispatch(), weight.into_dispatch()))
}
