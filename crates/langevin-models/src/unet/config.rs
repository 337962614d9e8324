//! How a UNet is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::UNet2d;
use super::published::PublishedUNet2d;
use crate::error::{Keys, ModelError, at_least_one, layer_count, level_count, positive, told_by_key};
use crate::layers::{Activation, DropoutConfig};

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("channels", "block_out_channels"),
    ("classes", "num_class_embeds"),
    ("down", "down_block_types"),
    ("epsilon", "norm_eps"),
    ("groups", "norm_num_groups"),
    ("head_dim", "attention_head_dim"),
    ("layers", "layers_per_block"),
    ("mid_attention_groups", "attn_norm_num_groups"),
    ("mid_scale", "mid_block_scale_factor"),
    ("norm_epsilon", "norm_eps"),
    ("norm_groups", "norm_num_groups"),
    ("time_width", "time_embedding_dim"),
    ("up", "up_block_types"),
];

/// Configuration of a [`UNet2d`].
///
/// [`images`](UNet2dConfig::images) starts a configuration for training; the fields cover everything that
/// published configurations of the family can say, and [`from_json`](UNet2dConfig::from_json) reads those. It
/// serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::UNet2dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet2dConfig::images(1, 8)
///     .channels(&[32, 64])
///     .attention_at(&[1])
///     .classes(10)
///     .dropout(0.1)
///     .init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedUNet2d", into = "PublishedUNet2d")]
pub struct UNet2dConfig {
    /// Height and width the network is meant for. It takes others that its levels can halve.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output: twice those of the input for a learned variance.
    pub out_channels: usize,
    /// Whether inputs in `[0, 1]` are moved to `[-1, 1]` first.
    pub center_input: bool,
    /// What the network sees of the time.
    pub time: TimeFeatures,
    /// Width of the time embedding, or four times the channels of the first level.
    pub time_width: Option<usize>,
    /// Blocks on the way down, finest level first.
    pub down: Vec<Block>,
    /// Whether there is a block between down and up.
    pub mid: bool,
    /// Blocks on the way up, coarsest level first.
    pub up: Vec<Block>,
    /// Channels of each level, finest first.
    pub channels: Vec<usize>,
    /// Residual blocks in each block on the way down; there is one more on the way up.
    pub layers: usize,
    /// Divisor of the outputs of the middle block.
    pub mid_scale: f64,
    /// Zeros around the image before a strided convolution: 1 on each side, or 0 for one at the right and bottom.
    pub downsample_padding: usize,
    /// How blocks with attention halve the image.
    pub downsample: Resampling,
    /// How blocks with attention double the image.
    pub upsample: Resampling,
    /// Probability of dropout in residual blocks.
    pub dropout: f64,
    /// Activation of the residual blocks.
    pub activation: Activation,
    /// Channels of an attention head, or one head with all channels.
    pub head_dim: Option<usize>,
    /// Groups of the normalizations. `None` works with skip blocks only, which choose their own.
    pub norm_groups: Option<usize>,
    /// Groups of the normalization in the attention of the middle block.
    pub mid_attention_groups: Option<usize>,
    /// Epsilon of the normalizations.
    pub norm_epsilon: f64,
    /// Whether the time scales and shifts features instead of being added.
    pub scale_shift: bool,
    /// Whether the middle block has attention.
    pub mid_attention: bool,
    /// What the network is told beside the time.
    pub classes: Classes,
}

/// What a UNet sees of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeFeatures {
    /// Sines and cosines.
    Sinusoidal {
        /// Whether cosines come first.
        cosine_first: bool,
        /// Shift of the frequencies.
        shift: f64,
    },
    /// Random Fourier features of the logarithm of the time, which is then a noise level: the output of the
    /// network is divided by it.
    Fourier,
    /// A table with a row for each step.
    Learned {
        /// Number of steps.
        steps: usize,
    },
}

/// What a UNet is told beside the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// Nothing.
    None,
    /// A class index, looked up in a table.
    Table {
        /// Number of classes.
        count: usize,
        /// Whether the table has one more row for "no class".
        null: bool,
    },
    /// A number, embedded as the time is.
    Timestep,
    /// A vector of the width of the time embedding.
    Identity,
}

impl Classes {
    /// How many classes there are to choose from by number.
    pub fn count(self) -> Option<usize> {
        if let Self::Table { count, .. } = self { Some(count) } else { None }
    }
}

