//! The image tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};
use langevin_core::Load;

use super::super::attention::table;
use super::super::published::layout;
use super::super::tokens::Sight;
use super::encoder::ClipEncoder;
use super::vision_config::ClipVisionConfig;
use crate::error::ModelError;
use crate::layers::{
    Conv2d, Conv2dConfig, Embedding, LayerNorm, LayerNormConfig, Linear, LinearConfig, random, swapped,
};
use crate::tap::Tap;
use crate::weights::{Layout, read_config_file, read_folder_as, write_folder_as};

/// Published files have the prefix `vision_model.`, those that transformers 5 writes for the tower alone do not; some
/// hold the list of positions, which is no parameter.
const LAYOUT: Layout = layout(|name, _| {
    let plain = name.strip_prefix("vision_model.").unwrap_or(name);
    match plain {
        "embeddings.position_ids" => None,
        "visual_projection.weight" => Some(plain.to_owned()),
        _ => Some(format!("vision_model.{plain}")),
    }
});

/// The image tower of CLIP: a vision transformer. Made by [`ClipVisionConfig::init`] or [`ClipVision::load`].
///
/// Networks that take an image as a prompt are told by the projection of the whole image, by the states, or by the
/// states before the last layer.
///
/// # References
///
/// Radford et al. 2021, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020), section 2.4; Dosovitskiy et al. 2020,
/// [arXiv:2010.11929](https://arxiv.org/abs/2010.11929). Parameters have the names of transformers'
/// `CLIPVisionModelWithProjection`.
#[derive(Module, Debug)]
pub struct ClipVision {
    /// The transformer.
    pub vision_model: ClipVisionTransformer,
    /// Projection of the whole image.
    pub visual_projection: Option<Linear>,
    #[module(skip)]
    config: ClipVisionConfig,
}

/// The transformer of a [`ClipVision`].
#[derive(Module, Debug)]
pub struct ClipVisionTransformer {
    /// From pixels to tokens.
    pub embeddings: ClipVisionEmbeddings,
    /// Normalization before the layers, under the name that it has in published files.
    pub pre_layrnorm: LayerNorm,
    /// The layers.
    pub encoder: ClipEncoder,
    /// Normalization of the token of the whole image.
    pub post_layernorm: LayerNorm,
}

/// From pixels to tokens.
#[derive(Module, Debug)]
pub struct ClipVisionEmbeddings {
    /// The token of the whole image. `[width]`
    pub class_embedding: Param<Tensor<1>>,
    /// From patches to tokens.
    pub patch_embedding: Conv2d,
    /// `[tokens, width]`
    pub position_embedding: Embedding,
}

/// What a [`ClipVision`] returns, in the element type of the image.
#[derive(Debug, Clone)]
pub struct ClipVisionOutput {
    /// States after the last layer, not normalized: the whole image first, then the patches in rows.
    /// `[batch, tokens, width]`
    pub last_hidden_state: Tensor<3>,
    /// The tokens before the first layer and the states after each layer. `[batch, tokens, width]` each
    pub hidden_states: Vec<Tensor<3>>,
    /// The state of the whole image, normalized. `[batch, width]`
    pub pooler_output: Tensor<2>,
    /// Its projection. `[batch, projection]`
    pub image_embeds: Option<Tensor<2>>,
}

impl ClipVision {
    pub(super) fn new(config: &ClipVisionConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width;
        let norm = || LayerNormConfig::new(width).epsilon(config.epsilon).init(device);
        let deviation = 1.0 / (width as f64).sqrt();
        Ok(Self {
            vision_model: ClipVisionTransformer {
                embeddings: ClipVisionEmbeddings {
                    class_embedding: random([width], Distribution::Normal(0.0, deviation), device),
                    patch_embedding: Conv2dConfig::new(config.channels, width, config.patch)
                        .stride(config.patch)
                        .bias(false)
                        .init(device)?,
                    position_embedding: table(config.tokens(), width, 0.02, device),
                },
                pre_layrnorm: norm()?,
                encoder: ClipEncoder::new(&config.sizes(), device)?,
                post_layernorm: norm()?,
            },
            visual_projection: match config.projection {
                Some(channels) => Some(LinearConfig::new(width, channels).bias(false).init(device)?),
                None => None,
            },
            config: config.clone(),
        })
    }

