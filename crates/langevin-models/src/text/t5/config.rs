//! Configuration of the encoder of T5, and its published form.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::published;
use super::model::T5Encoder;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key};
use crate::layers::Activation;

/// `model_type` of published configurations.
const MODEL_TYPE: &str = "t5";
/// The classes that publish them; the encoder is a part of the others.
const CLASSES: [&str; 4] = ["T5EncoderModel", "T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel"];

/// The two layers of each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum T5FeedForward {
    /// An activation between them: T5 1.0 with ReLU.
    Plain(Activation),
    /// A gated unit, `act(a) · b`: T5 1.1 with the tanh approximation of GELU.
    Gated(Activation),
}

/// Keys that do not change what the encoder computes.
const UNUSED: &[&str] = &["bos_token_id", "dropout_rate", "eos_token_id", "pad_token_id"];

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("buckets", "relative_attention_num_buckets"),
    ("epsilon", "layer_norm_epsilon"),
    ("furthest", "relative_attention_max_distance"),
    ("head_dim", "d_kv"),
    ("heads", "num_heads"),
    ("inner", "d_ff"),
    ("layers", "num_layers"),
    ("vocabulary", "vocab_size"),
    ("width", "d_model"),
];

/// Configuration of a [`T5Encoder`].
///
/// # Example
///
/// ```
/// use langevin_models::text::{T5EncoderConfig, Tokens};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = T5EncoderConfig::new(100, 16).layers(2).heads(2, 8).init(&device)?;
/// let states = encoder.forward(&Tokens::new([vec![5, 7, 1]])?)?;
/// assert_eq!(states.dims(), [1, 3, 16]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct T5EncoderConfig {
    /// Number of tokens that are known.
    pub vocabulary: usize,
    /// Channels of the states.
    pub width: usize,
    /// Channels between the two layers of each token. Default: `4·width`.
    pub inner: usize,
    /// Number of layers. Default: `6`.
    pub layers: usize,
    /// Number of heads. Default: `8`.
    pub heads: usize,
    /// Channels of each head. Default: `64`.
    pub head_dim: usize,
    /// Number of buckets of distances, at least 4. Default: `32`.
    pub buckets: usize,
    /// Distance from which on all are in one bucket, more than a quarter of the buckets. Default: `128`.
    pub furthest: usize,
    /// The two layers of each token. Default: gated GELU with its tanh approximation, as in T5 1.1.
    pub feed_forward: T5FeedForward,
    /// Added to the mean squares of the normalizations. Default: `1e-6`.
    pub epsilon: f64,
    /// Published values that do not change what is computed, kept for saving. Default: none.
    pub unused: published::Unused,
}

impl T5EncoderConfig {
    /// An encoder of 6 layers with 8 heads of 64 channels.
    #[must_use]
    pub fn new(vocabulary: usize, width: usize) -> Self {
        Self {
            vocabulary,
            width,
            inner: width.saturating_mul(4),
            layers: 6,
            heads: 8,
            head_dim: 64,
            buckets: 32,
            furthest: 128,
            feed_forward: T5FeedForward::Gated(Activation::GeluTanh),
            epsilon: 1e-6,
            unused: published::Unused::default(),
        }
    }

    /// Sets the number of layers.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the number of heads and the channels of each.
    #[must_use]
    pub fn heads(mut self, heads: usize, head_dim: usize) -> Self {
        self.heads = heads;
        self.head_dim = head_dim;
        self
    }

    /// Sets the two layers of each token.
    #[must_use]
    pub fn feed_forward(mut self, feed_forward: T5FeedForward) -> Self {
        self.feed_forward = feed_forward;
        self
    }

    /// Makes the encoder.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the buckets are fewer than 4 or reach further than the furthest distance,
    /// or epsilon is not above zero.
    pub fn init(&self, device: &Device) -> Result<T5Encoder, ModelError> {
        self.check()?;
        T5Encoder::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("vocabulary", self.vocabulary)?;
        at_least_one("width", self.width)?;
        at_least_one("inner", self.inner)?;
        layer_count("layers", self.layers)?;
        at_least_one("heads", self.heads)?;
        at_least_one("head_dim", self.head_dim)?;
        positive("epsilon", self.epsilon)?;
        if self.buckets < 4 {
            return Err(ModelError::Config {
                field: "buckets",
                given: self.buckets.to_string(),
                expected: "at least 4".into(),
            });
        }
        let exact = self.buckets / 2 / 2;
        if self.furthest <= exact {
            return Err(ModelError::Config {
                field: "furthest",
                given: self.furthest.to_string(),
                expected: format!("more than the {exact} distances that have a bucket of their own"),
            });
        }
        Ok(())
    }

