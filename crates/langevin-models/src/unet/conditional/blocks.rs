//! The blocks of text-conditional networks on the way down, in the middle, and on the way up.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::UNet2dConditionalConfig;
use super::encoder::{EncoderConfig, LevelBlock, Middle};
use super::time_norm::{TimeNormAttention, TimeNormResnet, TimeNormResnetConfig};
use super::told::Told;
use crate::error::ModelError;
use crate::layers::{
    AddedAttention, AddedAttentionConfig, Attention, AttentionConfig, DownsampleConv, Downsampler, Resample,
    ResnetBlock2d, Transformer2d, UpsampleConv, Upsampler, smooth_downsample_2x, smooth_upsample_2x,
};
use crate::tap::Tap;

/// A residual block of a level.
#[derive(Module, Debug)]
pub enum LevelResnet {
    /// Told the time between its convolutions.
    Plain(ResnetBlock2d),
    /// Told the time by its normalizations.
    TimeNorm(TimeNormResnet),
}

impl LevelResnet {
    fn forward(&self, x: Tensor<4>, told: &Told, unactivated: bool, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Plain(block) => block.forward(x, Some(embedding(told, unactivated)), tap),
            Self::TimeNorm(block) => block.forward(x, &told.raw, tap),
        }
    }
}

/// What follows a residual block at levels with attention.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum LevelAttention {
    /// Attention of pixels to each other.
    Pixels(Attention),
    /// Attention whose normalizations are told the time.
    TimeNorm(TimeNormAttention),
    /// Transformer blocks over the pixels.
    Transformer(Transformer2d),
    /// Attention to pixels and context at once.
    Added(AddedAttention),
}

impl LevelAttention {
    fn forward(&self, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Transformer(layer) => layer.forward(x, Some(&told.context), told.bias.as_ref(), tap),
            Self::Added(layer) => layer.forward(x, &told.context, told.bias.as_ref(), tap),
            Self::Pixels(layer) => layer.forward_image(x, tap),
            Self::TimeNorm(layer) => layer.forward(x, told, tap),
        }
    }
}

/// Attention after each of some residual blocks.
fn added(
    config: &EncoderConfig,
    channels: usize,
    head_dim: usize,
    only_context: bool,
    device: &Device,
) -> Result<LevelAttention, ModelError> {
    let attention = AddedAttentionConfig::new(channels, head_dim, config.context)
        .groups(config.norm_groups)
        .context_norm(config.context_norm)
        .only_context(only_context);
    Ok(LevelAttention::Added(attention.init(device)?))
}

/// Attention of pixels to each other after each of some residual blocks.
fn to_pixels(
    config: &EncoderConfig,
    channels: usize,
    head_dim: usize,
    device: &Device,
) -> Result<LevelAttention, ModelError> {
    let attention = AttentionConfig::new(channels, channels / head_dim, head_dim)
        .norm(Some(config.norm_groups), config.norm_epsilon);
    Ok(LevelAttention::Pixels(attention.init(device)?))
}

/// What residual blocks of this kind of level are told: some take the embedding without an activation.
fn embedding(told: &Told, unactivated: bool) -> &Tensor<2> {
    if unactivated { &told.raw } else { &told.active }
}

fn unactivated(config: &EncoderConfig, block: LevelBlock) -> bool {
    config.skip_time_activation && matches!(block, LevelBlock::Residual | LevelBlock::AddedAttention)
}

fn resampler(
    config: &EncoderConfig,
    channels: usize,
    block: LevelBlock,
    resample: Resample,
    device: &Device,
) -> Result<ResnetBlock2d, ModelError> {
    let mut resnet = config.resnet(channels, channels, block);
    resnet.resample = resample;
    resnet.init(device)
}

/// A level on the way down: residual blocks, each followed by attention at levels that have it, and halving.
#[derive(Module, Debug)]
pub struct ConditionalDownBlock2d {
    /// Attention after each residual block, or none.
    pub attentions: Vec<LevelAttention>,
    /// Residual blocks.
    pub resnets: Vec<LevelResnet>,
    /// Halving, except at the coarsest level, and where a filter without parameters halves.
    pub downsamplers: Vec<Downsampler>,
    /// Whether a filter halves.
    filtered: bool,
    unactivated: bool,
}

