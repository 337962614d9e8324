//! The levels that the networks for video have in common: residual blocks and attention over the pixels of each frame,
//! followed by what looks at other frames.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::error::ModelError;
use crate::layers::{
    DownsampleConv, ResnetBlock2d, ResnetBlock2dConfig, SpatioTemporalResnet, SpatioTemporalResnetConfig, TemporalConv,
    Transformer2d, Transformer2dConfig, TransformerSpatioTemporal, TransformerSpatioTemporalConfig,
    TransformerTemporal, TransformerTemporalConfig, UpsampleConv,
};
use crate::tap::Tap;
use crate::unet::conditional::ControlResiduals;

/// Dropout of the convolutions over frames, which the family fixes.
const FRAME_DROPOUT: f64 = 0.1;

/// How the parts of one level are made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub resnet: ResnetPlan,
    /// Attention of each step, or none.
    pub attention: Vec<AttentionPlan>,
    /// Groups of convolutions over frames after each residual block, or none.
    pub frame_convs: Option<usize>,
    /// Attention over frames of each step, or none.
    pub frame_attention: Vec<TransformerTemporalConfig>,
    /// Motion module of each step, or none.
    pub motion: Vec<TransformerTemporalConfig>,
}

/// Residual blocks, but for their channels.
#[derive(Debug, Clone, Copy)]
pub(super) enum ResnetPlan {
    Plain(ResnetBlock2dConfig),
    SpatioTemporal(SpatioTemporalResnetConfig),
}

/// Attention over pixels.
#[derive(Debug, Clone, Copy)]
pub(super) enum AttentionPlan {
    Pixels(Transformer2dConfig),
    SpatioTemporal(TransformerSpatioTemporalConfig),
}

/// A residual block over pixels, or one over pixels and frames.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum VideoResnet {
    /// Over pixels.
    Plain(ResnetBlock2d),
    /// Over pixels and frames.
    SpatioTemporal(SpatioTemporalResnet),
}

/// Attention over pixels, or over pixels and frames.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum VideoAttention {
    /// Over pixels.
    Pixels(Transformer2d),
    /// Over pixels and frames.
    SpatioTemporal(TransformerSpatioTemporal),
}

/// A level of a network for video. Which lists are filled depends on the network; the steps of a level are a residual block
/// and what follows it in each list.
#[derive(Module, Debug)]
pub struct VideoBlock {
    /// Residual blocks.
    pub resnets: Vec<VideoResnet>,
    /// Convolutions over frames.
    pub temp_convs: Vec<TemporalConv>,
    /// Attention over pixels and to the text.
    pub attentions: Vec<VideoAttention>,
    /// Attention over frames.
    pub temp_attentions: Vec<TransformerTemporal>,
    /// Motion modules: attention over frames that are told apart.
    pub motion_modules: Vec<TransformerTemporal>,
    /// Halving at the end of a level on the way down.
    pub downsamplers: Vec<DownsampleConv>,
    /// Doubling at the end of a level on the way up.
    pub upsamplers: Vec<UpsampleConv>,
}

/// What the blocks are told.
pub(super) struct Told {
    /// The time embedding of each frame after its activation `[batch·frames, width]`.
    pub time: Tensor<2>,
    /// The text of each video `[batch, tokens, width]`, or of each frame `[batch·frames, tokens, width]`.
    pub text: Tensor<3>,
    pub frames: usize,
}

