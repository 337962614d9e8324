//! The text tower.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;

use super::super::attention::table;
use super::super::published::layout;
use super::super::tokens::Tokens;
use super::config::{ClipTextConfig, EndOfText};
use super::encoder::ClipEncoder;
use crate::error::ModelError;
use crate::layers::{Embedding, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use crate::tap::Tap;
use crate::weights::{Layout, read_config_file, read_folder_as, write_folder_as};

/// Published files have the prefix `text_model.`, those that transformers 5 writes for the tower alone do not; some hold
/// the list of positions, which is no parameter.
const LAYOUT: Layout = layout(|name, _| {
    let plain = name.strip_prefix("text_model.").unwrap_or(name);
    match plain {
        "embeddings.position_ids" => None,
        "text_projection.weight" => Some(plain.to_owned()),
        _ => Some(format!("text_model.{plain}")),
    }
});

/// The text tower of CLIP. Made by [`ClipTextConfig::init`] or [`ClipText::load`].
///
/// A transformer whose tokens see those before them. Stable Diffusion 1 and 2 are told by the last states, SDXL by those
/// before the last layer and by the projection of the whole text.
///
/// # References
///
/// Radford et al. 2021, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020), section 2.4. Parameters have the names of
/// transformers' `CLIPTextModelWithProjection`.
///
/// # Example
///
/// ```
/// use langevin_models::text::{ClipTextConfig, Tokens};
/// use langevin_models::TextCondition;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = ClipTextConfig::new(100, 16).layers(3).heads(2).positions(8).projection(12).init(&device)?;
/// let output = encoder.forward(&Tokens::new([vec![98, 5, 99, 99]])?)?;
/// // What SDXL's second encoder tells the UNet:
/// let states = output.from_end(1)?;
/// let told = TextCondition::new(states).pooled(output.text_embeds.expect("a projection"));
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct ClipText {
    /// The transformer.
    pub text_model: ClipTextTransformer,
    /// Projection of the whole text.
    pub text_projection: Option<Linear>,
    #[module(skip)]
    config: ClipTextConfig,
}

/// The transformer of a [`ClipText`].
#[derive(Module, Debug)]
pub struct ClipTextTransformer {
    /// Tables of tokens and positions.
    pub embeddings: ClipTextEmbeddings,
    /// The layers.
    pub encoder: ClipEncoder,
    /// Normalization of the last states.
    pub final_layer_norm: LayerNorm,
}

/// Tables of tokens and positions.
#[derive(Module, Debug)]
pub struct ClipTextEmbeddings {
    /// `[vocabulary, width]`
    pub token_embedding: Embedding,
    /// `[positions, width]`
    pub position_embedding: Embedding,
}

/// What a [`ClipText`] returns, in the element type of its weights.
#[derive(Debug, Clone)]
pub struct ClipTextOutput {
    /// States after the last layer and its normalization. `[rows, tokens, width]`
    pub last_hidden_state: Tensor<3>,
    /// The embedded tokens and the states after each layer, none of them normalized. `[rows, tokens, width]` each
    pub hidden_states: Vec<Tensor<3>>,
    /// The last state where the text ends. `[rows, width]`
    pub pooler_output: Tensor<2>,
    /// Its projection. `[rows, projection]`
    pub text_embeds: Option<Tensor<2>>,
}

impl ClipTextOutput {
    /// The states `layers` layers before the last, not normalized: 0 are those of the last layer, 1 those that SDXL takes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if there are not so many layers.
    pub fn from_end(&self, layers: usize) -> Result<Tensor<3>, ModelError> {
        let last = self.hidden_states.len() - 1;
        if layers > last {
            return Err(ModelError::Config {
                field: "layers",
                given: layers.to_string(),
                expected: format!("at most the {last} layers of the encoder"),
            });
        }
        Ok(self.hidden_states[last - layers].clone())
    }
}

impl ClipText {
    pub(super) fn new(config: &ClipTextConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width;
        Ok(Self {
            text_model: ClipTextTransformer {
                embeddings: ClipTextEmbeddings {
                    token_embedding: table(config.vocabulary, width, 0.02, device),
                    position_embedding: table(config.positions, width, 0.02, device),
                },
                encoder: ClipEncoder::new(&config.sizes(), device)?,
                final_layer_norm: LayerNormConfig::new(width).epsilon(config.epsilon).init(device)?,
            },
            text_projection: match config.projection {
                Some(channels) => Some(LinearConfig::new(width, channels).bias(false).init(device)?),
                None => None,
            },
            config: config.clone(),
        })
    }

    /// Loads a folder of transformers: `config.json` and `model.safetensors`, with or without the prefix `text_model.`.
    ///
    /// # Errors
    ///
    /// Those of [`ClipTextConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::text::{ClipText, ClipTextConfig};
    /// use langevin_models::Load;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let encoder = ClipTextConfig::new(100, 16).layers(2).heads(2).init(&device)?;
    /// encoder.save(folder.path())?;
    /// let same = ClipText::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, ClipTextConfig::from_json)?;
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
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Encodes texts.
    ///
    /// # Errors
    ///
    /// * [`ModelError::TokenOutOfRange`] for tokens that are not in the vocabulary;
    /// * [`ModelError::Shape`] for texts that are too long.
    pub fn forward(&self, tokens: &Tokens) -> Result<ClipTextOutput, ModelError> {
        self.forward_with(tokens, &mut Tap::none())
    }

    /// As [`forward`](Self::forward), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn forward_with(&self, tokens: &Tokens, tap: &mut Tap<'_>) -> Result<ClipTextOutput, ModelError> {
        let embedded = self.embed(tokens)?;
        self.forward_embedded(embedded, tokens, tap)
    }

    /// The rows of the table of tokens, without positions, for words that are learned (textual inversion) or mixed.
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
        let table = &self.text_model.embeddings.token_embedding;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        Ok(table.forward(tokens.flat(&table.weight.device())).reshape(shape))
    }

    /// Encodes texts whose tokens have been embedded. `tokens` tell where they end and which of them are seen.
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
    ) -> Result<ClipTextOutput, ModelError> {
        tokens.check(self.config.vocabulary, Some(self.config.positions))?;
        let shape = [tokens.rows(), tokens.length(), self.config.width];
        if embedded.dims() != shape {
            return Err(ModelError::Shape {
                what: "embedded",
                given: embedded.dims().to_vec(),
                expected: format!("{shape:?}, that of the tokens"),
            });
        }
        let model = &self.text_model;
        let positions = model.embeddings.position_embedding.weight.val();
        let (device, dtype) = (positions.device(), positions.dtype());
        let sight = tokens.sight(true, &device, dtype);
        let ends: Vec<i64> = self.ends(tokens);
        let output = tap.scope("text_model", |tap| {
            let embedded = embedded.cast(dtype);
            tap.see("embeddings.token_embedding", &embedded);
            let x = embedded + positions.narrow(0, 0, shape[1]).unsqueeze();
            tap.see("embeddings", &x);
            let hidden_states = model.encoder.forward(x, &sight, tap);
            let last = hidden_states[hidden_states.len() - 1].clone();
            let last = model.final_layer_norm.forward(last);
            tap.see("final_layer_norm", &last);
            let flat = last.clone().reshape([shape[0] * shape[1], shape[2]]);
            let pooled = flat.select(0, Tensor::from_data(ends.as_slice(), &device));
            ClipTextOutput { last_hidden_state: last, hidden_states, pooler_output: pooled, text_embeds: None }
        });
        let text_embeds = self.text_projection.as_ref().map(|layer| {
            let y = layer.forward(output.pooler_output.clone());
            tap.see("text_projection", &y);
            y
        });
        Ok(ClipTextOutput { text_embeds, ..output })
    }

    /// States of a layer before the last, normalized as the last ones are: what Stable Diffusion 1 and 2 are told when
    /// layers are skipped ("clip skip").
    ///
    /// # Shapes
    ///
    /// - input and output: `[rows, tokens, width]`
    #[must_use]
    pub fn normalize(&self, states: Tensor<3>) -> Tensor<3> {
        self.text_model.final_layer_norm.forward(states)
    }

    /// The place of the end of each text among all tokens of the batch.
    fn ends(&self, tokens: &Tokens) -> Vec<i64> {
        let end = |row: &Vec<u32>| match self.config.end {
            EndOfText::First(end) => row.iter().position(|id| *id == end).unwrap_or(0),
            EndOfText::Highest => {
                let highest = row.iter().max();
                row.iter().position(|id| Some(id) == highest).unwrap_or(0)
            }
        };
        let rows = tokens.ids().iter().enumerate();
        rows.map(|(row, ids)| (row * tokens.length() + end(ids)) as i64).collect()
    }
}
