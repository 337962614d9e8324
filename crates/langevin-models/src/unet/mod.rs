//! UNets: for images, the family of diffusers' `UNet2DModel`, with its names, configurations and weights;
//! [`one_dimensional`] for signals.

mod blocks;
pub mod conditional;
mod config;
mod model;
pub mod one_dimensional;
mod published;

pub use blocks::{DownBlock2d, MidBlock2d, UpBlock2d};
pub use config::{Block, Classes, Resampling, TimeFeatures, UNet2dConfig};
pub use model::{ClassEmbedding, TimeProjection, UNet2d};
pub use one_dimensional::{UNet1d, UNet1dConfig};
