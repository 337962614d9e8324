//! The blocks on the way down, in the middle, on the way up, and after them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::{DownKind, MidKind, OutKind, UNet1dConfig, UpKind};
use super::layers::{ConvBlock, SelfAttention1d};
use super::resample::FixedFilter;
use super::residual::{ConvDown, ConvUp, ResidualBlock1d};
use crate::error::ModelError;
use crate::layers::{Activation, Conv1d, Conv1dConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig};
use crate::tap::Tap;

/// A level of blocks of convolutions, each followed by attention at levels that have it, between resampling by filters.
#[derive(Module, Debug)]
pub struct SignalBlock {
    /// Halving before the blocks.
    pub down: Option<FixedFilter>,
    /// Attention after each block, or none.
    pub attentions: Vec<SelfAttention1d>,
    /// Blocks of convolutions.
    pub resnets: Vec<ConvBlock>,
    /// Doubling after the blocks.
    pub up: Option<FixedFilter>,
}

impl SignalBlock {
    /// `count` blocks; `last` says whether the last one ends a network.
    fn new(
        [input, inner, output]: [usize; 3],
        count: usize,
        (attention, last): (bool, bool),
        device: &Device,
    ) -> Result<Self, ModelError> {
        let width = |i: usize| if i + 1 == count { output } else { inner };
        let block = |i: usize| {
            let input = if i == 0 { input } else { inner };
            ConvBlock::new(input, inner, width(i), last && i + 1 == count, device)
        };
        let attended = if attention { count } else { 0 };
        Ok(Self {
            down: None,
            attentions: (0..attended).map(|i| SelfAttention1d::new(width(i), device)).collect::<Result<_, _>>()?,
            resnets: (0..count).map(block).collect::<Result<_, _>>()?,
            up: None,
        })
    }

    fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let mut h = x;
        if let Some(down) = &self.down {
            h = down.forward(h);
            tap.see("down", &h);
        }
        for (i, block) in self.resnets.iter().enumerate() {
            h = tap.scope(format_args!("resnets.{i}"), |tap| block.forward(h, tap));
            if let Some(attention) = self.attentions.get(i) {
                h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward(h, tap));
            }
        }
        if let Some(up) = &self.up {
            h = up.forward(h);
            tap.see("up", &h);
        }
        h
    }
}

/// A level of residual blocks, and what resamples after them (`downsample` or `upsample` in published weights).
#[derive(Module, Debug)]
pub struct ResidualStep {
    /// Residual blocks.
    pub resnets: Vec<ResidualBlock1d>,
    /// Halving.
    pub downsample: Option<ConvDown>,
    /// Doubling.
    pub upsample: Option<ConvUp>,
}

impl ResidualStep {
    fn new(config: &UNet1dConfig, input: usize, output: usize, device: &Device) -> Result<Self, ModelError> {
        let time = config.channels[0];
        let block = |i| ResidualBlock1d::new(if i == 0 { input } else { output }, output, time, device);
        Ok(Self {
            resnets: (0..=config.layers).map(block).collect::<Result<_, _>>()?,
            downsample: None,
            upsample: None,
        })
    }

    fn run(&self, x: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        self.resnets
            .iter()
            .enumerate()
            .fold(x, |h, (i, block)| tap.scope(format_args!("resnets.{i}"), |tap| block.forward(h, time, tap)))
    }

    fn resample(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        match (&self.downsample, &self.upsample) {
            (Some(layer), _) => tap.scope("downsample", |tap| layer.forward(x, tap)),
            (None, Some(layer)) => tap.scope("upsample", |tap| layer.forward(x, tap)),
            (None, None) => x,
        }
    }
}

/// A block on the way down.
#[derive(Module, Debug)]
pub enum DownBlock1d {
    /// Residual blocks.
    Residual(ResidualStep),
    /// Blocks of convolutions.
    Signal(SignalBlock),
    /// Blocks of convolutions on the signal and the features of the time beside it.
    Time(SignalBlock),
}

