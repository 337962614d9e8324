//! Blocks whose normalizations are scaled and shifted by the time, as k-diffusion's networks have them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::told::Told;
use crate::error::{ModelError, positive};
use crate::layers::{
    Activation, Conv2d, Conv2dConfig, Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
    attention_with, join_heads, split_heads, swapped, widen,
};
use crate::tap::Tap;

/// Channels of a group of all normalizations but the narrowest.
const GROUP: usize = 32;

/// Normalizes groups of channels, then scales and shifts each channel by a projection of the time embedding.
///
/// # References
///
/// Dhariwal, Nichol 2021, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233), section 3.
#[derive(Module, Debug)]
pub struct AdaGroupNorm {
    /// Projection of the time embedding to scales and shifts.
    pub linear: Linear,
    groups: usize,
    epsilon: f64,
}

impl AdaGroupNorm {
    fn new(time: usize, channels: usize, groups: usize, epsilon: f64, device: &Device) -> Result<Self, ModelError> {
        positive("norm_epsilon", epsilon)?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(ModelError::Config {
                field: "channels",
                given: channels.to_string(),
                expected: format!("a multiple of its {groups} groups of {GROUP} or more channels"),
            });
        }
        Ok(Self { linear: LinearConfig::new(time, 2 * channels).init(device)?, groups, epsilon })
    }

    fn forward(&self, x: Tensor<4>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        let told = self.linear.forward(time.clone());
        tap.see("linear", &told);
        let ([batch, channels, height, width], dtype) = (x.dims(), x.dtype());
        let x = widen(x).reshape([batch, self.groups, channels / self.groups * height * width]);
        let centered = x.clone() - x.mean_dim(2);
        let variance = centered.clone().square().mean_dim(2);
        let h = (centered / (variance + self.epsilon).sqrt()).reshape([batch, channels, height, width]).cast(dtype);
        let told = told.reshape([batch, 2 * channels, 1, 1]);
        let y = h * (told.clone().narrow(1, 0, channels) + 1.0) + told.narrow(1, channels, channels);
        tap.see("", &y);
        y
    }
}

/// How a [`TimeNormResnet`] is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeNormResnetConfig {
    pub input: usize,
    /// Channels between the convolutions.
    pub middle: usize,
    pub output: usize,
    /// Channels by which the groups of the second normalization are counted.
    pub counted: usize,
    pub time: usize,
    pub epsilon: f64,
    pub dropout: f64,
    pub activation: Activation,
}

impl TimeNormResnetConfig {
    pub(super) fn init(&self, device: &Device) -> Result<TimeNormResnet, ModelError> {
        let norm = |channels, counted| AdaGroupNorm::new(self.time, channels, counted / GROUP, self.epsilon, device);
        let conv = |input, output| Conv2dConfig::new(input, output, 3).padding(1).init(device);
        let shortcut = Conv2dConfig::new(self.input, self.output, 1).bias(false);
        Ok(TimeNormResnet {
            norm1: norm(self.input, self.input)?,
            conv1: conv(self.input, self.middle)?,
            norm2: norm(self.middle, self.counted)?,
            dropout: DropoutConfig::new(self.dropout).init()?,
            conv2: conv(self.middle, self.output)?,
            conv_shortcut: (self.input != self.output).then(|| shortcut.init(device)).transpose()?,
            activation: self.activation,
        })
    }
}

/// A residual block that is told the time by its normalizations.
#[derive(Module, Debug)]
pub struct TimeNormResnet {
    /// First normalization.
    pub norm1: AdaGroupNorm,
    /// First convolution.
    pub conv1: Conv2d,
    /// Second normalization.
    pub norm2: AdaGroupNorm,
    /// Dropout before the second convolution.
    pub dropout: Dropout,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Projection of the input where the channels change.
    pub conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    activation: Activation,
}

impl TimeNormResnet {
    pub(super) fn forward(&self, x: Tensor<4>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = tap.scope("norm1", |tap| self.norm1.forward(x.clone(), time, tap));
        let h = self.conv1.forward(self.activation.forward(h));
        tap.see("conv1", &h);
        let h = tap.scope("norm2", |tap| self.norm2.forward(h, time, tap));
        let h = self.dropout.forward(self.activation.forward(h));
        tap.see("dropout", &h);
        let h = self.conv2.forward(h);
        tap.see("conv2", &h);
        let residual = match &self.conv_shortcut {
            Some(shortcut) => {
                let residual = shortcut.forward(x);
                tap.see("conv_shortcut", &residual);
                residual
            }
            None => x,
        };
        let y = residual + h;
        tap.see("", &y);
        y
    }
}

