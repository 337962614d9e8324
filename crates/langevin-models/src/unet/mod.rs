//! UNets: for images, the family of diffusers' `UNet2DModel`, with its names, configurations and weights;
//! [`one_dimensional`] for signals, [`video`] for videos.

mod blocks;
pub mod conditional;
mod config;
mod edm2;
mod model;
pub mod one_dimensional;
mod published;
pub mod video;

pub use blocks::{DownBlock2d, MidBlock2d, UpBlock2d};
pub use config::{Block, Classes, Resampling, TimeFeatures, UNet2dConfig};
pub use edm2::{
    Edm2Block, Edm2Layer, Edm2UNet, Edm2UNetConfig, MpConv2d, MpFourier, MpLinear, Named, mp_cat, mp_silu, mp_sum,
    unit_magnitude,
};
pub use model::{ClassEmbedding, TimeProjection, UNet2d};
pub use one_dimensional::{UNet1d, UNet1dConfig};
