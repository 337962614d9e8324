//! How a UNet for signals is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::UNet1d;
use super::published::PublishedUNet1d;
use crate::error::{Keys, ModelError, at_least_one, layer_limit, level_count, told_by_key};
use crate::layers::Activation;

/// Groups of the normalizations in residual blocks, which the family fixes.
pub(super) const RESIDUAL_GROUPS: usize = 8;
/// Channels of a head of attention, which the family fixes.
const HEAD: usize = 32;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("activation", "act_fn"),
    ("channels", "block_out_channels"),
    ("down", "down_block_types"),
    ("embed_time", "use_timestep_embedding"),
    ("layers", "layers_per_block"),
    ("mid", "mid_block_type"),
    ("norm_groups", "norm_num_groups"),
    ("out", "out_block_type"),
    ("time_width", "time_embedding_dim"),
    ("up", "up_block_types"),
];

/// Configuration of a [`UNet1d`].
///
/// [`sequences`](UNet1dConfig::sequences) starts a configuration for training; the fields cover everything that published
/// configurations of the family can say, and [`from_json`](UNet1dConfig::from_json) reads those. It serializes to the
/// published form.
///
/// # Example
///
/// ```
/// use langevin_models::UNet1dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet1dConfig::sequences(6, 16).channels(&[16, 32]).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedUNet1d", into = "PublishedUNet1d")]
pub struct UNet1dConfig {
    /// Length the network is meant for; it is not read. Published planners have 65536 for sequences of 32 steps.
    pub sample_size: usize,
    /// Samples a second, for audio; the network does not read it.
    pub sample_rate: Option<usize>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels that the first block takes beside the input: those of the time if that is told by
    /// [`DownKind::Time`], and others of the input itself if not.
    pub extra_in_channels: usize,
    /// Whether the features of the time are random Fourier features instead of sines and cosines at fixed frequencies.
    pub fourier: bool,
    /// Number of Fourier features, or twice the channels of the first level.
    pub time_width: Option<usize>,
    /// Whether cosines come first.
    pub cosine_first: bool,
    /// Shift of the fixed frequencies.
    pub freq_shift: f64,
    /// Whether two layers turn the features of the time into an embedding, as residual blocks want it.
    pub embed_time: bool,
    /// Blocks on the way down, finest level first.
    pub down: Vec<DownKind>,
    /// The block between down and up.
    pub mid: MidKind,
    /// Blocks on the way up, coarsest level first; at most as many as on the way down.
    pub up: Vec<UpKind>,
    /// What follows the blocks, or nothing.
    pub out: Option<OutKind>,
    /// Channels of each level, finest first.
    pub channels: Vec<usize>,
    /// Activation of the time embedding and of what follows the blocks, if there is any of them.
    pub activation: Option<Activation>,
    /// Groups of the normalization in [`OutKind::Conv`], or one for each four channels.
    pub norm_groups: Option<usize>,
    /// Residual blocks in each residual level, beside the one there always is.
    pub layers: usize,
    /// Whether the coarsest level and a residual middle halve the signal as well.
    pub downsample_each: bool,
}

/// The kind of a block on the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownKind {
    /// Residual blocks that are told the time, then halving: `DownResnetBlock1D`.
    Residual,
    /// Halving, then blocks of convolutions: `DownBlock1D`.
    Plain,
    /// As `Plain`, each block followed by attention: `AttnDownBlock1D`.
    Attention,
    /// Blocks of convolutions on the signal and the features of the time beside it, without halving: `DownBlock1DNoSkip`.
    Time,
}

/// The kind of the block between down and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MidKind {
    /// Residual blocks: `MidResTemporalBlock1D`.
    Residual,
    /// Two residual blocks, each halving channels and length: `ValueFunctionMidBlock1D`.
    Value,
    /// Halving, six blocks of convolutions with attention, doubling: `UNetMidBlock1D`.
    Attention,
}