/// What a block on the way down returns.
pub(crate) struct Down {
    pub hidden: Tensor<4>,
    pub skips: Vec<Tensor<4>>,
}

impl ConditionalDownBlock2d {
    pub(crate) fn new(config: &EncoderConfig, i: usize, device: &Device) -> Result<Self, ModelError> {
        let level = &config.levels[i];
        let (input, output) = (config.levels[i.saturating_sub(1)].channels, level.channels);
        let halve = i + 1 < config.levels.len();
        let resnets = (0..level.layers)
            .map(|layer| {
                let input = if layer == 0 { input } else { output };
                Ok(match level.block.is_time_norm() {
                    true => LevelResnet::TimeNorm(config.time_norm_resnet(input, output).init(device)?),
                    false => LevelResnet::Plain(config.resnet(input, output, level.block).init(device)?),
                })
            })
            .collect::<Result<_, ModelError>>()?;
        let attentions = match level.block {
            LevelBlock::Plain | LevelBlock::Residual | LevelBlock::TimeNorm => vec![],
            LevelBlock::Attention => {
                (0..level.layers).map(|_| to_pixels(config, output, level.heads, device)).collect::<Result<_, _>>()?
            }
            LevelBlock::TimeNormAttention => (0..level.layers)
                .map(|_| {
                    let attention = config.time_norm_attention(output, level.heads, !halve);
                    Ok(LevelAttention::TimeNorm(attention.init(device)?))
                })
                .collect::<Result<_, ModelError>>()?,
            LevelBlock::CrossAttention => (level.transformers.iter())
                .map(|&blocks| {
                    let transformer = config.transformer(output, level.heads, blocks, level.only_cross_attention);
                    Ok(LevelAttention::Transformer(transformer.init(device)?))
                })
                .collect::<Result<_, ModelError>>()?,
            LevelBlock::AddedAttention => (0..level.layers)
                .map(|_| added(config, output, level.heads, level.only_cross_attention, device))
                .collect::<Result<_, _>>()?,
        };
        let downsamplers = match level.block {
            LevelBlock::TimeNorm | LevelBlock::TimeNormAttention => vec![],
            _ if !halve => vec![],
            LevelBlock::Plain | LevelBlock::CrossAttention | LevelBlock::Attention => {
                vec![Downsampler::Conv(DownsampleConv::new(output, config.downsample_padding, device)?)]
            }
            LevelBlock::Residual | LevelBlock::AddedAttention => {
                vec![Downsampler::Residual(resampler(config, output, level.block, Resample::Halve, device)?)]
            }
        };
        let filtered = halve && level.block.is_time_norm();
        Ok(Self { attentions, resnets, downsamplers, filtered, unactivated: unactivated(config, level.block) })
    }

    /// `feature` is what an adapter adds: before halving at levels with attention, after it at others.
    pub(crate) fn forward(&self, x: Tensor<4>, told: &Told, feature: Option<Tensor<4>>, tap: &mut Tap<'_>) -> Down {
        let time = embedding(told, self.unactivated);
        let (before, after) = if self.attentions.is_empty() { (None, feature) } else { (feature, None) };
        let mut down = Down { hidden: x, skips: Vec::with_capacity(self.resnets.len() + 1) };
        for (i, resnet) in self.resnets.iter().enumerate() {
            let mut h =
                tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(down.hidden, told, self.unactivated, tap));
            if let Some(attention) = self.attentions.get(i) {
                h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward(h, told, tap));
            }
            if let Some(feature) = before.clone().filter(|_| i + 1 == self.resnets.len()) {
                h = h + feature;
            }
            down.skips.push(h.clone());
            down.hidden = h;
        }
        for (i, layer) in self.downsamplers.iter().enumerate() {
            down.hidden =
                tap.scope(format_args!("downsamplers.{i}"), |tap| layer.forward(down.hidden, Some(time), tap));
            down.skips.push(down.hidden.clone());
        }
        if self.filtered {
            // What the filter makes is not handed over.
            down.hidden = smooth_downsample_2x(down.hidden);
            tap.see("downsamplers.0", &down.hidden);
        }
        tap.see("0", &down.hidden);
        for (i, skip) in down.skips.iter().enumerate() {
            tap.see(format_args!("1.{i}"), skip);
        }
        if let Some(feature) = after {
            down.hidden = down.hidden + feature;
            // The way up sees it, too.
            if let Some(last) = down.skips.last_mut() {
                *last = down.hidden.clone();
            }
        }
        down
    }
}

