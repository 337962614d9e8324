//! Text to video with convolutions and attention over frames.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocks::{AttentionPlan, LevelPlans, Plan, ResnetPlan, Told, VideoBlock, run};
use super::common::{
    at_least_two, check_heads, check_resnets, check_sizes, check_video, dtype, embed_time, finish, smallest_side,
};
use super::level::VideoLevel;
use crate::condition::{Part, TextCondition, each_frame};
use crate::error::{ModelError, at_least_one, layer_count};
use crate::layers::{
    Activation, Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, ResnetBlock2dConfig, TimestepEmbedding,
    TimestepEmbeddingConfig, Transformer2dConfig, TransformerTemporal, TransformerTemporalConfig, to_frames, to_video,
};
use crate::mlp::for_batch;
use crate::published::Sides;
use crate::tap::Tap;
use crate::unet::conditional::ControlResiduals;
use crate::weights::{published_value, read_config, read_config_file, read_folder, write_folder};

/// The class that publishes these configurations.
const CLASS: &str = "UNet3DConditionModel";
/// Heads of the attention over frames before the first level, which the class fixes.
const FIRST_HEADS: usize = 8;

/// Configuration of a [`UNet3dConditional`]: the published keys of a `UNet3DConditionModel`, with its defaults.
///
/// # Example
///
/// ```
/// use langevin_models::unet::video::{UNet3dConditionalConfig, VideoLevel};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNet3dConditionalConfig {
///     block_out_channels: vec![32, 64],
///     down_block_types: vec![VideoLevel::Attention, VideoLevel::Plain],
///     up_block_types: vec![VideoLevel::Plain, VideoLevel::Attention],
///     attention_head_dim: 16,
///     cross_attention_dim: 64,
///     ..UNet3dConditionalConfig::default()
/// };
/// let net = config.init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet3dConditionalConfig {
    /// Height and width the network is meant for; it takes others. Default: not said.
    pub sample_size: Option<Sides>,
    /// Channels of the input. Default: `4`.
    pub in_channels: usize,
    /// Channels of the output. Default: `4`.
    pub out_channels: usize,
    /// Blocks on the way down, finest level first. Default: three with attention, one without.
    #[serde(with = "super::level::down_3d")]
    pub down_block_types: Vec<VideoLevel>,
    /// Blocks on the way up, coarsest level first. Default: one without attention, three with.
    #[serde(with = "super::level::up_3d")]
    pub up_block_types: Vec<VideoLevel>,
    /// Channels of each level, finest first. Default: `320, 640, 1280, 1280`.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level on the way down; there is one more on the way up. Default: `2`.
    pub layers_per_block: usize,
    /// Zeros around frames before they are halved: 1 on each side, or 0 for one at the right and bottom. Default: `1`.
    pub downsample_padding: usize,
    /// Divisor of the residual blocks in the middle. Default: `1`.
    pub mid_block_scale_factor: f64,
    /// Activation. Default: SiLU.
    pub act_fn: Activation,
    /// Groups of the normalizations. Default: `32`.
    pub norm_num_groups: usize,
    /// Epsilon of the normalizations. Default: `1e-5`.
    pub norm_eps: f64,
    /// Width of the text states. Default: `1024`.
    pub cross_attention_dim: usize,
    /// Channels of a head of attention. Default: `64`.
    pub attention_head_dim: usize,
    /// A name that the class refuses: must be absent.
    pub num_attention_heads: Option<usize>,
    /// Width of an embedded guidance scale, for distilled networks. Default: none.
    pub time_cond_proj_dim: Option<usize>,
}

impl Default for UNet3dConditionalConfig {
    fn default() -> Self {
        let (plain, attention) = (VideoLevel::Plain, VideoLevel::Attention);
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            down_block_types: vec![attention, attention, attention, plain],
            up_block_types: vec![plain, attention, attention, attention],
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Activation::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: 1024,
            attention_head_dim: 64,
            num_attention_heads: None,
            time_cond_proj_dim: None,
        }
    }
}

