//! Image to video: residual blocks and attention that mix what frames say alone and together.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocks::{AttentionPlan, LevelPlans, Plan, ResnetPlan, Told, VideoBlock, run};
use super::common::{at_least_two, check_sizes, check_video, dtype, embed_time, finish, wrong};
use super::level::VideoLevel;
use crate::condition::{Part, TextCondition, each_frame};
use crate::error::{ModelError, at_least_one, layer_count, whole_heads};
use crate::layers::{
    Activation, Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, SinusoidalEmbedding, SpatioTemporalResnetConfig,
    TimestepEmbedding, TimestepEmbeddingConfig, TransformerSpatioTemporalConfig,
};
use crate::mlp::for_batch;
use crate::published::{PerLevel, Sides};
use crate::tap::Tap;
use crate::weights::{published_value, read_config, read_config_file, read_folder, write_folder};

/// The class that publishes these configurations.
const CLASS: &str = "UNetSpatioTemporalConditionModel";
/// Groups of all normalizations, which the class fixes.
const GROUPS: usize = 32;

/// Configuration of a [`UNetSpatioTemporal`]: the published keys of a `UNetSpatioTemporalConditionModel`, with its defaults,
/// which are those of Stable Video Diffusion.
///
/// # Example
///
/// ```
/// use langevin_models::unet::video::{PerLevel, UNetSpatioTemporalConfig, VideoLevel};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNetSpatioTemporalConfig {
///     block_out_channels: vec![32, 64],
///     down_block_types: vec![VideoLevel::Attention, VideoLevel::Plain],
///     up_block_types: vec![VideoLevel::Plain, VideoLevel::Attention],
///     num_attention_heads: PerLevel::Same(2),
///     ..UNetSpatioTemporalConfig::default()
/// };
/// let net = config.init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNetSpatioTemporalConfig {
    /// Height and width the network is meant for; it takes others. Default: not said.
    pub sample_size: Option<Sides>,
    /// Channels of the input: those of the noisy latents and of the image. Default: `8`.
    pub in_channels: usize,
    /// Channels of the output. Default: `4`.
    pub out_channels: usize,
    /// Blocks on the way down, finest level first. Default: three with attention, one without.
    #[serde(with = "super::level::down_spatio_temporal")]
    pub down_block_types: Vec<VideoLevel>,
    /// Blocks on the way up, coarsest level first. Default: one without attention, three with.
    #[serde(with = "super::level::up_spatio_temporal")]
    pub up_block_types: Vec<VideoLevel>,
    /// Channels of each level, finest first, multiples of 32. Default: `320, 640, 1280, 1280`.
    pub block_out_channels: Vec<usize>,
    /// Features of each number that the network is told (frames a second, motion, noise of the image). Default: `256`.
    pub addition_time_embed_dim: usize,
    /// Features of all these numbers. Default: `768`, for three of them.
    pub projection_class_embeddings_input_dim: usize,
    /// Residual blocks of each level on the way down; there is one more on the way up. Default: `2`.
    pub layers_per_block: PerLevel<usize>,
    /// Width of the embedding of the image. Default: `1024`.
    pub cross_attention_dim: PerLevel<usize>,
    /// Transformer blocks in each attention. Default: `1`.
    pub transformer_layers_per_block: PerLevel<PerLevel<usize>>,
    /// Heads of attention. Default: `5, 10, 20, 20`.
    pub num_attention_heads: PerLevel<usize>,
    /// Frames the network is meant for; it takes others. Default: `25`.
    pub num_frames: usize,
}

impl Default for UNetSpatioTemporalConfig {
    fn default() -> Self {
        let (plain, attention) = (VideoLevel::Plain, VideoLevel::Attention);
        Self {
            sample_size: None,
            in_channels: 8,
            out_channels: 4,
            down_block_types: vec![attention, attention, attention, plain],
            up_block_types: vec![plain, attention, attention, attention],
            block_out_channels: vec![320, 640, 1280, 1280],
            addition_time_embed_dim: 256,
            projection_class_embeddings_input_dim: 768,
            layers_per_block: PerLevel::Same(2),
            cross_attention_dim: PerLevel::Same(1024),
            transformer_layers_per_block: PerLevel::Same(PerLevel::Same(1)),
            num_attention_heads: PerLevel::Each(vec![5, 10, 20, 20]),
            num_frames: 25,
        }
    }
}