impl DownBlock1d {
    pub(super) fn new(config: &UNet1dConfig, level: usize, device: &Device) -> Result<Self, ModelError> {
        let output = config.channels[level];
        let input = match level {
            0 => config.in_channels + config.extra_in_channels,
            _ => config.channels[level - 1],
        };
        let kind = config.down[level];
        if kind == DownKind::Residual {
            let mut step = ResidualStep::new(config, input, output, device)?;
            if level + 1 < config.channels.len() || config.downsample_each {
                step.downsample = Some(ConvDown::new(output, device)?);
            }
            return Ok(Self::Residual(step));
        }
        let attention = kind == DownKind::Attention;
        let mut block = SignalBlock::new([input, output, output], 3, (attention, false), device)?;
        if kind == DownKind::Time {
            return Ok(Self::Time(block));
        }
        block.down = Some(FixedFilter::halving(device));
        Ok(Self::Signal(block))
    }

    /// The hidden state, and what the way up takes.
    pub(super) fn forward(&self, x: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> (Tensor<3>, Tensor<3>) {
        let (hidden, kept) = match self {
            Self::Residual(block) => {
                let kept = block.run(x, time, tap);
                (block.resample(kept.clone(), tap), kept)
            }
            Self::Signal(block) => {
                let h = block.forward(x, tap);
                (h.clone(), h)
            }
            Self::Time(block) => {
                let ([batch, _, length], [_, features]) = (x.dims(), time.dims());
                let time = time.clone().reshape([batch, features, 1]).expand([batch, features, length]);
                let h = block.forward(Tensor::cat(vec![x, time], 1), tap);
                (h.clone(), h)
            }
        };
        tap.see("0", &hidden);
        tap.see("1.0", &kept);
        (hidden, kept)
    }
}

/// The block between down and up.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum MidBlock1d {
    /// Residual blocks.
    Residual(ResidualStep),
    /// Residual blocks that halve channels and length.
    Value(ValueMid),
    /// Blocks of convolutions with attention.
    Signal(SignalBlock),
}

/// Two residual blocks, each halving the channels, with a convolution behind it that halves the length.
#[derive(Module, Debug)]
pub struct ValueMid {
    /// First residual block.
    pub res1: ResidualBlock1d,
    /// First halving.
    pub down1: ConvDown,
    /// Second residual block.
    pub res2: ResidualBlock1d,
    /// Second halving.
    pub down2: ConvDown,
}