/// The kind of a block on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpKind {
    /// Residual blocks that are told the time, then doubling: `UpResnetBlock1D`.
    Residual,
    /// Blocks of convolutions, then doubling: `UpBlock1D`.
    Plain,
    /// As `Plain`, each block followed by attention: `AttnUpBlock1D`.
    Attention,
    /// Blocks of convolutions without doubling: `UpBlock1DNoSkip`.
    Last,
}

/// What follows the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutKind {
    /// Two convolutions: `OutConv1DBlock`.
    Conv,
    /// Layers that give one number for the whole signal: `ValueFunction`.
    Value,
}

impl UNet1dConfig {
    /// A network for sequences of `length` steps with `channels` numbers each: residual blocks, 32, 64 and 128 channels,
    /// Mish, as the planner of Janner et al. 2022 ([arXiv:2205.09991](https://arxiv.org/abs/2205.09991)).
    #[must_use]
    pub fn sequences(channels: usize, length: usize) -> Self {
        Self {
            sample_size: length,
            sample_rate: None,
            in_channels: channels,
            out_channels: channels,
            extra_in_channels: 0,
            fourier: false,
            time_width: None,
            cosine_first: false,
            freq_shift: 1.0,
            embed_time: true,
            down: vec![],
            mid: MidKind::Residual,
            up: vec![],
            out: Some(OutKind::Conv),
            channels: vec![],
            activation: Some(Activation::Mish),
            norm_groups: Some(RESIDUAL_GROUPS),
            layers: 1,
            downsample_each: false,
        }
        .channels(&[32, 64, 128])
    }

    /// Sets the channels of each level, finest first, with residual blocks.
    #[must_use]
    pub fn channels(mut self, channels: &[usize]) -> Self {
        self.channels = channels.to_vec();
        self.down = vec![DownKind::Residual; channels.len()];
        self.up = vec![UpKind::Residual; channels.len().saturating_sub(1)];
        self
    }

