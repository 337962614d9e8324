//! Convolution as one matrix product.

use burn::tensor::ops::PadMode;
use burn::tensor::{Slice, Tensor};

use super::super::linear::map_adding;
use super::{channels_first, channels_last, output_size, plus};

/// Channels last, the image is shifted once for each entry of the kernel; the shifted images side by side are the table
/// of patches. What is added is of the output's shape, or `[batch, output, 1, 1]`.
pub(super) fn product(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
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
    // Views of the same order for all: no dimension of size one is moved (see [`channels_last`]). The gradient comes back the same way, and
    // the optimizer reads it in fused kernels.
    let weight = channels_last(weight).reshape([output, k * l * input]);
    let whole = |added: &Tensor<4>| added.dims() == [batch, output, rows, columns];
    let (added, shift) = if added.as_ref().is_some_and(whole) { (added, None) } else { (None, added) };
    let y = map_adding(patches, weight, bias, added.map(channels_last));
    plus(channels_first(y), shift)
}
