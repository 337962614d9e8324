//! Convolution over frames, rows and columns.

use burn::module::{Module, Param};
#[cfg(feature = "flex")]
use burn::tensor::Slice;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};

use super::convolution::{convolve, output_size};
use super::initial::fan_in_uniform;
#[cfg(feature = "flex")]
use super::swapped;
use crate::error::{ModelError, at_least_one};

/// Configuration of a [`Conv3d`] layer. Each axis has its own kernel, stride and padding: frames, rows, columns.
///
/// # Example
///
/// ```
/// use langevin_models::layers::Conv3dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// // Over frames only.
/// let layer = Conv3dConfig::new(8, 8, [3, 1, 1]).padding([1, 0, 0]).init(&device)?;
/// assert_eq!(layer.weight.dims(), [8, 8, 3, 1, 1]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv3dConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Frames, rows and columns of the kernel.
    pub kernel: [usize; 3],
    /// Distances between the windows. Default: `[1, 1, 1]`.
    pub stride: [usize; 3],
    /// Zeros added on each side. Default: `[0, 0, 0]`.
    pub padding: [usize; 3],
    /// Whether a bias is added. Default: `true`.
    pub bias: bool,
}

impl Conv3dConfig {
    /// A convolution from `input` to `output` channels, stride 1, no padding, with a bias.
    #[must_use]
    pub fn new(input: usize, output: usize, kernel: [usize; 3]) -> Self {
        Self { input, output, kernel, stride: [1; 3], padding: [0; 3], bias: true }
    }

    /// Sets the distances between the windows.
    #[must_use]
    pub fn stride(mut self, stride: [usize; 3]) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the numbers of zeros added on each side.
    #[must_use]
    pub fn padding(mut self, padding: [usize; 3]) -> Self {
        self.padding = padding;
        self
    }

    /// Sets whether a bias is added.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Makes the layer, uniform on `±1/√(input·kernel size)`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size or a stride is zero.
    pub fn init(&self, device: &Device) -> Result<Conv3d, ModelError> {
        at_least_one("input", self.input)?;
        at_least_one("output", self.output)?;
        let [frames, rows, columns] = self.kernel;
        at_least_one("kernel", frames * rows * columns)?;
        at_least_one("stride", self.stride.iter().product())?;
        let fan_in = self.input * frames * rows * columns;
        Ok(Conv3d {
            weight: fan_in_uniform([self.output, self.input, frames, rows, columns], fan_in, device),
            bias: self.bias.then(|| fan_in_uniform([self.output], fan_in, device)),
            stride: self.stride,
            padding: self.padding,
        })
    }
}

/// Three-dimensional cross-correlation with zero padding. Made by [`Conv3dConfig::init`].
///
/// A kernel over frames only, the usual one in networks for video, is computed as a two-dimensional convolution over
/// frames and pixels, by the algorithms of [`Conv2d`](super::Conv2d); on the CPU other kernels are, too, with the frames that
/// each frame of the result meets side by side as channels.
#[derive(Module, Debug)]
pub struct Conv3d {
    /// `[output, input, frames, rows, columns]`
    pub weight: Param<Tensor<5>>,
    /// `[output]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: [usize; 3],
    padding: [usize; 3],
}

impl Conv3d {
    /// Convolves the video.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, frames, height, width]`
    /// - output: `[batch, output, (frames + 2·padding - kernel) / stride + 1, …]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let ([batch, input, frames, height, width], [output, _, k, rows, columns]) = (x.dims(), self.weight.dims());
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        let y = match (rows * columns, self.stride, self.padding) {
            (1, [stride, 1, 1], [padding, 0, 0]) => {
                let x = x.reshape([batch, input, frames, height * width]);
                let y = convolve(x, weight.reshape([output, input, k, 1]), bias, [stride, 1], [padding, 0]);
                let [_, _, frames, _] = y.dims();
                y.reshape([batch, output, frames, height, width])
            }
            #[cfg(feature = "flex")]
            (_, stride, padding) if batch > 0 && crate::cpu::computes(&x) => {
                by_frames(x, weight, bias, stride, padding)
            }
            (_, stride, padding) => {
                let y = module::conv3d(x, weight, None, ConvOptions::new(stride, padding, [1; 3], 1));
                match bias {
                    Some(bias) => y + bias.reshape([1, output, 1, 1, 1]),
                    None => y,
                }
            }
        };
        debug_assert_eq!(
            y.dims()[2..],
            output_size([frames, height, width], [k, rows, columns], self.stride, self.padding)
        );
        y
    }
}

