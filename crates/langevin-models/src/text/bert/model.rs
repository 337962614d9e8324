//! The encoder.
#![allow(non_snake_case, reason = "fields have the names of published parameters")]

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;

use super::super::attention::table;
use super::super::published::layout;
use super::super::tokens::Tokens;
use super::config::BertConfig;
use super::layers::{BertLayer, norm};
use crate::error::ModelError;
use crate::layers::{Embedding, LayerNorm, Linear, LinearConfig, widen};
use crate::tap::Tap;
use crate::weights::{Layout, read_config_file, read_folder_as, write_folder_as};

/// Files of a BERT with a head have the prefix `bert.` and the parameters of the head; old ones call those of
/// normalizations gamma and beta; some hold the list of positions, which is no parameter.
const LAYOUT: Layout = layout(|name, _| {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    if name == "embeddings.position_ids" || name.starts_with("cls.") || name.starts_with("classifier.") {
        return None;
    }
    Some(name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"))
});

/// The encoder of BERT. Made by [`BertConfig::init`] or [`Bert::load`].
///
/// [`sentences`](Self::sentences) embeds whole texts as sentence-transformers do with all-MiniLM-L6-v2: the mean of the
/// states of what is seen, of length 1. The scalar product of two is how alike the texts are.
///
/// # References
///
/// Devlin et al. 2018, [arXiv:1810.04805](https://arxiv.org/abs/1810.04805); sentences: Reimers, Gurevych 2019,
/// [arXiv:1908.10084](https://arxiv.org/abs/1908.10084). Parameters have the names of transformers' `BertModel`.
#[derive(Module, Debug)]
pub struct Bert {
    /// From tokens to states.
    pub embeddings: BertEmbeddings,
    /// The layers.
    pub encoder: BertEncoder,
    /// A layer on the state of the first token.
    pub pooler: BertPooler,
    #[module(skip)]
    config: BertConfig,
}

/// From tokens to states.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    /// `[vocabulary, width]`
    pub word_embeddings: Embedding,
    /// `[positions, width]`
    pub position_embeddings: Embedding,
    /// `[kinds, width]`
    pub token_type_embeddings: Embedding,
    /// Normalization of their sum.
    pub LayerNorm: LayerNorm,
}

/// The layers.
#[derive(Module, Debug)]
pub struct BertEncoder {
    /// One after the other.
    pub layer: Vec<BertLayer>,
}

/// A layer on the state of the first token.
#[derive(Module, Debug)]
pub struct BertPooler {
    /// The layer, which a hyperbolic tangent follows.
    pub dense: Linear,
}

/// What a [`Bert`] returns, in the element type of its weights.
#[derive(Debug, Clone)]
pub struct BertOutputs {
    /// States after the last layer. `[rows, tokens, width]`
    pub last_hidden_state: Tensor<3>,
    /// The last layer on the state of the first token. `[rows, width]`
    pub pooler_output: Tensor<2>,
}

impl Bert {
    pub(super) fn new(config: &BertConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width;
        Ok(Self {
            embeddings: BertEmbeddings {
                word_embeddings: table(config.vocabulary, width, 0.02, device),
                position_embeddings: table(config.positions, width, 0.02, device),
                token_type_embeddings: table(config.kinds, width, 0.02, device),
                LayerNorm: norm(config, device)?,
            },
            encoder: BertEncoder {
                layer: (0..config.layers).map(|_| BertLayer::new(config, device)).collect::<Result<_, _>>()?,
            },
            pooler: BertPooler { dense: LinearConfig::new(width, width).init(device)? },
            config: config.clone(),
        })
    }

