//! The encoder.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;

use super::super::attention::table;
use super::super::published::layout;
use super::super::tokens::{Sight, Tokens};
use super::buckets;
use super::config::T5EncoderConfig;
use super::layers::T5Block;
use crate::error::ModelError;
use crate::layers::{Embedding, RmsNorm, RmsNormConfig, permuted, widen};
use crate::tap::Tap;
use crate::weights::{Layout, read_config_file, read_folder_as, write_folder_as};

/// The table of tokens is stored as `shared.weight`, as `encoder.embed_tokens.weight` or as both, and then the second is
/// the encoder's own. Files of a whole T5 have a decoder as well.
const LAYOUT: Layout = layout(|name, has| match name {
    "shared.weight" if has("encoder.embed_tokens.weight") => None,
    "encoder.embed_tokens.weight" => Some("shared.weight".to_owned()),
    "lm_head.weight" => None,
    _ if name.starts_with("decoder.") => None,
    _ => Some(name.to_owned()),
});

/// The encoder of T5. Made by [`T5EncoderConfig::init`] or [`T5Encoder::load`].
///
/// A transformer with normalizations by the root mean square, distances in place of positions, and no scale in its
/// attention. SD 3, Flux, PixArt and many networks of videos are told by its last states.
///
/// In half precision the stream between the blocks and the last layer of each token are computed in f32, where published
/// weights overflow f16.
///
/// # References
///
/// Raffel et al. 2019, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683); gated units: Shazeer 2020,
/// [arXiv:2002.05202](https://arxiv.org/abs/2002.05202). Parameters have the names of transformers' `T5EncoderModel`.
///
/// # Example
///
/// ```
/// use langevin_models::TextCondition;
/// use langevin_models::text::{T5EncoderConfig, Tokens};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = T5EncoderConfig::new(100, 16).layers(2).heads(2, 8).init(&device)?;
/// let tokens = Tokens::padded([vec![5, 7, 1], vec![9, 1]], 0)?;
/// let told = TextCondition::new(encoder.forward(&tokens)?).mask(tokens.mask_tensor(&device));
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct T5Encoder {
    /// The table of tokens. `[vocabulary, width]`
    pub shared: Embedding,
    /// The blocks.
    pub encoder: T5Stack,
    #[module(skip)]
    config: T5EncoderConfig,
}

/// The blocks of a [`T5Encoder`].
#[derive(Module, Debug)]
pub struct T5Stack {
    /// One after the other.
    pub block: Vec<T5Block>,
    /// Normalization of the last states.
    pub final_layer_norm: RmsNorm,
}

impl T5Encoder {
    pub(super) fn new(config: &T5EncoderConfig, device: &Device) -> Result<Self, ModelError> {
        let block = (0..config.layers).map(|i| T5Block::new(config, i == 0, device)).collect::<Result<_, _>>()?;
        Ok(Self {
            shared: table(config.vocabulary, config.width, 1.0, device),
            encoder: T5Stack {
                block,
                final_layer_norm: RmsNormConfig::new(config.width).epsilon(config.epsilon).init(device)?,
            },
            config: config.clone(),
        })
    }

    /// Loads a folder of transformers: `config.json` and `model.safetensors`. The decoder of a whole T5 is left where it is.
    ///
    /// # Errors
    ///
    /// Those of [`T5EncoderConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::text::{T5Encoder, T5EncoderConfig};
    /// use langevin_models::Load;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let encoder = T5EncoderConfig::new(100, 16).layers(2).heads(2, 8).init(&device)?;
    /// encoder.save(folder.path())?;
    /// let same = T5Encoder::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, T5EncoderConfig::from_json)?;
        read_folder_as(config.init(load.device())?, folder, &load, &LAYOUT)
    }

    /// Writes a folder that [`load`](Self::load) and transformers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder_as(self, &self.config.to_value(), folder.as_ref(), &LAYOUT)
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &T5EncoderConfig {
        &self.config
    }

    /// Encodes texts of any length, to states in the element type of the weights.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, tokens, width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::TokenOutOfRange`] for tokens that are not in the vocabulary.
    pub fn forward(&self, tokens: &Tokens) -> Result<Tensor<3>, ModelError> {
        self.forward_with(tokens, &mut Tap::none())
    }

    /// As [`forward`](Self::forward), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn forward_with(&self, tokens: &Tokens, tap: &mut Tap<'_>) -> Result<Tensor<3>, ModelError> {
        let embedded = self.embed(tokens)?;
        tap.see("shared", &embedded);
        self.forward_embedded(embedded, tokens, tap)
    }

    /// The rows of the table of tokens, for words that are learned or mixed.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, tokens, width]`
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn embed(&self, tokens: &Tokens) -> Result<Tensor<3>, ModelError> {
        tokens.check(self.config.vocabulary, None)?;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        Ok(self.shared.forward(tokens.flat(&self.shared.weight.device())).reshape(shape))
    }

    /// Encodes texts whose tokens have been embedded. `tokens` tell which of them are seen.
    ///
    /// # Shapes
    ///
    /// - embedded and output: `[rows, tokens, width]`
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward), and [`ModelError::Shape`] for embeddings of another shape.
    pub fn forward_embedded(
        &self,
        embedded: Tensor<3>,
        tokens: &Tokens,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        tokens.check(self.config.vocabulary, None)?;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        if embedded.dims() != shape {
            return Err(ModelError::Shape {
                what: "embedded",
                given: embedded.dims().to_vec(),
                expected: format!("{shape:?}, that of the tokens"),
            });
        }
        let dtype = self.shared.weight.val().dtype();
        let sight = self.sight(tokens);
        let y = tap.scope("encoder", |tap| {
            let mut x = widen(embedded.cast(dtype));
            tap.see("embed_tokens", &x);
            for (i, block) in self.encoder.block.iter().enumerate() {
                x = tap.scope(format_args!("block.{i}"), |tap| block.forward(x, &sight, tap));
            }
            let y = self.encoder.final_layer_norm.forward(x).cast(dtype);
            tap.see("final_layer_norm", &y);
            y
        });
        Ok(y)
    }

    /// What is added to the scores: distances, and what is not seen.
    fn sight(&self, tokens: &Tokens) -> Sight {
        let weight = &self.shared.weight;
        let (device, dtype) = (weight.device(), weight.val().dtype());
        let mask = tokens.sight(false, &device, dtype).bias;
        let distances = self.encoder.block.iter().find_map(T5Block::distances).map(|distances| {
            let length = tokens.length();
            let rows = buckets::table(length, self.config.buckets, self.config.furthest);
            let bias = widen(distances.forward(Tensor::from_data(rows.as_slice(), &device)));
            permuted(bias.reshape([1, length, length, self.config.heads]), [0, 3, 1, 2])
        });
        let bias = match (distances, mask) {
            (Some(distances), Some(mask)) => Some(distances + mask),
            (distances, mask) => distances.or(mask),
        };
        // A text of which nothing is seen is seen evenly, as the original has it.
        Sight { bias, seeing: None }
    }
}
