//! The PixArt transformer.

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::config::PixArtConfig;
use super::published::PublishedPixArt;
use crate::condition::{Part, TextCondition};
use crate::error::ModelError;
use crate::layers::{
    Activation, Attention, AttentionConfig, Dropout, DropoutConfig, FeedForward, FeedForwardConfig, LayerNorm,
    LayerNormConfig, Linear, LinearConfig, PatchEmbedding, PatchOrder, TextProjection, TimestepSizeEmbedding,
    mask_bias, modulate, random, unpatchify,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::transformer::checks;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A transformer over the patches of an image or latent that attends to a text. Made by [`PixArtConfig::init`] or
/// [`PixArt::load`].
///
/// One set of layers turns the time into shifts, scales and gates for all blocks; a block adds a table of its own to
/// them. With twice as many channels in the output as in the input, the second half is the network's own and published
/// samplers do not use it.
///
/// # References
///
/// Chen et al. 2023, [arXiv:2310.00426](https://arxiv.org/abs/2310.00426); for large images: Chen et al. 2024,
/// [arXiv:2403.04692](https://arxiv.org/abs/2403.04692). Parameters have the names of diffusers'
/// `PixArtTransformer2DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{PixArtConfig, TextCondition};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = PixArtConfig::new(4, 8, 10).heads(2, 12).layers(2).sizes(true).init(&device)?;
/// let text = TextCondition::new(Tensor::zeros([1, 5, 10], &device))
///     .mask(Tensor::ones([1, 5], &device))
///     .sizes([vec![1024.0, 1024.0, 1.0]]);
/// let y = net.forward(Tensor::zeros([2, 4, 8, 8], &device), Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [2, 4, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct PixArt {
    /// From the image to patches with their places.
    pub pos_embed: PatchEmbedding,
    /// The blocks.
    pub transformer_blocks: Vec<PixArtBlock>,
    /// Normalization before the output, without parameters.
    pub norm_out: LayerNorm,
    /// What is added to the embedding to get shift and scale of the output `[2, width]`.
    pub scale_shift_table: Param<Tensor<2>>,
    /// From the vectors of patches to their pixels.
    pub proj_out: Linear,
    /// From time and sizes to shifts, scales and gates.
    pub adaln_single: AdaLayerNormSizes,
    /// From the states of the text encoder to the channels of the network.
    pub caption_projection: Option<TextProjection>,
    #[module(skip)]
    config: PixArtConfig,
}

/// The layers that turn time and sizes into shifts, scales and gates for all blocks of a [`PixArt`].
#[derive(Module, Debug)]
pub struct AdaLayerNormSizes {
    /// The embedding of time and sizes.
    pub emb: TimestepSizeEmbedding,
    /// From the embedding to six vectors.
    pub linear: Linear,
}

/// A block of a [`PixArt`]: attention among patches, attention to the text, feed-forward layers.
#[derive(Module, Debug)]
pub struct PixArtBlock {
    /// Normalization before attention.
    pub norm1: LayerNorm,
    /// Attention of the patches to each other.
    pub attn1: Attention,
    /// Normalization before the feed-forward layers.
    pub norm2: LayerNorm,
    /// Attention of the patches to the text.
    pub attn2: Attention,
    /// Feed-forward layers.
    pub ff: FeedForward,
    /// What is added to the shifts, scales and gates of all blocks `[6, width]`.
    pub scale_shift_table: Param<Tensor<2>>,
    dropout: Dropout,
}

/// A table of `rows` vectors that starts with standard deviation `1/√width`.
fn table(rows: usize, width: usize, device: &Device) -> Param<Tensor<2>> {
    random([rows, width], Distribution::Normal(0.0, 1.0 / (width as f64).sqrt()), device)
}

impl PixArtBlock {
    fn new(config: &PixArtConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let norm = LayerNormConfig::new(width).epsilon(config.norm_epsilon);
        let norm = if config.norm_affine { norm } else { norm.plain() };
        let attention = AttentionConfig::new(width, config.heads, config.head_dim)
            .bias(config.attention_bias)
            .upcast(config.upcast);
        let feed_forward = FeedForwardConfig::new(width).gate(config.gate).dropout(config.dropout);
        Ok(Self {
            norm1: norm.init(device)?,
            attn1: attention.init(device)?,
            norm2: norm.init(device)?,
            attn2: attention.context(config.context).init(device)?,
            ff: feed_forward.init(device)?,
            scale_shift_table: table(6, width, device),
            dropout: DropoutConfig::new(config.dropout).init()?,
        })
    }

