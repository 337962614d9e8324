//! What text-conditional networks are told: time, text, classes, sizes and images, turned into what their blocks see.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use super::encoder::EncoderConfig;
use super::pooling::TextTimeEmbedding;
use crate::condition::TextCondition;
use crate::error::{ModelError, at_least_one};
use crate::layers::{
    Activation, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, SinusoidalEmbedding,
    TimestepEmbedding, TimestepEmbeddingConfig, mask_bias,
};
use crate::tap::Tap;
use crate::unet::TimeProjection;

/// What a text-conditional network sees of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeInput {
    /// Sines and cosines.
    Sinusoidal {
        /// Whether cosines come first.
        cosine_first: bool,
        /// Shift of the frequencies.
        shift: f64,
    },
    /// Random Fourier features of the time itself.
    Fourier {
        /// Whether cosines come first.
        cosine_first: bool,
    },
}

/// How the context of a network comes from what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextInput {
    /// The text states are the context.
    AsItIs,
    /// The text states, projected. `text_proj`.
    Text {
        /// Width of the text states.
        width: usize,
    },
    /// Ten tokens made from an image embedding, and the text states projected. `text_image_proj`.
    TextImage {
        /// Width of the text states; that of the image embedding is the context's.
        width: usize,
    },
    /// 32 tokens made from an image embedding; the text states are not looked at. `image_proj`.
    Image {
        /// Width of the image embedding.
        width: usize,
    },
}

/// What a network is told about classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassInput {
    /// Nothing.
    None,
    /// A class index, looked up in a table.
    Table {
        /// Number of classes.
        count: usize,
    },
    /// A number, embedded as the time is.
    Timestep,
    /// A vector of the width of the time embedding.
    Identity,
    /// A vector, through two layers.
    Projection {
        /// Its width.
        width: usize,
    },
    /// A vector, through one layer.
    SimpleProjection {
        /// Its width.
        width: usize,
    },
}

/// What is added to the time embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// Nothing.
    None,
    /// The text states, pooled by attention.
    Text {
        /// Number of heads.
        heads: usize,
    },
    /// The vector for the whole text, and sizes embedded as times are (SDXL). `text_time`.
    TextTime {
        /// Features of each number.
        features: usize,
        /// Width of the vector and all features together.
        width: usize,
    },
    /// The vector for the whole text, and an image embedding (Kandinsky 2.1). `text_image`.
    TextImage,
    /// An image embedding (Kandinsky 2.2).
    Image {
        /// Its width.
        width: usize,
    },
}

/// The layers that turn a class into something to add.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum ConditionalClass {
    /// A table of classes.
    Table(Embedding),
    /// Two layers.
    Layers(TimestepEmbedding),
    /// One layer.
    Linear(Linear),
}

/// The layers behind [`Addition`].
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum AddedEmbedding {
    /// Text states, pooled.
    Text(TextTimeEmbedding),
    /// A vector and sizes.
    TextTime(TimestepEmbedding),
    /// A vector and an image embedding, or the image embedding alone.
    Image(ImageTimeEmbedding),
}

/// Image embeddings, and perhaps a vector for a text, projected to the width of the time embedding.
#[derive(Module, Debug)]
pub struct ImageTimeEmbedding {
    /// Projection of the text vector.
    pub text_proj: Option<Linear>,
    /// Normalization of the projected text vector.
    pub text_norm: Option<LayerNorm>,
    /// Projection of the image embedding.
    pub image_proj: Linear,
    /// Normalization of the projected image embedding, where there is no text vector.
    pub image_norm: Option<LayerNorm>,
}

/// The layers behind [`ContextInput`].
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum ContextProjection {
    /// Text states.
    Text(Linear),
    /// An image embedding, and perhaps text states.
    Image(ImageContext),
}

/// Tokens made from an image embedding, and perhaps projected text states.
#[derive(Module, Debug)]
pub struct ImageContext {
    /// Projection to all tokens at once.
    pub image_embeds: Linear,
    /// Normalization of the tokens, where there is no text.
    pub norm: Option<LayerNorm>,
    /// Projection of the text states.
    pub text_proj: Option<Linear>,
}