impl UNet3dConditionalConfig {
    /// Reads a published `config.json` of a `UNet3DConditionModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.validate()?;
        Ok(config)
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }

    /// Makes the network with initial weights.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) finds.
    pub fn init(&self, device: &Device) -> Result<UNet3dConditional, ModelError> {
        self.validate()?;
        UNet3dConditional::new(self, device)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built, [`ModelError::Unsupported`] the one that
    /// no published network has.
    pub fn validate(&self) -> Result<(), ModelError> {
        let kinds = (self.down_block_types.len(), self.up_block_types.len());
        check_sizes(&self.block_out_channels, kinds, (self.in_channels, self.out_channels), self.norm_num_groups)?;
        check_resnets(self.downsample_padding, self.norm_eps, self.mid_block_scale_factor)?;
        layer_count("layers_per_block", self.layers_per_block)?;
        at_least_one("cross_attention_dim", self.cross_attention_dim)?;
        at_least_one("attention_head_dim", self.attention_head_dim)?;
        if let Some(heads) = self.num_attention_heads {
            let (key, value) = ("num_attention_heads", heads.to_string());
            return Err(ModelError::Unsupported { key, value, supported: "null: the class refuses it" });
        }
        if let Some(width) = self.time_cond_proj_dim {
            at_least_two("time_cond_proj_dim", width)?;
        }
        let down = self.down_block_types.iter().zip(&self.block_out_channels);
        let up = self.up_block_types.iter().zip(self.block_out_channels.iter().rev());
        let attended = down.chain(up).filter(|(kind, _)| **kind == VideoLevel::Attention).map(|(_, width)| *width);
        let coarsest = self.block_out_channels[self.block_out_channels.len() - 1];
        for width in attended.chain([coarsest]) {
            check_heads("attention_head_dim", self.attention_head_dim, width)?;
        }
        Ok(())
    }

    fn plan(&self, kind: VideoLevel, width: usize, steps: usize) -> Plan {
        let resnet = ResnetBlock2dConfig {
            epsilon: self.norm_eps,
            activation: self.act_fn,
            ..ResnetBlock2dConfig::new(width, width, 4 * self.block_out_channels[0]).groups(self.norm_num_groups)
        };
        let attended = if kind == VideoLevel::Attention { steps } else { 0 };
        let heads = width / self.attention_head_dim;
        let pixels = Transformer2dConfig::new(width, heads, self.attention_head_dim)
            .groups(self.norm_num_groups)
            .context(self.cross_attention_dim)
            .linear_projection(true);
        let frames = TransformerTemporalConfig::new(width, heads, self.attention_head_dim).groups(self.norm_num_groups);
        Plan {
            resnet: ResnetPlan::Plain(resnet),
            attention: vec![AttentionPlan::Pixels(pixels); attended],
            frame_convs: Some(self.norm_num_groups),
            frame_attention: vec![frames; attended],
            motion: vec![],
        }
    }

    fn plans(&self) -> LevelPlans {
        let n = self.block_out_channels.len();
        let level = |kind: &VideoLevel, width: usize, steps| self.plan(*kind, width, steps);
        let coarsest = self.block_out_channels[n - 1];
        let mut mid = self.plan(VideoLevel::Attention, coarsest, 1);
        if let ResnetPlan::Plain(resnet) = &mut mid.resnet {
            resnet.output_scale = self.mid_block_scale_factor;
        }
        LevelPlans {
            channels: self.block_out_channels.clone(),
            layers: vec![self.layers_per_block; n],
            down: (self.down_block_types.iter().zip(&self.block_out_channels))
                .map(|(kind, width)| level(kind, *width, self.layers_per_block))
                .collect(),
            mid,
            up: (self.up_block_types.iter().zip(self.block_out_channels.iter().rev()))
                .map(|(kind, width)| level(kind, *width, self.layers_per_block + 1))
                .collect(),
            downsample_padding: self.downsample_padding,
        }
    }
}

/// A UNet for videos that is told a text: levels of residual blocks, convolutions over frames, attention to the text, and
/// attention over frames. Made by [`UNet3dConditionalConfig::init`] or [`UNet3dConditional::load`].
///
/// # References
///
/// Wang et al. 2023, [arXiv:2308.06571](https://arxiv.org/abs/2308.06571). Parameters have the names of diffusers'
/// `UNet3DConditionModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::TextCondition;
/// use langevin_models::unet::video::{UNet3dConditionalConfig, VideoLevel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNet3dConditionalConfig {
///     block_out_channels: vec![8],
///     down_block_types: vec![VideoLevel::Attention],
///     up_block_types: vec![VideoLevel::Plain],
///     layers_per_block: 1,
///     norm_num_groups: 4,
///     attention_head_dim: 4,
///     cross_attention_dim: 6,
///     ..UNet3dConditionalConfig::default()
/// };
/// let net = config.init(&device)?;
/// let x = Tensor::<5>::zeros([1, 4, 3, 8, 8], &device);
/// let text = TextCondition::new(Tensor::zeros([1, 7, 6], &device));
/// let y = net.forward(x, Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [1, 4, 3, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNet3dConditional {
    /// First convolution, of frames.
    pub conv_in: Conv2d,
    /// Layers that embed the time.
    pub time_embedding: TimestepEmbedding,
    /// Attention over frames before the first level.
    pub transformer_in: TransformerTemporal,
    /// Blocks on the way down, finest level first.
    pub down_blocks: Vec<VideoBlock>,
    /// Block at the coarsest level.
    pub mid_block: VideoBlock,
    /// Blocks on the way up, coarsest level first.
    pub up_blocks: Vec<VideoBlock>,
    /// Normalization before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// Last convolution.
    pub conv_out: Conv2d,
    #[module(skip)]
    config: UNet3dConditionalConfig,
}