impl MidBlock1d {
    pub(super) fn new(config: &UNet1dConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.channels[config.channels.len() - 1];
        let time = config.channels[0];
        Ok(match config.mid {
            MidKind::Residual => {
                let mut step = ResidualStep::new(config, width, width, device)?;
                step.downsample = config.downsample_each.then(|| ConvDown::new(width, device)).transpose()?;
                Self::Residual(step)
            }
            MidKind::Value => Self::Value(ValueMid {
                res1: ResidualBlock1d::new(width, width / 2, time, device)?,
                down1: ConvDown::new(width / 2, device)?,
                res2: ResidualBlock1d::new(width / 2, width / 4, time, device)?,
                down2: ConvDown::new(width / 4, device)?,
            }),
            MidKind::Attention => {
                let mut block = SignalBlock::new([width; 3], 6, (true, false), device)?;
                block.down = Some(FixedFilter::halving(device));
                block.up = Some(FixedFilter::doubling(device));
                Self::Signal(block)
            }
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        let y = match self {
            Self::Residual(block) => {
                let h = block.run(x, time, tap);
                block.resample(h, tap)
            }
            Self::Value(block) => {
                let h = tap.scope("res1", |tap| block.res1.forward(x, time, tap));
                let h = tap.scope("down1", |tap| block.down1.forward(h, tap));
                let h = tap.scope("res2", |tap| block.res2.forward(h, time, tap));
                tap.scope("down2", |tap| block.down2.forward(h, tap))
            }
            Self::Signal(block) => block.forward(x, tap),
        };
        tap.see("", &y);
        y
    }
}

/// A block on the way up.
#[derive(Module, Debug)]
pub enum UpBlock1d {
    /// Residual blocks.
    Residual(ResidualStep),
    /// Blocks of convolutions.
    Signal(SignalBlock),
}

impl UpBlock1d {
    /// The block at position `i` on the way up, 0 being the coarsest.
    pub(super) fn new(config: &UNet1dConfig, i: usize, device: &Device) -> Result<Self, ModelError> {
        let input = config.channels[config.channels.len() - 1 - i];
        let output = config.up_channels(i);
        let kind = config.up[i];
        if kind == UpKind::Residual {
            let mut step = ResidualStep::new(config, 2 * input, output, device)?;
            if i + 1 < config.channels.len() {
                step.upsample = Some(ConvUp::new(output, device)?);
            }
            return Ok(Self::Residual(step));
        }
        let attention = kind == UpKind::Attention;
        let inner = if attention { output } else { input };
        let mut block = SignalBlock::new([2 * input, inner, output], 3, (attention, kind == UpKind::Last), device)?;
        block.up = (kind != UpKind::Last).then(|| FixedFilter::doubling(device));
        Ok(Self::Signal(block))
    }

    pub(super) fn forward(&self, x: Tensor<3>, kept: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        let both = Tensor::cat(vec![x, kept], 1);
        let y = match self {
            Self::Residual(block) => {
                let h = block.run(both, time, tap);
                block.resample(h, tap)
            }
            Self::Signal(block) => block.forward(both, tap),
        };
        tap.see("", &y);
        y
    }
}

/// What follows the blocks.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum OutBlock1d {
    /// Two convolutions.
    Conv(OutConv),
    /// Layers that give one number.
    Value(OutValue),
}

/// A convolution, normalization, activation, and a convolution of single steps.
#[derive(Module, Debug)]
pub struct OutConv {
    /// First convolution.
    pub final_conv1d_1: Conv1d,
    /// Normalization.
    pub final_conv1d_gn: GroupNorm,
    /// Second convolution.
    pub final_conv1d_2: Conv1d,
    #[module(skip)]
    activation: Activation,
}

/// Two layers on the last step and the time.
#[derive(Module, Debug)]
pub struct OutValue {
    /// First layer, activation and second layer, at the positions that published weights have.
    pub final_block: Vec<OutPart>,
}

/// A part of an [`OutValue`].
#[derive(Module, Debug)]
pub enum OutPart {
    /// A layer.
    Linear(Linear),
    /// An activation.
    Activation(Activate),
}

/// An activation as a module without parameters.
#[derive(Module, Debug)]
pub struct Activate {
    #[module(skip)]
    activation: Activation,
}

impl OutBlock1d {
    pub(super) fn new(config: &UNet1dConfig, kind: OutKind, device: &Device) -> Result<Self, ModelError> {
        let first = config.channels[0];
        let activation = config.activation.unwrap_or_default();
        Ok(match kind {
            OutKind::Conv => Self::Conv(OutConv {
                final_conv1d_1: Conv1dConfig::new(first, first, 5).padding(2).init(device)?,
                final_conv1d_gn: GroupNormConfig::new(config.out_groups(), first).init(device)?,
                final_conv1d_2: Conv1dConfig::new(first, config.out_channels, 1).init(device)?,
                activation,
            }),
            OutKind::Value => {
                let inputs = config.channels[config.channels.len() - 1] / 4;
                Self::Value(OutValue {
                    final_block: vec![
                        OutPart::Linear(LinearConfig::new(inputs + first, inputs / 2).init(device)?),
                        OutPart::Activation(Activate { activation }),
                        OutPart::Linear(LinearConfig::new(inputs / 2, 1).init(device)?),
                    ],
                })
            }
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        match self {
            Self::Conv(block) => {
                let h = block.final_conv1d_1.forward(x);
                tap.see("final_conv1d_1", &h);
                let h = block.final_conv1d_gn.forward(h);
                tap.see("final_conv1d_gn", &h);
                let h = block.activation.forward(h);
                tap.see("final_conv1d_act", &h);
                let y = block.final_conv1d_2.forward(h);
                tap.see("final_conv1d_2", &y);
                tap.see("", &y);
                y
            }
            Self::Value(block) => {
                let features = Tensor::cat(vec![x.flatten::<2>(1, 2), time.clone()], 1);
                let y = block.final_block.iter().enumerate().fold(features, |h, (i, part)| {
                    let h = match part {
                        OutPart::Linear(layer) => layer.forward(h),
                        OutPart::Activation(activate) => activate.activation.forward(h),
                    };
                    tap.see(format_args!("final_block.{i}"), &h);
                    h
                });
                tap.see("", &y);
                let [batch, values] = y.dims();
                y.reshape([batch, values, 1])
            }
        }
    }
}
