//! Networks for diffusion models: denoisers, autoencoders and encoders of text, with their published weights.
//!
//! * Denoisers implement [`Network`](langevin_core::Network), so they bind to a prediction and a condition and meet the
//!   solvers: [`UNet2d`] for images, [`UNet2dConditional`] for images with texts, [`UNet1d`] for sequences,
//!   [`UNet3dConditional`], [`UNetMotion`] and [`UNetSpatioTemporal`] for videos, [`Edm2UNet`]; the transformers [`DiT`],
//!   [`PixArt`], [`Sd3`], [`Flux`], [`Prior`] and [`Mdm`]; [`Mlp`] for vectors.
//! * [`Labels`], [`TextCondition`] and [`ControlCondition`] are what they are told; [`ControlNet`], [`T2iAdapter`] and
//!   [`MotionAdapter`] add to networks that are there.
//! * [`AutoencoderKl`], [`VqModel`], [`TinyAutoencoder`] and [`AutoencoderKlTemporalDecoder`] turn images into latents and
//!   back; [`ClipText`], [`ClipVision`], [`T5Encoder`], [`Bert`] and [`ByteText`] turn texts and images into states.
//! * Each has a `…Config` of the same name, `load` and `save` for folders as diffusers and transformers write them.
//! * [`layers`] holds the leaf layers, [`weights`] reads and writes weights under published names, [`Tap`] shows what the
//!   sub-modules of a network return.
//!
//! Features: `flex` takes the layers to kernels of this library on Burn's backend of that name, `cube` to kernels for GPUs on
//! its others (the facade turns them on with its backends); `pytorch` reads PyTorch's own files, `tokenizers` published
//! tokenizers.

pub mod autoencoder;
mod condition;
pub mod control;
#[cfg(feature = "flex")]
mod cpu;
mod error;
pub mod layers;
mod mlp;
pub mod profile;
mod published;
mod tap;
#[cfg(test)]
mod testing;
pub mod text;
pub mod transformer;
pub mod unet;
pub mod weights;

pub use autoencoder::{
    AutoencoderKl, AutoencoderKlConfig, AutoencoderKlTemporalDecoder, AutoencoderKlTemporalDecoderConfig,
    TinyAutoencoder, TinyAutoencoderConfig, VqModel, VqModelConfig,
};
pub use condition::{ControlCondition, Labels, TextCondition};
pub use control::{ControlNet, ControlNetConfig, Controlled, T2iAdapter, T2iAdapterConfig};
pub use error::{Misshapen, ModelError, WeightMismatch};
pub use langevin_core::Load;
pub use mlp::{Mlp, MlpBlock, MlpConfig};
pub use profile::Profile;
pub use tap::{Tap, Tapped};
pub use text::{
    Bert, BertConfig, ByteText, ByteTextConfig, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, T5Encoder,
    T5EncoderConfig,
};
pub use transformer::{
    DiT, DiTConfig, Flux, FluxConfig, FluxTokens, Mdm, MdmConfig, PixArt, PixArtConfig, Prior, PriorConfig, Sd3,
    Sd3Config,
};
pub use unet::conditional::{UNet2dConditional, UNet2dConditionalConfig};
pub use unet::video::{
    MotionAdapter, MotionAdapterConfig, UNet3dConditional, UNet3dConditionalConfig, UNetMotion, UNetMotionConfig,
    UNetSpatioTemporal, UNetSpatioTemporalConfig,
};
pub use unet::{Edm2UNet, Edm2UNetConfig, UNet1d, UNet1dConfig, UNet2d, UNet2dConfig};
