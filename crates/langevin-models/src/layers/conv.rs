//! Two-dimensional convolution.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::convolution::{Algorithm, Kept, convolve_adding};
#[cfg(feature = "vulkan")]
use super::convolution::{by_nine_products, normalized_nine_products};
use super::initial::fan_in_uniform;
use super::{Activation, GroupNorm};
use crate::error::{ModelError, at_least_one};

/// Configuration of a [`Conv2d`] layer with a square kernel.
///
/// # Example
///
/// ```
/// use langevin_models::layers::Conv2dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = Conv2dConfig::new(3, 8, 3).padding(1).init(&device)?;
/// assert_eq!(layer.weight.dims(), [8, 3, 3, 3]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Distance between the windows. Default: `1`.
    pub stride: usize,
    /// Zeros added on each side. Default: `0`.
    pub padding: usize,
    /// Whether a bias is added. Default: `true`.
    pub bias: bool,
}

impl Conv2dConfig {
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

    /// Sets the number of zeros added on each side.
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

    /// Makes the layer, uniform on `±1/√(input·kernel²)`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size or the stride is zero.
    pub fn init(&self, device: &Device) -> Result<Conv2d, ModelError> {
        at_least_one("input", self.input)?;
        at_least_one("output", self.output)?;
        at_least_one("kernel", self.kernel)?;
        at_least_one("stride", self.stride)?;
        let fan_in = self.input * self.kernel * self.kernel;
        let shape = [self.output, self.input, self.kernel, self.kernel];
        Ok(Conv2d {
            weight: fan_in_uniform(shape, fan_in, device),
            bias: self.bias.then(|| fan_in_uniform([self.output], fan_in, device)),
            stride: self.stride,
            padding: self.padding,
            kept: Kept::default(),
        })
    }
}

/// Two-dimensional cross-correlation with zero padding. Made by [`Conv2dConfig::init`].
///
/// The algorithm is chosen by device, dtype and size.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[output, input, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[output]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
    /// Transforms of the weight: [`keep_transforms`](super::keep_transforms) finds them by this name.
    kept: Kept,
}

