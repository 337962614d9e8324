//! Turning a time, a step or a noise level into features.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Distribution, Shape, Tensor};

use super::angle::sin_cos;
use super::{Activation, Linear, LinearConfig};
use crate::error::{ModelError, at_least_one, positive};
use crate::tap::Tap;

/// Sines and cosines of the time at geometrically spaced frequencies.
///
/// With half the width h and shift s, the frequencies are `exp(-ln(max_period)·i/(h - s))`, i = 0 .. h-1. The
/// output holds h sines and then h cosines, or the other way around with `cosine_first`; an odd width ends
/// with a zero. The arithmetic is f32 whatever the type of the time.
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.5; for diffusion: Ho, Jain, Abbeel
/// 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), appendix B.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::layers::SinusoidalEmbedding;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let embedding = SinusoidalEmbedding::new(8).cosine_first(true).check()?;
/// let time = Tensor::<1>::from_data([0.0, 999.0], &device);
/// assert_eq!(embedding.forward(time).dims(), [2, 8]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SinusoidalEmbedding {
    width: usize,
    cosine_first: bool,
    shift: f64,
    scale: f64,
    max_period: f64,
}

impl SinusoidalEmbedding {
    /// `width` features, sines first, shift 0, scale 1, longest period 10000·2π.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, cosine_first: false, shift: 0.0, scale: 1.0, max_period: 10_000.0 }
    }

    /// Whether the cosines come first (`flip_sin_to_cos` of published configurations).
    #[must_use]
    pub fn cosine_first(mut self, yes: bool) -> Self {
        self.cosine_first = yes;
        self
    }

    /// Sets the shift s of the frequencies (`freq_shift` or `downscale_freq_shift`).
    #[must_use]
    pub fn shift(mut self, shift: f64) -> Self {
        self.shift = shift;
        self
    }

    /// Sets the factor of the time.
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the ratio of the highest to the lowest frequency for shift 1.
    #[must_use]
    pub fn max_period(mut self, max_period: f64) -> Self {
        self.max_period = max_period;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is below 2, the shift is not below half the width, or a number is
    /// not finite or not above zero.
    pub fn check(self) -> Result<Self, ModelError> {
        if self.width < 2 {
            return Err(ModelError::Config {
                field: "width",
                given: self.width.to_string(),
                expected: "at least 2: a sine and a cosine".into(),
            });
        }
        let half = (self.width / 2) as f64;
        if !(self.shift.is_finite() && self.shift < half) {
            return Err(ModelError::Config {
                field: "freq_shift",
                given: self.shift.to_string(),
                expected: format!("a number below {half}, half the width"),
            });
        }
        positive("scale", self.scale)?;
        positive("max_period", self.max_period)?;
        Ok(self)
    }

    /// Number of features.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of each time, in f32.
    ///
    /// # Shapes
    ///
    /// - input: `[batch]`
    /// - output: `[batch, width]`
    pub fn forward(&self, time: Tensor<1>) -> Tensor<2> {
        let half = self.width / 2;
        // Rounded where the reference rounds: the exponent first, then the frequency, then its product with the time.
        let (rate, span) = (-self.max_period.ln() as f32, (half as f64 - self.shift) as f32);
        let frequencies: Vec<f32> = (0..half).map(|i| (rate * i as f32 / span).exp()).collect();
        let device = time.device();
        let [batch] = time.dims();
        let frequencies = Tensor::<1>::from_data(frequencies.as_slice(), (&device, DType::F32)).reshape([1, half]);
        let mut angles = time.cast(DType::F32).reshape([batch, 1]) * frequencies;
        if self.scale != 1.0 {
            angles = angles * self.scale;
        }
        let (sine, cosine) = sin_cos(angles);
        let mut parts = if self.cosine_first { vec![cosine, sine] } else { vec![sine, cosine] };
        if !self.width.is_multiple_of(2) {
            parts.push(Tensor::zeros([batch, 1], (&device, DType::F32)));
        }
        Tensor::cat(parts, 1)
    }
}

