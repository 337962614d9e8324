//! The blocks on the way down, in the middle, and on the way up.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::{Block, Resampling, UNet2dConfig};
use crate::error::ModelError;
use crate::layers::{
    Activation, Attention, AttentionConfig, Conv2d, Conv2dConfig, DownsampleConv, Downsampler, GroupNorm,
    GroupNormConfig, Resample, ResnetBlock2d, ResnetBlock2dConfig, UpsampleConv, Upsampler, fir_downsample_2x,
    fir_upsample_2x,
};
use crate::tap::Tap;

/// Groups that skip blocks choose for a number of channels.
fn own_groups(channels: usize) -> usize {
    (channels / 4).min(32)
}

/// What the parts of one block have in common.
struct Parts<'a> {
    config: &'a UNet2dConfig,
    block: Block,
    device: &'a Device,
}

impl Parts<'_> {
    fn output_scale(&self) -> f64 {
        if self.block.is_skip() { std::f64::consts::SQRT_2 } else { 1.0 }
    }

    fn resnet(&self, input: usize, output: usize) -> ResnetBlock2dConfig {
        let config = self.config;
        let (groups, groups_out) = match config.norm_groups {
            Some(groups) if !self.block.is_skip() => (groups, groups),
            _ => (own_groups(input), own_groups(output)),
        };
        ResnetBlock2dConfig {
            groups,
            groups_out,
            epsilon: config.norm_epsilon,
            dropout: config.dropout,
            activation: config.activation,
            scale_shift: config.scale_shift,
            output_scale: self.output_scale(),
            ..ResnetBlock2dConfig::new(input, output, config.time_embedding_width())
        }
    }

    fn resampler(&self, channels: usize, resample: Resample) -> Result<ResnetBlock2d, ModelError> {
        let mut config = self.resnet(channels, channels);
        config.resample = resample;
        // The filtered blocks project their input even where the channels stay.
        config.shortcut = self.block.is_skip();
        config.init(self.device)
    }

    fn attention(&self, channels: usize) -> Result<Attention, ModelError> {
        let groups = if self.block.is_skip() { Some(32) } else { self.config.norm_groups };
        attention(self.config, channels, groups, self.output_scale(), self.device)
    }
}

fn attention(
    config: &UNet2dConfig,
    channels: usize,
    groups: Option<usize>,
    output_scale: f64,
    device: &Device,
) -> Result<Attention, ModelError> {
    let dim = config.head_dim.unwrap_or(channels);
    AttentionConfig::new(channels, channels / dim, dim)
        .norm(groups, config.norm_epsilon)
        .output_scale(output_scale)
        .init(device)
}

/// A level on the way down: residual blocks, each followed by attention at levels that have it, and halving.
#[derive(Module, Debug)]
pub struct DownBlock2d {
    /// Attention after each residual block, or none.
    pub attentions: Vec<Attention>,
    /// Residual blocks.
    pub resnets: Vec<ResnetBlock2d>,
    /// Halving, except at the coarsest level.
    pub downsamplers: Vec<Downsampler>,
    /// Halving of skip blocks.
    pub resnet_down: Option<ResnetBlock2d>,
    /// Adds the halved image itself in skip blocks.
    pub skip_conv: Option<Conv2d>,
    skip: bool,
}

/// What a block on the way down returns.
pub(super) struct Down {
    pub hidden: Tensor<4>,
    pub skips: Vec<Tensor<4>>,
    pub image: Tensor<4>,
}

impl DownBlock2d {
    pub(super) fn new(config: &UNet2dConfig, level: usize, device: &Device) -> Result<Self, ModelError> {
        let block = config.down[level];
        let parts = Parts { config, block, device };
        let input = config.channels[level.saturating_sub(1)];
        let output = config.channels[level];
        let halve = level + 1 < config.channels.len();
        let resnets = (0..config.layers)
            .map(|i| parts.resnet(if i == 0 { input } else { output }, output).init(device))
            .collect::<Result<_, _>>()?;
        let attentions = match block.has_attention() {
            true => (0..config.layers).map(|_| parts.attention(output)).collect::<Result<_, _>>()?,
            false => vec![],
        };
        let residual =
            block == Block::Residual || block == Block::Attention && config.downsample == Resampling::Residual;
        let downsamplers = match (halve && !block.is_skip(), residual) {
            (false, _) => vec![],
            (true, true) => vec![Downsampler::Residual(parts.resampler(output, Resample::Halve)?)],
            (true, false) => {
                vec![Downsampler::Conv(DownsampleConv::new(output, config.downsample_padding, device)?)]
            }
        };
        let (resnet_down, skip_conv) = match halve && block.is_skip() {
            true => (
                Some(parts.resampler(output, Resample::HalveFiltered)?),
                Some(Conv2dConfig::new(3, output, 1).init(device)?),
            ),
            false => (None, None),
        };
        Ok(Self { attentions, resnets, downsamplers, resnet_down, skip_conv, skip: block.is_skip() })
    }

