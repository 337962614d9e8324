//! Text-conditional UNets: the family of diffusers' `UNet2DConditionModel`, with its names, configurations and weights.
//!
//! Stable Diffusion 1, 2 and XL with their refiner, inpainting, upscaling and image-variation networks, latent
//! consistency models, DeepFloyd IF and Kandinsky 2 are configurations of [`UNet2dConditional`].

mod blocks;
mod check;
mod config;
mod encoder;
mod model;
mod pooling;
mod published;
mod residuals;
mod time_norm;
mod told;

pub use blocks::{ConditionalDownBlock2d, ConditionalMidBlock2d, ConditionalUpBlock2d, LevelAttention, LevelResnet};
pub use config::{UNet2dConditionalConfig, UpLevel};
pub use encoder::{EncoderConfig, Level, LevelBlock, Middle};
pub use model::UNet2dConditional;
pub use pooling::{AttentionPooling, TextTimeEmbedding};
pub(crate) use published::PublishedEncoder;
pub use residuals::{ControlResiduals, Residuals};
pub use time_norm::{AdaGroupNorm, HeadAttention, TimeNormAttention, TimeNormResnet};
pub(crate) use told::Teller;
pub use told::{
    AddedEmbedding, Addition, ClassInput, ConditionalClass, ContextInput, ContextProjection, ImageContext,
    ImageTimeEmbedding, TimeInput,
};
