//! UNets for signals, trajectories and their values: the family of diffusers' `UNet1DModel`, with its names,
//! configurations and weights.

mod blocks;
mod config;
mod layers;
mod model;
mod published;
mod resample;
mod residual;

pub use blocks::{
    Activate, DownBlock1d, MidBlock1d, OutBlock1d, OutConv, OutPart, OutValue, ResidualStep, SignalBlock, UpBlock1d,
    ValueMid,
};
pub use config::{DownKind, MidKind, OutKind, UNet1dConfig, UpKind};
pub use layers::{ConvBlock, SelfAttention1d};
pub use model::{FixedFrequencies, TimeProjection1d, UNet1d};
pub use resample::FixedFilter;
pub use residual::{ConvDown, ConvNorm, ConvUp, ResidualBlock1d};
