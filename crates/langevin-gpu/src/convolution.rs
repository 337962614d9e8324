//! Convolutions in half precision, by matrices of a workgroup: an image with a border of zeros is read at nine places, and each
//! place is a matrix product.

mod kernels;
mod ops;
mod tile;

use burn::tensor::{DType, Device, Tensor};

use ops::{ConvolutionOps, Dispatch};
use tile::Tile;

/// Whether [`convolve`] can be asked for an image `[batch, height, width, input]`: a Vulkan driver with
/// `VK_NV_cooperative_matrix2`, `f16`, channels in multiples of 32, and no more pixels than one launch of a kernel reaches.
#[must_use]
pub fn convolves(device: &Device, dtype: DType, image: [usize; 4], output: usize) -> bool {
    let [batch, height, width, input] = image;
    let places = [batch, height, width];
    let fits = [kernels::PIXELS, kernels::SUMMED].into_iter().all(|pixels| {
        let tile = Tile::covering(pixels, places, 32, 32);
        let [batch, height, width] = tile.padded(places);
        let values = batch * (height + 2) * (width + 2) * input.max(output);
        tile.counts(places).iter().product::<usize>() <= crate::LARGEST_COUNT && values <= i32::MAX as usize
    });
    let channels = [input, output].iter().all(|channels| *channels > 0 && channels.is_multiple_of(32));
    let values = 9 * input * output <= i32::MAX as usize && places.iter().product::<usize>() > 0;
    channels && values && fits && crate::workgroup::multiplies(device, dtype)
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
/// If it cannot be asked for ([`convolves`]), or image and weight have different types.
#[must_use]
pub fn convolve(image: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    assert!(
        convolves(&image.device(), image.dtype(), image.dims(), weight.dims()[0]),
        "no kernel for this convolution"
    );
    assert_eq!(image.dtype(), weight.dtype(), "an image and a weight of one type");
    Tensor::from_dispatch(Dispatch::convolve(image.into_dispatch(), weight.into_dispatch()))
}
