//! Convolutions in half precision, by matrices of a workgroup: an image with a border of zeros is read at nine places, and each
//! place is a matrix product.

mod kernels;
mod ops;
mod tile;

use burn::tensor::{DType, Device, Tensor};

use ops::{ConvolutionOps, Dispatch};

/// Whether [`convolve`] can be asked for an image `[batch, height, width, input]`: a Vulkan driver with
/// `VK_NV_cooperative_matrix2`, `f16`, channels in multiples of 32, and no more pixels than one launch of a kernel reaches.
#[must_use]
pub fn convolves(device: &Device, dtype: DType, image: [usize; 4], output: usize) -> bool {
    let [batch, height, width, input] = image;
    let tiles = tile::Tile::covering(kernels::PIXELS, [batch, height, width], 32, 32).counts([batch, height, width]);
    let largest =
        (batch + kernels::PIXELS) * (height + kernels::PIXELS) * (width + kernels::PIXELS) * input.max(output);
    let fits = tiles.iter().product::<usize>() <= crate::LARGEST_COUNT && largest <= i32::MAX as usize;
    fits && input.is_multiple_of(32) && output.is_multiple_of(32) && crate::workgroup::multiplies(device, dtype)
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
