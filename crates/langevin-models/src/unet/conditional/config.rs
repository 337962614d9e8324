//! How a text-conditional UNet is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::UNet2dConditional;
use super::encoder::{EncoderConfig, Level, LevelBlock, Middle};
use super::published::PublishedUNet2dConditional;
use crate::error::{Keys, MOST_LAYERS, ModelError, at_least_one, layer_count, told_by_key};

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("block", "down_block_types"),
    ("middle", "mid_block_type"),
    ("addition", "addition_embed_type"),
    ("channels", "block_out_channels"),
    ("classes", "num_class_embeds"),
    ("concatenate_class", "class_embeddings_concat"),
    ("context", "cross_attention_dim"),
    ("down", "down_block_types"),
    ("epsilon", "norm_eps"),
    ("groups", "norm_num_groups"),
    ("heads", "attention_head_dim"),
    ("layers", "layers_per_block"),
    ("levels", "block_out_channels"),
    ("mid_scale", "mid_block_scale_factor"),
    ("norm_epsilon", "norm_eps"),
    ("norm_groups", "norm_num_groups"),
    ("output_norm", "norm_num_groups"),
    ("residual_scale", "resnet_out_scale_factor"),
    ("time_width", "time_embedding_dim"),
    ("transformers", "transformer_layers_per_block"),
    ("up", "up_block_types"),
];

/// Configuration of a [`UNet2dConditional`].
///
/// [`new`](Self::new) starts a configuration for training; the fields cover what published configurations of the family
/// say, and [`from_json`](Self::from_json) reads those. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::UNet2dConditionalConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// // Latents of 4 channels, text states of 16.
/// let net = UNet2dConditionalConfig::new(4, 16).channels(&[8, 16]).layers(1).norm_groups(4).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedUNet2dConditional", into = "PublishedUNet2dConditional")]
pub struct UNet2dConditionalConfig {
    /// Height and width the network is meant for. It takes others.
    pub sample_size: Option<[usize; 2]>,
    /// The way down, the middle, and what the network is told.
    pub encoder: EncoderConfig,
    /// Levels on the way up, coarsest first.
    pub up: Vec<UpLevel>,
    /// Channels of the output: twice those of the state for a learned variance.
    pub out_channels: usize,
    /// Height and width of the kernel of the last convolution, an odd number. Default: `3`.
    pub conv_out_kernel: usize,
    /// Whether a normalization and an activation stand before the last convolution. Networks of blocks with
    /// [`LevelBlock::TimeNorm`] may go without. Default: `true`.
    pub output_norm: bool,
    /// Whether inputs in `[0, 1]` are moved to `[-1, 1]` first. Default: `false`.
    pub center_input: bool,
}

/// A level on the way up. Channels, heads and context are those of its level on the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpLevel {
    /// Kind of the block.
    pub block: LevelBlock,
    /// Transformer blocks after each residual block, of which there is one more than on the way down.
    pub transformers: Vec<usize>,
}

/// The length of a list with an entry for each layer; more layers than there may be are refused when a network is made.
fn listed(layers: usize) -> usize {
    layers.min(MOST_LAYERS + 1)
}

impl UNet2dConditionalConfig {
    /// The layout of Stable Diffusion 1 for states of `channels` channels and text states of width `context`: four levels
    /// of 320, 640, 1280 and 1280 channels, two residual blocks at each, 8 heads of attention at all but the coarsest.
    #[must_use]
    pub fn new(channels: usize, context: usize) -> Self {
        Self {
            sample_size: None,
            encoder: EncoderConfig::new(channels, context),
            up: vec![],
            out_channels: channels,
            conv_out_kernel: 3,
            output_norm: true,
            center_input: false,
        }
        .channels(&[320, 640, 1280, 1280])
    }

    /// Sets the channels of each level, finest first, with attention at all but the coarsest.
    #[must_use]
    pub fn channels(mut self, channels: &[usize]) -> Self {
        let coarsest = channels.len().saturating_sub(1);
        let level = |(i, channels): (usize, &usize)| {
            let block = if i == coarsest { LevelBlock::Plain } else { LevelBlock::CrossAttention };
            Level { block, ..Level::new(*channels) }
        };
        self.encoder.levels = channels.iter().enumerate().map(level).collect();
        self.mirror()
    }