impl Conv2d {
    /// Convolves the image.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, height, width]`
    /// - output: `[batch, output, (height + 2·padding - kernel) / stride + 1, …]`
    ///
    /// # Panics
    ///
    /// If the image has other channels or another type, or is smaller than the kernel.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_adding(x, None)
    }

    /// Distance between the windows.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Zeros added on each side.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// How an image of this device, dtype and size is convolved.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, height, width]`
    #[must_use]
    pub fn algorithm(&self, x: &Tensor<4>) -> Algorithm {
        Algorithm::of(x, &self.weight.val(), [self.stride; 2], [self.padding; 2])
    }

    /// Convolves the image and adds another, of the output's shape or `[batch, output, 1, 1]`.
    pub(crate) fn forward_adding(&self, x: Tensor<4>, added: Option<Tensor<4>>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        convolve_adding(x, self.weight.val(), bias, added, [self.stride; 2], [self.padding; 2], self.kept.if_on())
    }

    /// Normalizes, activates, convolves and adds: where there is a kernel for it, without writing what lies in between as an image.
    pub(crate) fn forward_normalized(
        &self,
        norm: &GroupNorm,
        activation: Activation,
        x: Tensor<4>,
        added: Option<Tensor<4>>,
    ) -> Tensor<4> {
        #[cfg(feature = "vulkan")]
        if activation == Activation::Silu
            && self.stride == 1
            && norm.weight.val().dtype() == x.dtype()
            && by_nine_products(&x, &self.weight.val(), self.stride, self.padding)
        {
            let bias = self.bias.as_ref().map(Param::val);
            let parameters = [norm.weight.val(), norm.bias.val()];
            return normalized_nine_products(x, parameters, norm.settings(true), self.weight.val(), bias, added);
        }
        self.forward_adding(norm.forward_activated(x, activation), added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{forget_transforms, keep_transforms};
    use crate::testing::{assert_close, flex, range, tensor, values};
    use burn::tensor::DType;

    /// The definition of the convolution, with loops.
    fn by_hand(x: &[f64], w: &[f64], b: &[f64], c: [usize; 7]) -> Vec<f64> {
        let [cin, cout, h, wd, k, stride, pad] = c;
        let size = |n: usize| (n + 2 * pad - k) / stride + 1;
        let mut y = Vec::new();
        for o in 0..cout {
            for i in 0..size(h) {
                for j in 0..size(wd) {
                    let mut sum = b[o];
                    for c in 0..cin {
                        for p in 0..k {
                            for q in 0..k {
                                let (r, s) = (i * stride + p, j * stride + q);
                                if r < pad || s < pad || r - pad >= h || s - pad >= wd {
                                    continue;
                                }
                                sum += x[(c * h + r - pad) * wd + s - pad] * w[((o * cin + c) * k + p) * k + q];
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_definition() {
        let device = flex();
        for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (3, 2, 0), (1, 1, 0)] {
            let (cin, cout, h, w) = (2, 3, 6, 5);
            let x = range(cin * h * w, 0.37);
            let weight = range(cout * cin * kernel * kernel, 0.81);
            let bias = range(cout, 1.3);
            let mut layer = Conv2dConfig::new(cin, cout, kernel).stride(stride).padding(padding).init(&device).unwrap();
            let tensor = |v: &[f64], shape: [usize; 4]| Tensor::<1>::from_data(v, &device).reshape(shape);
            layer.weight = Param::from_tensor(tensor(&weight, [cout, cin, kernel, kernel]));
            layer.bias = Some(Param::from_data(bias.as_slice(), &device));
            let y = layer.forward(tensor(&x, [1, cin, h, w]));
            let expected = by_hand(&x, &weight, &bias, [cin, cout, h, w, kernel, stride, padding]);
            assert_close(&y, &expected, 1e-5);
        }
    }

    /// How many transforms a layer keeps.
    #[track_caller]
    fn keeps(layer: &Conv2d, transforms: usize) {
        assert_eq!(format!("{:?}", layer.kept), format!("Kept({transforms})"));
    }

    #[test]
    fn transforms_are_kept_where_that_is_asked_for() {
        let device = flex();
        let ours = |size: usize| tensor([1, 96, size, size], 0.3, &device);
        for dtype in [DType::F32, DType::F16] {
            let mut layer = Conv2dConfig::new(96, 100, 3).padding(1).init(&device).unwrap();
            layer.weight = layer.weight.map(|weight| weight.cast(dtype));
            layer.bias = layer.bias.map(|bias| bias.map(|bias| bias.cast(dtype)));
            let small = |layer: &Conv2d| values(&layer.forward(ours(8).cast(dtype)));
            let large = |layer: &Conv2d| values(&layer.forward(ours(16).cast(dtype)));
            let (expected, of_large) = (small(&layer), large(&layer));
            keeps(&layer, 0);
            let layer = keep_transforms(layer);
            for _ in 0..2 {
                assert_eq!(small(&layer), expected);
            }
            keeps(&layer, 1);
            // Larger images go by tiles of another size, and smaller ones by patches.
            assert_eq!(large(&layer), of_large);
            assert_eq!(small(&layer), expected);
            keeps(&layer, 2);
            assert_eq!(layer.forward(ours(2).cast(dtype)).dims(), [1, 100, 2, 2]);
            keeps(&layer, 2);
            // Clones have the weight in the same memory.
            assert_eq!(small(&layer.clone()), expected);
            keeps(&layer, 2);
        }
    }

    #[test]
    fn no_transform_is_kept_of_another_weight() {
        let device = flex();
        let x = tensor([1, 96, 8, 8], 0.3, &device);
        let mut layer = keep_transforms(Conv2dConfig::new(96, 96, 3).padding(1).bias(false).init(&device).unwrap());
        let before = layer.forward(x.clone());
        // In place, if there was nobody else who holds it.
        layer.weight = layer.weight.map(|weight| weight * 2.0);
        let double = values(&layer.forward(x.clone()));
        assert_eq!(double, values(&(before.clone() * 2.0)));
        keeps(&layer, 1);
        let record = Conv2dConfig::new(96, 96, 3).padding(1).bias(false).init(&device).unwrap();
        let expected = values(&record.forward(x.clone()));
        layer.weight = record.weight.clone();
        assert_eq!(values(&layer.forward(x)), expected);
        keeps(&layer, 1);
    }

    /// A thread of a pool that waits for its share of a transform may be given another call of the same layer: one that comes
    /// while a transform is made, on the same thread.
    #[test]
    fn a_layer_may_be_called_while_its_transform_is_made() {
        use std::sync::mpsc;
        use std::time::Duration;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let layer = keep_transforms(Conv2dConfig::new(96, 96, 3).padding(1).init(&flex()).unwrap());
            let x = tensor([1, 96, 8, 8], 0.3, &flex());
            let none = layer.kept.transform(
                &layer.weight.val(),
                |_| false,
                || {
                    assert_eq!(layer.forward(x.clone()).dims(), x.dims());
                    keeps(&layer, 1);
                    None
                },
            );
            send.send(none.is_none()).unwrap();
        });
        assert_eq!(receive.recv_timeout(Duration::from_secs(20)), Ok(true), "it waits for itself, or has failed");
    }

    #[test]
    fn threads_of_a_pool_share_one_transform() {
        let device = flex();
        let layer = keep_transforms(Conv2dConfig::new(96, 96, 3).padding(1).init(&device).unwrap());
        let x = tensor([1, 96, 8, 8], 0.3, &device);
        let expected = values(&layer.forward(x.clone()));
        for _ in 0..20 {
            let fresh = keep_transforms(forget_transforms(layer.clone()));
            rayon::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|_| assert_eq!(values(&fresh.forward(x.clone())), expected));
                }
            });
            keeps(&fresh, 1);
        }
    }

    #[test]
    fn nothing_is_kept_of_what_is_trained() {
        let device = flex().autodiff();
        let layer = keep_transforms(Conv2dConfig::new(96, 96, 3).padding(1).init(&device).unwrap());
        let x = Tensor::from_inner(tensor([1, 96, 8, 8], 0.3, &flex())).require_grad();
        let gradients = layer.forward(x.clone()).sum().backward();
        assert!(layer.weight.grad(&gradients).is_some());
        keeps(&layer, 0);
        // But an image may have gradients beside weights that have none.
        let plain = layer.valid();
        let gradient = values(&x.grad(&gradients).unwrap());
        let gradients = plain.forward(x.clone()).sum().backward();
        assert_eq!(values(&x.grad(&gradients).unwrap()), gradient);
        keeps(&plain, 1);
        keeps(&plain.valid(), 1);
        keeps(&forget_transforms(plain.clone()), 0);
        keeps(&plain.freeze(), 0);
    }

    #[test]
    fn refuses_empty_sizes() {
        let device = flex();
        for (config, name) in [
            (Conv2dConfig::new(0, 1, 3), "input"),
            (Conv2dConfig::new(1, 0, 3), "output"),
            (Conv2dConfig::new(1, 1, 0), "kernel"),
            (Conv2dConfig::new(1, 1, 1).stride(0), "stride"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }
}
