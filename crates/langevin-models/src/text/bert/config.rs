//! Configuration of BERT, and its published form.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::published;
use super::model::Bert;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key, whole_heads};
use crate::layers::Activation;

/// `model_type` of published configurations.
const MODEL_TYPE: &str = "bert";
/// The classes that publish them; the encoder is a part of the others.
const CLASSES: [&str; 4] = ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"];

/// Keys that do not change what the encoder computes.
const UNUSED: &[&str] =
    &["attention_probs_dropout_prob", "bos_token_id", "eos_token_id", "hidden_dropout_prob", "pad_token_id"];

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("epsilon", "layer_norm_eps"),
    ("heads", "num_attention_heads"),
    ("inner", "intermediate_size"),
    ("kinds", "type_vocab_size"),
    ("layers", "num_hidden_layers"),
    ("positions", "max_position_embeddings"),
    ("vocabulary", "vocab_size"),
    ("width", "hidden_size"),
];

/// Configuration of a [`Bert`].
///
/// # Example
///
/// ```
/// use langevin_models::text::{BertConfig, Tokens};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = BertConfig::new(100, 16).layers(2).heads(2).init(&device)?;
/// let sentences = encoder.sentences(&Tokens::padded([vec![1, 5, 7, 2], vec![1, 9, 2]], 0)?)?;
/// assert_eq!(sentences.dims(), [2, 16]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Number of tokens that are known.
    pub vocabulary: usize,
    /// Channels of the states.
    pub width: usize,
    /// Channels between the two layers of each token. Default: `4·width`.
    pub inner: usize,
    /// Number of layers. Default: `12`.
    pub layers: usize,
    /// Number of heads, a divisor of the width. Default: `12`.
    pub heads: usize,
    /// Tokens of the longest text. Default: `512`.
    pub positions: usize,
    /// Number of kinds of text, of which the first is used. Default: `2`.
    pub kinds: usize,
    /// Between the two layers of each token. Default: GELU.
    pub activation: Activation,
    /// Added to the variances of the normalizations. Default: `1e-12`.
    pub epsilon: f64,
    /// Published values that do not change what is computed, kept for saving. Default: none.
    pub unused: published::Unused,
}

impl BertConfig {
    /// An encoder of 12 layers with 12 heads for texts of 512 tokens.
    #[must_use]
    pub fn new(vocabulary: usize, width: usize) -> Self {
        Self {
            vocabulary,
            width,
            inner: width.saturating_mul(4),
            layers: 12,
            heads: 12,
            positions: 512,
            kinds: 2,
            activation: Activation::Gelu,
            epsilon: 1e-12,
            unused: published::Unused::default(),
        }
    }