    /// Loads a folder of transformers: `config.json` and `model.safetensors`. Heads are left where they are.
    ///
    /// # Errors
    ///
    /// Those of [`BertConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::text::{Bert, BertConfig};
    /// use langevin_models::Load;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let encoder = BertConfig::new(100, 16).layers(2).heads(2).init(&device)?;
    /// encoder.save(folder.path())?;
    /// let same = Bert::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, BertConfig::from_json)?;
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
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Encodes texts, all of the first kind.
    ///
    /// # Errors
    ///
    /// * [`ModelError::TokenOutOfRange`] for tokens that are not in the vocabulary;
    /// * [`ModelError::Shape`] for texts that are too long.
    pub fn forward(&self, tokens: &Tokens) -> Result<BertOutputs, ModelError> {
        self.forward_with(tokens, &mut Tap::none())
    }

    /// As [`forward`](Self::forward), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn forward_with(&self, tokens: &Tokens, tap: &mut Tap<'_>) -> Result<BertOutputs, ModelError> {
        let embedded = self.embed(tokens)?;
        self.forward_embedded(embedded, tokens, tap)
    }

    /// The rows of the table of tokens, without positions.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, tokens, width]`
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn embed(&self, tokens: &Tokens) -> Result<Tensor<3>, ModelError> {
        tokens.check(self.config.vocabulary, Some(self.config.positions))?;
        let table = &self.embeddings.word_embeddings;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        Ok(table.forward(tokens.flat(&table.weight.device())).reshape(shape))
    }

    /// Encodes texts whose tokens have been embedded. `tokens` tell which of them are seen.
    ///
    /// # Shapes
    ///
    /// - embedded: `[rows, tokens, width]`
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward), and [`ModelError::Shape`] for embeddings of another shape.
    pub fn forward_embedded(
        &self,
        embedded: Tensor<3>,
        tokens: &Tokens,
        tap: &mut Tap<'_>,
    ) -> Result<BertOutputs, ModelError> {
        tokens.check(self.config.vocabulary, Some(self.config.positions))?;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        if embedded.dims() != shape {
            return Err(ModelError::Shape {
                what: "embedded",
                given: embedded.dims().to_vec(),
                expected: format!("{shape:?}, that of the tokens"),
            });
        }
        let positions = self.embeddings.position_embeddings.weight.val();
        let (device, dtype) = (positions.device(), positions.dtype());
        let sight = tokens.sight(false, &device, dtype);
        let mut x = tap.scope("embeddings", |tap| {
            let words = embedded.cast(dtype);
            tap.see("word_embeddings", &words);
            let kind = self.embeddings.token_type_embeddings.weight.val().narrow(0, 0, 1);
            let x = words + kind.unsqueeze() + positions.narrow(0, 0, shape[1]).unsqueeze();
            let x = self.embeddings.LayerNorm.forward(x);
            tap.see("LayerNorm", &x);
            tap.see("", &x);
            x
        });
        for (i, layer) in self.encoder.layer.iter().enumerate() {
            x = tap.scope(format_args!("encoder.layer.{i}"), |tap| layer.forward(x, &sight, tap));
        }
        let first = x.clone().narrow(1, 0, 1).reshape([shape[0], shape[2]]);
        let pooled = self.pooler.dense.forward(first);
        tap.see("pooler.dense", &pooled);
        let pooled = pooled.tanh();
        tap.see("pooler", &pooled);
        Ok(BertOutputs { last_hidden_state: x, pooler_output: pooled })
    }

    /// Embeds whole texts: the mean of the states of the tokens that are seen, divided by its length.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, width]`, rows of length 1, in f32 where the weights are in half precision
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn sentences(&self, tokens: &Tokens) -> Result<Tensor<2>, ModelError> {
        let states = widen(self.forward(tokens)?.last_hidden_state);
        let [rows, length, width] = states.dims();
        let mask = tokens.mask_tensor(&states.device()).cast(states.dtype());
        let sum = (states * mask.clone().reshape([rows, length, 1])).sum_dim(1).reshape([rows, width]);
        // As the original guards against texts of which nothing is seen.
        let mean = sum / mask.sum_dim(1).clamp_min(1e-9);
        let norm = mean.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
        Ok(mean / norm)
    }
}