    /// Sets the number of residual blocks at each level, beside the one there always is.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Reads a published `config.json` of a `UNet1DModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedUNet1d::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedUNet1d::from(self.clone()).to_value())
    }

    /// Makes the network with initial weights.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) finds.
    pub fn init(&self, device: &Device) -> Result<UNet1d, ModelError> {
        self.validate()?;
        UNet1d::new(self, device)
    }

    /// Number of features of the time.
    #[must_use]
    pub fn time_features(&self) -> usize {
        let first = self.channels.first().copied().unwrap_or(0);
        if self.fourier { self.time_width.unwrap_or(first.saturating_mul(2)) } else { first }
    }

    /// Channels of the tensor that the network is given.
    #[must_use]
    pub fn input_channels(&self) -> usize {
        match self.down.first() {
            Some(DownKind::Time) => self.in_channels,
            _ => self.in_channels + self.extra_in_channels,
        }
    }

    /// Channels that the block at position `i` on the way up returns.
    pub(super) fn up_channels(&self, i: usize) -> usize {
        match (i + 1 < self.up.len(), self.out) {
            (true, _) => self.channels[self.channels.len() - 2 - i],
            (false, None) => self.out_channels,
            (false, Some(_)) => self.channels[0],
        }
    }

    /// Channels after the middle block.
    pub(super) fn mid_channels(&self) -> usize {
        let coarsest = self.channels[self.channels.len() - 1];
        if self.mid == MidKind::Value { coarsest / 4 } else { coarsest }
    }

    /// The length of what the blocks return for an input of a length.
    ///
    /// # Errors
    ///
    /// What a length must fulfil that this one does not.
    pub(super) fn trace(&self, length: usize) -> Result<usize, &'static str> {
        let filter_down = |length: usize| match length {
            ..4 => Err("at least 4 at every level that is halved by a filter"),
            _ if !length.is_multiple_of(2) => Err("even at every level that is halved by a filter"),
            _ => Ok(length / 2),
        };
        let filter_up = |length: usize| match length {
            ..3 => Err("at least 3 at every level that is doubled by a filter"),
            _ => Ok(2 * length),
        };
        let stride = |length: usize| length.div_ceil(2);
        let mut length = match length {
            0 => return Err("at least 1"),
            length => length,
        };
        let mut kept = Vec::new();
        for (i, kind) in self.down.iter().enumerate() {
            let halves = i + 1 < self.channels.len() || self.downsample_each;
            if matches!(kind, DownKind::Plain | DownKind::Attention) {
                length = filter_down(length)?;
            }
            kept.push(length);
            if *kind == DownKind::Residual && halves {
                length = stride(length);
            }
        }
        length = match self.mid {
            MidKind::Residual if self.downsample_each => stride(length),
            MidKind::Residual => length,
            MidKind::Value => stride(stride(length)),
            MidKind::Attention => filter_up(filter_down(length)?)?,
        };
        for (i, kind) in self.up.iter().enumerate() {
            if kept.pop() != Some(length) {
                return Err("such that the levels on the way up have the lengths of those on the way down");
            }
            length = match kind {
                UpKind::Residual if i + 1 < self.channels.len() => 2 * length,
                UpKind::Residual | UpKind::Last => length,
                UpKind::Plain | UpKind::Attention => filter_up(length)?,
            };
        }
        if self.out == Some(OutKind::Value) && length != 1 {
            return Err("such that one step is left before the layers of the value");
        }
        Ok(length)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        at_least_one("sample_size", self.sample_size)?;
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        level_count("channels", self.channels.len())?;
        layer_limit("layers", self.layers)?;
        for &width in &self.channels {
            at_least_one("channels", width)?;
        }
        if self.down.len() != self.channels.len() {
            return Err(wrong(
                "down",
                format!("{} blocks", self.down.len()),
                format!("one for each of the {} levels in `channels`", self.channels.len()),
            ));
        }
        if self.up.len() > self.channels.len() {
            return Err(wrong(
                "up",
                format!("{} blocks", self.up.len()),
                format!("at most one for each of the {} levels in `channels`", self.channels.len()),
            ));
        }
        self.check_time()?;
        self.check_widths()?;
        self.check_end()
    }

    /// Blocks that are told the time want it embedded, or as channels.
    fn check_time(&self) -> Result<(), ModelError> {
        let features = self.time_features();
        if self.fourier && !(features > 0 && features.is_multiple_of(2)) {
            return Err(wrong("time_width", features.to_string(), "an even number above 0".into()));
        }
        if !self.fourier && features < 2 {
            return Err(wrong("channels", features.to_string(), "at least 2 at the first level".into()));
        }
        if self.embed_time && self.activation.is_none() {
            return Err(wrong("activation", "none".into(), "an activation for the time embedding".into()));
        }
        let residual = self.down.contains(&DownKind::Residual)
            || self.up.contains(&UpKind::Residual)
            || matches!(self.mid, MidKind::Residual | MidKind::Value)
            || self.out == Some(OutKind::Value);
        if residual && !self.embed_time {
            let expected = "true: residual blocks and values are told an embedded time";
            return Err(wrong("embed_time", "false".into(), expected.into()));
        }
        if self.down.iter().skip(1).any(|kind| *kind == DownKind::Time) {
            let expected = "the kind that takes the time as channels at the finest level only";
            return Err(wrong("down", format!("{:?}", self.down), expected.into()));
        }
        if self.down[0] == DownKind::Time {
            if self.embed_time {
                let expected = "false: the first block takes the features of the time as channels";
                return Err(wrong("embed_time", "true".into(), expected.into()));
            }
            if self.extra_in_channels != features {
                let expected = format!("{features}, the features of the time that the first block takes");
                return Err(wrong("extra_in_channels", self.extra_in_channels.to_string(), expected));
            }
        }
        Ok(())
    }

    /// Groups and heads divide their channels.
    fn check_widths(&self) -> Result<(), ModelError> {
        let levels = self.channels.len();
        let coarsest = self.channels[levels - 1];
        // Widths, and the fields that tell them.
        let mut residual = Vec::new();
        let mut attended = Vec::new();
        for (kind, &width) in self.down.iter().zip(&self.channels) {
            match kind {
                DownKind::Residual => residual.push(("channels", width)),
                DownKind::Attention => attended.push(("channels", width)),
                DownKind::Plain | DownKind::Time => (),
            }
        }
        match self.mid {
            MidKind::Residual => residual.push(("channels", coarsest)),
            MidKind::Attention => attended.push(("channels", coarsest)),
            MidKind::Value if !coarsest.is_multiple_of(4) => {
                let expected = "a multiple of 4 at the coarsest level, which the middle divides by 4";
                return Err(wrong("channels", coarsest.to_string(), expected.into()));
            }
            MidKind::Value => residual.extend([("channels", coarsest / 2), ("channels", coarsest / 4)]),
        }
        for (i, kind) in self.up.iter().enumerate() {
            let last = i + 1 == self.up.len() && self.out.is_none();
            let field = if last { "out_channels" } else { "channels" };
            match kind {
                UpKind::Residual => residual.push((field, self.up_channels(i))),
                UpKind::Attention => attended.push((field, self.up_channels(i))),
                UpKind::Plain | UpKind::Last => (),
            }
        }
        if let Some((field, width)) = residual.into_iter().find(|(_, width)| !width.is_multiple_of(RESIDUAL_GROUPS)) {
            let expected = format!("multiples of {RESIDUAL_GROUPS} in residual blocks");
            return Err(wrong(field, width.to_string(), expected));
        }
        let whole = |width: usize| width >= HEAD && width.is_multiple_of(heads(width));
        if let Some((field, width)) = attended.into_iter().find(|(_, width)| !whole(*width)) {
            let expected = format!("at least {HEAD} where there is attention, and to be split into heads of {HEAD}");
            return Err(wrong(field, width.to_string(), expected));
        }
        Ok(())
    }

    /// What follows the blocks fits them.
    fn check_end(&self) -> Result<(), ModelError> {
        if self.mid == MidKind::Value && !self.up.is_empty() {
            let expected = "empty after a middle block that changes the channels";
            return Err(wrong("up", format!("{} blocks", self.up.len()), expected.into()));
        }
        if self.out.is_some() && self.activation.is_none() {
            return Err(wrong("activation", "none".into(), "an activation for what follows the blocks".into()));
        }
        let width = match self.up.len() {
            0 => self.mid_channels(),
            n => self.up_channels(n - 1),
        };
        match self.out {
            Some(OutKind::Conv) => {
                let first = self.channels[0];
                if width != first {
                    let expected = format!("blocks that return {first} channels before the last convolutions");
                    return Err(wrong("up", format!("{width} channels"), expected));
                }
                let groups = self.out_groups();
                at_least_one("norm_groups", groups)?;
                if !first.is_multiple_of(groups) {
                    return Err(wrong("norm_groups", groups.to_string(), format!("a divisor of {first} channels")));
                }
            }
            Some(OutKind::Value) => {
                let inputs = self.channels[self.channels.len() - 1] / 4;
                if width != inputs || inputs < 2 {
                    let expected = format!("blocks that return {} channels, a quarter of the coarsest", inputs.max(2));
                    return Err(wrong("mid", format!("{width} channels"), expected));
                }
            }
            None => (),
        }
        Ok(())
    }

    /// Groups of the normalization before the last convolution.
    pub(super) fn out_groups(&self) -> usize {
        self.norm_groups.unwrap_or_else(|| (self.channels[0] / 4).min(32))
    }
}

/// Number of heads of attention over `channels`.
pub(super) fn heads(channels: usize) -> usize {
    channels / HEAD
}

fn wrong(field: &'static str, given: String, expected: String) -> ModelError {
    ModelError::Config { field, given, expected }
}
