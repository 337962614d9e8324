//! Configuration of the text tower, and its published form.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::published;
use super::encoder::Sizes;
use super::text::ClipText;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key, whole_heads};
use crate::layers::Activation;

/// `model_type` of published configurations.
const MODEL_TYPE: &str = "clip_text_model";
/// The classes that publish them, without and with a projection.
const CLASSES: [&str; 2] = ["CLIPTextModel", "CLIPTextModelWithProjection"];

/// Where a text ends: there the state that stands for the whole text is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfText {
    /// At the first token with this number, or at the first token of a text without it.
    First(u32),
    /// At the first of the tokens with the highest number. Published as `eos_token_id` = 2, which was never the number of
    /// that token: it is the last one of the vocabulary.
    Highest,
}

/// Keys that do not change what the encoder computes.
const UNUSED: &[&str] = &["attention_dropout", "bos_token_id", "dropout", "pad_token_id"];

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("end", "eos_token_id"),
    ("epsilon", "layer_norm_eps"),
    ("heads", "num_attention_heads"),
    ("inner", "intermediate_size"),
    ("layers", "num_hidden_layers"),
    ("positions", "max_position_embeddings"),
    ("projection", "projection_dim"),
    ("vocabulary", "vocab_size"),
    ("width", "hidden_size"),
];

/// Configuration of a [`ClipText`].
///
/// # Example
///
/// ```
/// use langevin_models::text::{ClipTextConfig, Tokens};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = ClipTextConfig::new(100, 16).layers(2).heads(2).positions(8).init(&device)?;
/// let output = encoder.forward(&Tokens::new([vec![98, 5, 7, 99]])?)?;
/// assert_eq!(output.last_hidden_state.dims(), [1, 4, 16]);
/// assert_eq!(output.pooler_output.dims(), [1, 16]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClipTextConfig {
    /// Number of tokens that are known.
    pub vocabulary: usize,
    /// Channels of the states.
    pub width: usize,
    /// Channels between the two layers of each token. Default: `4·width`.
    pub inner: usize,
    /// Number of layers. Default: `12`.
    pub layers: usize,
    /// Number of heads, a divisor of the width. Default: `8`.
    pub heads: usize,
    /// Tokens of the longest text. Default: `77`.
    pub positions: usize,
    /// Between the two layers of each token. Default: quick GELU.
    pub activation: Activation,
    /// Added to the variances of the normalizations. Default: `1e-5`.
    pub epsilon: f64,
    /// Where a text ends. Default: at the last token of the vocabulary.
    pub end: EndOfText,
    /// Channels of the projection of the whole text, or none. Default: `None`.
    pub projection: Option<usize>,
    /// Published values that do not change what is computed, kept for saving. Default: none.
    pub unused: published::Unused,
}

