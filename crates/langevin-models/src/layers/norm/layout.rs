//! Images with channels last, whatever their rank.

use burn::tensor::Tensor;

/// Applies a function to an image as `[batch, pixels, channels]`, and returns an image.
pub(super) fn channels_last<const D: usize>(x: Tensor<D>, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<D> {
    let shape = x.dims();
    let [batch, channels] = [shape[0], shape[1]];
    let pixels: usize = shape[2..].iter().product();
    // Fused kernels misread views that have moved a dimension of size one.
    if channels == 1 || pixels == 1 {
        return f(x.reshape([batch, pixels, channels])).reshape(shape);
    }
    let y = f(x.permute(to_last::<D>()).reshape([batch, pixels, channels]));
    let last: [usize; D] = std::array::from_fn(|i| shape[to_last::<D>()[i] as usize]);
    let first: [isize; D] = std::array::from_fn(|i| match i {
        0 => 0,
        1 => D as isize - 1,
        i => i as isize - 1,
    });
    y.reshape(last).permute(first)
}

/// The order of axes that puts channels last.
fn to_last<const D: usize>() -> [isize; D] {
    std::array::from_fn(|i| match i {
        0 => 0,
        i if i + 1 == D => 1,
        i => i as isize + 1,
    })
}