impl UNetSpatioTemporalConfig {
    /// Reads a published `config.json` of a `UNetSpatioTemporalConditionModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type, each with its key; and what [`validate`](Self::validate) finds.
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
    pub fn init(&self, device: &Device) -> Result<UNetSpatioTemporal, ModelError> {
        self.validate()?;
        UNetSpatioTemporal::new(self, device)
    }

    /// Number of numbers that the network is told for each video.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.projection_class_embeddings_input_dim / self.addition_time_embed_dim.max(1)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        let kinds = (self.down_block_types.len(), self.up_block_types.len());
        check_sizes(&self.block_out_channels, kinds, (self.in_channels, self.out_channels), GROUPS)?;
        at_least_one("num_frames", self.num_frames)?;
        let each = self.addition_time_embed_dim;
        at_least_two("addition_time_embed_dim", each)?;
        let all = self.projection_class_embeddings_input_dim;
        if all == 0 || !all.is_multiple_of(each) {
            let expected = format!("a multiple of {each}, the features of each number");
            return Err(wrong("projection_class_embeddings_input_dim", all, expected));
        }
        for count in self.layers_per_block.levels("layers_per_block", self.block_out_channels.len())? {
            layer_count("layers_per_block", count)?;
        }
        let plans = self.plans()?;
        let widths = self.context_widths()?;
        if widths.iter().any(|width| *width != widths[0]) {
            return Err(wrong(
                "cross_attention_dim",
                format!("{widths:?}"),
                "one width: levels are told the same image",
            ));
        }
        for plan in plans.down.iter().chain(&plans.up).chain([&plans.mid]) {
            for attention in &plan.attention {
                let AttentionPlan::SpatioTemporal(config) = attention else { continue };
                at_least_one("cross_attention_dim", config.context)?;
                layer_count("transformer_layers_per_block", config.layers)?;
                whole_heads("num_attention_heads", config.heads, config.channels)?;
            }
        }
        Ok(())
    }

    fn context_widths(&self) -> Result<Vec<usize>, ModelError> {
        self.cross_attention_dim.levels("cross_attention_dim", self.block_out_channels.len())
    }

    fn plans(&self) -> Result<LevelPlans, ModelError> {
        let n = self.block_out_channels.len();
        let layers = self.layers_per_block.levels("layers_per_block", n)?;
        let blocks = self.transformer_layers_per_block.levels("transformer_layers_per_block", n)?;
        let heads = self.num_attention_heads.levels("num_attention_heads", n)?;
        let contexts = self.context_widths()?;
        let plan = |kind: VideoLevel, level: usize, steps: usize, epsilon: f64| -> Result<Plan, ModelError> {
            let width = self.block_out_channels[level];
            let resnet =
                SpatioTemporalResnetConfig::new(width, width, Some(4 * self.block_out_channels[0])).epsilon(epsilon);
            let attention = match kind {
                VideoLevel::Plain => vec![],
                VideoLevel::Attention => {
                    let layers = blocks[level].levels("transformer_layers_per_block", steps)?;
                    let config = TransformerSpatioTemporalConfig::new(width, heads[level], contexts[level]);
                    layers.into_iter().map(|layers| AttentionPlan::SpatioTemporal(config.layers(layers))).collect()
                }
            };
            let resnet = ResnetPlan::SpatioTemporal(resnet);
            Ok(Plan { resnet, attention, frame_convs: None, frame_attention: vec![], motion: vec![] })
        };
        // The class has other epsilons in each kind of block.
        let down = |(level, kind): (usize, &VideoLevel)| {
            plan(*kind, level, layers[level], if *kind == VideoLevel::Plain { 1e-5 } else { 1e-6 })
        };
        let up = |(i, kind): (usize, &VideoLevel)| plan(*kind, n - 1 - i, layers[n - 1 - i] + 1, 1e-6);
        Ok(LevelPlans {
            channels: self.block_out_channels.clone(),
            down: self.down_block_types.iter().enumerate().map(down).collect::<Result<_, _>>()?,
            mid: plan(VideoLevel::Attention, n - 1, 1, 1e-5)?,
            up: self.up_block_types.iter().enumerate().map(up).collect::<Result<_, _>>()?,
            downsample_padding: 1,
            layers,
        })
    }
}

