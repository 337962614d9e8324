//! The text-conditional UNet.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::blocks::{ConditionalDownBlock2d, ConditionalMidBlock2d, ConditionalUpBlock2d};
use super::config::UNet2dConditionalConfig;
use super::published::PublishedUNet2dConditional;
use super::residuals::Residuals;
use super::told::{AddedEmbedding, ConditionalClass, ContextProjection, Teller, Told};
use crate::condition::TextCondition;
use crate::error::ModelError;
use crate::layers::{Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, TimestepEmbedding};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::unet::TimeProjection;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A UNet for images or latents that attends to the states of a text encoder. Made by
/// [`UNet2dConditionalConfig::init`] or [`UNet2dConditional::load`].
///
/// # References
///
/// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752); with sizes and a pooled text: Podell et al.
/// 2023, [arXiv:2307.01952](https://arxiv.org/abs/2307.01952); with attention to pixels and text at once: Saharia et al.
/// 2022, [arXiv:2205.11487](https://arxiv.org/abs/2205.11487). Parameters have the names of diffusers'
/// `UNet2DConditionModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{TextCondition, UNet2dConditionalConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet2dConditionalConfig::new(4, 16).channels(&[8, 16]).layers(1).norm_groups(4).init(&device)?;
/// let text = TextCondition::new(Tensor::zeros([1, 7, 16], &device));
/// let x = Tensor::<4>::zeros([2, 4, 8, 8], &device);
/// let y = net.forward(x, Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [2, 4, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNet2dConditional {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Features of the time.
    pub time_proj: TimeProjection,
    /// Layers that turn the features into the time embedding.
    pub time_embedding: TimestepEmbedding,
    /// Layers that make the context of attention.
    pub encoder_hid_proj: Option<ContextProjection>,
    /// What is added to the time embedding for a class.
    pub class_embedding: Option<ConditionalClass>,
    /// What else is added to the time embedding.
    pub add_embedding: Option<AddedEmbedding>,
    /// Blocks on the way down, finest level first.
    pub down_blocks: Vec<ConditionalDownBlock2d>,
    /// Block at the coarsest level.
    pub mid_block: Option<ConditionalMidBlock2d>,
    /// Blocks on the way up, coarsest level first.
    pub up_blocks: Vec<ConditionalUpBlock2d>,
    /// Normalization before the last convolution.
    pub conv_norm_out: Option<GroupNorm>,
    /// Last convolution.
    pub conv_out: Conv2d,
    #[module(skip)]
    config: UNet2dConditionalConfig,
}

