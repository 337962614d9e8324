//! The transformer of FLUX.1 over packed tokens.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;

use super::block::{FluxBlock, FluxSingleBlock};
use super::config::FluxConfig;
use super::published::PublishedFlux;
use crate::condition::{Part, TextCondition};
use crate::error::ModelError;
use crate::layers::{AdaLayerNormContinuous, Linear, LinearConfig, RotaryEmbedding, TimestepTextEmbedding};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A transformer over the tokens of a text and of a packed latent, first as two streams and then as one. Made by
/// [`FluxConfig::init`] or [`Flux::load`].
///
/// [`forward_with`](Self::forward_with) takes packed tokens and their positions, as the published networks do. As a
/// [`Network`](langevin_core::Network) it takes latents, packs them by two in each direction and unpacks the output.
///
/// **Times** are in `[0, 1]`: the network multiplies them, and the guidance scale, by 1000. A process that feeds steps up
/// to 1000 does not fit it.
///
/// # References
///
/// Black Forest Labs 2024, [FLUX.1](https://github.com/black-forest-labs/flux); the two streams: Esser et al. 2024,
/// [arXiv:2403.03206](https://arxiv.org/abs/2403.03206). Parameters have the names of diffusers'
/// `FluxTransformer2DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{FluxConfig, TextCondition};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = FluxConfig::new(4, 10, 6).heads(2, [2, 4, 2]).layers(1, 2).guidance(true).init(&device)?;
/// let text = TextCondition::new(Tensor::zeros([1, 5, 10], &device))
///     .pooled(Tensor::zeros([1, 6], &device))
///     .guidance([3.5]);
/// let y = net.forward(Tensor::zeros([2, 4, 8, 6], &device), Tensor::from_data([0.9], &device), &text)?;
/// assert_eq!(y.dims(), [2, 4, 8, 6]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct Flux {
    /// From time, guidance scale and pooled text to what all blocks are told.
    pub time_text_embed: TimestepTextEmbedding,
    /// From the states of the text encoder to the channels of the network.
    pub context_embedder: Linear,
    /// From the entries of a token to the channels of the network.
    pub x_embedder: Linear,
    /// Blocks over two streams.
    pub transformer_blocks: Vec<FluxBlock>,
    /// Blocks over one stream.
    pub single_transformer_blocks: Vec<FluxSingleBlock>,
    /// Normalization before the output.
    pub norm_out: AdaLayerNormContinuous,
    /// From the channels of the network to the entries of a token.
    pub proj_out: Linear,
    #[module(skip)]
    config: FluxConfig,
}

/// Packed tokens of latents, and where they are.
#[derive(Debug, Clone)]
pub struct FluxTokens {
    /// The tokens `[batch, tokens, in_channels]`.
    pub values: Tensor<3>,
    /// The position of each token, the same for all samples: a free number, the row and the column.
    pub positions: Vec<[f64; 3]>,
    /// The position of each token of the text: zeros in the published networks.
    pub text_positions: Vec<[f64; 3]>,
}

impl FluxTokens {
    /// Tokens of a grid with `rows` rows, read row by row, and `text` tokens of text without a position.
    #[must_use]
    pub fn grid(values: Tensor<3>, [rows, columns]: [usize; 2], text: usize) -> Self {
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [0.0, row as f64, column as f64]));
        Self { values, positions: places.collect(), text_positions: vec![[0.0; 3]; text] }
    }
}

