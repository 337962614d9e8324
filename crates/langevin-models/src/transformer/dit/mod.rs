//! The diffusion transformer for classes of images: the family of diffusers' `DiTTransformer2DModel`.

mod config;
mod model;
mod published;

pub use config::DiTConfig;
pub use model::{DiT, DiTBlock};
