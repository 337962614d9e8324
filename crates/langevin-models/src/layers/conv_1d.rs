//! Convolutions along one axis, and their transposes.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{Device, Tensor, module};

use super::convolution::convolve;
use super::initial::fan_in_uniform;
use super::widen;
use crate::error::{ModelError, at_least_one};

/// Configuration of a [`Conv1d`] or a [`ConvTranspose1d`] layer.
///
/// # Example
///
/// ```
/// use langevin_models::layers::Conv1dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = Conv1dConfig::new(3, 8, 5).padding(2).init(&device)?;
/// assert_eq!(layer.weight.dims(), [8, 3, 5]);
/// let transposed = Conv1dConfig::new(3, 8, 4).stride(2).padding(1).init_transposed(&device)?;
/// assert_eq!(transposed.weight.dims(), [3, 8, 4]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Length of the kernel.
    pub kernel: usize,
    /// Distance between the windows. Default: `1`.
    pub stride: usize,
    /// Zeros added at each end. Default: `0`.
    pub padding: usize,
    /// Whether a bias is added. Default: `true`.
    pub bias: bool,
}

impl Conv1dConfig {
    /// A convolution from `input` to `output` channels, stride 1, no padding, with a bias.
    #[must_use]
    pub fn new(input: usize, output: usize, kernel: usize) -> Self {
        Self { input, output, kernel, stride: 1, padding: 0, bias: true }
    }

    /// Sets the distance between the windows.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the number of zeros added at each end.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// Sets whether a bias is added.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Makes the layer, uniform on `±1/√(input·kernel)`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size or the stride is zero.
    pub fn init(&self, device: &Device) -> Result<Conv1d, ModelError> {
        self.check()?;
        let fan_in = self.input * self.kernel;
        Ok(Conv1d {
            weight: fan_in_uniform([self.output, self.input, self.kernel], fan_in, device),
            bias: self.bias.then(|| fan_in_uniform([self.output], fan_in, device)),
            stride: self.stride,
            padding: self.padding,
        })
    }

    /// Makes the transposed layer, uniform on `±1/√(output·kernel)` as torch has it.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size or the stride is zero, or more is cut off than a window has.
    pub fn init_transposed(&self, device: &Device) -> Result<ConvTranspose1d, ModelError> {
        self.check()?;
        if 2 * self.padding > self.kernel {
            return Err(ModelError::Config {
                field: "padding",
                given: self.padding.to_string(),
                expected: format!("at most half of the kernel of {}", self.kernel),
            });
        }
        let fan_in = self.output * self.kernel;
        Ok(ConvTranspose1d {
            weight: fan_in_uniform([self.input, self.output, self.kernel], fan_in, device),
            bias: self.bias.then(|| fan_in_uniform([self.output], fan_in, device)),
            stride: self.stride,
            padding: self.padding,
        })
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("input", self.input)?;
        at_least_one("output", self.output)?;
        at_least_one("kernel", self.kernel)?;
        at_least_one("stride", self.stride)
    }
}

/// One-dimensional cross-correlation with zero padding. Made by [`Conv1dConfig::init`]. Computed as
/// [`Conv2d`](super::Conv2d) on an image of one row.
#[derive(Module, Debug)]
pub struct Conv1d {
    /// `[output, input, kernel]`
    pub weight: Param<Tensor<3>>,
    /// `[output]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
}

impl Conv1d {
    /// Convolves the signal.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, length]`
    /// - output: `[batch, output, (length + 2·padding - kernel) / stride + 1]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let ([batch, input, length], [output, _, kernel]) = (x.dims(), self.weight.dims());
        let x = x.reshape([batch, input, 1, length]);
        let weight = self.weight.val().reshape([output, input, 1, kernel]);
        let y = convolve(x, weight, self.bias.as_ref().map(Param::val), [1, self.stride], [0, self.padding]);
        let [_, _, _, length] = y.dims();
        y.reshape([batch, output, length])
    }
}

/// The transpose of [`Conv1d`] as a linear map: every entry of the input adds a scaled kernel to the output, `stride`
/// apart, of which `padding` entries are cut off at each end. Made by [`Conv1dConfig::init_transposed`].
#[derive(Module, Debug)]
pub struct ConvTranspose1d {
    /// `[input, output, kernel]`
    pub weight: Param<Tensor<3>>,
    /// `[output]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
}