/// Configuration of a [`GaussianFourier`] embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianFourierConfig {
    /// Number of frequencies: the output has twice as many features.
    pub frequencies: usize,
    /// Standard deviation of the frequencies. Default: `16`.
    pub scale: f64,
    /// Whether the logarithm of the input is embedded. Default: `true`.
    pub log: bool,
    /// Whether the cosines come first. Default: `false`.
    pub cosine_first: bool,
}

impl GaussianFourierConfig {
    /// The embedding of NCSN++: frequencies of standard deviation 16, of the logarithm of the noise level.
    #[must_use]
    pub fn new(frequencies: usize) -> Self {
        Self { frequencies, scale: 16.0, log: true, cosine_first: false }
    }

    /// Draws the frequencies.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if there are no frequencies or the scale is not above zero.
    pub fn init(&self, device: &Device) -> Result<GaussianFourier, ModelError> {
        at_least_one("frequencies", self.frequencies)?;
        positive("scale", self.scale)?;
        let shape = [self.frequencies];
        let distribution = Distribution::Normal(0.0, self.scale);
        Ok(GaussianFourier {
            weight: Param::uninitialized(
                ParamId::new(),
                move |device, _| Tensor::random(shape, distribution, device),
                device.clone(),
                false,
                Shape::from(shape),
            ),
            log: self.log,
            cosine_first: self.cosine_first,
        })
    }
}

/// Sines and cosines at random frequencies that are drawn once and never trained: `sin(2π·w·x)`,
/// `cos(2π·w·x)` with `x` the logarithm of the input. Made by [`GaussianFourierConfig::init`].
///
/// # References
///
/// Tancik et al. 2020, [arXiv:2006.10739](https://arxiv.org/abs/2006.10739); for diffusion: Song et al. 2021,
/// [arXiv:2011.13456](https://arxiv.org/abs/2011.13456), appendix C.
#[derive(Module, Debug)]
pub struct GaussianFourier {
    /// The frequencies `[frequencies]`; not trained.
    pub weight: Param<Tensor<1>>,
    log: bool,
    cosine_first: bool,
}

impl GaussianFourier {
    /// The features of each noise level, in f32. With the logarithm, levels must be above zero.
    ///
    /// # Shapes
    ///
    /// - input: `[batch]`
    /// - output: `[batch, 2·frequencies]`
    pub fn forward(&self, level: Tensor<1>) -> Tensor<2> {
        let mut x = level.cast(DType::F32);
        if self.log {
            x = x.log();
        }
        let [batch] = x.dims();
        let weight = self.weight.val().cast(DType::F32);
        let [count] = weight.dims();
        let angles = x.reshape([batch, 1]) * weight.reshape([1, count]) * 2.0 * std::f64::consts::PI;
        let (sine, cosine) = sin_cos(angles);
        let parts = if self.cosine_first { vec![cosine, sine] } else { vec![sine, cosine] };
        Tensor::cat(parts, 1)
    }
}

/// Configuration of a [`TimestepEmbedding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestepEmbeddingConfig {
    /// Number of input features.
    pub input: usize,
    /// Number of output features.
    pub output: usize,
    /// Number of features between the two layers. Default: those of the output.
    pub inner: usize,
    /// Activation between the two layers. Default: SiLU.
    pub activation: Activation,
    /// Activation after the second layer. Default: none.
    pub post_activation: Option<Activation>,
    /// Number of features of a vector that is projected and added to the input. Default: none.
    pub condition: Option<usize>,
}

impl TimestepEmbeddingConfig {
    /// Two layers with SiLU between them.
    #[must_use]
    pub fn new(input: usize, output: usize) -> Self {
        Self { input, output, inner: output, activation: Activation::Silu, post_activation: None, condition: None }
    }

    /// Sets the activation between the layers.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets the activation after the second layer.
    #[must_use]
    pub fn post_activation(mut self, activation: Option<Activation>) -> Self {
        self.post_activation = activation;
        self
    }

