//! The blocks of the encoder, of the middle, and of the decoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::coder::{Block, CoderConfig};
use super::spatial::SpatialResnetBlock2d;
use crate::error::ModelError;
use crate::layers::{Attention, AttentionConfig, DownsampleConv, ResnetBlock2d, ResnetBlock2dConfig, UpsampleConv};
use crate::tap::Tap;

/// Epsilon of every normalization in these networks.
pub(super) const EPSILON: f64 = 1e-6;

/// A residual block, told by latents or not.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum CoderResnet {
    /// Normalized in groups.
    Plain(ResnetBlock2d),
    /// Normalized as the latents say.
    Spatial(SpatialResnetBlock2d),
}

impl CoderResnet {
    fn forward(&self, x: Tensor<4>, latents: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Plain(block) => block.forward(x, None, tap),
            Self::Spatial(block) => block.forward(x, latents.expect("latents"), tap),
        }
    }
}

/// What the parts of one coder have in common.
pub(super) struct Parts<'a> {
    pub config: &'a CoderConfig,
    /// Channels of the latents that tell the normalizations.
    pub latents: Option<usize>,
    pub device: &'a Device,
}

impl Parts<'_> {
    fn resnet(&self, input: usize, output: usize) -> Result<CoderResnet, ModelError> {
        let config = self.config;
        Ok(match self.latents {
            Some(latents) => {
                let block = SpatialResnetBlock2d::new(input, output, latents, config.activation, self.device)?;
                CoderResnet::Spatial(block)
            }
            None => {
                let mut block = ResnetBlock2dConfig::without_time(input, output).groups(config.groups);
                block.epsilon = EPSILON;
                block.activation = config.activation;
                CoderResnet::Plain(block.init(self.device)?)
            }
        })
    }

    fn attention(&self, channels: usize) -> Result<Attention, ModelError> {
        let groups = self.latents.is_none().then_some(self.config.groups);
        AttentionConfig::new(channels, 1, channels).norm(groups, EPSILON).spatial(self.latents).init(self.device)
    }

    /// `count` residual blocks, the first of which changes the channels, and attention after each where asked.
    fn layers(
        &self,
        block: Block,
        (input, output): (usize, usize),
        count: usize,
    ) -> Result<(Vec<CoderResnet>, Vec<Attention>), ModelError> {
        let resnets = (0..count).map(|i| self.resnet(if i == 0 { input } else { output }, output));
        let attentions = match block {
            Block::Attention => count,
            Block::Plain => 0,
        };
        let attentions = (0..attentions).map(|_| self.attention(output));
        Ok((resnets.collect::<Result<_, _>>()?, attentions.collect::<Result<_, _>>()?))
    }
}

fn run(
    resnets: &[CoderResnet],
    attentions: &[Attention],
    mut h: Tensor<4>,
    latents: Option<&Tensor<4>>,
    tap: &mut Tap<'_>,
) -> Tensor<4> {
    for (i, resnet) in resnets.iter().enumerate() {
        h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(h, latents, tap));
        if let Some(attention) = attentions.get(i) {
            h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward_image_told(h, latents, tap));
        }
    }
    h
}

/// A level of the encoder: residual blocks, each followed by attention at levels that have it, and halving.
#[derive(Module, Debug)]
pub struct DownEncoderBlock2d {
    /// Attention after each residual block, or none.
    pub attentions: Vec<Attention>,
    /// Residual blocks.
    pub resnets: Vec<CoderResnet>,
    /// Halving, except at the last level.
    pub downsamplers: Vec<DownsampleConv>,
}

impl DownEncoderBlock2d {
    pub(super) fn new(parts: &Parts<'_>, level: usize) -> Result<Self, ModelError> {
        let CoderConfig { channels, blocks, layers, .. } = parts.config;
        let output = channels[level];
        let (resnets, attentions) =
            parts.layers(blocks[level], (channels[level.saturating_sub(1)], output), *layers)?;
        let downsamplers = match level + 1 < channels.len() {
            true => vec![DownsampleConv::new(output, 0, parts.device)?],
            false => vec![],
        };
        Ok(Self { attentions, resnets, downsamplers })
    }

    pub(super) fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = run(&self.resnets, &self.attentions, x, None, tap);
        for (i, layer) in self.downsamplers.iter().enumerate() {
            h = tap.scope(format_args!("downsamplers.{i}"), |tap| layer.forward(h, tap));
        }
        tap.see("", &h);
        h
    }
}

/// The block at the coarsest level: a residual block, attention, and another residual block.
#[derive(Module, Debug)]
pub struct CoderMidBlock2d {
    /// Attention between the residual blocks, or none.
    pub attentions: Vec<Attention>,
    /// The two residual blocks.
    pub resnets: Vec<CoderResnet>,
}

impl CoderMidBlock2d {
    pub(super) fn new(parts: &Parts<'_>) -> Result<Self, ModelError> {
        let channels = parts.config.coarsest();
        Ok(Self {
            attentions: match parts.config.mid_attention {
                true => vec![parts.attention(channels)?],
                false => vec![],
            },
            resnets: vec![parts.resnet(channels, channels)?, parts.resnet(channels, channels)?],
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>, latents: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        // Attention stands between the two: there is none after the second.
        let h = run(&self.resnets, &self.attentions, x, latents, tap);
        tap.see("", &h);
        h
    }
}

/// A level of the decoder: residual blocks, each followed by attention at levels that have it, and doubling.
#[derive(Module, Debug)]
pub struct UpDecoderBlock2d {
    /// Attention after each residual block, or none.
    pub attentions: Vec<Attention>,
    /// Residual blocks, one more than in the encoder.
    pub resnets: Vec<CoderResnet>,
    /// Doubling, except at the finest level.
    pub upsamplers: Vec<UpsampleConv>,
}

impl UpDecoderBlock2d {
    /// The block at position `i` of the decoder, 0 being the coarsest.
    pub(super) fn new(parts: &Parts<'_>, i: usize) -> Result<Self, ModelError> {
        let CoderConfig { channels, blocks, layers, .. } = parts.config;
        let level = channels.len() - 1 - i;
        let input = channels[(level + 1).min(channels.len() - 1)];
        let output = channels[level];
        let (resnets, attentions) = parts.layers(blocks[i], (input, output), layers + 1)?;
        let upsamplers = match level > 0 {
            true => vec![UpsampleConv::new(output, output, parts.device)?],
            false => vec![],
        };
        Ok(Self { attentions, resnets, upsamplers })
    }

    pub(super) fn forward(&self, x: Tensor<4>, latents: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = run(&self.resnets, &self.attentions, x, latents, tap);
        for (i, layer) in self.upsamplers.iter().enumerate() {
            h = tap.scope(format_args!("upsamplers.{i}"), |tap| layer.forward(h, None, tap));
        }
        tap.see("", &h);
        h
    }
}
