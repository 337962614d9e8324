//! The magnitude-preserving UNet of EDM2.

mod block;
mod config;
mod magnitude;
mod model;
mod named;

pub use block::Edm2Block;
pub use config::Edm2UNetConfig;
pub use magnitude::{MpConv2d, MpFourier, MpLinear, mp_cat, mp_silu, mp_sum, unit_magnitude};
pub use model::{Edm2Layer, Edm2UNet};
pub use named::Named;