impl ImageContext {
    fn forward(&self, image: Tensor<2>, text: Tensor<3>, width: usize, tap: &mut Tap<'_>) -> Tensor<3> {
        let [batch, _] = image.dims();
        let tokens = self.image_embeds.forward(image);
        tap.see("image_embeds", &tokens);
        let count = tokens.dims()[1] / width;
        let tokens = tokens.reshape([batch, count, width]);
        match (&self.norm, &self.text_proj) {
            (_, Some(projection)) => {
                let text = projection.forward(text);
                tap.see("text_proj", &text);
                Tensor::cat(vec![tokens, text], 1)
            }
            (Some(norm), None) => {
                let tokens = norm.forward(tokens);
                tap.see("norm", &tokens);
                tokens
            }
            (None, None) => tokens,
        }
    }
}

impl ImageTimeEmbedding {
    fn forward(&self, image: Tensor<2>, text: Option<Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<2> {
        let image = self.image_proj.forward(image);
        tap.see("image_proj", &image);
        match (&self.text_proj, &self.text_norm, &self.image_norm, text) {
            (Some(projection), Some(norm), _, Some(text)) => {
                let text = projection.forward(text);
                tap.see("text_proj", &text);
                let text = norm.forward(text);
                tap.see("text_norm", &text);
                image + text
            }
            (_, _, Some(norm), _) => {
                let image = norm.forward(image);
                tap.see("image_norm", &image);
                image
            }
            _ => image,
        }
    }
}

/// What the blocks of a network are told.
pub(crate) struct Told {
    /// The embedding of everything beside the context.
    pub raw: Tensor<2>,
    /// The same after the activation that residual blocks apply.
    pub active: Tensor<2>,
    /// What attention looks at.
    pub context: Tensor<3>,
    /// What a mask adds to its scores.
    pub bias: Option<Tensor<4>>,
}

/// The layers of a network that turn what it is told into [`Told`], wherever its published names put them.
pub(crate) struct Teller<'a> {
    pub config: &'a EncoderConfig,
    pub time_proj: &'a TimeProjection,
    pub time_embedding: &'a TimestepEmbedding,
    pub class_embedding: Option<&'a ConditionalClass>,
    pub add_embedding: Option<&'a AddedEmbedding>,
    pub encoder_hid_proj: Option<&'a ContextProjection>,
}