/// The block at the coarsest level: one residual block, or two with attention between them.
#[derive(Module, Debug)]
pub struct ConditionalMidBlock2d {
    /// Attention between the residual blocks, or none.
    pub attentions: Vec<LevelAttention>,
    /// Residual blocks.
    pub resnets: Vec<ResnetBlock2d>,
    unactivated: bool,
}

impl ConditionalMidBlock2d {
    pub(crate) fn new(config: &EncoderConfig, device: &Device) -> Result<Option<Self>, ModelError> {
        let level = &config.levels[config.levels.len() - 1];
        let channels = level.channels;
        let (count, attentions) = match config.middle {
            Middle::None => return Ok(None),
            Middle::Residual => (1, vec![]),
            Middle::CrossAttention => {
                let blocks = config.middle_transformers();
                let transformer = config.transformer(channels, level.heads, blocks, false).init(device)?;
                (2, vec![LevelAttention::Transformer(transformer)])
            }
            Middle::AddedAttention => {
                (2, vec![added(config, channels, level.heads, config.mid_only_cross_attention, device)?])
            }
        };
        let mut resnet = config.resnet(channels, channels, LevelBlock::Plain);
        resnet.output_scale = config.mid_scale;
        Ok(Some(Self {
            attentions,
            resnets: (0..count).map(|_| resnet.init(device)).collect::<Result<_, _>>()?,
            unactivated: config.skip_time_activation && config.middle == Middle::AddedAttention,
        }))
    }

    pub(crate) fn forward(&self, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        let time = embedding(told, self.unactivated);
        let mut h = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            // Attention stands between the residual blocks.
            if let Some(attention) = i.checked_sub(1).and_then(|i| self.attentions.get(i)) {
                h = tap.scope(format_args!("attentions.{}", i - 1), |tap| attention.forward(h, told, tap));
            }
            h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(h, Some(time), tap));
        }
        tap.see("", &h);
        h
    }
}

/// A level on the way up: residual blocks on the concatenation with what the way down kept, and doubling.
#[derive(Module, Debug)]
pub struct ConditionalUpBlock2d {
    /// Attention after each residual block, or none.
    pub attentions: Vec<LevelAttention>,
    /// Residual blocks.
    pub resnets: Vec<LevelResnet>,
    /// Doubling, except at the finest level, and where a filter without parameters doubles.
    pub upsamplers: Vec<Upsampler>,
    /// How what the way down kept joins in.
    #[module(skip)]
    joins: Joins,
    /// Whether a filter doubles.
    filtered: bool,
    unactivated: bool,
}

/// How what the way down kept joins in on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joins {
    /// One tensor at each residual block.
    Each,
    /// The last one at the first residual block.
    First,
    /// Not at all.
    Never,
}

impl ConditionalUpBlock2d {
    /// The block at position `i` on the way up, 0 being the coarsest.
    pub(super) fn new(config: &UNet2dConditionalConfig, i: usize, device: &Device) -> Result<Self, ModelError> {
        let (encoder, up) = (&config.encoder, &config.up[i]);
        let levels = &encoder.levels;
        let at = levels.len() - 1 - i;
        let level = &levels[at];
        let output = level.channels;
        let below = levels[(at + 1).min(levels.len() - 1)].channels;
        let above = config.above(i);
        if up.block.is_time_norm() {
            return Self::time_norm(config, i, device);
        }
        let count = level.layers + 1;
        let resnets = (0..count)
            .map(|layer| {
                let from_below = if layer == 0 { below } else { output };
                let kept = if layer + 1 == count { above } else { output };
                Ok(LevelResnet::Plain(encoder.resnet(from_below + kept, output, up.block).init(device)?))
            })
            .collect::<Result<_, ModelError>>()?;
        let attentions = match up.block {
            LevelBlock::Attention => {
                (0..count).map(|_| to_pixels(encoder, output, levels[i].heads, device)).collect::<Result<_, _>>()?
            }
            LevelBlock::CrossAttention => (up.transformers.iter())
                .map(|&blocks| {
                    let transformer = encoder.transformer(output, level.heads, blocks, level.only_cross_attention);
                    Ok(LevelAttention::Transformer(transformer.init(device)?))
                })
                .collect::<Result<_, ModelError>>()?,
            // The size of a head is taken in the order of the way down: published weights were trained so.
            LevelBlock::AddedAttention => (0..count)
                .map(|_| added(encoder, output, levels[i].heads, level.only_cross_attention, device))
                .collect::<Result<_, _>>()?,
            _ => vec![],
        };
        let upsamplers = match up.block {
            _ if at == 0 => vec![],
            LevelBlock::Residual | LevelBlock::AddedAttention => {
                vec![Upsampler::Residual(resampler(encoder, output, up.block, Resample::Double, device)?)]
            }
            _ => vec![Upsampler::Conv(UpsampleConv::new(output, output, device)?)],
        };
        let unactivated = unactivated(encoder, up.block);
        Ok(Self { attentions, resnets, upsamplers, joins: Joins::Each, filtered: false, unactivated })
    }

