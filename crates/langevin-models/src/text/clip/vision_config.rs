//! Configuration of the image tower, and its published form.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::published;
use super::encoder::Sizes;
use super::vision::ClipVision;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key, whole_heads};
use crate::layers::Activation;

/// `model_type` of published configurations.
const MODEL_TYPE: &str = "clip_vision_model";
/// The classes that publish them, without and with a projection.
const CLASSES: [&str; 2] = ["CLIPVisionModel", "CLIPVisionModelWithProjection"];

/// Keys that do not change what the encoder computes.
const UNUSED: &[&str] = &["attention_dropout", "dropout"];

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("channels", "num_channels"),
    ("epsilon", "layer_norm_eps"),
    ("heads", "num_attention_heads"),
    ("image", "image_size"),
    ("inner", "intermediate_size"),
    ("layers", "num_hidden_layers"),
    ("patch", "patch_size"),
    ("projection", "projection_dim"),
    ("width", "hidden_size"),
];

/// Configuration of a [`ClipVision`].
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::text::ClipVisionConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = ClipVisionConfig::new(32, 8, 16).layers(2).heads(2).projection(12).init(&device)?;
/// let output = encoder.forward(Tensor::zeros([1, 3, 32, 32], &device))?;
/// assert_eq!(output.last_hidden_state.dims(), [1, 17, 16]);
/// assert_eq!(output.image_embeds.expect("a projection").dims(), [1, 12]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClipVisionConfig {
    /// Height and width of the image, at least one patch; what is over after the last whole patch is not seen.
    pub image: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Channels of the image. Default: `3`.
    pub channels: usize,
    /// Channels of the states.
    pub width: usize,
    /// Channels between the two layers of each token. Default: `4·width`.
    pub inner: usize,
    /// Number of layers. Default: `12`.
    pub layers: usize,
    /// Number of heads, a divisor of the width. Default: `12`.
    pub heads: usize,
    /// Between the two layers of each token. Default: quick GELU.
    pub activation: Activation,
    /// Added to the variances of the normalizations. Default: `1e-5`.
    pub epsilon: f64,
    /// Channels of the projection of the whole image, or none. Default: `None`.
    pub projection: Option<usize>,
    /// Published values that do not change what is computed, kept for saving. Default: none.
    pub unused: published::Unused,
}