    /// Sets the number of layers.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the number of heads.
    #[must_use]
    pub fn heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }

    /// Sets the number of tokens of the longest text.
    #[must_use]
    pub fn positions(mut self, positions: usize) -> Self {
        self.positions = positions;
        self
    }

    /// Makes the encoder.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the heads do not divide the width, or epsilon is not above zero.
    pub fn init(&self, device: &Device) -> Result<Bert, ModelError> {
        self.check()?;
        Bert::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("vocabulary", self.vocabulary)?;
        at_least_one("width", self.width)?;
        at_least_one("inner", self.inner)?;
        layer_count("layers", self.layers)?;
        at_least_one("positions", self.positions)?;
        at_least_one("kinds", self.kinds)?;
        whole_heads("heads", self.heads, self.width)?;
        positive("epsilon", self.epsilon)?;
        Ok(())
    }

    /// Reads a published `config.json` of `BertModel` or of a BERT with a head. Dropout is not
    /// applied; it is kept for saving.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongClass`], [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and
    /// [`ModelError::Unsupported`] for configurations that are not of this network.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let (p, _) = published::read::<PublishedBert>(json, MODEL_TYPE, &CLASSES)?;
            if p.is_decoder {
                let value = "true".into();
                return Err(ModelError::Unsupported { key: "is_decoder", value, supported: "false" });
            }
            if p.position_embedding_type != "absolute" {
                let (key, value) = ("position_embedding_type", p.position_embedding_type);
                return Err(ModelError::Unsupported { key, value, supported: "\"absolute\"" });
            }
            let unused = published::Unused::of(&p, UNUSED);
            let config = Self {
                vocabulary: p.vocab_size,
                width: p.hidden_size,
                inner: p.intermediate_size,
                layers: p.num_hidden_layers,
                heads: p.num_attention_heads,
                positions: p.max_position_embeddings,
                kinds: p.type_vocab_size,
                activation: published::activation("hidden_act", &p.hidden_act)?,
                epsilon: p.layer_norm_eps,
                unused,
            };
            config.check()?;
            Ok(config)
        })
    }

    /// The configuration as transformers writes it.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(super) fn to_value(&self) -> Value {
        let fields = PublishedBert {
            hidden_act: self.activation.name().into(),
            hidden_size: self.width,
            intermediate_size: self.inner,
            layer_norm_eps: self.epsilon,
            max_position_embeddings: self.positions,
            num_attention_heads: self.heads,
            num_hidden_layers: self.layers,
            type_vocab_size: self.kinds,
            vocab_size: self.vocabulary,
            ..PublishedBert::default()
        };
        published::write(&fields, &self.unused, MODEL_TYPE, CLASSES[0])
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedBert {
    attention_probs_dropout_prob: f64,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    hidden_act: String,
    hidden_dropout_prob: f64,
    hidden_size: usize,
    intermediate_size: usize,
    is_decoder: bool,
    layer_norm_eps: f64,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    pad_token_id: Option<u32>,
    position_embedding_type: String,
    type_vocab_size: usize,
    vocab_size: usize,
}

impl Default for PublishedBert {
    fn default() -> Self {
        Self {
            attention_probs_dropout_prob: 0.1,
            bos_token_id: None,
            eos_token_id: None,
            hidden_act: "gelu".into(),
            hidden_dropout_prob: 0.1,
            hidden_size: 768,
            intermediate_size: 3072,
            is_decoder: false,
            layer_norm_eps: 1e-12,
            max_position_embeddings: 512,
            num_attention_heads: 12,
            num_hidden_layers: 12,
            pad_token_id: Some(0),
            position_embedding_type: "absolute".into(),
            type_vocab_size: 2,
            vocab_size: 30522,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::json;

    fn read(changes: Value) -> Result<BertConfig, ModelError> {
        BertConfig::from_json(&changes.to_string())
    }

    #[test]
    fn the_published_form_round_trips() {
        assert_eq!(read(json!({})).unwrap(), BertConfig::new(30522, 768));
        let config = read(json!({"num_hidden_layers": 3, "type_vocab_size": 1, "hidden_act": "relu"})).unwrap();
        assert_eq!((config.layers, config.kinds, config.activation), (3, 1, Activation::Relu));
        assert_eq!(BertConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn published_values_that_do_not_fit_are_named() {
        let error = read(json!({"position_embedding_type": "relative_key"})).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "position_embedding_type", .. }), "{error}");
        let error = read(json!({"is_decoder": true})).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "is_decoder", .. }), "{error}");
        let error = read(json!({"hidden_act": "tanh"})).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "hidden_act", .. }), "{error}");
        let error = read(json!({"model_type": "roberta"})).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
    }

    #[test]
    fn each_bad_field_is_named() {
        let base = || BertConfig::new(8, 24);
        for (config, name) in [
            (BertConfig::new(0, 24), "vocabulary"),
            (BertConfig { width: 0, ..base() }, "width"),
            (BertConfig { inner: 0, ..base() }, "inner"),
            (base().layers(0), "layers"),
            (base().positions(0), "positions"),
            (BertConfig { kinds: 0, ..base() }, "kinds"),
            (base().heads(7), "heads"),
            (BertConfig { epsilon: f64::INFINITY, ..base() }, "epsilon"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