    /// Sets the number of residual blocks at each level.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        for level in &mut self.encoder.levels {
            level.layers = layers;
            level.transformers = vec![level.transformers.first().copied().unwrap_or(1); listed(layers)];
        }
        self.mirror()
    }

    /// Sets the number of heads at each level.
    #[must_use]
    pub fn heads(mut self, heads: usize) -> Self {
        for level in &mut self.encoder.levels {
            level.heads = heads;
        }
        self
    }

    /// Sets the transformer blocks after each residual block, for each level, finest first.
    #[must_use]
    pub fn transformers(mut self, counts: &[usize]) -> Self {
        for (level, count) in self.encoder.levels.iter_mut().zip(counts) {
            level.transformers = vec![*count; listed(level.layers)];
        }
        self.mirror()
    }

    /// Sets the groups of the normalizations.
    #[must_use]
    pub fn norm_groups(mut self, groups: usize) -> Self {
        self.encoder.norm_groups = groups;
        self
    }

    /// Sets the channels of the input: more than those of the output where an image is put behind the state.
    #[must_use]
    pub fn in_channels(mut self, channels: usize) -> Self {
        self.encoder.in_channels = channels;
        self
    }

    /// Makes the way up the mirror image of the way down.
    fn mirror(mut self) -> Self {
        let up = |level: &Level| UpLevel {
            block: level.block,
            transformers: vec![level.transformers.first().copied().unwrap_or(1); listed(level.layers) + 1],
        };
        self.up = self.encoder.levels.iter().rev().map(up).collect();
        self
    }

    /// Reads a published `config.json` of a `UNet2DConditionModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedUNet2dConditional::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedUNet2dConditional::from(self.clone()).to_value())
    }

    /// Makes the network.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate), and a layer's for options with which it cannot be built.
    pub fn init(&self, device: &Device) -> Result<UNet2dConditional, ModelError> {
        self.validate()?;
        UNet2dConditional::new(self, device)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.encoder.validate()?;
        at_least_one("out_channels", self.out_channels)?;
        if let Some([height, width]) = self.sample_size {
            at_least_one("sample_size", height.min(width))?;
        }
        if self.conv_out_kernel.is_multiple_of(2) {
            return Err(ModelError::Config {
                field: "conv_out_kernel",
                given: self.conv_out_kernel.to_string(),
                expected: "an odd number".into(),
            });
        }
        let levels = &self.encoder.levels;
        if self.up.len() != levels.len() {
            return Err(ModelError::Config {
                field: "up",
                given: format!("{} levels", self.up.len()),
                expected: format!("one for each of the {} levels on the way down", levels.len()),
            });
        }
        for (i, (up, level)) in self.up.iter().zip(levels.iter().rev()).enumerate() {
            match up.block {
                LevelBlock::CrossAttention if up.transformers.len() != level.layers + 1 => {
                    return Err(ModelError::Config {
                        field: "up",
                        given: format!("{} numbers of transformer blocks at level {i}", up.transformers.len()),
                        expected: format!("one for each of its {} residual blocks", level.layers + 1),
                    });
                }
                LevelBlock::CrossAttention => {
                    for &count in &up.transformers {
                        layer_count("up", count)?;
                    }
                    level.check_heads()?;
                }
                // Published weights have the heads in the order of the way down here.
                LevelBlock::Attention | LevelBlock::AddedAttention => levels[i].check_head_dim(level.channels)?,
                LevelBlock::TimeNormAttention => {
                    levels[i].check_head_dim(level.channels)?;
                    levels[i].check_head_dim(self.above(i))?;
                }
                LevelBlock::Plain | LevelBlock::Residual | LevelBlock::TimeNorm => {}
            }
        }
        self.check_time_norm()
    }

    /// Checks that blocks which are told the time by their normalizations stand together, as their layout demands.
    fn check_time_norm(&self) -> Result<(), ModelError> {
        let levels = &self.encoder.levels;
        let blocks = || levels.iter().map(|level| level.block).chain(self.up.iter().map(|level| level.block));
        let wrong = |field, given: String, expected: &str| {
            Err(ModelError::Config { field, given, expected: expected.to_owned() })
        };
        if !blocks().any(LevelBlock::is_time_norm) {
            let expected = "true for blocks with groups of their own";
            return if self.output_norm { Ok(()) } else { wrong("output_norm", "false".into(), expected) };
        }
        if let Some((at, other)) = blocks().enumerate().find(|(_, block)| !block.is_time_norm()) {
            let field = if at < levels.len() { "block" } else { "up" };
            let expected = "normalizations that are told the time at all levels or at none";
            return wrong(field, format!("{other:?}"), expected);
        }
        if self.encoder.middle != Middle::None {
            return wrong(
                "middle",
                format!("{:?}", self.encoder.middle),
                "none between blocks that are told the time so",
            );
        }
        // With attention the coarsest level hands nothing over, and only there pixels look at each other on the way up.
        let time = self.encoder.told_width();
        let coarsest = levels[levels.len() - 1].block == LevelBlock::TimeNormAttention;
        for (i, (up, level)) in self.up.iter().zip(levels.iter().rev()).enumerate() {
            let alone = up.block == LevelBlock::TimeNormAttention && [self.above(i), level.channels] == [time; 2];
            if alone != (i == 0 && coarsest) {
                let expected = "the width of the time embedding at the two coarsest levels and only there, with attention \
                                at the coarsest on both ways";
                return wrong("levels", format!("{} channels, time {time}", level.channels), expected);
            }
        }
        Ok(())
    }

    /// Channels of the next finer level than the one at position `i` on the way up; at the finest its own.
    pub(super) fn above(&self, i: usize) -> usize {
        let levels = &self.encoder.levels;
        levels[(levels.len() - 1 - i).saturating_sub(1)].channels
    }

    /// The smallest sides: those that are halved by a filter have a pixel behind each border.
    pub(super) fn smallest(&self) -> usize {
        let filtered = self.encoder.levels.iter().any(|level| level.block.is_time_norm());
        if filtered { 2 * self.multiple() } else { 1 }
    }

    /// What height and width must be multiples of: blocks that resample by residual blocks or filters halve even sizes
    /// only.
    pub(super) fn multiple(&self) -> usize {
        let residual = |block: LevelBlock| {
            block.is_time_norm() || matches!(block, LevelBlock::Residual | LevelBlock::AddedAttention)
        };
        let levels = &self.encoder.levels;
        let any = levels.iter().any(|l| residual(l.block)) || self.up.iter().any(|l| residual(l.block));
        if any { 1 << (levels.len() - 1) } else { 1 }
    }

    /// The middle block, if there is one.
    #[must_use]
    pub fn middle(&self) -> Middle {
        self.encoder.middle
    }
}
