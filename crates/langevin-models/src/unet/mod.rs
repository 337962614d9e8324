//! UNets for images: the family of diffusers' `UNet2DModel`, with its names, configurations and weights.

mod blocks;
mod config;
mod model;
mod published;
mod resnet;

pub use blocks::{DownBlock2d, DownsampleConv, Downsampler, MidBlock2d, UpBlock2d, UpsampleConv, Upsampler};
pub use config::{Block, Classes, Resampling, TimeFeatures, UNet2dConfig};
pub use model::{ClassEmbedding, TimeProjection, UNet2d};
pub use resnet::{Resample, ResnetBlock2d, ResnetBlock2dConfig};
