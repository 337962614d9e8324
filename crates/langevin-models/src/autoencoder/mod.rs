//! Autoencoders: images to latents and back, with the names, configurations and weights of diffusers.

mod blocks;
mod coder;
mod gaussian;
mod kl;
mod kl_config;
mod published;
mod quantizer;
mod spatial;
mod tiling;
mod tiny;
mod tiny_config;
mod tiny_layers;
mod vq;
mod vq_config;

pub use blocks::{CoderMidBlock2d, CoderResnet, DownEncoderBlock2d, UpDecoderBlock2d};
pub use coder::{Block, CoderConfig, Decoder, Encoder, LastNorm};
pub use gaussian::DiagonalGaussian;
pub use kl::AutoencoderKl;
pub use kl_config::AutoencoderKlConfig;
pub use quantizer::{Quantized, VectorQuantizer};
pub use spatial::SpatialResnetBlock2d;
pub use tiling::Tiling;
pub use tiny::TinyAutoencoder;
pub use tiny_config::TinyAutoencoderConfig;
pub use tiny_layers::{TinyBlock, TinyDecoder, TinyEncoder, TinyFunction, TinyLayer};
pub use vq::VqModel;
pub use vq_config::VqModelConfig;

use burn::tensor::{DType, Tensor};
use langevin_core::Load;

use crate::error::ModelError;

/// Checks the shape of images; `least` is the smallest side.
fn check_image(x: &Tensor<4>, channels: usize, least: usize) -> Result<(), ModelError> {
    let [batch, c, height, width] = x.dims();
    if batch > 0 && c == channels && height >= least && width >= least {
        return Ok(());
    }
    Err(ModelError::Shape {
        what: "x",
        given: x.dims().to_vec(),
        expected: format!("[batch, {channels}, height, width], height and width at least {least}"),
    })
}

/// Checks the shape of latents.
fn check_latents(z: &Tensor<4>, channels: usize) -> Result<(), ModelError> {
    let [batch, c, height, width] = z.dims();
    if batch > 0 && c == channels && height > 0 && width > 0 {
        return Ok(());
    }
    Err(ModelError::Shape {
        what: "z",
        given: z.dims().to_vec(),
        expected: format!("[batch, {channels}, height, width]"),
    })
}

/// Runs `network` on the whole batch or on one sample after the other.
fn one_by_one(x: Tensor<4>, sliced: bool, mut network: impl FnMut(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let batch = x.dims()[0];
    if !sliced || batch < 2 {
        return network(x);
    }
    Tensor::cat((0..batch).map(|i| network(x.clone().narrow(0, i, 1))).collect(), 0)
}

/// Where the weights of a network go that overflows in `f16`.
fn upcast(load: Load, force: bool) -> Load {
    if force && load.options().1 == DType::F16 { load.dtype(DType::F32) } else { load }
}