impl VideoBlock {
    /// A block with residual blocks of the given widths (input, output).
    pub(super) fn new(plan: &Plan, widths: &[(usize, usize)], device: &Device) -> Result<Self, ModelError> {
        let resnet = |&(input, output): &(usize, usize)| {
            Ok(match plan.resnet {
                ResnetPlan::Plain(config) => {
                    let config = ResnetBlock2dConfig { input, output, shortcut: input != output, ..config };
                    VideoResnet::Plain(config.init(device)?)
                }
                ResnetPlan::SpatioTemporal(config) => {
                    let config = SpatioTemporalResnetConfig { input, output, ..config };
                    VideoResnet::SpatioTemporal(config.init(device)?)
                }
            })
        };
        let attention = |plan: &AttentionPlan| {
            Ok(match plan {
                AttentionPlan::Pixels(config) => VideoAttention::Pixels(config.init(device)?),
                AttentionPlan::SpatioTemporal(config) => VideoAttention::SpatioTemporal(config.init(device)?),
            })
        };
        let over_frames = |configs: &[TransformerTemporalConfig]| -> Result<Vec<TransformerTemporal>, ModelError> {
            configs.iter().map(|config| config.init(device)).collect()
        };
        Ok(Self {
            resnets: widths.iter().map(resnet).collect::<Result<_, ModelError>>()?,
            temp_convs: match plan.frame_convs {
                Some(groups) => widths
                    .iter()
                    .map(|(_, output)| TemporalConv::new(*output, groups, FRAME_DROPOUT, device))
                    .collect::<Result<_, _>>()?,
                None => vec![],
            },
            attentions: plan.attention.iter().map(attention).collect::<Result<_, ModelError>>()?,
            temp_attentions: over_frames(&plan.frame_attention)?,
            motion_modules: over_frames(&plan.motion)?,
            downsamplers: vec![],
            upsamplers: vec![],
        })
    }

    fn resnet(&self, i: usize, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = tap.scope(format_args!("resnets.{i}"), |tap| match &self.resnets[i] {
            VideoResnet::Plain(block) => block.forward(x, Some(&told.time), tap),
            VideoResnet::SpatioTemporal(block) => block.forward(x, Some(&told.time), told.frames, tap),
        });
        if let Some(conv) = self.temp_convs.get(i) {
            h = tap.scope(format_args!("temp_convs.{i}"), |tap| conv.forward(h, told.frames, tap));
        }
        h
    }

    fn attend(&self, i: usize, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = x;
        if let Some(attention) = self.attentions.get(i) {
            h = tap.scope(format_args!("attentions.{i}"), |tap| match attention {
                VideoAttention::Pixels(block) => block.forward(h, Some(&told.text), None, tap),
                VideoAttention::SpatioTemporal(block) => block.forward(h, &told.text, told.frames, tap),
            });
        }
        if let Some(attention) = self.temp_attentions.get(i) {
            let name = format_args!("temp_attentions.{i}").to_string();
            h = tap.scope(name, |tap| attention.forward(h, told.frames, "0", tap));
        }
        if let Some(motion) = self.motion_modules.get(i) {
            h = tap.scope(format_args!("motion_modules.{i}"), |tap| motion.forward(h, told.frames, "", tap));
        }
        h
    }

    /// The hidden state, and what the way up takes.
    fn down(&self, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> (Tensor<4>, Vec<Tensor<4>>) {
        let mut h = x;
        let mut skips = Vec::with_capacity(self.resnets.len() + 1);
        for i in 0..self.resnets.len() {
            h = self.resnet(i, h, told, tap);
            h = self.attend(i, h, told, tap);
            skips.push(h.clone());
        }
        for (i, layer) in self.downsamplers.iter().enumerate() {
            h = tap.scope(format_args!("downsamplers.{i}"), |tap| layer.forward(h, tap));
            skips.push(h.clone());
        }
        tap.see("0", &h);
        for (i, skip) in skips.iter().enumerate() {
            tap.see(format_args!("1.{i}"), skip);
        }
        (h, skips)
    }

    /// Attention stands between the residual blocks.
    fn mid(&self, x: Tensor<4>, told: &Told, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = self.resnet(0, x, told, tap);
        for i in 1..self.resnets.len() {
            h = self.attend(i - 1, h, told, tap);
            h = self.resnet(i, h, told, tap);
        }
        tap.see("", &h);
        h
    }

    /// `size` are height and width of the next level.
    fn up(
        &self,
        x: Tensor<4>,
        skips: Vec<Tensor<4>>,
        size: Option<[usize; 2]>,
        told: &Told,
        tap: &mut Tap<'_>,
    ) -> Tensor<4> {
        let mut h = x;
        for (i, kept) in skips.into_iter().rev().enumerate() {
            h = self.resnet(i, Tensor::cat(vec![h, kept], 1), told, tap);
            h = self.attend(i, h, told, tap);
        }
        for (i, layer) in self.upsamplers.iter().enumerate() {
            h = tap.scope(format_args!("upsamplers.{i}"), |tap| layer.forward(h, size, tap));
        }
        tap.see("", &h);
        h
    }
}

/// The three parts of a network.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    pub down: Vec<VideoBlock>,
    pub mid: VideoBlock,
    pub up: Vec<VideoBlock>,
}

