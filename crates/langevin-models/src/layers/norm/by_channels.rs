//! Group normalization without a change of the memory layout.

use burn::tensor::Tensor;

use super::widen;

/// Pixels in the first of two sums over an image. Each sum of a channel is one thread, and there should be many.
const STRIP: usize = 32;

/// `(x - mean) / √(variance + ε) · weight + bias` of each group of channels, from mean and variance of each channel.
///
/// On GPUs a convolution returns channels last, and Burn's fused kernels keep that order. The sums here are over pixels, in
/// the order in which they lie, and what is done to each value is written in the shape it has: nothing is copied. Channels
/// are joined to groups by the law of total variance, which needs no difference of large numbers.
pub(super) fn group_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    epsilon: f64,
) -> Tensor<D> {
    let (shape, dtype) = (x.dims(), x.dtype());
    let [batch, channels] = [shape[0], shape[1]];
    let pixels: usize = shape[2..].iter().product();
    let mut broadcast = [1; D];
    broadcast[0] = batch;
    broadcast[1] = channels;
    let count = (1..=pixels / STRIP).rev().find(|n| pixels.is_multiple_of(*n)).unwrap_or(1);
    let by_strips = |x: Tensor<D>| {
        let last = [batch, count, pixels / count, channels];
        // Fused kernels misread views that have moved a dimension of size one.
        if channels == 1 || pixels == 1 {
            return x.reshape(last);
        }
        x.permute(std::array::from_fn::<isize, D, _>(|i| match i {
            0 => 0,
            i if i + 1 == D => 1,
            i => i as isize + 1,
        }))
        .reshape(last)
    };
    let strips = by_strips(x.clone());
    // Widened for each sum on its own: a fused kernel reads half precision then, and writes nothing wider.
    let mean = widen(strips.clone()).mean_dim(2).mean_dim(1);
    let variance = (widen(strips) - mean.clone()).square().mean_dim(2).mean_dim(1);

    let of_groups = |t: Tensor<4>| t.reshape([batch, groups, channels / groups]);
    let (means, variances) = (of_groups(mean), of_groups(variance));
    let mean = means.clone().mean_dim(2);
    let variance = variances.mean_dim(2) + (means - mean.clone()).square().mean_dim(2);
    let inverse = (variance + epsilon).sqrt().recip();

    let of_channels = |t: Tensor<3>| t.expand([batch, groups, channels / groups]).reshape([batch, channels]);
    let scale = of_channels(inverse) * widen(weight).reshape([1, channels]);
    let mut of_all = [1; D];
    of_all[1] = channels;
    let centered = widen(x) - of_channels(mean).reshape(broadcast);
    (centered * scale.reshape(broadcast) + widen(bias).reshape(of_all)).cast(dtype)
}
