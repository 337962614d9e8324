//! Halving and doubling the height and width of images.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Int, Tensor, module};

use super::convolution::{channels_first, channels_last, compiles_kernels};
use super::widen;

/// Doubles height and width by repeating every pixel.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, 2·height, 2·width]`
pub fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::double(&x) {
        return y;
    }
    let [batch, channels, height, width] = x.dims();
    // Burn expands nothing of nothing.
    if x.shape().num_elements() == 0 {
        return x.reshape([batch, channels, 2 * height, 2 * width]);
    }
    // One strided copy; its gradient is a sum, on every backend.
    if compiles_kernels(&x.device()) {
        let rows = channels_last(x).reshape([batch * height, 1, width, 1, channels]);
        let y = rows.expand([batch * height, 2, width, 2, channels]);
        return channels_first(y.reshape([batch, 2 * height, 2 * width, channels]));
    }
    x.reshape([batch * channels, height, 1, width, 1]).expand([batch * channels, height, 2, width, 2]).reshape([
        batch,
        channels,
        2 * height,
        2 * width,
    ])
}

/// Brings height and width to `size` by repeating pixels: pixel `i` of `n` comes from `⌊i·old/n⌋`.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, size[0], size[1]]`
pub fn upsample_nearest(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    if size == [2 * height, 2 * width] {
        return upsample_nearest_2x(x);
    }
    let device = x.device();
    let rows = |new: usize, old: usize| {
        let from: Vec<i64> = (0..new).map(|i| (i * old / new) as i64).collect();
        Tensor::<1, Int>::from_data(from.as_slice(), &device)
    };
    // The gradient is a sum of as many numbers as a pixel is repeated, in the type of what is selected.
    let dtype = x.dtype();
    let x = if x.is_autodiff() { widen(x) } else { x };
    x.select(2, rows(size[0], height)).select(3, rows(size[1], width)).cast(dtype)
}

/// Halves height and width by averaging blocks of 2 × 2 pixels. Both must be even.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, height/2, width/2]`
pub fn avg_pool_2x(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::halve(&x) {
        return y;
    }
    let [batch, channels, height, width] = x.dims();
    let pairs = x.reshape([batch * channels * height / 2, 2, width / 2, 2]);
    pairs.sum_dim(3).sum_dim(1).mul_scalar(0.25).reshape([batch, channels, height / 2, width / 2])
}

/// The separable filter (1, 3, 3, 1), whose weights sum to `gain`.
fn fir_kernel(gain: f32, like: &Tensor<4>) -> Tensor<4> {
    let taps = [1.0f32, 3.0, 3.0, 1.0];
    let weights: Vec<f32> = taps.iter().flat_map(|a| taps.iter().map(move |b| a * b * gain / 64.0)).collect();
    Tensor::<1>::from_data(weights.as_slice(), (&like.device(), like.dtype())).reshape([1, 1, 4, 4])
}

/// Halves height and width after smoothing with the filter (1, 3, 3, 1)/8 along both axes. Pixels outside
/// the image are zero. Height and width must be even.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, height/2, width/2]`
///
/// # References
///
/// Song et al. 2021, [arXiv:2011.13456](https://arxiv.org/abs/2011.13456), appendix H (anti-aliased resampling after
/// Karras et al. 2020, [arXiv:1912.04958](https://arxiv.org/abs/1912.04958)).
pub fn fir_downsample_2x(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let kernel = fir_kernel(1.0, &x);
    let options = ConvOptions::new([2, 2], [1, 1], [1, 1], 1);
    module::conv2d(x.reshape([batch * channels, 1, height, width]), kernel, None, options).reshape([
        batch,
        channels,
        height / 2,
        width / 2,
    ])
}

/// Doubles height and width by inserting zeros and smoothing with the filter (1, 3, 3, 1)/4 along both axes.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels, 2·height, 2·width]`
///
/// # References
///
/// As [`fir_downsample_2x`].
pub fn fir_upsample_2x(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let kernel = fir_kernel(4.0, &x);
    // Inserting zeros before a convolution is a transposed convolution; the filter is symmetric.
    let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
    module::conv_transpose2d(x.reshape([batch * channels, 1, height, width]), kernel, None, options).reshape([
        batch,
        channels,
        2 * height,
        2 * width,
    ])
}

/// The image with one more pixel on each side, the mirror image of the one behind the border. Sides are 2 or more.
fn mirrored(x: Tensor<4>) -> Tensor<4> {
    let along = |x: Tensor<4>, axis: usize| {
        let side = x.dims()[axis];
        let [before, after] = [1, side - 2].map(|i| x.clone().narrow(axis, i, 1));
        Tensor::cat(vec![before, x, after], axis)
    };
    along(along(x, 2), 3)
}

/// [`fir_downsample_2x`] with the image mirrored at its border instead of zeros around it. Sides are even.
pub(crate) fn smooth_downsample_2x(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let kernel = fir_kernel(1.0, &x);
    let x = mirrored(x).reshape([batch * channels, 1, height + 2, width + 2]);
    let y = module::conv2d(x, kernel, None, ConvOptions::new([2, 2], [0, 0], [1, 1], 1));
    y.reshape([batch, channels, height / 2, width / 2])
}

