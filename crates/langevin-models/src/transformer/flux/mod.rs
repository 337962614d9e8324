//! FLUX.1: the family of diffusers' `FluxTransformer2DModel`.

mod block;
mod config;
mod model;
mod network;
mod published;

pub use block::{FluxBlock, FluxSingleBlock};
pub use config::FluxConfig;
pub use model::{Flux, FluxTokens};