impl UNet3dConditional {
    fn new(config: &UNet3dConditionalConfig, device: &Device) -> Result<Self, ModelError> {
        let first = config.block_out_channels[0];
        let groups = config.norm_num_groups;
        let levels = config.plans().init(device)?;
        let time = TimestepEmbeddingConfig::new(first, 4 * first)
            .activation(config.act_fn)
            .condition(config.time_cond_proj_dim);
        let frames = TransformerTemporalConfig::new(first, FIRST_HEADS, config.attention_head_dim).groups(groups);
        Ok(Self {
            conv_in: Conv2dConfig::new(config.in_channels, first, 3).padding(1).init(device)?,
            time_embedding: time.init(device)?,
            transformer_in: frames.init(device)?,
            down_blocks: levels.down,
            mid_block: levels.mid,
            up_blocks: levels.up,
            conv_norm_out: GroupNormConfig::new(groups, first).epsilon(config.norm_eps).init(device)?,
            conv_out: Conv2dConfig::new(first, config.out_channels, 3).padding(1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNet3dConditionalConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNet3dConditionalConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &self.config.to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &UNet3dConditionalConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Videos are converted to the element type of the weights, and the output back to that of the videos.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, frames, height, width]`
    /// - time: `[batch]`, or `[1]` for all samples
    /// - states of the text: `[batch, tokens, cross_attention_dim]`, or one row for all samples
    /// - output: `[batch, out_channels, frames, height, width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for videos, times or states of another shape, [`ModelError::Rows`] for texts of another number
    /// than the samples, [`ModelError::UnknownPart`] for what the network is not told.
    pub fn forward_with(
        &self,
        x: Tensor<5>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<5>, ModelError> {
        self.forward_added(x, time, cond, None, tap)
    }

    /// [`forward_with`](Self::forward_with) and what a ControlNet adds, with a row for each frame of each video.
    ///
    /// # Errors
    ///
    /// As [`forward_with`](Self::forward_with), and [`ModelError::Shape`] for residuals of another shape.
    pub fn forward_added(
        &self,
        x: Tensor<5>,
        time: Tensor<1>,
        cond: &TextCondition,
        control: Option<&ControlResiduals>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<5>, ModelError> {
        let [batch, _, frames, height, width] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let cond = cond.for_batch(batch)?;
        self.check_parts(&cond)?;
        if let Some(control) = control {
            self.config.plans().check_control(control, [batch * frames, 0, height, width])?;
        }
        let (given, dtype) = (x.dtype(), dtype(&self.conv_in));
        let guidance = cond.guidance_of(self.config.time_cond_proj_dim, &x.device())?;
        let (width, time) = (self.config.block_out_channels[0], for_batch(time, batch)?);
        let time = embed_time(&self.time_embedding, width, time, guidance, dtype, tap);
        let told =
            Told { time: each_frame(self.config.act_fn.forward(time), frames), text: cond.states.cast(dtype), frames };
        let h = self.conv_in.forward(to_frames(x.cast(dtype)));
        tap.see("conv_in", &h);
        let h = tap.scope("transformer_in", |tap| self.transformer_in.forward(h, frames, "0", tap));
        let h = run((&self.down_blocks, &self.mid_block, &self.up_blocks), h, &told, control, tap);
        let y = finish(&self.conv_norm_out, &self.conv_out, h, tap);
        Ok(to_video(y, frames).cast(given))
    }

    fn check_parts(&self, cond: &TextCondition) -> Result<(), ModelError> {
        let known: &[Part] = if self.config.time_cond_proj_dim.is_some() { &[Part::Guidance] } else { &[] };
        cond.check(self.config.cross_attention_dim, known)?;
        self.config.time_cond_proj_dim.map_or(Ok(()), |width| cond.check_guidance(width))
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.in_channels;
        let axes = sample.try_into().unwrap_or([0; 4]);
        let smallest = smallest_side(self.config.downsample_padding, self.config.block_out_channels.len());
        let layout = || format!("[batch, {channels}, frames, height, width]");
        check_video(axes, |c| c == channels, None, smallest, given, layout)
    }
}

impl Network<5> for UNet3dConditional {
    type Cond = TextCondition;

    fn forward(&self, x: Tensor<5>, time: Tensor<1>, cond: &TextCondition) -> Result<Tensor<5>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(
        &self,
        x: Tensor<5>,
        time: Tensor<1>,
        cond: &TextCondition,
    ) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn check_condition(&self, cond: &TextCondition) -> Result<(), DenoiseError> {
        Ok(self.check_parts(cond)?)
    }
}