impl ConvTranspose1d {
    /// Spreads the signal.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, length]`
    /// - output: `[batch, output, (length - 1)·stride - 2·padding + kernel]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let options = ConvTransposeOptions::new([self.stride], [self.padding], [0], [1], 1);
        // Sums over many numbers, which the gradients of weight and bias are, have few digits in 16 bits.
        let dtype = x.dtype();
        let y = module::conv_transpose1d(widen(x), widen(self.weight.val()), None, options);
        let y = match &self.bias {
            Some(bias) => y + widen(bias.val()).unsqueeze_dim::<2>(1).unsqueeze::<3>(),
            None => y,
        };
        y.cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    /// The definition, with loops, for one sample: where an entry of the input meets one of the output.
    fn pairs(length: usize, c: Conv1dConfig) -> Vec<(usize, usize, usize)> {
        let outputs = (length + 2 * c.padding - c.kernel) / c.stride + 1;
        let mut pairs = Vec::new();
        for i in 0..outputs {
            for k in 0..c.kernel {
                if let Some(at) = (i * c.stride + k).checked_sub(c.padding).filter(|at| *at < length) {
                    pairs.push((i, at, k));
                }
            }
        }
        pairs
    }

    #[test]
    fn agrees_with_the_definition() {
        for (kernel, stride, padding) in [(5, 1, 2), (3, 2, 1), (1, 1, 0), (8, 2, 3), (4, 3, 0)] {
            let config = Conv1dConfig::new(3, 4, kernel).stride(stride).padding(padding);
            let layer = config.init(&flex()).unwrap();
            let (x, length) = (tensor([1, 3, 11], 0.4, &flex()), 11);
            let (data, weight) = (values(&x), values(&layer.weight.val()));
            let y = layer.forward(x);
            let [_, _, outputs] = y.dims();
            let mut expected = values(&layer.bias.as_ref().unwrap().val().reshape([4, 1]).expand([4, outputs]));
            for (i, at, k) in pairs(length, config) {
                for o in 0..4 {
                    for c in 0..3 {
                        expected[o * outputs + i] += data[c * length + at] * weight[(o * 3 + c) * kernel + k];
                    }
                }
            }
            assert_close(&y, &expected, 1e-5);
        }
    }

    #[test]
    fn the_transpose_spreads_what_the_convolution_gathers() {
        for (kernel, stride, padding) in [(4, 2, 1), (3, 1, 1), (5, 2, 2)] {
            let config = Conv1dConfig::new(3, 4, kernel).stride(stride).padding(padding);
            let layer = config.init_transposed(&flex()).unwrap();
            let x = tensor([1, 3, 6], 0.4, &flex());
            let (data, weight) = (values(&x), values(&layer.weight.val()));
            let y = layer.forward(x);
            let [_, _, length] = y.dims();
            assert_eq!(length, 5 * stride + kernel - 2 * padding);
            let mut expected = values(&layer.bias.as_ref().unwrap().val().reshape([4, 1]).expand([4, length]));
            for (i, at, k) in pairs(length, config).into_iter().filter(|(i, _, _)| *i < 6) {
                for o in 0..4 {
                    for c in 0..3 {
                        expected[o * length + at] += data[c * 6 + i] * weight[(c * 4 + o) * kernel + k];
                    }
                }
            }
            assert_close(&y, &expected, 1e-5);
        }
    }

    #[test]
    fn refuses_impossible_sizes() {
        for (config, name) in [
            (Conv1dConfig::new(0, 1, 3), "input"),
            (Conv1dConfig::new(1, 0, 3), "output"),
            (Conv1dConfig::new(1, 1, 0), "kernel"),
            (Conv1dConfig::new(1, 1, 1).stride(0), "stride"),
        ] {
            let found = [config.init(&flex()).map(drop), config.init_transposed(&flex()).map(drop)];
            for error in found.map(Result::unwrap_err) {
                assert!(matches!(error, ModelError::Config { field, .. } if field == name));
            }
        }
        let error = Conv1dConfig::new(1, 1, 3).padding(2).init_transposed(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "padding", .. }));
    }
}
