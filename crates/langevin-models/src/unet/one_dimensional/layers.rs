//! Convolutions and attention of the network for audio.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::heads;
use crate::error::ModelError;
use crate::layers::{
    Activation, Conv1d, Conv1dConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig, join_heads,
    scaled_dot_product_attention, split_heads, swapped,
};
use crate::tap::Tap;

/// Two convolutions, each followed by a normalization over all channels and GELU, added to the input.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Projection of the input, where the channels change.
    pub conv_skip: Option<Conv1d>,
    /// First convolution.
    pub conv_1: Conv1d,
    /// Normalization after the first convolution.
    pub group_norm_1: GroupNorm,
    /// Second convolution.
    pub conv_2: Conv1d,
    /// Normalization after the second convolution, but in the last block of a network.
    pub group_norm_2: Option<GroupNorm>,
}

impl ConvBlock {
    pub(super) fn new(
        input: usize,
        inner: usize,
        output: usize,
        last: bool,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let conv = |input, output| Conv1dConfig::new(input, output, 5).padding(2).init(device);
        let skip = Conv1dConfig::new(input, output, 1).bias(false);
        Ok(Self {
            conv_skip: (input != output).then(|| skip.init(device)).transpose()?,
            conv_1: conv(input, inner)?,
            group_norm_1: GroupNormConfig::new(1, inner).init(device)?,
            conv_2: conv(inner, output)?,
            group_norm_2: (!last).then(|| GroupNormConfig::new(1, output).init(device)).transpose()?,
        })
    }

    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, length]`
    /// - output: `[batch, output, length]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let mut residual = x.clone();
        if let Some(conv) = &self.conv_skip {
            residual = conv.forward(residual);
            tap.see("conv_skip", &residual);
        }
        let h = self.conv_1.forward(x);
        tap.see("conv_1", &h);
        let h = self.group_norm_1.forward(h);
        tap.see("group_norm_1", &h);
        let h = Activation::Gelu.forward(h);
        tap.see("gelu_1", &h);
        let mut h = self.conv_2.forward(h);
        tap.see("conv_2", &h);
        if let Some(norm) = &self.group_norm_2 {
            h = norm.forward(h);
            tap.see("group_norm_2", &h);
            h = Activation::Gelu.forward(h);
            tap.see("gelu_2", &h);
        }
        let y = h + residual;
        tap.see("", &y);
        y
    }
}

/// Attention among the steps of a signal, with heads of 32 channels, added to the input.
#[derive(Module, Debug)]
pub struct SelfAttention1d {
    /// Normalization before attention.
    pub group_norm: GroupNorm,
    /// Projection to queries.
    pub query: Linear,
    /// Projection to keys.
    pub key: Linear,
    /// Projection to values.
    pub value: Linear,
    /// Projection of the heads to channels.
    pub proj_attn: Linear,
    heads: usize,
}

impl SelfAttention1d {
    pub(super) fn new(channels: usize, device: &Device) -> Result<Self, ModelError> {
        let projection = || LinearConfig::new(channels, channels).init(device);
        Ok(Self {
            group_norm: GroupNormConfig::new(1, channels).init(device)?,
            query: projection()?,
            key: projection()?,
            value: projection()?,
            proj_attn: projection()?,
            heads: heads(channels),
        })
    }

    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, channels, length]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.group_norm.forward(x.clone());
        tap.see("group_norm", &h);
        let tokens = swapped(h, 1);
        let mut project = |name: &str, layer: &Linear| {
            let y = layer.forward(tokens.clone());
            tap.see(name, &y);
            split_heads(y, self.heads)
        };
        let (query, key) = (project("query", &self.query), project("key", &self.key));
        let value = project("value", &self.value);
        let h = self.proj_attn.forward(join_heads(scaled_dot_product_attention(query, key, value)));
        tap.see("proj_attn", &h);
        let h = swapped(h, 1);
        tap.see("dropout", &h);
        let y = h + x;
        tap.see("", &y);
        y
    }
}
