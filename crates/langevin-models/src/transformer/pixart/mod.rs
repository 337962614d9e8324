//! PixArt-α and PixArt-Σ: the family of diffusers' `PixArtTransformer2DModel`.

mod config;
mod model;
mod published;

pub use config::PixArtConfig;
pub use model::{AdaLayerNormSizes, PixArt, PixArtBlock};
