//! Normalization over groups of channels and over the last axis.

#[cfg(feature = "cube")]
mod layout;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, module};

use super::Activation;
#[cfg(feature = "cube")]
use super::convolution::compiles_kernels;
use super::initial::constant;
use crate::error::{ModelError, at_least_one, positive};

/// Configuration of a [`GroupNorm`] layer.
///
/// # Example
///
/// ```
/// use langevin_models::layers::GroupNormConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = GroupNormConfig::new(4, 8).epsilon(1e-6).init(&device)?;
/// assert!(GroupNormConfig::new(3, 8).init(&device).is_err());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNormConfig {
    /// Number of groups, a divisor of the number of channels.
    pub groups: usize,
    /// Number of channels.
    pub channels: usize,
    /// Added to the variance. Default: `1e-5`.
    pub epsilon: f64,
}

impl GroupNormConfig {
    /// `groups` groups of `channels / groups` channels each.
    #[must_use]
    pub fn new(groups: usize, channels: usize) -> Self {
        Self { groups, channels, epsilon: 1e-5 }
    }

    /// Sets what is added to the variance.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Makes the layer, with weight 1 and bias 0.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the groups do not divide the channels, or epsilon is not above zero.
    pub fn init(&self, device: &Device) -> Result<GroupNorm, ModelError> {
        at_least_one("groups", self.groups)?;
        at_least_one("channels", self.channels)?;
        positive("epsilon", self.epsilon)?;
        if !self.channels.is_multiple_of(self.groups) {
            return Err(ModelError::Config {
                field: "groups",
                given: self.groups.to_string(),
                expected: format!("a divisor of the {} channels", self.channels),
            });
        }
        Ok(GroupNorm {
            weight: constant([self.channels], 1.0, device),
            bias: constant([self.channels], 0.0, device),
            groups: self.groups,
            epsilon: self.epsilon,
        })
    }
}

/// Normalizes each group of channels of each sample to mean 0 and variance 1, then scales and shifts each
/// channel: `(x - mean) / √(variance + ε) · weight + bias`. Made by [`GroupNormConfig::init`].
///
/// Half-precision inputs are normalized in f32 and returned in their own type.
///
/// # References
///
/// Wu, He 2018, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// Normalizes.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, ..]`
    ///
    /// # Panics
    ///
    /// If the input has other channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.check(&x);
        if x.shape().num_elements() == 0 {
            return x;
        }
        #[cfg(feature = "flex")]
        if let Some(y) = self.on_cpu(&x, false) {
            return y;
        }
        #[cfg(feature = "cube")]
        if let Some(y) = self.by_kernels(&x, false) {
            return y;
        }
        self.by_groups(x)
    }

    /// [`forward`](Self::forward) and then the activation: as one operation, on the CPU and where the device compiles
    /// kernels, if that is SiLU.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, ..]`
    ///
    /// # Panics
    ///
    /// If the input has other channels.
    pub fn forward_activated<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        self.check(&x);
        #[cfg(feature = "flex")]
        if activation == Activation::Silu
            && let Some(y) = self.on_cpu(&x, true)
        {
            return y;
        }
        #[cfg(feature = "cube")]
        if activation == Activation::Silu
            && let Some(y) = self.by_kernels(&x, true)
        {
            return y;
        }
        activation.forward(self.forward(x))
    }

    fn check<const D: usize>(&self, x: &Tensor<D>) {
        let [channels] = self.weight.dims();
        assert!(D > 1 && x.dims()[1] == channels, "a normalization of {channels} channels was given {:?}", x.dims());
    }

    #[cfg(feature = "cube")]
    pub(super) fn settings(&self, silu: bool) -> langevin_gpu::Normalization {
        langevin_gpu::Normalization { groups: self.groups, epsilon: self.epsilon, silu }
    }

    /// By a kernel, where the device has one for this image, and weight and bias are of its type.
    #[cfg(feature = "cube")]
    fn by_kernels<const D: usize>(&self, x: &Tensor<D>, silu: bool) -> Option<Tensor<D>> {
        let (shape, dtype, settings) = (x.dims(), x.dtype(), self.settings(silu));
        let image = [shape[0], shape[2..].iter().product(), shape[1]];
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let alike = weight.dtype() == dtype && bias.dtype() == dtype;
        if !alike || !langevin_gpu::normalizes(&x.device(), dtype, image, self.groups) {
            return None;
        }
        Some(layout::channels_last(x.clone(), |x| langevin_gpu::group_norm(x, weight, bias, settings)))
    }

    #[cfg(feature = "flex")]
    fn on_cpu<const D: usize>(&self, x: &Tensor<D>, silu: bool) -> Option<Tensor<D>> {
        crate::cpu::normalize_groups(x, &self.weight.val(), &self.bias.val(), self.groups, self.epsilon, silu)
    }

    /// Each group as one row.
    fn by_groups<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.dims();
        let dtype = x.dtype();
        let [batch, channels] = [shape[0], shape[1]];
        let x = widen(x).reshape([batch, self.groups, shape[1..].iter().product::<usize>() / self.groups]);
        let centered = x.clone() - x.mean_dim(2);
        let variance = centered.clone().square().mean_dim(2);
        let inverse = (variance + self.epsilon).sqrt().recip();
        // The scale of a channel is known before the large tensor is touched again: one product, one sum.
        let affine = |p: &Param<Tensor<1>>| widen(p.val()).reshape([1, channels, 1]);
        let inverse = inverse.expand([batch, self.groups, channels / self.groups]).reshape([batch, channels, 1]);
        let scale = inverse * affine(&self.weight);
        let per_channel = centered.reshape([batch, channels, shape[2..].iter().product()]);
        let y = per_channel * scale + affine(&self.bias);
        y.reshape(shape).cast(dtype)
    }
}