/// The kind of a block on the way down or up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Residual blocks; resampling by a convolution. `DownBlock2D`, `UpBlock2D`.
    Plain,
    /// Residual blocks, each followed by attention. `AttnDownBlock2D`, `AttnUpBlock2D`.
    Attention,
    /// Residual blocks; resampling by a residual block. `ResnetDownsampleBlock2D`, `ResnetUpsampleBlock2D`.
    Residual,
    /// Residual blocks with filtered resampling and a second, small path for the image itself.
    /// `SkipDownBlock2D`, `SkipUpBlock2D`.
    Skip,
    /// As `Skip` with attention. `AttnSkipDownBlock2D`, `AttnSkipUpBlock2D`.
    AttentionSkip,
}

impl Block {
    pub(super) fn is_skip(self) -> bool {
        matches!(self, Self::Skip | Self::AttentionSkip)
    }

    pub(super) fn has_attention(self) -> bool {
        matches!(self, Self::Attention | Self::AttentionSkip)
    }
}

/// How a block halves or doubles the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// By a convolution.
    Conv,
    /// By a residual block.
    Residual,
}

impl UNet2dConfig {
    /// A small network for square images of `size` pixels: as many levels as keep the coarsest at 4 pixels or
    /// more (four at most), 64 channels at the first and 128 at the others, two residual blocks at each, attention
    /// at the coarsest.
    #[must_use]
    pub fn images(channels: usize, size: usize) -> Self {
        let levels = (1..=3).take_while(|l| size.is_multiple_of(1 << l) && size >> l >= 4).count() + 1;
        let mut widths = vec![128; levels];
        widths[0] = 64;
        Self {
            sample_size: Some([size, size]),
            in_channels: channels,
            out_channels: channels,
            center_input: false,
            time: TimeFeatures::Sinusoidal { cosine_first: true, shift: 0.0 },
            time_width: None,
            down: vec![],
            mid: true,
            up: vec![],
            channels: vec![],
            layers: 2,
            mid_scale: 1.0,
            downsample_padding: 1,
            downsample: Resampling::Conv,
            upsample: Resampling::Conv,
            dropout: 0.0,
            activation: Activation::Silu,
            head_dim: None,
            norm_groups: None,
            mid_attention_groups: None,
            norm_epsilon: 1e-5,
            scale_shift: false,
            mid_attention: true,
            classes: Classes::None,
        }
        .channels(&widths)
        .attention_at(&[levels - 1])
    }

    /// Sets the channels of each level, finest first, with attention at the coarsest, and groups of at least four
    /// channels in the normalizations, 32 groups at most.
    #[must_use]
    pub fn channels(mut self, channels: &[usize]) -> Self {
        self.channels = channels.to_vec();
        let fits = |groups: &usize| channels.iter().all(|c| c.is_multiple_of(*groups) && c / groups >= 4);
        self.norm_groups = Some([32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1));
        let coarsest = channels.len().saturating_sub(1);
        self.attention_at(&[coarsest])
    }

    /// Sets the levels with self-attention, 0 being the finest. Levels that do not exist are reported by
    /// [`init`](Self::init). The middle block has attention if any level has.
    #[must_use]
    pub fn attention_at(mut self, levels: &[usize]) -> Self {
        let count = levels.iter().map(|l| l.saturating_add(1)).max().unwrap_or(0).max(self.channels.len());
        let plain = match self.downsample {
            Resampling::Conv => Block::Plain,
            Resampling::Residual => Block::Residual,
        };
        self.down = (0..count).map(|l| if levels.contains(&l) { Block::Attention } else { plain }).collect();
        self.up = self.down.iter().rev().copied().collect();
        self.mid_attention = !levels.is_empty();
        self
    }

    /// Sets the number of residual blocks at each level.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the probability of dropout in residual blocks.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Makes the network conditional on `count` classes, with one more embedding for "no class", as
    /// classifier-free guidance needs it.
    #[must_use]
    pub fn classes(mut self, count: usize) -> Self {
        self.classes = Classes::Table { count, null: true };
        self
    }

    /// Sets the number of output channels: twice the input's for a learned variance.
    #[must_use]
    pub fn out_channels(mut self, channels: usize) -> Self {
        self.out_channels = channels;
        self
    }

    /// Sets the channels of an attention head.
    #[must_use]
    pub fn head_dim(mut self, channels: usize) -> Self {
        self.head_dim = Some(channels);
        self
    }

    /// Sets the groups of the normalizations.
    #[must_use]
    pub fn norm_groups(mut self, groups: usize) -> Self {
        self.norm_groups = Some(groups);
        self
    }

    /// Whether the time scales and shifts features (Dhariwal, Nichol 2021, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233))
    /// instead of being added.
    #[must_use]
    pub fn scale_shift(mut self, yes: bool) -> Self {
        self.scale_shift = yes;
        self
    }

