//! The residual block.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{
    Activation, Conv2d, Conv2dConfig, Dropout, DropoutConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig,
    avg_pool_2x, fir_downsample_2x, fir_upsample_2x, upsample_nearest_2x,
};
use crate::error::{ModelError, positive};
use crate::tap::Tap;

/// Configuration of a [`ResnetBlock2d`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::ResnetBlock2dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = ResnetBlock2dConfig::new(32, 64, 128).groups(8).init(&device)?;
/// assert!(block.conv_shortcut.is_some());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResnetBlock2dConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Width of the time embedding, or none for a block that is told no time.
    pub time_width: Option<usize>,
    /// Groups of the first normalization. Default: `32`.
    pub groups: usize,
    /// Groups of the second normalization. Default: `32`.
    pub groups_out: usize,
    /// Epsilon of the normalizations. Default: `1e-5`.
    pub epsilon: f64,
    /// Probability of dropout. Default: `0`.
    pub dropout: f64,
    /// Activation. Default: SiLU.
    pub activation: Activation,
    /// Whether the time scales and shifts features instead of being added. Default: `false`.
    pub scale_shift: bool,
    /// The output is divided by this. Default: `1`.
    pub output_scale: f64,
    /// Resampling inside the block. Default: none.
    pub resample: Resample,
    /// Whether the input is projected before it is added. Default: where the channels change.
    pub shortcut: bool,
}

/// Resampling inside a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    /// None.
    Keep,
    /// Doubling by repetition.
    Double,
    /// Halving by averages.
    Halve,
    /// Doubling with the filter (1, 3, 3, 1).
    DoubleFiltered,
    /// Halving with the filter (1, 3, 3, 1).
    HalveFiltered,
}

impl Resample {
    fn apply(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Keep => x,
            Self::Double => upsample_nearest_2x(x),
            Self::Halve => avg_pool_2x(x),
            Self::DoubleFiltered => fir_upsample_2x(x),
            Self::HalveFiltered => fir_downsample_2x(x),
        }
    }
}

impl ResnetBlock2dConfig {
    /// A block from `input` to `output` channels that is told a time embedding of `time_width`.
    #[must_use]
    pub fn new(input: usize, output: usize, time_width: usize) -> Self {
        Self { time_width: Some(time_width), ..Self::without_time(input, output) }
    }

    /// A block from `input` to `output` channels that is told no time, as autoencoders have them.
    #[must_use]
    pub fn without_time(input: usize, output: usize) -> Self {
        Self {
            input,
            output,
            time_width: None,
            groups: 32,
            groups_out: 32,
            epsilon: 1e-5,
            dropout: 0.0,
            activation: Activation::Silu,
            scale_shift: false,
            output_scale: 1.0,
            resample: Resample::Keep,
            shortcut: input != output,
        }
    }

    /// Sets the groups of both normalizations.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self.groups_out = groups;
        self
    }

    /// Sets the epsilon of the normalizations.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the activation.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets whether the time scales and shifts features instead of being added.
    #[must_use]
    pub fn scale_shift(mut self, scale_shift: bool) -> Self {
        self.scale_shift = scale_shift;
        self
    }

    /// Sets what the output is divided by.
    #[must_use]
    pub fn output_scale(mut self, output_scale: f64) -> Self {
        self.output_scale = output_scale;
        self
    }

    /// Sets the resampling inside the block.
    #[must_use]
    pub fn resample(mut self, resample: Resample) -> Self {
        self.resample = resample;
        self
    }

    /// Sets whether the input is projected before it is added.
    #[must_use]
    pub fn shortcut(mut self, shortcut: bool) -> Self {
        self.shortcut = shortcut;
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, groups do not divide their channels, the dropout is no
    /// probability, the output scale is not above zero, a time is to scale and shift that is not told, or the channels change without a
    /// shortcut.
    pub fn init(&self, device: &Device) -> Result<ResnetBlock2d, ModelError> {
        positive("output_scale", self.output_scale)?;
        let norm = |groups, channels| GroupNormConfig::new(groups, channels).epsilon(self.epsilon).init(device);
        let conv = |input, output| Conv2dConfig::new(input, output, 3).padding(1).init(device);
        if self.scale_shift && self.time_width.is_none() {
            return Err(ModelError::Config {
                field: "scale_shift",
                given: "true".into(),
                expected: "false where `time_width` is none".into(),
            });
        }
        if !self.shortcut && self.input != self.output {
            return Err(ModelError::Config {
                field: "shortcut",
                given: "false".into(),
                expected: format!("true where {} channels become {}", self.input, self.output),
            });
        }
        let time_outputs = if self.scale_shift { 2 * self.output } else { self.output };
        Ok(ResnetBlock2d {
            norm1: norm(self.groups, self.input)?,
            conv1: conv(self.input, self.output)?,
            time_emb_proj: match self.time_width {
                Some(width) => Some(LinearConfig::new(width, time_outputs).init(device)?),
                None => None,
            },
            norm2: norm(self.groups_out, self.output)?,
            dropout: DropoutConfig::new(self.dropout).init()?,
            conv2: conv(self.output, self.output)?,
            conv_shortcut: match self.shortcut {
                true => Some(Conv2dConfig::new(self.input, self.output, 1).init(device)?),
                false => None,
            },
            activation: self.activation,
            scale_shift: self.scale_shift,
            output_scale: self.output_scale,
            resample: self.resample,
        })
    }
}