    /// Loads a folder of transformers: `config.json` and `model.safetensors`, with or without the prefix `vision_model.`.
    ///
    /// # Errors
    ///
    /// Those of [`ClipVisionConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::text::{ClipVision, ClipVisionConfig};
    /// use langevin_models::Load;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let encoder = ClipVisionConfig::new(16, 8, 24).layers(1).init(&device)?;
    /// encoder.save(folder.path())?;
    /// let same = ClipVision::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, ClipVisionConfig::from_json)?;
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
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Encodes images, which are to be scaled and normalized as for the training of the tower: for CLIP pixels in [0, 1],
    /// less the mean `[0.48145466, 0.4578275, 0.40821073]`, divided by `[0.26862954, 0.26130258, 0.27577711]`.
    ///
    /// # Shapes
    ///
    /// - pixels: `[batch, channels, image, image]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for images of another shape.
    pub fn forward(&self, pixels: Tensor<4>) -> Result<ClipVisionOutput, ModelError> {
        self.forward_with(pixels, &mut Tap::none())
    }

    /// As [`forward`](Self::forward), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn forward_with(&self, pixels: Tensor<4>, tap: &mut Tap<'_>) -> Result<ClipVisionOutput, ModelError> {
        let [batch, channels, height, width] = pixels.dims();
        let (c, side) = (self.config.channels, self.config.image);
        if [channels, height, width] != [c, side, side] {
            return Err(ModelError::Shape {
                what: "pixels",
                given: pixels.dims().to_vec(),
                expected: format!("[batch, {c}, {side}, {side}]: resize the image"),
            });
        }
        let given = pixels.dtype();
        let (hidden_states, pooled) = tap.scope("vision_model", |tap| self.run(pixels, batch, tap));
        let image_embeds = self.visual_projection.as_ref().map(|layer| {
            let y = layer.forward(pooled.clone());
            tap.see("visual_projection", &y);
            y.cast(given)
        });
        let hidden_states: Vec<_> = hidden_states.into_iter().map(|state| state.cast(given)).collect();
        Ok(ClipVisionOutput {
            last_hidden_state: hidden_states[hidden_states.len() - 1].clone(),
            hidden_states,
            pooler_output: pooled.cast(given),
            image_embeds,
        })
    }

    fn run(&self, pixels: Tensor<4>, batch: usize, tap: &mut Tap<'_>) -> (Vec<Tensor<3>>, Tensor<2>) {
        let model = &self.vision_model;
        let width = self.config.width;
        let class = model.embeddings.class_embedding.val();
        let patches = model.embeddings.patch_embedding.forward(pixels.cast(class.dtype()));
        tap.see("embeddings.patch_embedding", &patches);
        let patches = swapped(patches.flatten::<3>(2, 3), 1);
        let class = class.reshape([1, 1, width]).expand([batch, 1, width]);
        let positions = model.embeddings.position_embedding.weight.val().unsqueeze();
        let x = Tensor::cat(vec![class, patches], 1) + positions;
        tap.see("embeddings", &x);
        let x = model.pre_layrnorm.forward(x);
        tap.see("pre_layrnorm", &x);
        let all = Sight { bias: None, seeing: None };
        let hidden_states = model.encoder.forward(x, &all, tap);
        let last = hidden_states[hidden_states.len() - 1].clone();
        let pooled = model.post_layernorm.forward(last.narrow(1, 0, 1).reshape([batch, width]));
        tap.see("post_layernorm", &pooled);
        (hidden_states, pooled)
    }
}