    /// `adapt` are the shifts, scales and gates of all blocks `[batch, 6, width]`.
    fn forward(
        &self,
        x: Tensor<3>,
        text: &Tensor<3>,
        bias: Option<&Tensor<4>>,
        adapt: &Tensor<3>,
        tap: &mut Tap<'_>,
    ) -> Tensor<3> {
        let all = self.scale_shift_table.val().unsqueeze::<3>() + adapt.clone();
        let row = |i: usize| all.clone().narrow(1, i, 1);
        let h = self.norm1.forward(x.clone());
        tap.see("norm1", &h);
        let h = tap.scope("attn1", |tap| self.attn1.forward(modulate(h, row(0), row(1)), None, None, tap));
        let x = x + row(2) * self.dropout.forward(h);
        let h = tap.scope("attn2", |tap| self.attn2.forward(x.clone(), Some(text.clone()), bias.cloned(), tap));
        let x = x + self.dropout.forward(h);
        let h = self.norm2.forward(x.clone());
        tap.see("norm2", &h);
        let h = tap.scope("ff", |tap| self.ff.forward(modulate(h, row(3), row(4)), tap));
        let y = x + row(5) * h;
        tap.see("", &y);
        y
    }
}

impl PixArt {
    pub(super) fn new(config: &PixArtConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let pixels = config.patch_size * config.patch_size * config.out_channels;
        let caption = |channels| TextProjection::new(channels, width, Activation::GeluTanh, device);
        let blocks = (0..config.layers).map(|_| PixArtBlock::new(config, device));
        Ok(Self {
            pos_embed: config.patches().init(device)?,
            transformer_blocks: blocks.collect::<Result<_, _>>()?,
            norm_out: LayerNormConfig::new(width).epsilon(1e-6).plain().init(device)?,
            scale_shift_table: table(2, width, device),
            proj_out: LinearConfig::new(width, pixels).init(device)?,
            adaln_single: AdaLayerNormSizes {
                emb: TimestepSizeEmbedding::new(width, config.sizes, device)?,
                linear: LinearConfig::new(width, 6 * width).init(device)?,
            },
            caption_projection: config.caption_channels.map(caption).transpose()?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`PixArtConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, PixArtConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedPixArt::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &PixArtConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Images and states are converted to the element type of the weights, and the output back to that of the images.
    /// The condition may have a mask; it has sizes (height, width and aspect ratio) exactly if the network is told them.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides multiples of a patch
    /// - time: `[batch]`, or `[1]` for all samples; steps
    /// - output: `[batch, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for images, times, states or sizes of another shape;
    /// * [`ModelError::Rows`], [`ModelError::MissingPart`], [`ModelError::UnknownPart`] and [`ModelError::NotFinite`] for
    ///   conditions that do not fit.
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
        let sizes = self.config.sizes.then(|| cond.sizes_of(3, &x.device())).transpose()?;
        let given = x.dtype();
        let dtype = self.proj_out.weight.val().dtype();
        let mut h = tap.scope("pos_embed", |tap| self.pos_embed.forward(x.cast(dtype), tap));
        let (adapt, embedding) = tap.scope("adaln_single", |tap| {
            let embedding = tap.scope("emb", |tap| self.adaln_single.emb.forward(time, sizes, dtype, tap));
            let act = Activation::Silu.forward(embedding.clone());
            tap.see("silu", &act);
            let adapt = self.adaln_single.linear.forward(act);
            tap.see("linear", &adapt);
            tap.see(0, &adapt);
            tap.see(1, &embedding);
            (adapt, embedding)
        });
        let text = cond.states.cast(dtype);
        let text = match &self.caption_projection {
            Some(layers) => tap.scope("caption_projection", |tap| layers.forward(text, tap)),
            None => text,
        };
        let bias = cond.mask.map(|mask| mask_bias(mask.cast(dtype)));
        let [_, _, inner] = h.dims();
        let adapt = adapt.reshape([batch, 6, inner]);
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            let scope = format_args!("transformer_blocks.{i}");
            h = tap.scope(scope, |tap| block.forward(h, &text, bias.as_ref(), &adapt, tap));
        }
        let h = self.norm_out.forward(h);
        tap.see("norm_out", &h);
        let both = self.scale_shift_table.val().unsqueeze::<3>() + embedding.unsqueeze_dim(1);
        let patches = self.proj_out.forward(modulate(h, both.clone().narrow(1, 0, 1), both.narrow(1, 1, 1)));
        tap.see("proj_out", &patches);
        let side = self.config.patch_size;
        Ok(unpatchify(patches, [height / side, width / side], side, PatchOrder::ChannelsLast).cast(given))
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        checks::sample(sample, given, self.config.in_channels, self.config.patch_size, None)
    }

    fn check_text(&self, cond: &TextCondition) -> Result<(), ModelError> {
        let known: &[Part] = if self.config.sizes { &[Part::Mask, Part::Sizes] } else { &[Part::Mask] };
        cond.check(self.config.text_width(), known)?;
        if self.config.sizes {
            cond.check_sizes(3)?;
        }
        Ok(())
    }
}

impl Network<4> for PixArt {
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
