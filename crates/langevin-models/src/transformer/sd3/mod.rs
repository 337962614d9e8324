//! Stable Diffusion 3 and 3.5: the family of diffusers' `SD3Transformer2DModel`.

mod block;
mod config;
mod model;
mod published;

pub use block::{ContextNorm, ImageNorm, JointBlock};
pub use config::Sd3Config;
pub use model::Sd3;