/// [`fir_upsample_2x`] with the image mirrored at its border instead of zeros around it. Sides are 2 or more.
pub(crate) fn smooth_upsample_2x(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    // The border makes two pixels on each side, which are cut off.
    fir_upsample_2x(mirrored(x)).narrow(2, 2, 2 * height).narrow(3, 2, 2 * width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    fn image() -> Tensor<4> {
        tensor([2, 3, 4, 6], 0.3, &flex())
    }

    #[test]
    fn nearest_repeats_pixels() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0], [3.0, 4.0]]]], &flex());
        let expected = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0];
        let y = upsample_nearest_2x(x);
        assert_eq!(y.dims(), [1, 1, 4, 4]);
        assert_close(&y, &expected, 0.0);
    }

    #[test]
    fn pooling_undoes_nearest() {
        let x = image();
        let back = avg_pool_2x(upsample_nearest_2x(x.clone()));
        assert_close(&back, &values(&x), 1e-6);
    }

    #[test]
    fn pooling_averages_blocks() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 5.0, 7.0], [3.0, 6.0, 0.0, 4.0]]]], &flex());
        assert_close(&avg_pool_2x(x), &[3.0, 4.0], 1e-6);
    }

    /// Every output pixel of the upsampling filter along one axis: 3/4 of the nearest input, 1/4 of the next.
    fn up(row: &[f64]) -> Vec<f64> {
        let at = |i: isize| usize::try_from(i).ok().and_then(|i| row.get(i)).copied();
        (0..2 * row.len())
            .map(|n| {
                let i = (n / 2) as isize;
                let next = if n % 2 == 0 { i - 1 } else { i + 1 };
                0.75 * at(i).unwrap_or(0.0) + 0.25 * at(next).unwrap_or(0.0)
            })
            .collect()
    }

    fn down(row: &[f64]) -> Vec<f64> {
        let at = |i: isize| usize::try_from(i).ok().and_then(|i| row.get(i)).copied();
        (0..row.len() / 2)
            .map(|n| {
                let i = 2 * n as isize;
                [(i - 1, 1.0), (i, 3.0), (i + 1, 3.0), (i + 2, 1.0)]
                    .iter()
                    .map(|&(i, w)| w / 8.0 * at(i).unwrap_or(0.0))
                    .sum()
            })
            .collect()
    }

    /// Applies a one-dimensional filter along both axes of an image.
    fn both(x: &[f64], width: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let rows: Vec<Vec<f64>> = x.chunks(width).map(&f).collect();
        let columns: Vec<Vec<f64>> =
            (0..rows[0].len()).map(|c| f(&rows.iter().map(|r| r[c]).collect::<Vec<_>>())).collect();
        (0..columns[0].len()).flat_map(|r| columns.iter().map(move |c| c[r])).collect()
    }

    #[test]
    fn filters_agree_with_their_definition() {
        let x = image();
        let planes = values(&x);
        let expected =
            |f: fn(&[f64]) -> Vec<f64>| -> Vec<f64> { planes.chunks(24).flat_map(|plane| both(plane, 6, f)).collect() };
        assert_close(&fir_upsample_2x(x.clone()), &expected(up), 1e-6);
        assert_close(&fir_downsample_2x(x), &expected(down), 1e-6);
    }

    #[test]
    fn mirrored_filters_keep_the_border_of_a_ramp() {
        // Along each axis 0, 1, .. 5 with mirror images of 1 and 4 beside them.
        let ramp: Vec<f64> = (0..36).map(|i| f64::from(i % 6)).collect();
        let x = Tensor::<1>::from_data(ramp.as_slice(), (&flex(), burn::tensor::DType::F32)).reshape([1, 1, 6, 6]);
        let row = [[1.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 4.0]]
            .map(|[a, b, c, d]| (a + 3.0 * b + 3.0 * c + d) / 8.0);
        assert_close(&smooth_downsample_2x(x.clone()), &row.repeat(3), 1e-6);
        let row = [0.25, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 4.75];
        assert_close(&smooth_upsample_2x(x), &row.repeat(12), 1e-6);
    }

    #[test]
    fn gradients_are_the_transposed_maps() {
        // <A x, y> = <x, Aᵀ y>: the sum of the gradient against x is the value of the linear form.
        let device = flex().autodiff();
        type Map = fn(Tensor<4>) -> Tensor<4>;
        let maps: [(Map, [usize; 4]); 6] = [
            (upsample_nearest_2x, [1, 2, 8, 8]),
            (avg_pool_2x, [1, 2, 2, 2]),
            (fir_upsample_2x, [1, 2, 8, 8]),
            (fir_downsample_2x, [1, 2, 2, 2]),
            (smooth_upsample_2x, [1, 2, 8, 8]),
            (smooth_downsample_2x, [1, 2, 2, 2]),
        ];
        for (map, shape) in maps {
            let x = tensor([1, 2, 4, 4], 0.3, &device).require_grad();
            let form = (map(x.clone()) * tensor(shape, 0.8, &device)).sum();
            let value = values(&form.clone().reshape([1]))[0];
            let gradient = x.grad(&form.backward()).unwrap();
            let pairing: f64 = values(&gradient).iter().zip(values(&x)).map(|(g, x)| g * x).sum();
            assert!(value.abs() > 0.01 && (pairing - value).abs() < 1e-5);
        }
    }
}
