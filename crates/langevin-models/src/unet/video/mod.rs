//! UNets for videos: text-to-video networks with convolutions and attention over frames, motion modules for networks for
//! images, and networks that animate an image; with their published names, configurations and weights.

mod adapter;
mod blocks;
mod common;
mod conditional;
mod from_images;
mod level;
mod motion;
mod motion_config;
mod spatio_temporal;

pub use crate::published::{PerLevel, Sides};
pub use adapter::{MotionAdapter, MotionAdapterConfig, MotionModules};
pub use blocks::{VideoAttention, VideoBlock, VideoResnet};
pub use conditional::{UNet3dConditional, UNet3dConditionalConfig};
pub use level::VideoLevel;
pub use motion::UNetMotion;
pub use motion_config::UNetMotionConfig;
pub use spatio_temporal::{UNetSpatioTemporal, UNetSpatioTemporalConfig};
