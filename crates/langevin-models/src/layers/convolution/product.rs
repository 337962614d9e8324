//! Convolution as one matrix product.

use burn::tensor::ops::PadMode;
use burn::tensor::{Slice, Tensor};

use super::super::multiply;
use super::{channels_first, channels_last, output_size};

/// Channels last, the image is shifted once for each entry of the kernel; the shifted images side by side are the table
/// of patches.
pub(super) fn product(x: Tensor<4>, weight: Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Tensor<4> {
    let [batch, input, height, width] = x.dims();
    let [output, _, k, l] = weight.dims();
    let [rows, columns] = output_size([height, width], [k, l], stride, padding);
    let x = channels_last(x);
    let [down, across] = padding.map(|p| (p, p));
    let x = if padding == [0, 0] { x } else { x.pad([(0, 0), down, across, (0, 0)], PadMode::Constant(0.0)) };
    let along = |from: usize, count: usize, stride: usize| {
        Slice::new(from as isize, Some((from + stride * (count - 1) + 1) as isize), stride as isize)
    };
    let shifted = (0..k * l).map(|at| {
        let (i, j) = (at / l, at % l);
        x.clone().slice([Slice::full(), along(i, rows, stride[0]), along(j, columns, stride[1]), Slice::full()])
    });
    let patches = if k * l == 1 && stride == [1, 1] { x } else { Tensor::cat(shifted.collect(), 3) };
    let patches = patches.reshape([batch * rows * columns, k * l * input]);
    // Views of the same order for all: no dimension of size one is moved (see [`channels_last`]). The gradient comes back the same way, and
    // the optimizer reads it in fused kernels.
    let weight = channels_last(weight).reshape([output, k * l * input]);
    channels_first(multiply(patches, weight, true).reshape([batch, rows, columns, output]))
}