    pub(super) fn forward(&self, x: Tensor<4>, image: Tensor<4>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Down {
        let mut down = Down { hidden: x, skips: Vec::with_capacity(self.resnets.len() + 1), image };
        for (i, resnet) in self.resnets.iter().enumerate() {
            let mut h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(down.hidden, Some(time), tap));
            if let Some(attention) = self.attentions.get(i) {
                h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward_image(h, tap));
            }
            down.skips.push(h.clone());
            down.hidden = h;
        }
        for (i, layer) in self.downsamplers.iter().enumerate() {
            let name = format_args!("downsamplers.{i}").to_string();
            down.hidden = tap.scope(name, |tap| layer.forward(down.hidden, Some(time), tap));
            down.skips.push(down.hidden.clone());
        }
        if let (Some(resnet), Some(conv)) = (&self.resnet_down, &self.skip_conv) {
            let h = tap.scope("resnet_down", |tap| resnet.forward(down.hidden, Some(time), tap));
            down.image = fir_downsample_2x(down.image);
            tap.see("downsamplers.0", &down.image);
            let skip = conv.forward(down.image.clone());
            tap.see("skip_conv", &skip);
            down.hidden = skip + h;
            down.skips.push(down.hidden.clone());
        }
        tap.see("0", &down.hidden);
        for (i, skip) in down.skips.iter().enumerate() {
            tap.see(format_args!("1.{i}"), skip);
        }
        if self.skip {
            tap.see("2", &down.image);
        }
        down
    }
}

/// The block at the coarsest level: a residual block, attention, and another residual block.
#[derive(Module, Debug)]
pub struct MidBlock2d {
    /// Attention between the residual blocks, or none.
    pub attentions: Vec<Attention>,
    /// The two residual blocks.
    pub resnets: Vec<ResnetBlock2d>,
}

impl MidBlock2d {
    pub(super) fn new(config: &UNet2dConfig, device: &Device) -> Result<Self, ModelError> {
        let channels = config.channels[config.channels.len() - 1];
        let parts = Parts { config, block: Block::Plain, device };
        let groups = config.norm_groups.unwrap_or_else(|| own_groups(channels));
        let mut resnet = parts.resnet(channels, channels).groups(groups);
        resnet.output_scale = config.mid_scale;
        let resnets = vec![resnet.init(device)?, resnet.init(device)?];
        // Where the time scales and shifts, only an explicit number of groups brings a normalization.
        let groups = config.mid_attention_groups.or((!config.scale_shift).then_some(groups));
        let attentions = match config.mid_attention {
            true => vec![attention(config, channels, groups, config.mid_scale, device)?],
            false => vec![],
        };
        Ok(Self { attentions, resnets })
    }

    pub(super) fn forward(&self, x: Tensor<4>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            // Attention stands between the residual blocks.
            if let Some(attention) = i.checked_sub(1).and_then(|i| self.attentions.get(i)) {
                h = tap.scope(format_args!("attentions.{}", i - 1), |tap| attention.forward_image(h, tap));
            }
            h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(h, Some(time), tap));
        }
        tap.see("", &h);
        h
    }
}

/// A level on the way up: residual blocks on the concatenation with what the way down kept, and doubling.
#[derive(Module, Debug)]
pub struct UpBlock2d {
    /// Attention after each residual block; skip blocks have it once, after the last.
    pub attentions: Vec<Attention>,
    /// Residual blocks.
    pub resnets: Vec<ResnetBlock2d>,
    /// Doubling, except at the finest level.
    pub upsamplers: Vec<Upsampler>,
    /// Doubling of skip blocks.
    pub resnet_up: Option<ResnetBlock2d>,
    /// Adds to the image itself in skip blocks.
    pub skip_conv: Option<Conv2d>,
    /// Normalization before `skip_conv`.
    pub skip_norm: Option<GroupNorm>,
    skip: bool,
}