impl UNet2dConditional {
    pub(super) fn new(config: &UNet2dConditionalConfig, device: &Device) -> Result<Self, ModelError> {
        let encoder = &config.encoder;
        let levels = encoder.levels.len();
        let first = encoder.levels[0].channels;
        let conv = |input, output, kernel: usize| {
            Conv2dConfig::new(input, output, kernel).padding((kernel - 1) / 2).init(device)
        };
        let norm = GroupNormConfig::new(encoder.norm_groups, first).epsilon(encoder.norm_epsilon);
        let (time_proj, features) = encoder.time_projection(device)?;
        Ok(Self {
            conv_in: conv(encoder.in_channels, first, encoder.conv_in_kernel)?,
            time_proj,
            time_embedding: encoder.time_embedding(features, device)?,
            encoder_hid_proj: encoder.context_projection(device)?,
            class_embedding: encoder.class_embedding(features, encoder.activation, device)?,
            add_embedding: encoder.add_embedding(device)?,
            down_blocks: (0..levels)
                .map(|i| ConditionalDownBlock2d::new(encoder, i, device))
                .collect::<Result<_, _>>()?,
            mid_block: ConditionalMidBlock2d::new(encoder, device)?,
            up_blocks: (0..levels).map(|i| ConditionalUpBlock2d::new(config, i, device)).collect::<Result<_, _>>()?,
            conv_norm_out: config.output_norm.then(|| norm.init(device)).transpose()?,
            conv_out: conv(first, config.out_channels, config.conv_out_kernel)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConditionalConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNet2dConditionalConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let config = PublishedUNet2dConditional::from(self.config.clone()).to_value();
        write_folder(self, &config, folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &UNet2dConditionalConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Images are converted to the element type of the weights, and the output back to that of the images.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels, height, width]`; with an image in the condition, both together have `in_channels` channels.
    ///   Any height and width; networks that resample by residual blocks take multiples of 2 to the number of levels less
    ///   one
    /// - time: `[batch]`, or `[1]` for all samples
    /// - output: `[batch, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for tensors of another shape;
    /// * [`ModelError::MissingPart`] and [`ModelError::UnknownPart`] for a condition that lacks what the network is told, or
    ///   has what it does not know;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`], [`ModelError::NoNullClass`],
    ///   [`ModelError::ConditionKind`] and [`ModelError::NotFinite`] for parts of the condition that do not fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        self.forward_added(x, time, cond, &Residuals::default(), tap)
    }

    /// The forward pass with what ControlNets and adapters add on the way down.
    ///
    /// # Errors
    ///
    /// Those of [`forward_with`](Self::forward_with), and [`ModelError::Shape`] for residuals that do not fit.
    pub fn forward_added(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
        residuals: &Residuals,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, ..] = x.dims();
        let given = x.dtype();
        let dtype = self.conv_in.weight.val().dtype();
        self.config.encoder.check_condition(cond)?;
        let cond = cond.for_batch(batch)?;
        let x = cond.behind(x)?.cast(dtype);
        self.check_sample(&x.dims()[1..], &x.dims(), true)?;
        residuals.check(&self.config.encoder, x.dims())?;
        let told = self.teller().tell(for_batch(time, batch)?, &cond, dtype, tap)?;
        Ok(self.run(x, &told, residuals.cast(dtype), tap).cast(given))
    }

    fn teller(&self) -> Teller<'_> {
        Teller {
            config: &self.config.encoder,
            time_proj: &self.time_proj,
            time_embedding: &self.time_embedding,
            class_embedding: self.class_embedding.as_ref(),
            add_embedding: self.add_embedding.as_ref(),
            encoder_hid_proj: self.encoder_hid_proj.as_ref(),
        }
    }

    fn run(&self, x: Tensor<4>, told: &Told, residuals: Residuals, tap: &mut Tap<'_>) -> Tensor<4> {
        let x = if self.config.center_input { x * 2.0 - 1.0 } else { x };
        let mut features = residuals.features.into_iter();
        let mut h = self.conv_in.forward(x);
        tap.see("conv_in", &h);
        let mut skips = vec![h.clone()];
        for (i, block) in self.down_blocks.iter().enumerate() {
            let feature = features.next();
            let down = tap.scope(format_args!("down_blocks.{i}"), |tap| block.forward(h, told, feature, tap));
            skips.extend(down.skips);
            h = down.hidden;
        }
        if let Some(block) = &self.mid_block {
            h = tap.scope("mid_block", |tap| block.forward(h, told, tap));
        }
        if let Some(feature) = features.next() {
            h = h + feature;
        }
        if let Some(control) = residuals.control {
            skips = skips.into_iter().zip(control.down).map(|(skip, residual)| skip + residual).collect();
            h = h + control.mid;
        }
        for (i, block) in self.up_blocks.iter().enumerate() {
            let kept = skips.split_off(skips.len() - block.takes());
            let size = skips.last().map(|next| [next.dims()[2], next.dims()[3]]);
            h = tap.scope(format_args!("up_blocks.{i}"), |tap| block.forward(h, kept, told, size, tap));
        }
        if let Some(norm) = &self.conv_norm_out {
            h = norm.forward(h);
            tap.see("conv_norm_out", &h);
            h = self.config.encoder.activation.forward(h);
            tap.see("conv_act", &h);
        }
        let y = self.conv_out.forward(h);
        tap.see("conv_out", &y);
        y
    }

    /// Checks the shape of one sample; `given` is the shape to report. Channels may be missing that an image brings.
    fn check_sample(&self, sample: &[usize], given: &[usize], whole: bool) -> Result<(), ModelError> {
        let channels = self.config.encoder.in_channels;
        let (step, smallest) = (self.config.multiple(), self.config.smallest());
        let fits = matches!(sample, [c, h, w]
            if (*c == channels || !whole && *c > 0 && *c < channels)
                && *h >= smallest && *w >= smallest && h.is_multiple_of(step) && w.is_multiple_of(step));
        if fits {
            return Ok(());
        }
        let sizes = match (step, smallest) {
            (1, 1) => String::new(),
            (_, 1) => format!(", height and width multiples of {step}"),
            _ => format!(", height and width multiples of {step} and at least {smallest}"),
        };
        let less = if whole { "" } else { " (or less, with an image in the condition)" };
        Err(ModelError::Shape {
            what: "x",
            given: given.to_vec(),
            expected: format!("[batch, {channels}{less}, height, width]{sizes}"),
        })
    }
}

impl Network<4> for UNet2dConditional {
    type Cond = TextCondition;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, cond: &TextCondition) -> Result<Tensor<4>, DenoiseError> {
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
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
    ) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample, false)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn check_condition(&self, cond: &TextCondition) -> Result<(), DenoiseError> {
        Ok(self.config.encoder.check_condition(cond)?)
    }
}