impl Flux {
    pub(super) fn new(config: &FluxConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let entries = config.patch_size * config.patch_size * config.out_channels;
        let double = (0..config.layers).map(|_| FluxBlock::new(config, device));
        let single = (0..config.single_layers).map(|_| FluxSingleBlock::new(config, device));
        Ok(Self {
            time_text_embed: TimestepTextEmbedding::new(config.pooled_width, width, config.guidance, device)?,
            context_embedder: LinearConfig::new(config.text_width, width).init(device)?,
            x_embedder: LinearConfig::new(config.in_channels, width).init(device)?,
            transformer_blocks: double.collect::<Result<_, _>>()?,
            single_transformer_blocks: single.collect::<Result<_, _>>()?,
            norm_out: AdaLayerNormContinuous::new(width, device)?,
            proj_out: LinearConfig::new(width, entries).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`FluxConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, FluxConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedFlux::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// The forward pass over packed tokens, showing the output of every named sub-module to `tap`.
    ///
    /// Tokens and text are converted to the element type of the weights, and the output back to that of the tokens. The
    /// condition has states and a pooled vector, and a guidance scale exactly if the network is told one.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, tokens, in_channels]`
    /// - time: `[batch]`, or `[1]` for all samples; in `[0, 1]`
    /// - output: `[batch, tokens, patch_size·patch_size·out_channels]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for tokens, positions, times, states or pooled vectors of another shape;
    /// * [`ModelError::Rows`], [`ModelError::MissingPart`], [`ModelError::UnknownPart`] and [`ModelError::NotFinite`] for
    ///   conditions that do not fit.
    pub fn forward_with(
        &self,
        tokens: FluxTokens,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        self.check_text(cond, false)?;
        self.check_tokens(&tokens, cond)?;
        let FluxTokens { values, positions, mut text_positions } = tokens;
        let [batch, _, _] = values.dims();
        let device = values.device();
        let time = for_batch(time, batch)?.cast(DType::F32) * 1000.0;
        let cond = cond.for_batch(batch)?;
        let guidance = match self.config.guidance {
            true => Some(Tensor::<1>::from_data(cond.guidance_scales()?, (&device, DType::F32)) * 1000.0),
            false => None,
        };
        let given = values.dtype();
        let dtype = self.proj_out.weight.val().dtype();
        let pooled = cond.pooled_of(self.config.pooled_width)?.cast(dtype);
        let image = self.x_embedder.forward(values.cast(dtype));
        tap.see("x_embedder", &image);
        let embedding = tap.scope("time_text_embed", |tap| self.time_text_embed.forward(time, guidance, pooled, tap));
        let text = self.context_embedder.forward(cond.states.cast(dtype));
        tap.see("context_embedder", &text);
        text_positions.extend(positions);
        let rotary = RotaryEmbedding::new(self.config.axes, &text_positions, &device);
        if tap.is_listening() {
            let [cosine, sine] = rotary.tables();
            tap.see("pos_embed.0", &cosine);
            tap.see("pos_embed.1", &sine);
        }
        let mut both = [text, image];
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            let scope = format_args!("transformer_blocks.{i}");
            both = tap.scope(scope, |tap| block.forward(both, &embedding, &rotary, tap));
        }
        for (i, block) in self.single_transformer_blocks.iter().enumerate() {
            let scope = format_args!("single_transformer_blocks.{i}");
            both = tap.scope(scope, |tap| block.forward(both, &embedding, &rotary, tap));
        }
        let [_, image] = both;
        let image = tap.scope("norm_out", |tap| self.norm_out.forward(image, embedding, tap));
        let y = self.proj_out.forward(image);
        tap.see("proj_out", &y);
        Ok(y.cast(given))
    }

    /// Checks the condition; `image` says whether it may have channels that are put behind those of the latent.
    pub(super) fn check_text(&self, cond: &TextCondition, image: bool) -> Result<(), ModelError> {
        let parts = [(Part::Pooled, true), (Part::Guidance, self.config.guidance), (Part::Image, image)];
        let known: Vec<Part> = parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| part).collect();
        cond.check(self.config.text_width, &known)?;
        if self.config.guidance {
            cond.guidance_scales()?;
        }
        cond.pooled_of(self.config.pooled_width).map(drop)
    }

    fn check_tokens(&self, tokens: &FluxTokens, cond: &TextCondition) -> Result<(), ModelError> {
        let [_, count, entries] = tokens.values.dims();
        if count == 0 || entries != self.config.in_channels {
            return Err(ModelError::Shape {
                what: "tokens",
                given: tokens.values.dims().to_vec(),
                expected: format!("[batch, tokens, {}]", self.config.in_channels),
            });
        }
        let text = cond.states.dims()[1];
        for (what, given, expected) in
            [("positions", tokens.positions.len(), count), ("text positions", tokens.text_positions.len(), text)]
        {
            if given != expected {
                let expected = format!("[{expected}, 3], one for each token");
                return Err(ModelError::Shape { what, given: vec![given, 3], expected });
            }
        }
        Ok(())
    }
}