/// Configuration of a [`LayerNorm`] layer.
///
/// # Example
///
/// ```
/// use langevin_models::layers::LayerNormConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let device = burn::tensor::Device::flex();
/// let layer = LayerNormConfig::new(64).epsilon(1e-6).bias(false).init(&device)?;
/// let y = layer.forward(burn::tensor::Tensor::<3>::ones([2, 10, 64], &device));
/// assert_eq!(y.dims(), [2, 10, 64]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormConfig {
    /// Size of the last axis.
    pub width: usize,
    /// Added to the variance. Default: `1e-5`.
    pub epsilon: f64,
    /// Whether the result is scaled. Default: `true`.
    pub scale: bool,
    /// Whether the result is shifted, which needs the scale. Default: `true`.
    pub bias: bool,
}

impl LayerNormConfig {
    /// Normalization of a last axis of the given size.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, epsilon: 1e-5, scale: true, bias: true }
    }

    /// Sets what is added to the variance.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets whether the result is shifted after it is scaled.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Without parameters: only the normalization, as adaptive layers want it (`elementwise_affine = false`).
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.scale = false;
        self.bias = false;
        self
    }

    /// Makes the layer, with weight 1 and bias 0.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the size is zero, epsilon is not above zero, or there is a bias without a scale.
    pub fn init(&self, device: &Device) -> Result<LayerNorm, ModelError> {
        at_least_one("width", self.width)?;
        positive("epsilon", self.epsilon)?;
        if self.bias && !self.scale {
            return Err(ModelError::Config {
                field: "bias",
                given: "true".into(),
                expected: "false where `scale` is false".into(),
            });
        }
        Ok(LayerNorm {
            weight: self.scale.then(|| constant([self.width], 1.0, device)),
            bias: self.bias.then(|| constant([self.width], 0.0, device)),
            epsilon: self.epsilon,
        })
    }
}

/// Normalizes the last axis to mean 0 and variance 1, then scales and shifts it. Made by
/// [`LayerNormConfig::init`]. Half-precision inputs are normalized in f32.
///
/// # References
///
/// Ba, Kiros, Hinton 2016, [arXiv:1607.06450](https://arxiv.org/abs/1607.06450).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[width]`
    pub weight: Option<Param<Tensor<1>>>,
    /// `[width]`
    pub bias: Option<Param<Tensor<1>>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Normalizes.
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        #[cfg(feature = "flex")]
        {
            let [weight, bias] = [&self.weight, &self.bias].map(|parameter| parameter.as_ref().map(Param::val));
            let parameters = [weight.as_ref(), bias.as_ref()];
            if let Some(y) = crate::cpu::normalize_rows(&x, parameters, true, self.epsilon) {
                return y;
            }
        }
        #[cfg(feature = "cube")]
        {
            let [weight, bias] = [&self.weight, &self.bias].map(|parameter| parameter.as_ref().map(Param::val));
            if let Some(y) = rows_by_kernels(&x, [weight, bias], true, self.epsilon) {
                return y;
            }
        }
        let x = widen(x);
        let Some(weight) = &self.weight else {
            let centered = x.clone() - x.mean_dim(D - 1);
            let variance = centered.clone().square().mean_dim(D - 1);
            return (centered * (variance + self.epsilon).sqrt().recip()).cast(dtype);
        };
        let bias = self.bias.as_ref().map(|bias| widen(bias.val()));
        module::layer_norm(x, widen(weight.val()), bias, self.epsilon).cast(dtype)
    }
}

