//! Images with channels last, whatever their rank.

use crate::layers::permuted;
use burn::tensor::Tensor;

/// Applies a function to an image as `[batch, pixels, channels]`, and returns an image.
pub(super) fn channels_last<const D: usize>(x: Tensor<D>, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<D> {
    let shape = x.dims();
    let [batch, channels] = [shape[0], shape[1]];
    let pixels: usize = shape[2..].iter().product();
    let y = f(permuted(x, to_last::<D>()).reshape([batch, pixels, channels]));
    let last: [usize; D] = to_last::<D>().map(|axis| shape[axis]);
    let first = std::array::from_fn(|i| match i {
        0 => 0,
        1 => D - 1,
        i => i - 1,
    });
    permuted(y.reshape(last), first)
}

/// The order of axes that puts channels last.
fn to_last<const D: usize>() -> [usize; D] {
    std::array::from_fn(|i| match i {
        0 => 0,
        i if i + 1 == D => 1,
        i => i + 1,
    })
}