    /// Reads a published `config.json` of `T5EncoderModel` or of a whole T5. Dropout, how parameters start and the decoder
    /// are not part of the encoder and are not kept.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongClass`], [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and
    /// [`ModelError::Unsupported`] for configurations that are not of this network.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let (p, _) = published::read::<PublishedT5>(json, MODEL_TYPE, &CLASSES)?;
            if p.is_decoder {
                let value = "true".into();
                return Err(ModelError::Unsupported { key: "is_decoder", value, supported: "false" });
            }
            let key = "feed_forward_proj";
            let feed_forward = match p.feed_forward_proj.strip_prefix("gated-") {
                // Published so since T5 1.1, and always meant with the approximation.
                Some("gelu") => T5FeedForward::Gated(Activation::GeluTanh),
                Some(name) => T5FeedForward::Gated(published::activation(key, name)?),
                None => T5FeedForward::Plain(published::activation(key, &p.feed_forward_proj)?),
            };
            let (gated, inner) = match feed_forward {
                T5FeedForward::Gated(inner) => (true, inner),
                T5FeedForward::Plain(inner) => (false, inner),
            };
            if let Some(given) = p.is_gated_act.filter(|given| *given != gated) {
                let supported = "what `feed_forward_proj` says";
                return Err(ModelError::Unsupported { key: "is_gated_act", value: given.to_string(), supported });
            }
            if let Some(name) = &p.dense_act_fn
                && published::activation("dense_act_fn", name)? != inner
            {
                let supported = "what `feed_forward_proj` says";
                return Err(ModelError::Unsupported { key: "dense_act_fn", value: name.clone(), supported });
            }
            let unused = published::Unused::of(&p, UNUSED);
            let config = Self {
                vocabulary: p.vocab_size,
                width: p.d_model,
                inner: p.d_ff,
                layers: p.num_layers,
                heads: p.num_heads,
                head_dim: p.d_kv,
                buckets: p.relative_attention_num_buckets,
                furthest: p.relative_attention_max_distance,
                feed_forward,
                epsilon: p.layer_norm_epsilon,
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
        let feed_forward_proj = match self.feed_forward {
            T5FeedForward::Plain(activation) => activation.name().to_owned(),
            T5FeedForward::Gated(Activation::GeluTanh) => "gated-gelu".to_owned(),
            // Without this name it would be read as the approximation.
            T5FeedForward::Gated(Activation::Gelu) => "gated-gelu_python".to_owned(),
            T5FeedForward::Gated(activation) => format!("gated-{}", activation.name()),
        };
        let fields = PublishedT5 {
            d_ff: self.inner,
            d_kv: self.head_dim,
            d_model: self.width,
            feed_forward_proj,
            layer_norm_epsilon: self.epsilon,
            num_heads: self.heads,
            num_layers: self.layers,
            relative_attention_max_distance: self.furthest,
            relative_attention_num_buckets: self.buckets,
            vocab_size: self.vocabulary,
            ..PublishedT5::default()
        };
        published::write(&fields, &self.unused, MODEL_TYPE, CLASSES[0])
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedT5 {
    bos_token_id: Option<u32>,
    d_ff: usize,
    d_kv: usize,
    d_model: usize,
    /// Follows from `feed_forward_proj`.
    dense_act_fn: Option<String>,
    dropout_rate: f64,
    eos_token_id: Option<u32>,
    feed_forward_proj: String,
    is_decoder: bool,
    is_encoder_decoder: bool,
    /// Follows from `feed_forward_proj`.
    is_gated_act: Option<bool>,
    layer_norm_epsilon: f64,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    num_layers: usize,
    pad_token_id: Option<u32>,
    relative_attention_max_distance: usize,
    relative_attention_num_buckets: usize,
    scale_decoder_outputs: Option<bool>,
    vocab_size: usize,
}

impl Default for PublishedT5 {
    fn default() -> Self {
        Self {
            bos_token_id: None,
            d_ff: 2048,
            d_kv: 64,
            d_model: 512,
            dense_act_fn: None,
            dropout_rate: 0.1,
            eos_token_id: Some(1),
            feed_forward_proj: "relu".into(),
            is_decoder: false,
            is_encoder_decoder: false,
            is_gated_act: None,
            layer_norm_epsilon: 1e-6,
            num_decoder_layers: None,
            num_heads: 8,
            num_layers: 6,
            pad_token_id: Some(0),
            relative_attention_max_distance: 128,
            relative_attention_num_buckets: 32,
            scale_decoder_outputs: None,
            vocab_size: 32128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::json;

    fn read(changes: Value) -> Result<T5EncoderConfig, ModelError> {
        T5EncoderConfig::from_json(&changes.to_string())
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let plain = T5FeedForward::Plain(Activation::Relu);
        assert_eq!(read(json!({})).unwrap(), T5EncoderConfig::new(32128, 512).feed_forward(plain));
    }

    #[test]
    fn the_published_form_round_trips() {
        for (name, expected) in [
            ("relu", T5FeedForward::Plain(Activation::Relu)),
            ("gated-gelu", T5FeedForward::Gated(Activation::GeluTanh)),
            ("gated-gelu_python", T5FeedForward::Gated(Activation::Gelu)),
            ("gated-silu", T5FeedForward::Gated(Activation::Silu)),
            ("gelu", T5FeedForward::Plain(Activation::Gelu)),
        ] {
            let config = read(json!({"feed_forward_proj": name, "num_layers": 3, "d_kv": 5})).unwrap();
            assert_eq!(config.feed_forward, expected);
            assert!(!config.to_json().contains("null"), "the class would take it for a choice");
            assert_eq!(T5EncoderConfig::from_json(&config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn published_values_that_do_not_fit_are_named() {
        for name in ["tanh", "gated-tanh", "gate-relu"] {
            let error = read(json!({"feed_forward_proj": name})).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key: "feed_forward_proj", .. }), "{error}");
        }
        let error = read(json!({"is_decoder": true})).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "is_decoder", .. }), "{error}");
        let error = read(json!({"model_type": "umt5"})).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
    }

    #[test]
    fn each_bad_field_is_named() {
        let base = || T5EncoderConfig::new(8, 16);
        for (config, name) in [
            (T5EncoderConfig::new(0, 16), "vocabulary"),
            (T5EncoderConfig { width: 0, ..base() }, "width"),
            (T5EncoderConfig { inner: 0, ..base() }, "inner"),
            (base().layers(0), "layers"),
            (base().heads(0, 4), "heads"),
            (base().heads(2, 0), "head_dim"),
            (T5EncoderConfig { buckets: 3, ..base() }, "buckets"),
            (T5EncoderConfig { furthest: 8, ..base() }, "furthest"),
            (T5EncoderConfig { epsilon: -1.0, ..base() }, "epsilon"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
