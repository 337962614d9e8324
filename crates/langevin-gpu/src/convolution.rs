//! Convolutions in half precision, by matrices of a workgroup: pixels are rows of a matrix, and their nine neighbours are nine
//! matrix products.

mod kernels;
mod normalized;
mod ops;

use burn::tensor::{DType, Device, Tensor};

use crate::additions::Additions;
use crate::sheet::{PIXELS, Sheet};
use crate::{Normalization, workgroup};
use kernels::MULTIPLE;
use normalized::NormalizedOps;
use ops::{ConvolutionOps, Dispatch};

/// Whether [`convolve`] can be asked for an image `[batch, height, width, input]`: a Vulkan driver with
/// `VK_NV_cooperative_matrix2`, `f16`, 32 or more channels on one side at least (the other is filled up with zeros to a multiple of
/// 32), and no more pixels than one launch of a kernel reaches.
#[must_use]
pub fn convolves(device: &Device, dtype: DType, image: [usize; 4], output: usize) -> bool {
    let [batch, height, width, input] = image;
    if input.max(output) < MULTIPLE || batch * height * width * input * output == 0 || dtype != DType::F16 {
        return false;
    }
    let [input, output] = [input, output].map(|channels| channels.next_multiple_of(MULTIPLE));
    let pixels = Sheet { batch, height, width }.pixels();
    // Indices in kernels are of 32 bits.
    let reached =
        pixels.saturating_mul(input.max(output)) <= i32::MAX as usize && 9 * input * output <= i32::MAX as usize;
    reached && pixels / PIXELS < crate::LARGEST_COUNT && workgroup::multiplies(device, dtype, crate::THREADS)
}

/// A weight `[output, input, 3, 3]`, the same, in the order of memory that [`convolve`] reads: other orders it changes at every call.
///
/// # Panics
///
/// If the weight is part of a graph of gradients, or no weight of a 3 x 3 kernel.
#[must_use]
pub fn arranged<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
    assert!(matches!(weight.dims()[..], [_, _, 3, 3]), "a weight of a 3 x 3 kernel");
    Tensor::from_dispatch(Dispatch::arranged(weight.into_dispatch()))
}

fn check(image: &Tensor<4>, weight: &Tensor<4>) {
    let ([_, _, _, input], output, dtype) = (image.dims(), weight.dims()[0], image.dtype());
    assert!(convolves(&image.device(), dtype, image.dims(), output), "no kernel for this convolution");
    assert_eq!((weight.dims(), weight.dtype()), ([output, input, 3, 3], dtype), "the weight");
}

/// The convolution of an image with a 3 x 3 kernel, a stride, one pixel of padding, and what is added to it. With a stride the others are
/// computed, too, and thrown away.
///
/// # Shapes
///
/// - image: `[batch, height, width, input]`
/// - weight: `[output, input, 3, 3]`
/// - output: `[batch, height / stride, width / stride, output]`, rounded up
///
/// # Panics
///
/// If it cannot be asked for ([`convolves`]), or a tensor has another type or shape than these.
#[must_use]
pub fn convolve(image: Tensor<4>, weight: Tensor<4>, stride: usize, additions: Additions) -> Tensor<4> {
    check(&image, &weight);
    assert!(stride > 0, "a stride of zero");
    let [batch, height, width, _] = image.dims();
    let shape = [batch, height.div_ceil(stride), width.div_ceil(stride), weight.dims()[0]];
    let (bias, added, form) = additions.with(shape, &weight);
    Tensor::from_dispatch(Dispatch::convolve(image.into_dispatch(), weight.into_dispatch(), bias, added, stride, form))
}

/// As [`convolve`] with stride 1, of an image that is [normalized](crate::group_norm) before: it goes to the convolution in the order that is read
/// there. Nothing in between is kept for the gradients.
///
/// # Shapes
///
/// - scale and shift of the normalization: `[input]`
///
/// # Panics
///
/// As [`convolve`].
#[must_use]
pub fn convolve_normalized(
    image: Tensor<4>,
    [scale, shift]: [Tensor<1>; 2],
    normalization: Normalization,
    weight: Tensor<4>,
    additions: Additions,
) -> Tensor<4> {
    check(&image, &weight);
    let ([batch, height, width, input], dtype) = (image.dims(), image.dtype());
    for tensor in [&scale, &shift] {
        assert_eq!((tensor.dims(), tensor.dtype()), ([input], dtype), "scale and shift of the normalization");
    }
    let (bias, added, form) = additions.with([batch, height, width, weight.dims()[0]], &weight);
    Tensor::from_dispatch(Dispatch::convolve_normalized(
        image.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        weight.into_dispatch(),
        bias,
        added,
        normalization,
        form,
    ))
}