/// How the levels are made: the plans of each, and what they have in common.
#[derive(Debug)]
pub(super) struct LevelPlans {
    /// Channels of each level, finest first.
    pub channels: Vec<usize>,
    /// Residual blocks of each level on the way down; there is one more on the way up.
    pub layers: Vec<usize>,
    pub down: Vec<Plan>,
    pub mid: Plan,
    /// Coarsest level first.
    pub up: Vec<Plan>,
    pub downsample_padding: usize,
}

impl LevelPlans {
    /// Checks the shapes of what a ControlNet adds, for frames `[rows, _, height, width]`.
    pub fn check_control(&self, control: &ControlResiduals, frames: [usize; 4]) -> Result<(), ModelError> {
        let levels: Vec<_> = self.channels.iter().copied().zip(self.layers.iter().copied()).collect();
        control.check(&levels, self.downsample_padding, frames)
    }

    pub fn init(&self, device: &Device) -> Result<Levels, ModelError> {
        let n = self.channels.len();
        let mut down = Vec::with_capacity(n);
        for (i, plan) in self.down.iter().enumerate() {
            let output = self.channels[i];
            let input = self.channels[i.saturating_sub(1)];
            let widths: Vec<_> = (0..self.layers[i]).map(|l| (if l == 0 { input } else { output }, output)).collect();
            let mut block = VideoBlock::new(plan, &widths, device)?;
            if i + 1 < n {
                block.downsamplers.push(DownsampleConv::new(output, self.downsample_padding, device)?);
            }
            down.push(block);
        }
        let coarsest = self.channels[n - 1];
        let mid = VideoBlock::new(&self.mid, &vec![(coarsest, coarsest); self.mid.attention.len() + 1], device)?;
        let mut up = Vec::with_capacity(n);
        for (i, plan) in self.up.iter().enumerate() {
            let level = n - 1 - i;
            let output = self.channels[level];
            let below = self.channels[(level + 1).min(n - 1)];
            let above = self.channels[level.saturating_sub(1)];
            let count = self.layers[level] + 1;
            let width = |l: usize| {
                let from = if l == 0 { below } else { output };
                let kept = if l + 1 == count { above } else { output };
                (from + kept, output)
            };
            let mut block = VideoBlock::new(plan, &(0..count).map(width).collect::<Vec<_>>(), device)?;
            if level > 0 {
                block.upsamplers.push(UpsampleConv::new(output, output, device)?);
            }
            up.push(block);
        }
        Ok(Levels { down, mid, up })
    }
}

/// All levels, from after the first convolution to before the last normalization. A ControlNet adds to what the way up
/// takes, and to the middle.
pub(super) fn run(
    (down, mid, up): (&[VideoBlock], &VideoBlock, &[VideoBlock]),
    x: Tensor<4>,
    told: &Told,
    control: Option<&ControlResiduals>,
    tap: &mut Tap<'_>,
) -> Tensor<4> {
    let mut h = x;
    let mut skips = vec![h.clone()];
    for (i, block) in down.iter().enumerate() {
        let (hidden, kept) = tap.scope(format_args!("down_blocks.{i}"), |tap| block.down(h, told, tap));
        skips.extend(kept);
        h = hidden;
    }
    h = tap.scope("mid_block", |tap| mid.mid(h, told, tap));
    if let Some(control) = control {
        let dtype = h.dtype();
        let add = |(skip, more): (Tensor<4>, &Tensor<4>)| skip + more.clone().cast(dtype);
        skips = skips.into_iter().zip(&control.down).map(add).collect();
        h = add((h, &control.mid));
    }
    for (i, block) in up.iter().enumerate() {
        let kept = skips.split_off(skips.len() - block.resnets.len());
        let size = skips.last().map(|next| [next.dims()[2], next.dims()[3]]);
        h = tap.scope(format_args!("up_blocks.{i}"), |tap| block.up(h, kept, size, told, tap));
    }
    h
}
