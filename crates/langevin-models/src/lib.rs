//! Networks for diffusion models: layers, MLP, UNet, and their published weights.
//!
//! * [`UNet2d`] for images and [`Mlp`] for vectors implement [`Network`](langevin_core::Network), so they bind to a
//!   prediction and a condition ([`Labels`]) and meet the solvers;
//! * [`UNet2dConfig::images`] and [`MlpConfig::new`] configure networks to train, [`UNet2d::load`] reads published
//!   ones;
//! * [`DiT`], [`PixArt`], [`Sd3`], [`Flux`], [`Prior`] and [`Mdm`] are transformers over patches, tokens, embeddings and
//!   motions;
//! * [`layers`] holds the leaf layers, [`weights`] reads and writes safetensors under published names;
//! * [`Tap`] shows what the sub-modules of a network return.

pub mod autoencoder;
mod condition;
pub mod control;
#[cfg(feature = "flex")]
mod cpu;
mod error;
pub mod layers;
mod mlp;
mod published;
mod tap;
#[cfg(test)]
mod testing;
pub mod text;
pub mod transformer;
pub mod unet;
pub mod weights;

pub use autoencoder::{
    AutoencoderKl, AutoencoderKlConfig, AutoencoderKlTemporalDecoder, TinyAutoencoder, TinyAutoencoderConfig, VqModel,
    VqModelConfig,
};
pub use condition::{ControlCondition, Labels, TextCondition};
pub use control::{ControlNet, ControlNetConfig, Controlled, T2iAdapter, T2iAdapterConfig};
pub use error::{Misshapen, ModelError, WeightMismatch};
pub use langevin_core::Load;
pub use mlp::{Mlp, MlpBlock, MlpConfig};
pub use tap::{Tap, Tapped};
pub use transformer::{
    DiT, DiTConfig, Flux, FluxConfig, FluxTokens, Mdm, MdmConfig, PixArt, PixArtConfig, Prior, PriorConfig, Sd3,
    Sd3Config,
};
pub use unet::conditional::{UNet2dConditional, UNet2dConditionalConfig};
pub use unet::{
    Edm2Config, Edm2UNet, MotionAdapter, UNet1d, UNet1dConfig, UNet2d, UNet2dConfig, UNet3dConditional, UNetMotion,
    UNetSpatioTemporal,
};