const TIME: &str = "a time embedding";

/// Two convolutions, each after a normalization and an activation, with the time embedding told to the second,
/// added to the input. Made by [`ResnetBlock2dConfig::init`].
///
/// # References
///
/// Ho, Jain, Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), appendix B; scale and shift, and resampling
/// inside the block: Dhariwal, Nichol 2021, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233), section 3.
#[derive(Module, Debug)]
pub struct ResnetBlock2d {
    /// First normalization.
    pub norm1: GroupNorm,
    /// First convolution.
    pub conv1: Conv2d,
    /// Projection of the time embedding.
    pub time_emb_proj: Option<Linear>,
    /// Second normalization.
    pub norm2: GroupNorm,
    /// Dropout before the second convolution.
    pub dropout: Dropout,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Projection of the input.
    pub conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    activation: Activation,
    scale_shift: bool,
    output_scale: f64,
    #[module(skip)]
    resample: Resample,
}

impl ResnetBlock2d {
    /// Applies the block. `time` is the time embedding after its activation, which all blocks share; a block without time
    /// ignores it.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, height, width]`
    /// - time: `[batch, time_width]`
    /// - output: `[batch, output, height, width]`, both sides halved or doubled if the block resamples
    ///
    /// # Panics
    ///
    /// If a block that is told a time gets none.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<4> {
        if !tap.is_listening() && !self.scale_shift {
            return self.unseen(x, time);
        }
        let h = self.activated("norm1", &self.norm1, x.clone(), tap);
        let h = self.resample.apply(h);
        let h = self.conv1.forward(h);
        tap.see("conv1", &h);
        let h = match &self.time_emb_proj {
            Some(projection) => self.tell(h, projection.forward(time.expect(TIME).clone()), tap),
            None => self.activated("norm2", &self.norm2, h, tap),
        };
        let h = self.dropout.forward(h);
        tap.see("dropout", &h);
        let h = self.conv2.forward(h);
        tap.see("conv2", &h);
        let mut residual = self.resample.apply(x);
        if let Some(shortcut) = &self.conv_shortcut {
            residual = shortcut.forward(residual);
            tap.see("conv_shortcut", &residual);
        }
        let y = self.scaled(residual + h);
        tap.see("", &y);
        y
    }

    /// The block where nobody looks at what is between its steps, and time is added: each convolution is one step with the
    /// normalization before it and the sum after it.
    fn unseen(&self, x: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let time = self.time_emb_proj.as_ref().map(|projection| {
            let time = projection.forward(time.expect(TIME).clone());
            let ([rows, features], batch) = (time.dims(), x.dims()[0]);
            // One time for all images, too; and Burn takes a zero in a shape for what is there.
            let time = match batch {
                _ if rows == batch => time,
                0 => time.slice([0..0, 0..features]),
                _ => time.expand([batch, features]),
            };
            time.reshape([batch, features, 1, 1])
        });
        let h = match self.resample {
            Resample::Keep => self.conv1.forward_normalized(&self.norm1, self.activation, x.clone(), time),
            resample => {
                let h = resample.apply(self.norm1.forward_activated(x.clone(), self.activation));
                self.conv1.forward_adding(h, time)
            }
        };
        let mut residual = self.resample.apply(x);
        if let Some(shortcut) = &self.conv_shortcut {
            residual = shortcut.forward(residual);
        }
        let h = match self.dropout.acts_on(&h.device()) {
            false => self.conv2.forward_normalized(&self.norm2, self.activation, h, Some(residual)),
            true => {
                let h = self.dropout.forward(self.norm2.forward_activated(h, self.activation));
                self.conv2.forward_adding(h, Some(residual))
            }
        };
        self.scaled(h)
    }

    fn scaled(&self, y: Tensor<4>) -> Tensor<4> {
        if self.output_scale == 1.0 { y } else { y / self.output_scale }
    }

    /// Adds the time before the second normalization, or scales and shifts after it, and activates.
    fn tell(&self, h: Tensor<4>, time: Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        tap.see("time_emb_proj", &time);
        let [batch, features] = time.dims();
        let time = time.reshape([batch, features, 1, 1]);
        if !self.scale_shift {
            return self.activated("norm2", &self.norm2, h + time, tap);
        }
        let h = self.norm2.forward(h);
        tap.see("norm2", &h);
        let half = features / 2;
        let scale = time.clone().narrow(1, 0, half) + 1.0;
        self.activation.forward(h * scale + time.narrow(1, half, half))
    }

    /// Normalizes and activates: two steps where somebody looks at what is between them.
    fn activated(&self, name: &str, norm: &GroupNorm, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        if !tap.is_listening() {
            return norm.forward_activated(x, self.activation);
        }
        let h = norm.forward(x);
        tap.see(name, &h);
        self.activation.forward(h)
    }
}