    /// Sets how the image is halved and doubled.
    #[must_use]
    pub fn resampling(mut self, resampling: Resampling) -> Self {
        self.downsample = resampling;
        self.upsample = resampling;
        let plain = |b: &Block| match (b, resampling) {
            (Block::Plain | Block::Residual, Resampling::Conv) => Block::Plain,
            (Block::Plain | Block::Residual, Resampling::Residual) => Block::Residual,
            (other, _) => *other,
        };
        self.down = self.down.iter().map(plain).collect();
        self.up = self.up.iter().map(plain).collect();
        self
    }

    /// Reads a published `config.json` of a `UNet2DModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedUNet2d::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedUNet2d::from(self.clone()).to_value())
    }

    /// Width of the time embedding.
    #[must_use]
    pub fn time_embedding_width(&self) -> usize {
        self.time_width.unwrap_or_else(|| self.channels.first().copied().unwrap_or(0).saturating_mul(4))
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        level_count("channels", self.channels.len())?;
        for &width in &self.channels {
            at_least_one("channels", width)?;
        }
        layer_count("layers", self.layers)?;
        positive("mid_scale", self.mid_scale)?;
        positive("norm_epsilon", self.norm_epsilon)?;
        DropoutConfig::new(self.dropout).init()?;
        at_least_one("time_width", self.time_embedding_width())?;
        if let Some([height, width]) = self.sample_size {
            at_least_one("sample_size", height.min(width))?;
        }
        for (field, blocks) in [("down", &self.down), ("up", &self.up)] {
            if blocks.len() != self.channels.len() {
                return Err(ModelError::Config {
                    field,
                    given: format!("{} blocks", blocks.len()),
                    expected: format!("one for each of the {} levels in `channels`", self.channels.len()),
                });
            }
        }
        if self.downsample_padding > 1 {
            return Err(ModelError::Config {
                field: "downsample_padding",
                given: self.downsample_padding.to_string(),
                expected: "0 or 1: more would not halve the image".into(),
            });
        }
        if let Classes::Table { count, .. } = self.classes {
            at_least_one("classes", count)?;
        }
        if let Some(dim) = self.head_dim {
            self.check_heads(dim)?;
        }
        self.check_groups()?;
        self.check_skip_blocks()
    }

    fn check_heads(&self, dim: usize) -> Result<(), ModelError> {
        at_least_one("head_dim", dim)?;
        let mut widths = (self.down.iter().zip(&self.channels))
            .chain(self.up.iter().zip(self.channels.iter().rev()))
            .filter(|(block, _)| block.has_attention())
            .map(|(_, width)| *width)
            .chain((self.mid && self.mid_attention).then(|| self.channels[self.channels.len() - 1]));
        match widths.find(|width| *width < dim) {
            Some(width) => Err(ModelError::Config {
                field: "head_dim",
                given: dim.to_string(),
                expected: format!("at most {width}, the channels of a level with attention"),
            }),
            None => Ok(()),
        }
    }

    fn check_groups(&self) -> Result<(), ModelError> {
        let wrong = |field, groups: usize, channels: usize| ModelError::Config {
            field,
            given: groups.to_string(),
            expected: format!("a divisor of {channels} channels"),
        };
        match self.norm_groups {
            Some(groups) => {
                at_least_one("norm_groups", groups)?;
                if let Some(&channels) = self.channels.iter().find(|c| !c.is_multiple_of(groups)) {
                    return Err(wrong("norm_groups", groups, channels));
                }
            }
            None if self.down.iter().chain(&self.up).all(|b| b.is_skip()) => (),
            None => {
                return Err(ModelError::Config {
                    field: "norm_groups",
                    given: "none".into(),
                    expected: "a number: only skip blocks choose their own groups".into(),
                });
            }
        }
        if let Some(groups) = self.mid_attention_groups {
            at_least_one("mid_attention_groups", groups)?;
            let channels = self.channels[self.channels.len() - 1];
            if !channels.is_multiple_of(groups) {
                return Err(wrong("mid_attention_groups", groups, channels));
            }
        }
        Ok(())
    }

    /// The small path of skip blocks carries an image of three channels, at the resolution of its block.
    fn check_skip_blocks(&self) -> Result<(), ModelError> {
        let last = self.channels.len() - 1;
        let wrong =
            |field, given: String, expected: &str| Err(ModelError::Config { field, given, expected: expected.into() });
        let down = &self.down[..last];
        if down.iter().any(|b| b.is_skip()) && self.in_channels != 3 {
            return wrong("in_channels", self.in_channels.to_string(), "3 with skip blocks");
        }
        if down.windows(2).any(|pair| !pair[0].is_skip() && pair[1].is_skip()) {
            return wrong("down", format!("{:?}", self.down), "no skip block below another block");
        }
        let up = &self.up[..last];
        let Some(first) = up.iter().position(|b| b.is_skip()) else {
            return Ok(());
        };
        if self.out_channels != 3 {
            return wrong("out_channels", self.out_channels.to_string(), "3 with skip blocks");
        }
        if !self.up[first..].iter().all(|b| b.is_skip()) {
            return wrong("up", format!("{:?}", self.up), "only skip blocks above a skip block");
        }
        Ok(())
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<UNet2d, ModelError> {
        self.validate()?;
        UNet2d::new(self, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;

    #[test]
    fn images_halve_down_to_four_pixels() {
        for (size, levels) in [(4, 1), (8, 2), (16, 3), (28, 3), (32, 4), (64, 4), (7, 1)] {
            let config = UNet2dConfig::images(3, size);
            config.validate().unwrap();
            assert_eq!(config.channels.len(), levels, "{size}");
            let attention: Vec<bool> = config.down.iter().map(|b| *b == Block::Attention).collect();
            assert_eq!(attention.iter().filter(|a| **a).count(), 1);
            assert!(attention[levels - 1]);
        }
    }

    #[test]
    fn builders_compose() {
        let config = UNet2dConfig::images(1, 16)
            .channels(&[24, 48, 96])
            .attention_at(&[1, 2])
            .classes(10)
            .resampling(Resampling::Residual)
            .layers(1)
            .out_channels(2);
        config.validate().unwrap();
        assert_eq!(config.norm_groups, Some(4));
        assert_eq!(config.down, [Block::Residual, Block::Attention, Block::Attention]);
        assert_eq!(config.up, [Block::Attention, Block::Attention, Block::Residual]);
        assert_eq!(config.classes, Classes::Table { count: 10, null: true });
        let none = config.attention_at(&[]);
        assert!(!none.mid_attention && none.down.iter().all(|b| *b == Block::Residual));
    }

    #[test]
    fn each_bad_field_is_named() {
        let base = || UNet2dConfig::images(3, 16).channels(&[32, 64]);
        let skip = || {
            let mut c = base();
            c.down = vec![Block::Skip, Block::AttentionSkip];
            c.up = vec![Block::AttentionSkip, Block::Skip];
            c
        };
        skip().validate().unwrap();
        let with = |mut c: UNet2dConfig, change: fn(&mut UNet2dConfig)| {
            change(&mut c);
            c
        };
        for (config, name) in [
            (with(base(), |c| c.in_channels = 0), "in_channels"),
            (with(base(), |c| c.out_channels = 0), "out_channels"),
            (with(base(), |c| c.channels = vec![]), "channels"),
            (with(base(), |c| c.channels = vec![32, 0]), "channels"),
            (with(base(), |c| c.layers = 0), "layers"),
            (with(base(), |c| c.mid_scale = 0.0), "mid_scale"),
            (with(base(), |c| c.norm_epsilon = f64::NAN), "norm_epsilon"),
            (with(base(), |c| c.time_width = Some(0)), "time_width"),
            (with(base(), |c| c.sample_size = Some([0, 4])), "sample_size"),
            (base().attention_at(&[2]), "down"),
            (with(base(), |c| c.up = vec![Block::Plain]), "up"),
            (with(base(), |c| c.downsample_padding = 2), "downsample_padding"),
            (base().classes(0), "classes"),
            (base().head_dim(0), "head_dim"),
            (base().head_dim(65), "head_dim"),
            (base().norm_groups(0), "norm_groups"),
            (base().norm_groups(5), "norm_groups"),
            (with(base(), |c| c.norm_groups = None), "norm_groups"),
            (with(base(), |c| c.mid_attention_groups = Some(7)), "mid_attention_groups"),
            (with(skip(), |c| c.in_channels = 1), "in_channels"),
            (with(skip(), |c| c.out_channels = 6), "out_channels"),
            (with(skip(), |c| c.up = vec![Block::Skip, Block::Plain]), "up"),
            (
                with(skip(), |c| {
                    c.channels = vec![32, 32, 32];
                    c.down = vec![Block::Plain, Block::Skip, Block::Skip];
                    c.up = vec![Block::Plain; 3];
                }),
                "down",
            ),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        for p in [-0.1, 1.0, f64::NAN] {
            let error = base().dropout(p).init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field: "dropout", .. }));
        }
    }
}