impl Teller<'_> {
    /// Everything for a batch whose condition was checked and has its rows.
    pub fn tell(
        &self,
        time: Tensor<1>,
        cond: &TextCondition,
        dtype: DType,
        tap: &mut Tap<'_>,
    ) -> Result<Told, ModelError> {
        let config = self.config;
        let device = time.device();
        let features = self.time_proj.forward(time)?.cast(dtype);
        tap.see("time_proj", &features);
        let guidance = cond.guidance_of(config.guidance_width, &device)?.map(|guidance| guidance.cast(dtype));
        let mut embedding =
            tap.scope("time_embedding", |tap| self.time_embedding.forward_told(features, guidance, tap));
        if let Some(class) = self.class(cond, &device, dtype, tap)? {
            embedding =
                if config.concatenate_class { Tensor::cat(vec![embedding, class], 1) } else { embedding + class };
        }
        if let Some(added) = self.added(cond, &device, dtype, tap)? {
            embedding = embedding + added;
        }
        if let Some(activation) = config.embedding_activation {
            embedding = activation.forward(embedding);
            tap.see("time_embed_act", &embedding);
        }
        Ok(Told {
            active: config.activation.forward(embedding.clone()),
            raw: embedding,
            context: self.context(cond, dtype, tap)?,
            bias: cond.mask.clone().map(|mask| mask_bias(mask.cast(dtype))),
        })
    }

    fn class(
        &self,
        cond: &TextCondition,
        device: &Device,
        dtype: DType,
        tap: &mut Tap<'_>,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        let Some(labels) = cond.labels.as_ref().filter(|_| self.config.classes != ClassInput::None) else {
            return Ok(None);
        };
        let vectors = |width| labels.vectors(width).map(|vectors| vectors.cast(dtype));
        let class = match (self.config.classes, self.class_embedding) {
            (ClassInput::Table { count }, Some(ConditionalClass::Table(table))) => {
                table.forward(labels.indices(count, false, device)?)
            }
            (ClassInput::Timestep, Some(ConditionalClass::Layers(layers))) => {
                let features = self.time_proj.forward(labels.numbers(device)?)?.cast(dtype);
                return Ok(Some(tap.scope("class_embedding", |tap| layers.forward(features, tap))));
            }
            (ClassInput::Projection { width }, Some(ConditionalClass::Layers(layers))) => {
                let vectors = vectors(width)?;
                return Ok(Some(tap.scope("class_embedding", |tap| layers.forward(vectors, tap))));
            }
            (ClassInput::SimpleProjection { width }, Some(ConditionalClass::Linear(layer))) => {
                layer.forward(vectors(width)?)
            }
            _ => vectors(self.config.time_embedding_width())?,
        };
        tap.see("class_embedding", &class);
        Ok(Some(class))
    }

    fn added(
        &self,
        cond: &TextCondition,
        device: &Device,
        dtype: DType,
        tap: &mut Tap<'_>,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        let pooled = cond.pooled.clone().map(|pooled| pooled.cast(dtype));
        let added = match (self.config.addition, self.add_embedding) {
            (Addition::Text { .. }, Some(AddedEmbedding::Text(layers))) => {
                let states = cond.states.clone().cast(dtype);
                return Ok(Some(tap.scope("add_embedding", |tap| layers.forward(states, tap))));
            }
            (Addition::TextTime { features, width }, Some(AddedEmbedding::TextTime(layers))) => {
                let count = cond.sizes_count(features, width)?;
                let sizes = cond.size_features(count, size_features(self.config, features)?, device, tap)?;
                let both = Tensor::cat(pooled.into_iter().chain([sizes.cast(dtype)]).collect(), 1);
                return Ok(Some(tap.scope("add_embedding", |tap| layers.forward(both, tap))));
            }
            (Addition::TextImage | Addition::Image { .. }, Some(AddedEmbedding::Image(layers))) => {
                let image = self.image(cond, dtype)?;
                tap.scope("add_embedding", |tap| layers.forward(image, pooled, tap))
            }
            _ => return Ok(None),
        };
        tap.see("add_embedding", &added);
        Ok(Some(added))
    }

    fn context(&self, cond: &TextCondition, dtype: DType, tap: &mut Tap<'_>) -> Result<Tensor<3>, ModelError> {
        let states = cond.states.clone().cast(dtype);
        let context = match self.encoder_hid_proj {
            None => return Ok(states),
            Some(ContextProjection::Text(layer)) => layer.forward(states),
            Some(ContextProjection::Image(layers)) => {
                let image = self.image(cond, dtype)?;
                let width = self.config.context;
                tap.scope("encoder_hid_proj", |tap| layers.forward(image, states, width, tap))
            }
        };
        tap.see("encoder_hid_proj", &context);
        Ok(context)
    }

    fn image(&self, cond: &TextCondition, dtype: DType) -> Result<Tensor<2>, ModelError> {
        let image = cond.image_embedding.clone().ok_or(ModelError::MissingPart { part: "image_embedding" })?;
        Ok(image.cast(dtype))
    }
}

/// The features of sizes: those of the time with their own width.
fn size_features(config: &EncoderConfig, width: usize) -> Result<SinusoidalEmbedding, ModelError> {
    let (cosine_first, shift) = match config.time {
        TimeInput::Sinusoidal { cosine_first, shift } => (cosine_first, shift),
        TimeInput::Fourier { cosine_first } => (cosine_first, 0.0),
    };
    SinusoidalEmbedding::new(width).cosine_first(cosine_first).shift(shift).check()
}