    /// Sets the number of features of a vector that is projected and added to the input.
    #[must_use]
    pub fn condition(mut self, features: Option<usize>) -> Self {
        self.condition = features;
        self
    }

    /// Makes the layers.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn init(&self, device: &Device) -> Result<TimestepEmbedding, ModelError> {
        Ok(TimestepEmbedding {
            linear_1: LinearConfig::new(self.input, self.inner).init(device)?,
            cond_proj: match self.condition {
                Some(features) => Some(LinearConfig::new(features, self.input).bias(false).init(device)?),
                None => None,
            },
            linear_2: LinearConfig::new(self.inner, self.output).init(device)?,
            activation: self.activation,
            post_activation: self.post_activation,
        })
    }
}

/// Two linear layers that turn the features of a time into what the blocks of a network add. Made by
/// [`TimestepEmbeddingConfig::init`].
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    /// First layer.
    pub linear_1: Linear,
    /// Projection of a vector that is added to the input.
    pub cond_proj: Option<Linear>,
    /// Second layer.
    pub linear_2: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    post_activation: Option<Activation>,
}

impl TimestepEmbedding {
    /// Applies both layers.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input]`
    /// - output: `[batch, output]`
    pub fn forward(&self, features: Tensor<2>, tap: &mut Tap<'_>) -> Tensor<2> {
        self.forward_told(features, None, tap)
    }

