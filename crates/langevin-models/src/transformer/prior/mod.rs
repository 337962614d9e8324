//! The prior of unCLIP: from the embedding of a text to that of an image. The family of diffusers' `PriorTransformer`.

mod config;
mod model;
mod published;

pub use config::PriorConfig;
pub use model::Prior;