impl EncoderConfig {
    /// The features of the time, and their number.
    pub(crate) fn time_projection(&self, device: &Device) -> Result<(TimeProjection, usize), ModelError> {
        match self.time {
            TimeInput::Sinusoidal { cosine_first, shift } => {
                let width = self.levels[0].channels;
                Ok((TimeProjection::sinusoidal(width, cosine_first, shift)?, width))
            }
            TimeInput::Fourier { cosine_first } => {
                let width = self.time_embedding_width();
                if !width.is_multiple_of(2) {
                    return Err(ModelError::Config {
                        field: "time_width",
                        given: width.to_string(),
                        expected: "an even number: a sine and a cosine for each frequency".into(),
                    });
                }
                Ok((TimeProjection::fourier(width / 2, cosine_first, device)?, width))
            }
        }
    }

    /// The layers that turn the features of the time into its embedding.
    pub(crate) fn time_embedding(&self, features: usize, device: &Device) -> Result<TimestepEmbedding, ModelError> {
        TimestepEmbeddingConfig::new(features, self.time_embedding_width())
            .activation(self.activation)
            .post_activation(self.time_post_activation)
            .condition(self.guidance_width)
            .init(device)
    }

    /// The layers for classes. `timestep` is the activation of those that embed a number.
    pub(crate) fn class_embedding(
        &self,
        features: usize,
        timestep: Activation,
        device: &Device,
    ) -> Result<Option<ConditionalClass>, ModelError> {
        let output = self.time_embedding_width();
        let layers = |input, activation| {
            let layers = TimestepEmbeddingConfig::new(input, output).activation(activation).init(device)?;
            Ok(Some(ConditionalClass::Layers(layers)))
        };
        match self.classes {
            ClassInput::None | ClassInput::Identity => Ok(None),
            ClassInput::Table { count } => {
                at_least_one("classes", count)?;
                Ok(Some(ConditionalClass::Table(EmbeddingConfig::new(count, output).init(device)?)))
            }
            ClassInput::Timestep => layers(features, timestep),
            ClassInput::Projection { width } => layers(width, Activation::Silu),
            ClassInput::SimpleProjection { width } => {
                Ok(Some(ConditionalClass::Linear(LinearConfig::new(width, output).init(device)?)))
            }
        }
    }

    /// The layers for what is added to the time embedding.
    pub(crate) fn add_embedding(&self, device: &Device) -> Result<Option<AddedEmbedding>, ModelError> {
        let output = self.time_embedding_width();
        let linear = |input| LinearConfig::new(input, output).init(device);
        let norm = || LayerNormConfig::new(output).init(device);
        Ok(Some(match self.addition {
            Addition::None => return Ok(None),
            Addition::Text { heads } => {
                AddedEmbedding::Text(TextTimeEmbedding::new(self.states_width(), output, heads, device)?)
            }
            Addition::TextTime { features, width } => {
                at_least_one("addition", features)?;
                size_features(self, features)?;
                AddedEmbedding::TextTime(TimestepEmbeddingConfig::new(width, output).init(device)?)
            }
            Addition::TextImage => AddedEmbedding::Image(ImageTimeEmbedding {
                text_proj: Some(linear(self.context)?),
                text_norm: Some(norm()?),
                image_proj: linear(self.context)?,
                image_norm: None,
            }),
            Addition::Image { width } => AddedEmbedding::Image(ImageTimeEmbedding {
                text_proj: None,
                text_norm: None,
                image_proj: linear(width)?,
                image_norm: Some(norm()?),
            }),
        }))
    }

    /// The layers that make the context.
    pub(crate) fn context_projection(&self, device: &Device) -> Result<Option<ContextProjection>, ModelError> {
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Ok(Some(match self.context_input {
            ContextInput::AsItIs => return Ok(None),
            ContextInput::Text { width } => ContextProjection::Text(linear(width, self.context)?),
            ContextInput::TextImage { width } => ContextProjection::Image(ImageContext {
                image_embeds: linear(self.context, 10 * self.context)?,
                norm: None,
                text_proj: Some(linear(width, self.context)?),
            }),
            ContextInput::Image { width } => ContextProjection::Image(ImageContext {
                image_embeds: linear(width, 32 * self.context)?,
                norm: Some(LayerNormConfig::new(self.context).init(device)?),
                text_proj: None,
            }),
        }))
    }
}