    /// A block whose normalizations are told the time. Its last residual block has the channels of the next level.
    fn time_norm(config: &UNet2dConditionalConfig, i: usize, device: &Device) -> Result<Self, ModelError> {
        let (encoder, block) = (&config.encoder, config.up[i].block);
        let levels = &encoder.levels;
        let level = &levels[levels.len() - 1 - i];
        let (output, above, count) = (level.channels, config.above(i), level.layers);
        // The coarsest level hands nothing over where it attends.
        let attends = block == LevelBlock::TimeNormAttention;
        let alone = i == 0 && attends && level.block == LevelBlock::TimeNormAttention;
        let last = |layer: usize| if layer + 1 == count { above } else { output };
        let resnet = |layer: usize| {
            let input = if layer == 0 && !alone { 2 * output } else { output };
            let resnet = encoder.time_norm_resnet(input, last(layer));
            let middle = if attends { output } else { last(layer) };
            let resnet = TimeNormResnetConfig { middle, counted: output, ..resnet };
            Ok(LevelResnet::TimeNorm(resnet.init(device)?))
        };
        // The size of a head is taken in the order of the way down.
        let attention = |layer: usize| {
            let attention = encoder.time_norm_attention(last(layer), levels[i].heads, alone);
            Ok(LevelAttention::TimeNorm(attention.init(device)?))
        };
        let attended = if attends { count } else { 0 };
        Ok(Self {
            attentions: (0..attended).map(attention).collect::<Result<_, ModelError>>()?,
            resnets: (0..count).map(resnet).collect::<Result<_, ModelError>>()?,
            upsamplers: vec![],
            joins: if alone { Joins::Never } else { Joins::First },
            filtered: i + 1 < levels.len(),
            unactivated: false,
        })
    }

    /// Number of tensors it takes from the way down.
    pub(super) fn takes(&self) -> usize {
        self.resnets.len()
    }

    /// `size` is that of the next level, which odd sizes make smaller than the double.
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        skips: Vec<Tensor<4>>,
        told: &Told,
        size: Option<[usize; 2]>,
        tap: &mut Tap<'_>,
    ) -> Tensor<4> {
        let time = embedding(told, self.unactivated);
        let mut h = x;
        for ((i, resnet), kept) in self.resnets.iter().enumerate().zip(skips.into_iter().rev()) {
            if self.joins == Joins::Each || self.joins == Joins::First && i == 0 {
                h = Tensor::cat(vec![h, kept], 1);
            }
            h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(h, told, self.unactivated, tap));
            if let Some(attention) = self.attentions.get(i) {
                h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward(h, told, tap));
            }
        }
        for (i, layer) in self.upsamplers.iter().enumerate() {
            h = tap.scope(format_args!("upsamplers.{i}"), |tap| match layer {
                Upsampler::Conv(layer) => layer.forward(h, size, tap),
                Upsampler::Residual(block) => block.forward(h, Some(time), tap),
            });
        }
        if self.filtered {
            h = smooth_upsample_2x(h);
            tap.see("upsamplers.0", &h);
        }
        tap.see("", &h);
        h
    }
}