/// Configuration of an [`RmsNorm`] layer.
///
/// # Example
///
/// ```
/// use langevin_models::layers::RmsNormConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let device = burn::tensor::Device::flex();
/// let layer = RmsNormConfig::new(64).init(&device)?;
/// // Numbers of one size come out as 1.
/// let y = layer.forward(burn::tensor::Tensor::<3>::full([2, 10, 64], 5.0, &device));
/// assert!((y - 1.0).abs().max().into_scalar::<f32>() < 1e-6);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNormConfig {
    /// Size of the last axis.
    pub width: usize,
    /// Added to the mean square. Default: `1e-6`.
    pub epsilon: f64,
}

impl RmsNormConfig {
    /// Normalization of a last axis of the given size.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, epsilon: 1e-6 }
    }

    /// Sets what is added to the mean square.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Makes the layer, with weight 1.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the size is zero or epsilon is not above zero.
    pub fn init(&self, device: &Device) -> Result<RmsNorm, ModelError> {
        at_least_one("width", self.width)?;
        positive("epsilon", self.epsilon)?;
        Ok(RmsNorm { weight: constant([self.width], 1.0, device), epsilon: self.epsilon })
    }
}

/// Divides the last axis by its root mean square, then scales it: `x / √(mean(x²) + ε) · weight`. Made by
/// [`RmsNormConfig::init`]. Half-precision inputs are normalized in f32.
///
/// # References
///
/// Zhang, Sennrich 2019, [arXiv:1910.07467](https://arxiv.org/abs/1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// Normalizes.
    ///
    /// # Shapes
    ///
    /// - input and output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        #[cfg(feature = "flex")]
        if let Some(y) = crate::cpu::normalize_rows(&x, [Some(&self.weight.val()), None], false, self.epsilon) {
            return y;
        }
        #[cfg(feature = "cube")]
        if let Some(y) = rows_by_kernels(&x, [Some(self.weight.val()), None], false, self.epsilon) {
            return y;
        }
        let x = widen(x);
        let square = x.clone().square().mean_dim(D - 1);
        let weight = widen(self.weight.val()).unsqueeze::<D>();
        (x * (square + self.epsilon).sqrt().recip() * weight).cast(dtype)
    }
}

/// The normalization of the last axis by one kernel, on devices that compile kernels.
#[cfg(feature = "cube")]
fn rows_by_kernels<const D: usize>(
    x: &Tensor<D>,
    parameters: [Option<Tensor<1>>; 2],
    centered: bool,
    epsilon: f64,
) -> Option<Tensor<D>> {
    let (shape, dtype) = (x.dims(), x.dtype());
    let alike = parameters.iter().flatten().all(|parameter| parameter.dtype() == dtype);
    if !alike || dtype == DType::F64 || x.shape().num_elements() == 0 || !compiles_kernels(&x.device()) {
        return None;
    }
    let [weight, bias] = parameters;
    let rows = x.clone().reshape([shape[..D - 1].iter().product(), shape[D - 1]]);
    let settings = langevin_gpu::RowNormalization { centered, epsilon };
    Some(langevin_gpu::row_norm(rows, weight, bias, settings).reshape(shape))
}