impl UpBlock2d {
    /// The block at position `i` on the way up, 0 being the coarsest.
    pub(super) fn new(config: &UNet2dConfig, i: usize, device: &Device) -> Result<Self, ModelError> {
        let block = config.up[i];
        let parts = Parts { config, block, device };
        let levels = config.channels.len();
        let level = levels - 1 - i;
        let output = config.channels[level];
        let below = config.channels[(level + 1).min(levels - 1)];
        let above = config.channels[level.saturating_sub(1)];
        let double = level > 0;
        let count = config.layers + 1;
        let mut resnets = Vec::with_capacity(count);
        for layer in 0..count {
            let from_below = if layer == 0 { below } else { output };
            let kept = if layer + 1 == count { above } else { output };
            let mut resnet = parts.resnet(from_below + kept, output);
            if block == Block::AttentionSkip {
                // The published weights divide by 4 before adding, not after.
                resnet.groups = (from_below + kept / 4).min(32);
            }
            resnets.push(resnet.init(device)?);
        }
        let attentions = match block {
            Block::Attention => (0..count).map(|_| parts.attention(output)).collect::<Result<_, _>>()?,
            Block::AttentionSkip => vec![parts.attention(output)?],
            _ => vec![],
        };
        let residual = block == Block::Residual || block == Block::Attention && config.upsample == Resampling::Residual;
        let upsamplers = match (double && !block.is_skip(), residual) {
            (false, _) => vec![],
            (true, true) => vec![Upsampler::Residual(parts.resampler(output, Resample::Double)?)],
            (true, false) => vec![Upsampler::Conv(UpsampleConv::new(output, output, device)?)],
        };
        let filtered = double && block.is_skip();
        let optional = |yes: bool| yes.then_some(());
        Ok(Self {
            attentions,
            resnets,
            upsamplers,
            resnet_up: optional(filtered).map(|()| parts.resampler(output, Resample::DoubleFiltered)).transpose()?,
            skip_conv: optional(filtered)
                .map(|()| Conv2dConfig::new(output, 3, 3).padding(1).init(device))
                .transpose()?,
            skip_norm: optional(filtered)
                .map(|()| GroupNormConfig::new(own_groups(output), output).epsilon(config.norm_epsilon).init(device))
                .transpose()?,
            skip: block.is_skip(),
        })
    }

    /// Number of tensors it takes from the way down.
    pub(super) fn takes(&self) -> usize {
        self.resnets.len()
    }

    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        skips: Vec<Tensor<4>>,
        image: Option<Tensor<4>>,
        time: &Tensor<2>,
        tap: &mut Tap<'_>,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        let mut h = x;
        for ((i, resnet), kept) in self.resnets.iter().enumerate().zip(skips.into_iter().rev()) {
            let both = Tensor::cat(vec![h, kept], 1);
            h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(both, Some(time), tap));
            if let (false, Some(attention)) = (self.skip, self.attentions.get(i)) {
                h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward_image(h, tap));
            }
        }
        if !self.skip {
            for (i, layer) in self.upsamplers.iter().enumerate() {
                h = tap.scope(format_args!("upsamplers.{i}"), |tap| layer.forward(h, Some(time), tap));
            }
            tap.see("", &h);
            return (h, image);
        }
        if let Some(attention) = self.attentions.first() {
            h = tap.scope("attentions.0", |tap| attention.forward_image(h, tap));
        }
        let mut image = image.map(fir_upsample_2x);
        if let Some(image) = &image {
            tap.see("upsampler", image);
        }
        if let (Some(norm), Some(conv), Some(resnet)) = (&self.skip_norm, &self.skip_conv, &self.resnet_up) {
            let s = norm.forward(h.clone());
            tap.see("skip_norm", &s);
            // This activation is SiLU whatever the network's is.
            let s = conv.forward(Activation::Silu.forward(s));
            tap.see("skip_conv", &s);
            image = Some(match image {
                Some(image) => image + s,
                None => s,
            });
            h = tap.scope("resnet_up", |tap| resnet.forward(h, Some(time), tap));
        }
        tap.see("0", &h);
        if let Some(image) = &image {
            tap.see("1", image);
        }
        (h, image)
    }
}
