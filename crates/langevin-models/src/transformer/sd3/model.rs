//! The transformer of Stable Diffusion 3.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::block::JointBlock;
use super::config::Sd3Config;
use super::published::PublishedSd3;
use crate::condition::{Part, TextCondition};
use crate::error::ModelError;
use crate::layers::{
    AdaLayerNormContinuous, Linear, LinearConfig, PatchEmbedding, PatchOrder, TimestepTextEmbedding, unpatchify,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::transformer::checks;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A transformer over two streams, the patches of a latent and the tokens of a text. Made by [`Sd3Config::init`] or
/// [`Sd3::load`].
///
/// # References
///
/// Esser et al. 2024, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206). Parameters have the names of diffusers'
/// `SD3Transformer2DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{Sd3Config, TextCondition};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = Sd3Config::new(4, 8, 10, 6).heads(2, 8).layers(2).largest(12).init(&device)?;
/// let text = TextCondition::new(Tensor::zeros([1, 7, 10], &device)).pooled(Tensor::zeros([1, 6], &device));
/// let y = net.forward(Tensor::zeros([2, 4, 8, 8], &device), Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [2, 4, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct Sd3 {
    /// From the latent to patches with their places.
    pub pos_embed: PatchEmbedding,
    /// From time and pooled text to what all blocks are told.
    pub time_text_embed: TimestepTextEmbedding,
    /// From the states of the text encoders to the channels of the network.
    pub context_embedder: Linear,
    /// The blocks.
    pub transformer_blocks: Vec<JointBlock>,
    /// Normalization before the output.
    pub norm_out: AdaLayerNormContinuous,
    /// From the vectors of patches to their entries.
    pub proj_out: Linear,
    #[module(skip)]
    config: Sd3Config,
}

impl Sd3 {
    pub(super) fn new(config: &Sd3Config, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let entries = config.patch_size * config.patch_size * config.out_channels;
        let blocks = (0..config.layers).map(|i| JointBlock::new(config, i, device));
        Ok(Self {
            pos_embed: config.patches().init(device)?,
            time_text_embed: TimestepTextEmbedding::new(config.pooled_width, width, false, device)?,
            context_embedder: LinearConfig::new(config.text_width, width).init(device)?,
            transformer_blocks: blocks.collect::<Result<_, _>>()?,
            norm_out: AdaLayerNormContinuous::new(width, device)?,
            proj_out: LinearConfig::new(width, entries).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`Sd3Config::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, Sd3Config::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedSd3::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &Sd3Config {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Latents and text are converted to the element type of the weights, and the output back to that of the latents.
    /// The condition has states and a pooled vector, and nothing else.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides multiples of a patch and no more than `largest` patches
    /// - time: `[batch]`, or `[1]` for all samples; in `[0, 1000]`
    /// - output: `[batch, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for latents, times, states or pooled vectors of another shape;
    /// * [`ModelError::Rows`], [`ModelError::MissingPart`] and [`ModelError::UnknownPart`] for conditions that do not
    ///   fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, _, height, width] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        self.check_text(cond)?;
        let time = for_batch(time, batch)?;
        let cond = cond.for_batch(batch)?;
        let given = x.dtype();
        let dtype = self.proj_out.weight.val().dtype();
        let pooled = cond.pooled_of(self.config.pooled_width)?.cast(dtype);
        let mut image = tap.scope("pos_embed", |tap| self.pos_embed.forward(x.cast(dtype), tap));
        let embedding = tap.scope("time_text_embed", |tap| self.time_text_embed.forward(time, None, pooled, tap));
        let mut text = self.context_embedder.forward(cond.states.cast(dtype));
        tap.see("context_embedder", &text);
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            let scope = format_args!("transformer_blocks.{i}");
            let (y, rest) = tap.scope(scope, |tap| block.forward(image, text.clone(), &embedding, tap));
            image = y;
            text = rest.unwrap_or(text);
        }
        let image = tap.scope("norm_out", |tap| self.norm_out.forward(image, embedding, tap));
        let patches = self.proj_out.forward(image);
        tap.see("proj_out", &patches);
        let side = self.config.patch_size;
        Ok(unpatchify(patches, [height / side, width / side], side, PatchOrder::ChannelsLast).cast(given))
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let config = &self.config;
        checks::sample(sample, given, config.in_channels, config.patch_size, Some(config.largest))
    }

    fn check_text(&self, cond: &TextCondition) -> Result<(), ModelError> {
        cond.check(self.config.text_width, &[Part::Pooled])?;
        cond.pooled_of(self.config.pooled_width).map(drop)
    }
}

impl Network<4> for Sd3 {
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
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn check_condition(&self, cond: &TextCondition) -> Result<(), DenoiseError> {
        Ok(self.check_text(cond)?)
    }
}