/// Half-precision tensors in f32, others as they are.
pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, range, tensor, values};

    /// The definition, with loops: `[batch, channels, size]`.
    fn by_hand(x: &[f64], w: &[f64], b: &[f64], dims: [usize; 3], groups: usize, eps: f64) -> Vec<f64> {
        let [batch, channels, size] = dims;
        let n = channels / groups * size;
        let mut y = Vec::new();
        for group in x.chunks(n) {
            let mean = group.iter().sum::<f64>() / n as f64;
            let variance = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            y.extend(group.iter().map(|v| (v - mean) / (variance + eps).sqrt()));
        }
        assert_eq!(y.len(), batch * channels * size);
        for (i, v) in y.iter_mut().enumerate() {
            let c = i / size % channels;
            *v = *v * w[c] + b[c];
        }
        y
    }

    #[test]
    fn group_norm_agrees_with_the_definition() {
        let device = flex();
        for (groups, epsilon) in [(1, 1e-5), (2, 1e-2), (6, 1e-5)] {
            let dims = [2, 6, 20];
            let (w, b) = (range(6, 0.4), range(6, 0.9));
            let mut layer = GroupNormConfig::new(groups, 6).epsilon(epsilon).init(&device).unwrap();
            layer.weight = Param::from_data(w.as_slice(), &device);
            layer.bias = Param::from_data(b.as_slice(), &device);
            let x = tensor([2, 6, 4, 5], 0.2, &device) * 3.0 + 5.0;
            let expected = by_hand(&values(&x), &w, &b, dims, groups, epsilon);
            assert_close(&layer.forward(x.clone()), &expected, 2e-5);
            assert_close(&layer.forward(x.reshape([2, 6, 20])), &expected, 2e-5);
        }
    }

    #[test]
    fn half_precision_does_not_overflow() {
        let device = flex();
        let layer = GroupNormConfig::new(1, 2).init(&device).unwrap();
        // The square of 600 is beyond the largest f16.
        let x = Tensor::<3>::from_data([[[600.0, -600.0], [600.0, -600.0]]], &device);
        let y = layer.forward(x.cast(DType::F16));
        assert_eq!(y.dtype(), DType::F16);
        assert_close(&y, &[1.0, -1.0, 1.0, -1.0], 1e-3);
    }

    #[test]
    fn group_norm_gradient_is_orthogonal_to_constants_and_to_the_output() {
        // Shifting or scaling a group does not change the output, so the gradient has no part along either.
        let device = flex().autodiff();
        let layer = GroupNormConfig::new(2, 4).epsilon(1e-12).init(&device).unwrap();
        let x = tensor([1, 4, 6], 0.3, &device).require_grad();
        let y = layer.forward(x.clone());
        let weights = tensor([1, 4, 6], 0.77, &device);
        let gradients = (y.clone() * weights).sum().backward();
        let g = values(&x.grad(&gradients).unwrap());
        assert!(g.iter().any(|v| v.abs() > 0.1));
        for (g, y) in g.chunks(12).zip(values(&y).chunks(12)) {
            assert!(g.iter().sum::<f64>().abs() < 1e-5);
            assert!(g.iter().zip(y).map(|(g, y)| g * y).sum::<f64>().abs() < 1e-5);
        }
    }

    #[test]
    fn layer_norm_agrees_with_the_definition() {
        let device = flex();
        let (w, b) = (range(5, 0.4), range(5, 0.9));
        let mut layer = LayerNormConfig::new(5).epsilon(1e-3).init(&device).unwrap();
        layer.weight = Some(Param::from_data(w.as_slice(), &device));
        layer.bias = Some(Param::from_data(b.as_slice(), &device));
        let x = tensor([2, 3, 5], 0.6, &device);
        let mut expected = Vec::new();
        for row in values(&x).chunks(5) {
            let mean = row.iter().sum::<f64>() / 5.0;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5.0;
            for (i, v) in row.iter().enumerate() {
                expected.push((v - mean) / (variance + 1e-3).sqrt() * w[i] + b[i]);
            }
        }
        assert_close(&layer.forward(x), &expected, 1e-5);
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        for (config, name) in [
            (GroupNormConfig::new(3, 8), "groups"),
            (GroupNormConfig::new(0, 8), "groups"),
            (GroupNormConfig::new(1, 0), "channels"),
            (GroupNormConfig::new(1, 1).epsilon(0.0), "epsilon"),
            (GroupNormConfig::new(1, 1).epsilon(f64::NAN), "epsilon"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
        assert!(LayerNormConfig::new(0).init(&device).is_err());
        assert!(LayerNormConfig::new(3).epsilon(-1.0).init(&device).is_err());
    }

    #[test]
    fn layer_norm_without_parameters_only_normalizes() {
        let device = flex();
        let x = tensor([2, 3, 5], 0.6, &device) * 4.0 + 1.0;
        let plain = LayerNormConfig::new(5).plain().init(&device).unwrap();
        let full = LayerNormConfig::new(5).init(&device).unwrap();
        assert_close(&plain.forward(x.clone()), &values(&full.forward(x.clone())), 1e-5);
        let scaled = LayerNormConfig::new(5).bias(false).init(&device).unwrap();
        assert_close(&scaled.forward(x.clone()), &values(&full.forward(x)), 1e-5);
        let error = LayerNormConfig { scale: false, ..LayerNormConfig::new(5) }.init(&device).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "bias", .. }), "{error}");
    }

    #[test]
    fn rms_norm_agrees_with_the_definition() {
        let device = flex();
        let w = range(5, 0.4);
        let mut layer = RmsNormConfig::new(5).epsilon(1e-3).init(&device).unwrap();
        layer.weight = Param::from_data(w.as_slice(), &device);
        let x = tensor([2, 3, 5], 0.6, &device);
        let mut expected = Vec::new();
        for row in values(&x).chunks(5) {
            let square = row.iter().map(|v| v * v).sum::<f64>() / 5.0;
            expected.extend(row.iter().zip(&w).map(|(v, w)| v / (square + 1e-3).sqrt() * w));
        }
        assert_close(&layer.forward(x), &expected, 1e-5);
        assert!(matches!(RmsNormConfig::new(0).init(&device), Err(ModelError::Config { field: "width", .. })));
    }
}