/// A two-dimensional convolution of the frames that each frame of the result meets, side by side as channels.
#[cfg(feature = "flex")]
fn by_frames(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Option<Tensor<1>>,
    [step, down, across]: [usize; 3],
    [around, above, beside]: [usize; 3],
) -> Tensor<5> {
    let ([batch, input, frames, height, width], [output, _, k, rows, columns]) = (x.dims(), weight.dims());
    let [results, _, _] = output_size([frames, 0, 0], [k, 0, 0], [step, 1, 1], [around, 0, 0]);
    let mut x = swapped(x, 1);
    if around > 0 {
        let zeros = Tensor::zeros([batch, around, input, height, width], (&x.device(), x.dtype()));
        x = Tensor::cat(vec![zeros.clone(), x, zeros], 1);
    }
    let windows = (0..k).map(|at| {
        let last = at + (results - 1) * step;
        x.clone().slice_dim(1, Slice::new(at as isize, Some(last as isize + 1), step as isize))
    });
    let x = Tensor::cat(windows.collect(), 2).reshape([batch * results, k * input, height, width]);
    let weight = swapped(weight, 1).reshape([output, k * input, rows, columns]);
    let y = convolve(x, weight, bias, [down, across], [above, beside]);
    let [_, _, height, width] = y.dims();
    swapped(y.reshape([batch, results, output, height, width]), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    /// The definition, with loops, of the sum over the kernel at one output.
    fn at(x: &[f64], size: [usize; 3], kernel: &[f64], k: [usize; 3], from: [isize; 3]) -> f64 {
        let mut sum = 0.0;
        for (i, w) in kernel.iter().enumerate() {
            let offset = [i / (k[1] * k[2]), i / k[2] % k[1], i % k[2]];
            let place: [isize; 3] = std::array::from_fn(|a| from[a] + offset[a] as isize);
            if (0..3).all(|a| place[a] >= 0 && place[a] < size[a] as isize) {
                let [f, r, c] = place.map(|p| p as usize);
                sum += w * x[(f * size[1] + r) * size[2] + c];
            }
        }
        sum
    }

    #[test]
    fn agrees_with_the_definition() {
        for (kernel, stride, padding) in [
            ([3, 1, 1], [1, 1, 1], [1, 0, 0]),
            ([3, 1, 1], [2, 1, 1], [1, 0, 0]),
            ([1, 1, 1], [1, 1, 1], [0, 0, 0]),
            ([3, 3, 3], [1, 1, 1], [1, 1, 1]),
            ([2, 3, 1], [1, 2, 1], [0, 1, 0]),
            ([3, 1, 1], [1, 2, 2], [1, 0, 0]),
        ] {
            let config = Conv3dConfig::new(2, 3, kernel).stride(stride).padding(padding);
            let layer = config.init(&flex()).unwrap();
            let size = [4, 5, 3];
            let x = tensor([1, 2, 4, 5, 3], 0.4, &flex());
            let (data, weight) = (values(&x), values(&layer.weight.val()));
            let bias = values(&layer.bias.as_ref().unwrap().val());
            let y = layer.forward(x);
            let n: usize = kernel.iter().product();
            let mut expected = Vec::new();
            let [frames, rows, columns] = output_size(size, kernel, stride, padding);
            for (o, bias) in bias.iter().enumerate() {
                for i in 0..frames * rows * columns {
                    let place = [i / (rows * columns), i / columns % rows, i % columns];
                    let from = std::array::from_fn(|a| (place[a] * stride[a]) as isize - padding[a] as isize);
                    let sum: f64 = (0..2)
                        .map(|c| at(&data[c * 60..][..60], size, &weight[(o * 2 + c) * n..][..n], kernel, from))
                        .sum();
                    expected.push(sum + bias);
                }
            }
            assert_close(&y, &expected, 1e-5);
        }
    }

    #[test]
    fn refuses_empty_sizes() {
        for (config, name) in [
            (Conv3dConfig::new(0, 1, [1; 3]), "input"),
            (Conv3dConfig::new(1, 0, [1; 3]), "output"),
            (Conv3dConfig::new(1, 1, [1, 0, 1]), "kernel"),
            (Conv3dConfig::new(1, 1, [1; 3]).stride([1, 1, 0]), "stride"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }
}