/// A UNet that animates an image: the network of Stable Video Diffusion. Made by [`UNetSpatioTemporalConfig::init`] or
/// [`UNetSpatioTemporal::load`].
///
/// Its condition is the embedding of the image as [`states`](TextCondition::states), numbers as
/// [`sizes`](TextCondition::sizes) (frames a second less one, motion bucket, noise of the image), and the latents of the
/// image as [`image`](TextCondition::image), which are put behind those of every frame. The time is a noise level:
/// `0.25·ln σ`.
///
/// # References
///
/// Blattmann et al. 2023, [arXiv:2311.15127](https://arxiv.org/abs/2311.15127). Parameters have the names of diffusers'
/// `UNetSpatioTemporalConditionModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::TextCondition;
/// use langevin_models::unet::video::{PerLevel, UNetSpatioTemporalConfig, VideoLevel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNetSpatioTemporalConfig {
///     block_out_channels: vec![32],
///     down_block_types: vec![VideoLevel::Attention],
///     up_block_types: vec![VideoLevel::Plain],
///     layers_per_block: PerLevel::Same(1),
///     num_attention_heads: PerLevel::Same(2),
///     cross_attention_dim: PerLevel::Same(16),
///     ..UNetSpatioTemporalConfig::default()
/// };
/// let net = config.init(&device)?;
/// let told = TextCondition::new(Tensor::zeros([1, 1, 16], &device))
///     .sizes([vec![6.0, 127.0, 0.02]])
///     .image(Tensor::zeros([1, 4, 8, 8], &device));
/// let x = Tensor::<5>::zeros([1, 3, 4, 8, 8], &device);
/// let y = net.forward(x, Tensor::from_data([1.6], &device), &told)?;
/// assert_eq!(y.dims(), [1, 3, 4, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNetSpatioTemporal {
    /// First convolution, of frames.
    pub conv_in: Conv2d,
    /// Layers that embed the time.
    pub time_embedding: TimestepEmbedding,
    /// Layers that embed the numbers.
    pub add_embedding: TimestepEmbedding,
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
    config: UNetSpatioTemporalConfig,
}

