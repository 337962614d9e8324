//! How a ControlNet is built, and the published configuration of diffusers' `ControlNetModel`.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ControlNet;
use crate::error::{Keys, ModelError, at_least_one, level_count, told_by_key};
use crate::published::unsupported;
use crate::unet::conditional::{
    Addition, ClassInput, ContextInput, EncoderConfig, LevelBlock, Middle, PublishedEncoder, TimeInput,
    UNet2dConditionalConfig,
};
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "ControlNetModel";

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("block", "down_block_types"),
    ("context_input", "encoder_hid_dim_type"),
    ("middle", "mid_block_type"),
    ("addition", "addition_embed_type"),
    ("channels", "block_out_channels"),
    ("classes", "class_embed_type"),
    ("concatenate_class", "class_embeddings_concat"),
    ("context", "cross_attention_dim"),
    ("down", "down_block_types"),
    ("embedding_channels", "conditioning_embedding_out_channels"),
    ("epsilon", "norm_eps"),
    ("groups", "norm_num_groups"),
    ("heads", "attention_head_dim"),
    ("image_channels", "conditioning_channels"),
    ("layers", "layers_per_block"),
    ("levels", "block_out_channels"),
    ("mid_scale", "mid_block_scale_factor"),
    ("norm_epsilon", "norm_eps"),
    ("norm_groups", "norm_num_groups"),
    ("residual_scale", "resnet_out_scale_factor"),
    ("time_width", "time_embedding_dim"),
    ("transformers", "transformer_layers_per_block"),
    ("up", "up_block_types"),
];

/// Configuration of a [`ControlNet`].
///
/// [`for_unet`](Self::for_unet) fits one to a UNet, to train it; [`from_json`](Self::from_json) reads published ones. It
/// serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::{ControlNetConfig, UNet2dConditionalConfig};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let unet = UNet2dConditionalConfig::new(4, 16).channels(&[8, 16]).layers(1).norm_groups(4);
/// // Images of 3 channels with 8 times the height and width of the latents.
/// let net = ControlNetConfig::for_unet(&unet, 3, &[16, 32, 96, 256])?.init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedControlNet", into = "PublishedControlNet")]
pub struct ControlNetConfig {
    /// The way down, the middle, and what the network is told.
    pub encoder: EncoderConfig,
    /// Channels of the control image.
    pub image_channels: usize,
    /// Channels of the layers that embed the image; each but the first halves it.
    pub embedding_channels: Vec<usize>,
    /// The order of the image's channels that the weights were trained with.
    pub order: ChannelOrder,
    /// Whether residuals are averaged over all pixels.
    pub pool: bool,
}

