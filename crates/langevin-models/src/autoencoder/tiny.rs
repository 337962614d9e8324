//! The small distilled autoencoder.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;

use super::tiling::{Patches, Tiling};
use super::tiny_config::TinyAutoencoderConfig;
use super::tiny_layers::{TinyDecoder, TinyEncoder};
use super::{check_image, check_latents, one_by_one};
use crate::error::ModelError;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// An autoencoder of plain convolutions that was trained to do what the one of Stable Diffusion (or SD3, FLUX) does,
/// roughly and many times faster: for previews. Made by [`TinyAutoencoderConfig::init`] or [`TinyAutoencoder::load`].
/// Pixels are in [-1, 1].
///
/// Its latents are scaled as those that a diffusion model sees, so `scaling_factor` is one in published networks.
///
/// # References
///
/// Bohan, TAESD, <https://github.com/madebyollin/taesd>. Parameters have the names of diffusers' `AutoencoderTiny`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::autoencoder::TinyAutoencoderConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = TinyAutoencoderConfig::new(4, 8, &[1, 1]).init(&device)?;
/// let latents = net.encode(Tensor::zeros([1, 3, 16, 16], &device))?;
/// assert_eq!(latents.dims(), [1, 4, 8, 8]);
/// let image = net.decode(latents)?;
/// assert_eq!(image.dims(), [1, 3, 16, 16]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct TinyAutoencoder {
    /// Images to latents.
    pub encoder: TinyEncoder,
    /// Latents to images.
    pub decoder: TinyDecoder,
    #[module(skip)]
    config: TinyAutoencoderConfig,
    #[module(skip)]
    tiling: Option<Tiling>,
    sliced: bool,
}

impl TinyAutoencoder {
    pub(super) fn new(config: &TinyAutoencoderConfig, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            encoder: TinyEncoder::new(config, device)?,
            decoder: TinyDecoder::new(config, device)?,
            config: config.clone(),
            tiling: None,
            sliced: false,
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`TinyAutoencoderConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, TinyAutoencoderConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &self.config.to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &TinyAutoencoderConfig {
        &self.config
    }

    /// The same network, which takes images and latents in tiles, or whole with `None`.
    /// [`TinyAutoencoderConfig::tiling`] has the usual ones.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if tiles of images and of latents do not cover the same places, or encoder and decoder
    /// scale by different factors.
    pub fn tiled(mut self, tiling: Option<Tiling>) -> Result<Self, ModelError> {
        if let Some(tiling) = &tiling {
            let scale = self.config.encoder_scale();
            if scale != self.config.decoder_scale() {
                return Err(ModelError::Config {
                    field: "upsampling",
                    given: format!("{} on the way up", self.config.decoder_scale()),
                    expected: format!("{scale}, as the encoder has it, for tiles"),
                });
            }
            tiling.check_patches(scale)?;
        }
        self.tiling = tiling;
        Ok(self)
    }

    /// The same network, which takes the samples of a batch one after the other. That needs the memory of one.
    #[must_use]
    pub fn sliced(mut self, sliced: bool) -> Self {
        self.sliced = sliced;
        self
    }

    /// Encodes images with values in [-1, 1].
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`; in tiles, both sides multiples of the encoder's scale
    /// - output: `[batch, latent_channels, height/scale, width/scale]`, rounded up
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for images of another shape.
    pub fn encode(&self, x: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        self.encode_with(x, &mut Tap::none())
    }

    /// [`encode`](Self::encode), showing the output of every named sub-module to `tap`; in tiles and slices, once for each.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_image(&x, self.config.in_channels, 1)?;
        let scale = self.config.encoder_scale();
        let [_, _, height, width] = x.dims();
        if self.tiling.is_some() && !(height.is_multiple_of(scale) && width.is_multiple_of(scale)) {
            return Err(ModelError::Shape {
                what: "x",
                given: x.dims().to_vec(),
                expected: format!("height and width that are multiples of {scale}, in tiles"),
            });
        }
        let encode = |x, tap: &mut Tap<'_>| tap.scope("encoder", |tap| self.encoder.forward(x, tap));
        let patches = self.tiling.map(|tiling| tiling.patches_of_images());
        Ok(self.run(x, patches, encode, tap))
    }

    /// Decodes latents to images with values near [-1, 1].
    ///
    /// # Shapes
    ///
    /// - z: `[batch, latent_channels, height, width]`
    /// - output: `[batch, out_channels, height·scale, width·scale]`, with the decoder's scale
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents of another shape.
    pub fn decode(&self, z: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        self.decode_with(z, &mut Tap::none())
    }

    /// [`decode`](Self::decode), showing the output of every named sub-module to `tap`; in tiles and slices, once for each.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_with(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_latents(&z, self.config.latent_channels)?;
        let decode = |z, tap: &mut Tap<'_>| tap.scope("decoder", |tap| self.decoder.forward(z, tap));
        let patches = self.tiling.map(|tiling| tiling.patches_of_latents());
        Ok(self.run(z, patches, decode, tap))
    }

    /// Latents as values in [0, 1], for storing them in images: `z / (2·latent_magnitude) + latent_shift`, limited.
    #[must_use]
    pub fn scale_latents(&self, z: Tensor<4>) -> Tensor<4> {
        (z / (2.0 * self.config.latent_magnitude) + self.config.latent_shift).clamp(0.0, 1.0)
    }

    /// The way back from values in [0, 1].
    #[must_use]
    pub fn unscale_latents(&self, x: Tensor<4>) -> Tensor<4> {
        (x - self.config.latent_shift) * (2.0 * self.config.latent_magnitude)
    }

    /// Scales latents for a diffusion model: `(z - shift_factor) · scaling_factor`.
    #[must_use]
    pub fn to_latents(&self, z: Tensor<4>) -> Tensor<4> {
        (z - self.config.shift_factor) * self.config.scaling_factor
    }

    /// The way back from the latents of a diffusion model to those that [`decode`](Self::decode) takes.
    #[must_use]
    pub fn from_latents(&self, latents: Tensor<4>) -> Tensor<4> {
        latents / self.config.scaling_factor + self.config.shift_factor
    }

    fn run(
        &self,
        x: Tensor<4>,
        patches: Option<Patches>,
        coder: impl Fn(Tensor<4>, &mut Tap<'_>) -> Tensor<4>,
        tap: &mut Tap<'_>,
    ) -> Tensor<4> {
        let given = x.dtype();
        let y = one_by_one(x.cast(self.dtype()), self.sliced, |x| match patches {
            Some(patches) => patches.run(&x, |tile| coder(tile, tap)),
            None => coder(x, tap),
        });
        y.cast(given)
    }

    fn dtype(&self) -> DType {
        let first = self.decoder.layers.iter().find_map(|layer| match layer {
            super::TinyLayer::Conv(conv) => Some(conv.weight.val().dtype()),
            _ => None,
        });
        first.unwrap_or(DType::F32)
    }
}
