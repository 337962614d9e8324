//! A network for images with motion modules.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::blocks::{Told, VideoBlock, run};
use super::common::{check_video, dtype, embed_time, finish, smallest_side};
use super::motion_config::UNetMotionConfig;
use crate::condition::{Part, TextCondition, each_frame};
use crate::error::ModelError;
use crate::layers::{
    Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig,
    to_frames, to_video,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::unet::conditional::ControlResiduals;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A UNet for images whose levels have motion modules: attention over frames, trained on videos while the rest stayed as it
/// was. Made by [`UNetMotionConfig::init`], [`UNetMotion::load`], or from a network for images and a
/// [`MotionAdapter`](super::MotionAdapter) by [`UNetMotion::from_unet2d`].
///
/// # References
///
/// Guo et al. 2024, AnimateDiff, [arXiv:2307.04725](https://arxiv.org/abs/2307.04725). Parameters have the names of diffusers'
/// `UNetMotionModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::TextCondition;
/// use langevin_models::unet::video::{PerLevel, UNetMotionConfig, VideoLevel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNetMotionConfig {
///     block_out_channels: vec![8],
///     down_block_types: vec![VideoLevel::Attention],
///     up_block_types: vec![VideoLevel::Plain],
///     norm_num_groups: 4,
///     cross_attention_dim: PerLevel::Same(6),
///     ..UNetMotionConfig::default()
/// };
/// let net = config.init(&device)?;
/// let x = Tensor::<5>::zeros([1, 4, 3, 8, 8], &device);
/// let text = TextCondition::new(Tensor::zeros([1, 7, 6], &device));
/// let y = net.forward(x, Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [1, 4, 3, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNetMotion {
    /// First convolution, of frames.
    pub conv_in: Conv2d,
    /// Layers that embed the time.
    pub time_embedding: TimestepEmbedding,
    /// Layers that embed a vector for the text and sizes.
    pub add_embedding: Option<TimestepEmbedding>,
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
    config: UNetMotionConfig,
}

impl UNetMotion {
    pub(super) fn new(config: &UNetMotionConfig, device: &Device) -> Result<Self, ModelError> {
        let first = config.block_out_channels[0];
        let levels = config.plans()?.init(device)?;
        let embed = |features| TimestepEmbeddingConfig::new(features, 4 * first);
        let added = config.text_and_sizes().map(|(_, width)| width);
        let norm = GroupNormConfig::new(config.norm_num_groups, first).epsilon(config.norm_eps);
        Ok(Self {
            conv_in: Conv2dConfig::new(config.in_channels, first, 3).padding(1).init(device)?,
            time_embedding: embed(first).activation(config.act_fn).condition(config.time_cond_proj_dim).init(device)?,
            add_embedding: added.map(|features| embed(features).init(device)).transpose()?,
            down_blocks: levels.down,
            mid_block: levels.mid,
            up_blocks: levels.up,
            conv_norm_out: norm.init(device)?,
            conv_out: Conv2dConfig::new(first, config.out_channels, 3).padding(1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNetMotionConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNetMotionConfig::from_json)?;
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
    pub fn config(&self) -> &UNetMotionConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Videos are converted to the element type of the weights, and the output back to that of the videos.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, frames, height, width]`, at most `motion_max_seq_length` frames
    /// - time: `[batch]`, or `[1]` for all samples
    /// - states of the text: `[batch, tokens, cross_attention_dim]`, or one row for all samples; with
    ///   [`TextCondition::frames`] a text for each frame
    /// - output: `[batch, out_channels, frames, height, width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for videos, times or parts of the condition of another shape, [`ModelError::Rows`] for texts of
    /// another number than the samples, [`ModelError::MissingPart`] and [`ModelError::UnknownPart`] for parts that the
    /// network misses or does not know.
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
        let text = cond.states_for(cond.frames.map(|_| frames))?;
        if let Some(control) = control {
            self.config.plans()?.check_control(control, [batch * frames, 0, height, width])?;
        }
        let (given, dtype) = (x.dtype(), dtype(&self.conv_in));
        let guidance = cond.guidance_of(self.config.time_cond_proj_dim, &x.device())?;
        let (width, time) = (self.config.block_out_channels[0], for_batch(time, batch)?);
        let mut time = embed_time(&self.time_embedding, width, time, guidance, dtype, tap);
        if let (Some(layers), Some((features, width))) = (&self.add_embedding, self.config.text_and_sizes()) {
            let embedding = SinusoidalEmbedding::new(features).cosine_first(true);
            let sizes = cond.size_features(cond.sizes_count(features, width)?, embedding, &x.device(), tap)?;
            let parts = cond.pooled.iter().cloned().chain([sizes]).map(|part| part.cast(dtype));
            let features = Tensor::cat(parts.collect(), 1);
            time = time + tap.scope("add_embedding", |tap| layers.forward(features, tap));
        }
        let told = Told { time: each_frame(self.config.act_fn.forward(time), frames), text: text.cast(dtype), frames };
        let h = self.conv_in.forward(to_frames(x.cast(dtype)));
        tap.see("conv_in", &h);
        let h = run((&self.down_blocks, &self.mid_block, &self.up_blocks), h, &told, control, tap);
        let y = finish(&self.conv_norm_out, &self.conv_out, h, tap);
        Ok(to_video(y, frames).cast(given))
    }

    fn check_parts(&self, cond: &TextCondition) -> Result<(), ModelError> {
        let mut known = vec![Part::Frames];
        if self.config.text_and_sizes().is_some() {
            known.extend([Part::Pooled, Part::Sizes]);
        }
        if self.config.time_cond_proj_dim.is_some() {
            known.push(Part::Guidance);
        }
        cond.check(self.config.context_widths()?[0], &known)?;
        if let Some((features, width)) = self.config.text_and_sizes() {
            cond.check_sizes(cond.sizes_count(features, width)?)?;
        }
        self.config.time_cond_proj_dim.map_or(Ok(()), |width| cond.check_guidance(width))
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.in_channels;
        let axes = sample.try_into().unwrap_or([0; 4]);
        let smallest = smallest_side(self.config.downsample_padding, self.config.block_out_channels.len());
        let layout = || format!("[batch, {channels}, frames, height, width]");
        let most = Some(self.config.motion_max_seq_length);
        check_video(axes, |c| c == channels, most, smallest, given, layout)
    }
}

impl Network<5> for UNetMotion {
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
