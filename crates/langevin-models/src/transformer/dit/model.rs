//! The diffusion transformer.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::config::DiTConfig;
use super::published::PublishedDiT;
use crate::condition::Labels;
use crate::error::ModelError;
use crate::layers::{
    Activation, AdaLayerNormLabels, Attention, AttentionConfig, Dropout, DropoutConfig, FeedForward, FeedForwardConfig,
    LayerNorm, LayerNormConfig, Linear, LinearConfig, PatchEmbedding, PatchOrder, modulate, unpatchify,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::transformer::checks;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A transformer over the patches of an image or latent, conditional on a time and a class. Made by
/// [`DiTConfig::init`] or [`DiT::load`].
///
/// With twice as many channels in the output as in the input, the second half is the network's own: the published
/// networks interpolate a learned variance by it (Nichol, Dhariwal 2021, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672), eq. 15).
///
/// # References
///
/// Peebles, Xie 2022, [arXiv:2212.09748](https://arxiv.org/abs/2212.09748). Parameters have the names of diffusers'
/// `DiTTransformer2DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{DiTConfig, Labels};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = DiTConfig::new(4, 8).heads(2, 8).layers(2).classes(10).init(&device)?;
/// let x = Tensor::<4>::zeros([2, 4, 8, 8], &device);
/// let time = Tensor::<1>::from_data([999.0, 0.0], &device);
/// let y = net.forward(x, time, &Labels::optional([Some(3), None]))?;
/// assert_eq!(y.dims(), [2, 4, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct DiT {
    /// From the image to patches with their places.
    pub pos_embed: PatchEmbedding,
    /// The blocks.
    pub transformer_blocks: Vec<DiTBlock>,
    /// Normalization before the output, without parameters.
    pub norm_out: LayerNorm,
    /// From the embedding to shift and scale of the output.
    pub proj_out_1: Linear,
    /// From the vectors of patches to their pixels.
    pub proj_out_2: Linear,
    #[module(skip)]
    config: DiTConfig,
}

/// A block of a [`DiT`]: attention and feed-forward layers, each scaled, shifted and gated by the embedding of time and
/// class.
#[derive(Module, Debug)]
pub struct DiTBlock {
    /// Normalization before attention, with the block's own embedding of time and class.
    pub norm1: AdaLayerNormLabels,
    /// Attention of the patches to each other.
    pub attn1: Attention,
    /// Normalization before the feed-forward layers.
    pub norm3: LayerNorm,
    /// Feed-forward layers.
    pub ff: FeedForward,
    dropout: Dropout,
}

impl DiTBlock {
    fn new(config: &DiTConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let norm3 = LayerNormConfig::new(width).epsilon(config.norm_epsilon);
        let feed_forward = FeedForwardConfig::new(width).gate(config.gate).dropout(config.dropout);
        Ok(Self {
            norm1: AdaLayerNormLabels::new(width, config.classes, device)?,
            attn1: AttentionConfig::new(width, config.heads, config.head_dim)
                .upcast(config.upcast)
                .bias(config.attention_bias)
                .init(device)?,
            norm3: if config.norm_affine { norm3 } else { norm3.plain() }.init(device)?,
            ff: feed_forward.init(device)?,
            dropout: DropoutConfig::new(config.dropout).init()?,
        })
    }

    /// The output of the block, and its embedding of time and class.
    fn forward(
        &self,
        x: Tensor<3>,
        time: &Tensor<1>,
        class: &Tensor<1, Int>,
        tap: &mut Tap<'_>,
    ) -> (Tensor<3>, Tensor<2>) {
        let (h, gates, embedding) =
            tap.scope("norm1", |tap| self.norm1.forward(x.clone(), time.clone(), class.clone(), tap));
        let attended = tap.scope("attn1", |tap| self.attn1.forward(h, None, None, tap));
        let x = x + gates.attention * self.dropout.forward(attended);
        let h = self.norm3.forward(x.clone());
        tap.see("norm3", &h);
        let h = tap.scope("ff", |tap| self.ff.forward(modulate(h, gates.shift, gates.scale), tap));
        let y = x + gates.feed_forward * h;
        tap.see("", &y);
        (y, embedding)
    }
}

impl DiT {
    pub(super) fn new(config: &DiTConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let pixels = config.patch_size * config.patch_size * config.out_channels;
        Ok(Self {
            pos_embed: config.patches().init(device)?,
            transformer_blocks: (0..config.layers).map(|_| DiTBlock::new(config, device)).collect::<Result<_, _>>()?,
            norm_out: LayerNormConfig::new(width).epsilon(1e-6).plain().init(device)?,
            proj_out_1: LinearConfig::new(width, 2 * width).init(device)?,
            proj_out_2: LinearConfig::new(width, pixels).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`DiTConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, DiTConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedDiT::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &DiTConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Images are converted to the element type of the weights, and the output back to that of the images.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides multiples of a patch
    /// - time: `[batch]`, or `[1]` for all samples; steps
    /// - output: `[batch, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for images or times of another shape;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`] and [`ModelError::ConditionKind`] for conditions that do
    ///   not fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, _, height, width] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let time = for_batch(time, batch)?;
        let class = cond.for_batch(batch)?.indices(self.config.classes, true, &x.device())?;
        let given = x.dtype();
        let x = x.cast(self.proj_out_2.weight.val().dtype());
        let mut h = tap.scope("pos_embed", |tap| self.pos_embed.forward(x, tap));
        let mut embedding = None;
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            let (y, own) =
                tap.scope(format_args!("transformer_blocks.{i}"), |tap| block.forward(h, &time, &class, tap));
            h = y;
            // The output is told time and class by the embedding of the first block.
            embedding.get_or_insert(own);
        }
        let h = self.norm_out.forward(h);
        tap.see("norm_out", &h);
        let h = match embedding {
            Some(embedding) => {
                let both = self.proj_out_1.forward(Activation::Silu.forward(embedding));
                tap.see("proj_out_1", &both);
                let [_, _, width] = h.dims();
                let row = |i: usize| both.clone().narrow(1, i * width, width).unsqueeze_dim(1);
                modulate(h, row(0), row(1))
            }
            None => h,
        };
        let patches = self.proj_out_2.forward(h);
        tap.see("proj_out_2", &patches);
        let side = self.config.patch_size;
        Ok(unpatchify(patches, [height / side, width / side], side, PatchOrder::ChannelsLast).cast(given))
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        checks::sample(sample, given, self.config.in_channels, self.config.patch_size, None)
    }
}

impl Network<4> for DiT {
    type Cond = Labels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, cond: &Labels) -> Result<Tensor<4>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(&self, x: Tensor<4>, time: Tensor<1>, cond: &Labels) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn known_classes(&self) -> Option<usize> {
        (self.config.classes > 0).then_some(self.config.classes)
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        cond.rows_of(self.config.classes, true)?;
        Ok(())
    }
}