impl UNetSpatioTemporal {
    fn new(config: &UNetSpatioTemporalConfig, device: &Device) -> Result<Self, ModelError> {
        let first = config.block_out_channels[0];
        let embed = |features| TimestepEmbeddingConfig::new(features, 4 * first).init(device);
        let levels = config.plans()?.init(device)?;
        Ok(Self {
            conv_in: Conv2dConfig::new(config.in_channels, first, 3).padding(1).init(device)?,
            time_embedding: embed(first)?,
            add_embedding: embed(config.projection_class_embeddings_input_dim)?,
            down_blocks: levels.down,
            mid_block: levels.mid,
            up_blocks: levels.up,
            conv_norm_out: GroupNormConfig::new(GROUPS, first).init(device)?,
            conv_out: Conv2dConfig::new(first, config.out_channels, 3).padding(1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNetSpatioTemporalConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNetSpatioTemporalConfig::from_json)?;
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
    pub fn config(&self) -> &UNetSpatioTemporalConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Videos are converted to the element type of the weights, and the output back to that of the videos.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, frames, in_channels, height, width]`, without the channels of the image where the condition has one
    /// - time: `[batch]`, or `[1]` for all samples
    /// - states: `[batch, tokens, cross_attention_dim]`; image: `[batch, channels, height, width]`; or one row for all
    ///   samples
    /// - output: `[batch, frames, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for videos, times or parts of the condition of another shape, [`ModelError::Rows`] for
    /// conditions of another number than the samples, [`ModelError::MissingPart`] and [`ModelError::UnknownPart`] for parts
    /// that the network misses or does not know.
    pub fn forward_with(
        &self,
        x: Tensor<5>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<5>, ModelError> {
        let [batch, frames, ..] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let cond = cond.for_batch(batch)?;
        self.check_parts(&cond)?;
        let (given, dtype) = (x.dtype(), dtype(&self.conv_in));
        let x = self.with_image(x, cond.image.as_ref())?.cast(dtype);

        let (width, time) = (self.config.block_out_channels[0], for_batch(time, batch)?);
        let time = embed_time(&self.time_embedding, width, time, None, dtype, tap);
        let features = SinusoidalEmbedding::new(self.config.addition_time_embed_dim).cosine_first(true);
        let features = cond.size_features(self.config.numbers(), features, &x.device(), tap)?.cast(dtype);
        let numbers = tap.scope("add_embedding", |tap| self.add_embedding.forward(features, tap));

        let told = Told {
            time: each_frame(Activation::Silu.forward(time + numbers), frames),
            text: cond.states.cast(dtype),
            frames,
        };
        let h = self.conv_in.forward(rows(x));
        tap.see("conv_in", &h);
        let h = run((&self.down_blocks, &self.mid_block, &self.up_blocks), h, &told, None, tap);
        let y = finish(&self.conv_norm_out, &self.conv_out, h, tap);
        let [_, channels, height, width] = y.dims();
        Ok(y.reshape([batch, frames, channels, height, width]).cast(given))
    }

    /// The video with the latents of the image behind the channels of each frame.
    fn with_image(&self, x: Tensor<5>, image: Option<&Tensor<4>>) -> Result<Tensor<5>, ModelError> {
        let [batch, frames, channels, height, width] = x.dims();
        let missing = self.config.in_channels - channels;
        match image {
            None if missing == 0 => Ok(x),
            None => Err(ModelError::MissingPart { part: "image" }),
            Some(image) if image.dims()[1..] == [missing, height, width] => {
                let image = image.clone().cast(x.dtype());
                let image = image.reshape([batch, 1, missing, height, width]);
                Ok(Tensor::cat(vec![x, image.expand([batch, frames, missing, height, width])], 2))
            }
            Some(image) => Err(ModelError::Shape {
                what: "image",
                given: image.dims().to_vec(),
                expected: format!("[rows, {missing}, {height}, {width}]"),
            }),
        }
    }

    fn check_parts(&self, cond: &TextCondition) -> Result<(), ModelError> {
        let width = self.config.context_widths()?[0];
        let known: &[Part] = if cond.image.is_some() { &[Part::Sizes, Part::Image] } else { &[Part::Sizes] };
        cond.check(width, known)?;
        cond.check_sizes(self.config.numbers())?;
        match &cond.image {
            Some(image) if image.dims()[1] >= self.config.in_channels => Err(ModelError::Shape {
                what: "image",
                given: image.dims().to_vec(),
                expected: format!("less than the {} channels of the network", self.config.in_channels),
            }),
            _ => Ok(()),
        }
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.in_channels;
        let [frames, c, height, width] = sample.try_into().unwrap_or([0; 4]);
        let layout = || format!("[batch, frames, channels, height, width] with 1 to {channels} channels");
        check_video([c, frames, height, width], |c| (1..=channels).contains(&c), None, 1, given, layout)
    }
}

/// `[batch, frames, channels, height, width]` to `[batch·frames, channels, height, width]`.
fn rows(x: Tensor<5>) -> Tensor<4> {
    let [batch, frames, channels, height, width] = x.dims();
    x.reshape([batch * frames, channels, height, width])
}

impl Network<5> for UNetSpatioTemporal {
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