impl ClipVisionConfig {
    /// A tower of 12 layers with 12 heads for square images of three channels.
    #[must_use]
    pub fn new(image: usize, patch: usize, width: usize) -> Self {
        Self {
            image,
            patch,
            channels: 3,
            width,
            inner: width.saturating_mul(4),
            layers: 12,
            heads: 12,
            activation: Activation::QuickGelu,
            epsilon: 1e-5,
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

    /// Sets the channels of the projection of the whole image.
    #[must_use]
    pub fn projection(mut self, channels: usize) -> Self {
        self.projection = Some(channels);
        self
    }

    /// Makes the tower.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the patch is larger than the image, the heads do not divide the width, or
    /// epsilon is not above zero.
    pub fn init(&self, device: &Device) -> Result<ClipVision, ModelError> {
        self.check()?;
        ClipVision::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("image", self.image)?;
        at_least_one("patch", self.patch)?;
        at_least_one("channels", self.channels)?;
        at_least_one("width", self.width)?;
        at_least_one("inner", self.inner)?;
        layer_count("layers", self.layers)?;
        at_least_one("projection", self.projection.unwrap_or(1))?;
        whole_heads("heads", self.heads, self.width)?;
        positive("epsilon", self.epsilon)?;
        if self.patch > self.image {
            return Err(ModelError::Config {
                field: "patch",
                given: self.patch.to_string(),
                expected: format!("at most the {} of the image", self.image),
            });
        }
        Ok(())
    }

    /// Number of tokens: one for the image and one for each patch.
    #[must_use]
    pub fn tokens(&self) -> usize {
        (self.image / self.patch).pow(2) + 1
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

    /// Reads a published `config.json` of `CLIPVisionModel` or `CLIPVisionModelWithProjection`; `architectures` says which,
    /// the first where it is absent. Dropout is not applied; it is kept for saving.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongClass`], [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and
    /// [`ModelError::Unsupported`] for configurations that are not of this network.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let (p, class) = published::read::<PublishedClipVision>(json, MODEL_TYPE, &CLASSES)?;
            let unused = published::Unused::of(&p, UNUSED);
            let config = Self {
                image: p.image_size,
                patch: p.patch_size,
                channels: p.num_channels,
                width: p.hidden_size,
                inner: p.intermediate_size,
                layers: p.num_hidden_layers,
                heads: p.num_attention_heads,
                activation: published::activation("hidden_act", &p.hidden_act)?,
                epsilon: p.layer_norm_eps,
                projection: (class == 1).then_some(p.projection_dim),
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
        let default = PublishedClipVision::default();
        let fields = PublishedClipVision {
            hidden_act: self.activation.name().into(),
            hidden_size: self.width,
            image_size: self.image,
            intermediate_size: self.inner,
            layer_norm_eps: self.epsilon,
            num_attention_heads: self.heads,
            num_channels: self.channels,
            num_hidden_layers: self.layers,
            patch_size: self.patch,
            projection_dim: self.projection.unwrap_or(default.projection_dim),
            ..default
        };
        published::write(&fields, &self.unused, MODEL_TYPE, CLASSES[usize::from(self.projection.is_some())])
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedClipVision {
    attention_dropout: f64,
    dropout: f64,
    hidden_act: String,
    hidden_size: usize,
    image_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f64,
    num_attention_heads: usize,
    num_channels: usize,
    num_hidden_layers: usize,
    patch_size: usize,
    projection_dim: usize,
}

impl Default for PublishedClipVision {
    fn default() -> Self {
        Self {
            attention_dropout: 0.0,
            dropout: 0.0,
            hidden_act: "quick_gelu".into(),
            hidden_size: 768,
            image_size: 224,
            intermediate_size: 3072,
            layer_norm_eps: 1e-5,
            num_attention_heads: 12,
            num_channels: 3,
            num_hidden_layers: 12,
            patch_size: 32,
            projection_dim: 512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::json;

    #[test]
    fn the_published_form_round_trips() {
        assert_eq!(ClipVisionConfig::from_json("{}").unwrap(), ClipVisionConfig::new(224, 32, 768));
        for changes in [
            json!({}),
            json!({"architectures": ["CLIPVisionModelWithProjection"], "projection_dim": 30, "hidden_act": "gelu"}),
            json!({"num_channels": 1, "layer_norm_eps": 1e-3, "num_hidden_layers": 3, "image_size": 64}),
        ] {
            let config = ClipVisionConfig::from_json(&changes.to_string()).unwrap();
            assert_eq!(ClipVisionConfig::from_json(&config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn published_values_that_do_not_fit_are_named() {
        let read = |changes: Value| ClipVisionConfig::from_json(&changes.to_string()).unwrap_err();
        let error = read(json!({"hidden_act": "tanh"}));
        assert!(matches!(error, ModelError::Unsupported { key: "hidden_act", .. }), "{error}");
        let error = read(json!({"architectures": ["CLIPModel"]}));
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
        let error = read(json!({"image_size": [224, 112]}));
        assert!(matches!(error, ModelError::BadValue { ref key, .. } if key == "image_size"), "{error}");
    }

    #[test]
    fn each_bad_field_is_named() {
        let base = || ClipVisionConfig::new(16, 4, 24);
        for (config, name) in [
            (ClipVisionConfig::new(0, 4, 24), "image"),
            (ClipVisionConfig::new(16, 0, 24), "patch"),
            (ClipVisionConfig::new(16, 17, 24), "patch"),
            (ClipVisionConfig { channels: 0, ..base() }, "channels"),
            (ClipVisionConfig { width: 0, ..base() }, "width"),
            (ClipVisionConfig { inner: 0, ..base() }, "inner"),
            (base().layers(0), "layers"),
            (base().projection(0), "projection"),
            (base().heads(5), "heads"),
            (ClipVisionConfig { epsilon: 0.0, ..base() }, "epsilon"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