    /// Applies both layers to the features and the projection of a vector, where the layers have one.
    ///
    /// # Shapes
    ///
    /// - features: `[batch, input]`
    /// - condition: `[batch, condition]`
    /// - output: `[batch, output]`
    pub fn forward_told(&self, features: Tensor<2>, condition: Option<Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<2> {
        let features = match (&self.cond_proj, condition) {
            (Some(projection), Some(condition)) => {
                let told = projection.forward(condition);
                tap.see("cond_proj", &told);
                features + told
            }
            _ => features,
        };
        let h = self.linear_1.forward(features);
        tap.see("linear_1", &h);
        let h = self.activation.forward(h);
        tap.see("act", &h);
        let mut y = self.linear_2.forward(h);
        tap.see("linear_2", &y);
        if let Some(activation) = self.post_activation {
            y = activation.forward(y);
            tap.see("post_act", &y);
        }
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, values};

    #[test]
    fn sinusoidal_agrees_with_the_formula() {
        let times = [0.0, 1.0, 17.5, 999.0];
        let time = Tensor::<1>::from_data(times.map(|t| t as f32), &flex());
        for (width, shift, cosine_first, scale) in [(8, 0.0, true, 1.0), (8, 1.0, false, 1.0), (7, 0.0, false, 0.5)] {
            let embedding =
                SinusoidalEmbedding::new(width).shift(shift).cosine_first(cosine_first).scale(scale).check().unwrap();
            let half = width / 2;
            let mut expected = Vec::new();
            for t in times {
                let angle = |i: usize| {
                    let f = 10_000f64.powf(-(i as f64) / (half as f64 - shift));
                    t * scale * f
                };
                let sines = (0..half).map(|i| angle(i).sin());
                let cosines = (0..half).map(|i| angle(i).cos());
                if cosine_first {
                    expected.extend(cosines.chain(sines));
                } else {
                    expected.extend(sines.chain(cosines));
                }
                expected.extend((width % 2 == 1).then_some(0.0));
            }
            // An angle of 999 has a rounding error of 3e-5 in f32.
            assert_close(&embedding.forward(time.clone()), &expected, 5e-5);
        }
    }

    #[test]
    fn sinusoidal_keeps_its_precision_in_half() {
        let embedding = SinusoidalEmbedding::new(16).check().unwrap();
        let time = Tensor::<1>::from_data([999.0, 512.0], &flex());
        let wide = embedding.forward(time.clone());
        let half = embedding.forward(time.cast(DType::F16));
        assert_eq!(half.dtype(), DType::F32);
        assert_close(&half, &values(&wide), 0.0);
    }

    #[test]
    fn max_period_is_the_slowest_wave_with_shift_one() {
        let embedding = SinusoidalEmbedding::new(6).shift(1.0).max_period(100.0).check().unwrap();
        let time = Tensor::<1>::from_data([50.0], &flex());
        let y = values(&embedding.forward(time));
        assert!((y[2] - (0.5f64).sin()).abs() < 1e-6, "{}", y[2]);
    }

    #[test]
    fn sinusoidal_refuses_bad_settings() {
        let embedding = SinusoidalEmbedding::new;
        for (given, name) in [
            (embedding(1), "width"),
            (embedding(4).shift(2.0), "freq_shift"),
            (embedding(4).shift(f64::NAN), "freq_shift"),
            (embedding(4).scale(0.0), "scale"),
            (embedding(4).max_period(-1.0), "max_period"),
        ] {
            let error = given.check().unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }

    #[test]
    fn fourier_agrees_with_the_formula() {
        let device = flex();
        let mut embedding = GaussianFourierConfig::new(2).init(&device).unwrap();
        embedding.weight = Param::from_data([0.5, -1.5], &device);
        let level = Tensor::<1>::from_data([0.3, 4.0], &device);
        let mut expected = Vec::new();
        for level in [0.3f64, 4.0] {
            let angles = [0.5, -1.5].map(|w| 2.0 * std::f64::consts::PI * w * level.ln());
            expected.extend(angles.map(f64::sin));
            expected.extend(angles.map(f64::cos));
        }
        assert_close(&embedding.forward(level), &expected, 2e-6);
    }

    #[test]
    fn fourier_frequencies_have_the_scale_and_no_gradient() {
        let device = flex().autodiff();
        let embedding = GaussianFourierConfig::new(5000).init(&device).unwrap();
        assert!(!embedding.weight.val().is_require_grad());
        let data = values(&embedding.weight.val());
        let variance = data.iter().map(|w| w * w).sum::<f64>() / data.len() as f64;
        assert!((variance.sqrt() - 16.0).abs() < 1.0, "{variance}");
        assert!(GaussianFourierConfig::new(0).init(&device).is_err());
        let mut config = GaussianFourierConfig::new(1);
        config.scale = f64::NAN;
        assert!(config.init(&device).is_err());
    }

    #[test]
    fn timestep_embedding_is_two_layers() {
        let device = flex();
        let mut layers = TimestepEmbeddingConfig::new(1, 1).init(&device).unwrap();
        layers.linear_1 =
            Linear { weight: Param::from_data([[2.0]], &device), bias: Some(Param::from_data([1.0], &device)) };
        layers.linear_2 =
            Linear { weight: Param::from_data([[3.0]], &device), bias: Some(Param::from_data([-1.0], &device)) };
        let y = layers.forward(Tensor::from_data([[0.5]], &device), &mut Tap::none());
        let silu = |x: f64| x / (1.0 + (-x).exp());
        assert_close(&y, &[3.0 * silu(2.0) - 1.0], 1e-6);
        // With a vector that is added, and an activation at the end.
        layers.cond_proj = Some(Linear { weight: Param::from_data([[0.5, -1.0]], &device), bias: None });
        layers.post_activation = Some(Activation::Silu);
        let told = Some(Tensor::from_data([[3.0, 1.0]], &device));
        let y = layers.forward_told(Tensor::from_data([[0.5]], &device), told, &mut Tap::none());
        assert_close(&y, &[silu(3.0 * silu(3.0) - 1.0)], 1e-6);
    }

    #[test]
    fn timestep_embedding_has_its_published_names() {
        let config = TimestepEmbeddingConfig::new(4, 6).condition(Some(3));
        let names: Vec<_> = crate::weights::parameters(&config.init(&flex()).unwrap());
        let shape = |name: &str| names.iter().find(|p| p.name == name).map(|p| p.shape.clone());
        assert_eq!(shape("cond_proj.weight"), Some(vec![4, 3]));
        assert_eq!(shape("cond_proj.bias"), None);
        assert_eq!(shape("linear_1.weight"), Some(vec![6, 4]));
    }
}
