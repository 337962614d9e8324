//! Networks for diffusion models: layers, MLP, UNet, and their published weights.

mod error;
pub mod layers;
mod tap;
#[cfg(test)]
mod testing;

pub use error::{Misshapen, ModelError, WeightMismatch};
pub use tap::{Tap, Tapped};