/// The order of color channels that a network was trained with. Images are given as red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl ControlNetConfig {
    /// A ControlNet for a UNet, with images of `image_channels` channels and an embedding of them through layers of
    /// `embedding_channels`, each but the first of which halves the image.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the UNet has options that ControlNets do not have.
    pub fn for_unet(
        unet: &UNet2dConditionalConfig,
        image_channels: usize,
        embedding_channels: &[usize],
    ) -> Result<Self, ModelError> {
        let config = Self {
            // A state with an image behind it is for the UNet alone.
            encoder: EncoderConfig {
                in_channels: unet.encoder.in_channels.min(unet.out_channels),
                guidance_width: None,
                dropout: 0.0,
                ..unet.encoder.clone()
            },
            image_channels,
            embedding_channels: embedding_channels.to_vec(),
            order: ChannelOrder::Rgb,
            pool: false,
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads a published `config.json` of a `ControlNetModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedControlNet::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedControlNet::from(self.clone()).to_value())
    }

    /// Makes the network. Its last layers start at zero: it adds nothing until it is trained.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate), and a layer's for options with which it cannot be built.
    pub fn init(&self, device: &Device) -> Result<ControlNet, ModelError> {
        self.validate()?;
        ControlNet::new(self, device)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        let e = &self.encoder;
        e.validate()?;
        at_least_one("image_channels", self.image_channels)?;
        level_count("embedding_channels", self.embedding_channels.len())?;
        for &channels in &self.embedding_channels {
            at_least_one("embedding_channels", channels)?;
        }
        let plain = EncoderConfig::new(e.in_channels, e.context);
        let differs = [
            ("conv_in_kernel", e.conv_in_kernel != plain.conv_in_kernel),
            ("middle", matches!(e.middle, Middle::None | Middle::AddedAttention)),
            ("context_norm", e.context_norm.is_some()),
            ("skip_time_activation", e.skip_time_activation),
            ("residual_scale", e.residual_scale != 1.0),
            ("time", matches!(e.time, TimeInput::Fourier { .. })),
            ("time_width", e.time_width.is_some_and(|width| width != 4 * e.levels[0].channels)),
            ("time_post_activation", e.time_post_activation.is_some()),
            ("embedding_activation", e.embedding_activation.is_some()),
            ("guidance_width", e.guidance_width.is_some()),
            ("dropout", e.dropout != 0.0),
            ("context_input", e.context_input != ContextInput::AsItIs),
            ("addition", matches!(e.addition, Addition::TextImage | Addition::Image { .. })),
            ("classes", matches!(e.classes, ClassInput::SimpleProjection { .. })),
            ("concatenate_class", e.concatenate_class),
            ("mid_only_cross_attention", e.mid_only_cross_attention && e.middle == Middle::AddedAttention),
            ("layers", e.levels.iter().any(|level| level.layers != e.levels[0].layers)),
            ("block", {
                let other = |block: LevelBlock| block == LevelBlock::AddedAttention || block.is_time_norm();
                e.levels.iter().any(|level| other(level.block))
            }),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            Some((field, _)) => Err(ModelError::Config {
                field,
                given: "a setting that ControlNets do not have".into(),
                expected: "that of Stable Diffusion's UNets".into(),
            }),
            None => Ok(()),
        }
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedControlNet {
    #[serde(flatten)]
    encoder: PublishedEncoder,
    conditioning_channels: usize,
    conditioning_embedding_out_channels: Vec<usize>,
    controlnet_conditioning_channel_order: String,
    global_pool_conditions: bool,
}

impl Default for PublishedControlNet {
    fn default() -> Self {
        Self {
            encoder: PublishedEncoder::default(),
            conditioning_channels: 3,
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
            controlnet_conditioning_channel_order: "rgb".into(),
            global_pool_conditions: false,
        }
    }
}

impl PublishedControlNet {
    fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl TryFrom<PublishedControlNet> for ControlNetConfig {
    type Error = ModelError;

    fn try_from(p: PublishedControlNet) -> Result<Self, ModelError> {
        // The class has layers for these that it never calls.
        if p.encoder.encoder_hid_dim_type.is_some() || p.encoder.encoder_hid_dim.is_some() {
            return Err(unsupported("encoder_hid_dim", "a width", "null"));
        }
        if let Some(kind @ ("text_image" | "image")) = p.encoder.addition_embed_type.as_deref() {
            return Err(unsupported("addition_embed_type", kind, "null, \"text\" and \"text_time\""));
        }
        if let Some(kind @ "simple_projection") = p.encoder.class_embed_type.as_deref() {
            return Err(unsupported("class_embed_type", kind, "null, \"timestep\", \"identity\" and \"projection\""));
        }
        Ok(Self {
            encoder: p.encoder.typed()?,
            image_channels: p.conditioning_channels,
            embedding_channels: p.conditioning_embedding_out_channels,
            order: match p.controlnet_conditioning_channel_order.as_str() {
                "rgb" => ChannelOrder::Rgb,
                "bgr" => ChannelOrder::Bgr,
                other => {
                    return Err(unsupported("controlnet_conditioning_channel_order", other, "\"rgb\" and \"bgr\""));
                }
            },
            pool: p.global_pool_conditions,
        })
    }
}

impl From<ControlNetConfig> for PublishedControlNet {
    fn from(c: ControlNetConfig) -> Self {
        Self {
            encoder: PublishedEncoder::of(&c.encoder),
            conditioning_channels: c.image_channels,
            conditioning_embedding_out_channels: c.embedding_channels,
            controlnet_conditioning_channel_order: match c.order {
                ChannelOrder::Rgb => "rgb".into(),
                ChannelOrder::Bgr => "bgr".into(),
            },
            global_pool_conditions: c.pool,
        }
    }
}