/// Attention of pixels to each other, at the coarsest level only, and to the context, each after a normalization that is
/// told the time.
#[derive(Module, Debug)]
pub struct TimeNormAttention {
    /// Normalization before the attention of pixels to each other.
    pub norm1: Option<AdaGroupNorm>,
    /// Attention of pixels to each other.
    pub attn1: Option<HeadAttention>,
    /// Normalization before the attention to the context.
    pub norm2: AdaGroupNorm,
    /// Attention to the context.
    pub attn2: HeadAttention,
}

/// Attention to tokens that are normalized first where they are a context.
#[derive(Module, Debug)]
pub struct HeadAttention {
    /// Normalization of the context.
    pub norm_cross: Option<LayerNorm>,
    /// Projection of pixels to queries.
    pub to_q: Linear,
    /// Projection of tokens to keys.
    pub to_k: Linear,
    /// Projection of tokens to values.
    pub to_v: Linear,
    /// Projection of the heads to channels, the only entry of a list as in published weights.
    pub to_out: Vec<Linear>,
    heads: usize,
}

/// How a [`TimeNormAttention`] is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeNormAttentionConfig {
    pub channels: usize,
    pub head_dim: usize,
    pub context: usize,
    pub time: usize,
    /// Whether pixels look at each other, too.
    pub to_pixels: bool,
}

impl TimeNormAttentionConfig {
    pub(super) fn init(&self, device: &Device) -> Result<TimeNormAttention, ModelError> {
        let groups = (self.channels / GROUP).max(1);
        let norm = || AdaGroupNorm::new(self.time, self.channels, groups, 1e-5, device);
        let attention = |context: Option<usize>| {
            let linear = |input| LinearConfig::new(input, self.channels).init(device);
            let tokens = context.unwrap_or(self.channels);
            Ok::<_, ModelError>(HeadAttention {
                norm_cross: context.map(|width| LayerNormConfig::new(width).init(device)).transpose()?,
                to_q: linear(self.channels)?,
                to_k: linear(tokens)?,
                to_v: linear(tokens)?,
                to_out: vec![linear(self.channels)?],
                heads: self.channels / self.head_dim,
            })
        };
        Ok(TimeNormAttention {
            norm1: self.to_pixels.then(norm).transpose()?,
            attn1: self.to_pixels.then(|| attention(None)).transpose()?,
            norm2: norm()?,
            attn2: attention(Some(self.context))?,
        })
    }
}

impl HeadAttention {
    /// Attends to the context, or to the pixels themselves: `[batch, channels, height, width]`.
    fn forward(&self, x: Tensor<4>, told: Option<&Told>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = swapped(x.reshape([batch, channels, height * width]), 1);
        let tokens = match (&self.norm_cross, told) {
            (Some(norm), Some(told)) => {
                let context = norm.forward(told.context.clone());
                tap.see("norm_cross", &context);
                context
            }
            _ => pixels.clone(),
        };
        let mut project = |name: &str, layer: &Linear, tokens: Tensor<3>| {
            let y = layer.forward(tokens);
            tap.see(name, &y);
            split_heads(y, self.heads)
        };
        let query = project("to_q", &self.to_q, pixels);
        let key = project("to_k", &self.to_k, tokens.clone());
        let value = project("to_v", &self.to_v, tokens);
        let [_, _, _, d] = query.dims();
        let bias = told.and_then(|told| told.bias.clone());
        let mut y = join_heads(attention_with(query, key, value, bias, 1.0 / (d as f64).sqrt()));
        for (i, layer) in self.to_out.iter().enumerate() {
            y = layer.forward(y);
            tap.see(format_args!("to_out.{i}"), &y);
        }
        tap.see("", &y);
        swapped(y, 1).reshape([batch, channels, height, width])
    }
}

impl TimeNormAttention {
    pub(super) fn forward(&self, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut x = x;
        if let (Some(norm), Some(attention)) = (&self.norm1, &self.attn1) {
            let h = tap.scope("norm1", |tap| norm.forward(x.clone(), &told.raw, tap));
            x = x + tap.scope("attn1", |tap| attention.forward(h, None, tap));
        }
        let h = tap.scope("norm2", |tap| self.norm2.forward(x.clone(), &told.raw, tap));
        let y = x + tap.scope("attn2", |tap| self.attn2.forward(h, Some(told), tap));
        tap.see("", &y);
        y
    }
}