impl ClipTextConfig {
    /// A tower of 12 layers with 8 heads for texts of 77 tokens.
    #[must_use]
    pub fn new(vocabulary: usize, width: usize) -> Self {
        Self {
            vocabulary,
            width,
            inner: width.saturating_mul(4),
            layers: 12,
            heads: 8,
            positions: 77,
            activation: Activation::QuickGelu,
            epsilon: 1e-5,
            end: EndOfText::First(vocabulary.saturating_sub(1) as u32),
            projection: None,
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

    /// Sets the channels of the projection of the whole text.
    #[must_use]
    pub fn projection(mut self, channels: usize) -> Self {
        self.projection = Some(channels);
        self
    }

    /// Makes the tower.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the heads do not divide the width, epsilon is not above zero, or a
    /// text ends at token 2, which published files cannot say.
    pub fn init(&self, device: &Device) -> Result<ClipText, ModelError> {
        self.check()?;
        ClipText::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("vocabulary", self.vocabulary)?;
        at_least_one("width", self.width)?;
        at_least_one("inner", self.inner)?;
        layer_count("layers", self.layers)?;
        at_least_one("positions", self.positions)?;
        at_least_one("projection", self.projection.unwrap_or(1))?;
        whole_heads("heads", self.heads, self.width)?;
        positive("epsilon", self.epsilon)?;
        if self.end == EndOfText::First(2) {
            return Err(ModelError::Config {
                field: "end",
                given: "token 2".into(),
                expected: "another token: published files mean the highest one by 2".into(),
            });
        }
        Ok(())
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            width: self.width,
            inner: self.inner,
            layers: self.layers,
            heads: self.heads,
            activation: self.activation,
            epsilon: self.epsilon,
        }
    }

    /// Reads a published `config.json` of `CLIPTextModel` or `CLIPTextModelWithProjection`; `architectures` says which,
    /// the first where it is absent. Dropout is not applied; it is kept for saving.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongClass`], [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and
    /// [`ModelError::Unsupported`] for configurations that are not of this network.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let (p, class) = published::read::<PublishedClipText>(json, MODEL_TYPE, &CLASSES)?;
            let unsupported = |key, supported| ModelError::Unsupported { key, value: "null".into(), supported };
            let projection = match (class, p.projection_dim) {
                (0, _) => None,
                (_, None) => return Err(unsupported("projection_dim", "a number of channels")),
                (_, channels) => channels,
            };
            let unused = published::Unused::of(&p, UNUSED);
            let config = Self {
                vocabulary: p.vocab_size,
                width: p.hidden_size,
                inner: p.intermediate_size,
                layers: p.num_hidden_layers,
                heads: p.num_attention_heads,
                positions: p.max_position_embeddings,
                activation: published::activation("hidden_act", &p.hidden_act)?,
                epsilon: p.layer_norm_eps,
                end: match p.eos_token_id {
                    Some(2) => EndOfText::Highest,
                    Some(token) => EndOfText::First(token),
                    None => return Err(unsupported("eos_token_id", "the number of a token")),
                },
                projection,
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
        let fields = PublishedClipText {
            eos_token_id: Some(match self.end {
                EndOfText::First(token) => token,
                EndOfText::Highest => 2,
            }),
            hidden_act: self.activation.name().into(),
            hidden_size: self.width,
            intermediate_size: self.inner,
            layer_norm_eps: self.epsilon,
            max_position_embeddings: self.positions,
            num_attention_heads: self.heads,
            num_hidden_layers: self.layers,
            projection_dim: self.projection.or(PublishedClipText::default().projection_dim),
            vocab_size: self.vocabulary,
            ..PublishedClipText::default()
        };
        published::write(&fields, &self.unused, MODEL_TYPE, CLASSES[usize::from(self.projection.is_some())])
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedClipText {
    attention_dropout: f64,
    bos_token_id: Option<u32>,
    dropout: f64,
    eos_token_id: Option<u32>,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f64,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    pad_token_id: Option<u32>,
    projection_dim: Option<usize>,
    vocab_size: usize,
}

impl Default for PublishedClipText {
    fn default() -> Self {
        Self {
            attention_dropout: 0.0,
            bos_token_id: Some(49406),
            dropout: 0.0,
            eos_token_id: Some(49407),
            hidden_act: "quick_gelu".into(),
            hidden_size: 512,
            intermediate_size: 2048,
            layer_norm_eps: 1e-5,
            max_position_embeddings: 77,
            num_attention_heads: 8,
            num_hidden_layers: 12,
            pad_token_id: Some(1),
            projection_dim: Some(512),
            vocab_size: 49408,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::json;

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let config = ClipTextConfig::from_json("{}").unwrap();
        assert_eq!(config, ClipTextConfig::new(49408, 512));
        assert_eq!(config.end, EndOfText::First(49407));
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [
            json!({}),
            json!({"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 30, "hidden_act": "gelu"}),
            json!({"eos_token_id": 2, "layer_norm_eps": 1e-3, "num_hidden_layers": 3, "max_position_embeddings": 9}),
        ] {
            let config = ClipTextConfig::from_json(&changes.to_string()).unwrap();
            assert_eq!(ClipTextConfig::from_json(&config.to_json()).unwrap(), config);
        }
        let with = json!({"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 30});
        assert_eq!(ClipTextConfig::from_json(&with.to_string()).unwrap().projection, Some(30));
    }

    #[test]
    fn published_values_that_do_not_fit_are_named() {
        let read = |changes: Value| ClipTextConfig::from_json(&changes.to_string()).unwrap_err();
        let error = read(json!({"hidden_act": "tanh"}));
        assert!(matches!(error, ModelError::Unsupported { key: "hidden_act", .. }), "{error}");
        let error = read(json!({"eos_token_id": null}));
        assert!(matches!(error, ModelError::Unsupported { key: "eos_token_id", .. }), "{error}");
        let error = read(json!({"architectures": ["CLIPTextModelWithProjection"], "projection_dim": null}));
        assert!(matches!(error, ModelError::Unsupported { key: "projection_dim", .. }), "{error}");
        let error = read(json!({"architectures": ["CLIPModel"]}));
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
        let error = read(json!({"hidden_size": "wide"}));
        assert!(matches!(error, ModelError::BadValue { ref key, .. } if key == "hidden_size"), "{error}");
        let error = read(json!({"depth": 1}));
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    }

    #[test]
    fn each_bad_field_is_named() {
        let base = || ClipTextConfig::new(8, 16);
        for (config, name) in [
            (ClipTextConfig::new(0, 16), "vocabulary"),
            (ClipTextConfig { width: 0, ..base() }, "width"),
            (ClipTextConfig { inner: 0, ..base() }, "inner"),
            (base().layers(0), "layers"),
            (base().positions(0), "positions"),
            (base().projection(0), "projection"),
            (base().heads(3), "heads"),
            (base().heads(0), "heads"),
            (ClipTextConfig { epsilon: f64::NAN, ..base() }, "epsilon"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
