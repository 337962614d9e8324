//! The autoencoder of latent diffusion models.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;

use super::coder::{Decoder, Encoder};
use super::gaussian::DiagonalGaussian;
use super::kl_config::AutoencoderKlConfig;
use super::tiling::Tiling;
use super::{check_image, check_latents, one_by_one, upcast};
use crate::error::ModelError;
use crate::layers::{Conv2d, Conv2dConfig};
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A variational autoencoder: images to a normal distribution over latents, and latents to images. Made by
/// [`AutoencoderKlConfig::init`] or [`AutoencoderKl::load`]. Pixels are in [-1, 1].
///
/// # References
///
/// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), section 3.1; with 16 channels of latents: Esser
/// et al. 2024 (Stable Diffusion 3), [arXiv:2403.03206](https://arxiv.org/abs/2403.03206), section 5.2.1. Parameters have the
/// names of diffusers' `AutoencoderKL`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::autoencoder::AutoencoderKlConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = AutoencoderKlConfig::new(3, 4, &[8, 16]).init(&device)?;
/// let image = Tensor::<4>::zeros([1, 3, 16, 16], &device);
/// let posterior = net.encode(image)?;
/// let latents = net.to_latents(posterior.mode())?;
/// assert_eq!(latents.dims(), [1, 4, 8, 8]);
/// // A diffusion model works here.
/// let image = net.decode(net.from_latents(latents)?)?;
/// assert_eq!(image.dims(), [1, 3, 16, 16]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct AutoencoderKl {
    /// Images to moments of latents.
    pub encoder: Encoder,
    /// Latents to images.
    pub decoder: Decoder,
    /// 1 x 1 convolution after the encoder.
    pub quant_conv: Option<Conv2d>,
    /// 1 x 1 convolution before the decoder.
    pub post_quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: AutoencoderKlConfig,
    #[module(skip)]
    tiling: Option<Tiling>,
    sliced: bool,
}

impl AutoencoderKl {
    pub(super) fn new(config: &AutoencoderKlConfig, device: &Device) -> Result<Self, ModelError> {
        let pointwise = |asked: bool, channels: usize| match asked {
            true => Conv2dConfig::new(channels, channels, 1).init(device).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            encoder: config.encoder().encoder(device)?,
            decoder: config.decoder().decoder(device)?,
            quant_conv: pointwise(config.quant_conv, 2 * config.latent_channels)?,
            post_quant_conv: pointwise(config.post_quant_conv, config.latent_channels)?,
            config: config.clone(),
            tiling: None,
            sliced: false,
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// Networks that overflow in `f16` say so by `force_upcast`: where `f16` is asked for, the weights of these are kept in
    /// `f32` and images and latents converted. To have them in `f16` nevertheless, build the network from its
    /// configuration and use [`read_weights`](crate::weights::read_weights).
    ///
    /// # Errors
    ///
    /// Those of [`AutoencoderKlConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::Load;
    /// use langevin_models::autoencoder::{AutoencoderKl, AutoencoderKlConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let net = AutoencoderKlConfig::new(3, 4, &[8, 16]).init(&device)?;
    /// net.save(folder.path())?;
    /// let same = AutoencoderKl::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, AutoencoderKlConfig::from_json)?;
        let load = upcast(load, config.force_upcast);
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
    pub fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// The same network, which takes images and latents larger than a tile in tiles, or whole with `None`.
    /// [`AutoencoderKlConfig::tiling`] has the tiles that the network was trained on.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if tiles of images and of latents do not cover the same places.
    pub fn tiled(mut self, tiling: Option<Tiling>) -> Result<Self, ModelError> {
        if let Some(tiling) = &tiling {
            tiling.check(self.config.scale())?;
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
    /// - x: `[batch, in_channels, height, width]`, both sides at least [`scale`](AutoencoderKlConfig::scale)
    /// - latents: `[batch, latent_channels, height/scale, width/scale]`, rounded down
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for images of another shape.
    pub fn encode(&self, x: Tensor<4>) -> Result<DiagonalGaussian, ModelError> {
        self.encode_with(x, &mut Tap::none())
    }

    /// [`encode`](Self::encode), showing the output of every named sub-module to `tap`; in tiles and slices, once for each.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Result<DiagonalGaussian, ModelError> {
        let scale = self.config.scale();
        check_image(&x, self.config.in_channels, scale)?;
        let cut = self.tiling.map(|tiling| tiling.of_images()).filter(|cut| cut.applies(sides(&x)));
        if let Some(cut) = cut
            && sides(&x).into_iter().any(|side| cut.last(side) < scale)
        {
            return Err(ModelError::Shape {
                what: "x",
                given: x.dims().to_vec(),
                expected: format!("sides whose last tile has at least {scale} pixels: multiples of {scale} do"),
            });
        }
        let given = x.dtype();
        let x = x.cast(self.dtype());
        let moments = one_by_one(x, self.sliced, |x| match cut {
            Some(cut) => cut.run(&x, |tile| self.moments(tile, tap)),
            None => self.moments(x, tap),
        });
        Ok(DiagonalGaussian::from_moments(moments).cast(given))
    }

    /// Decodes latents as [`encode`](Self::encode) makes them; those of a diffusion model go through
    /// [`from_latents`](Self::from_latents) first.
    ///
    /// # Shapes
    ///
    /// - z: `[batch, latent_channels, height, width]`
    /// - output: `[batch, out_channels, height·scale, width·scale]`
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
        let cut = self.tiling.map(|tiling| tiling.of_latents()).filter(|cut| cut.applies(sides(&z)));
        let given = z.dtype();
        let z = z.cast(self.dtype());
        let image = one_by_one(z, self.sliced, |z| match cut {
            Some(cut) => cut.run(&z, |tile| self.image(tile, tap)),
            None => self.image(z, tap),
        });
        Ok(image.cast(given))
    }

    /// Scales latents for a diffusion model: `(z - shift_factor) · scaling_factor`, or
    /// `(z - mean) · scaling_factor / std` where the configuration has a mean and a standard deviation of each channel.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents with other channels.
    pub fn to_latents(&self, z: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        let (offset, factor) = self.latent_map(&z)?;
        Ok((z - offset) * factor)
    }

    /// The way back from the latents of a diffusion model to those that [`decode`](Self::decode) takes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents with other channels.
    pub fn from_latents(&self, latents: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        let (offset, factor) = self.latent_map(&latents)?;
        Ok(latents / factor + offset)
    }

    /// What is subtracted from each channel of latents, and what it is multiplied by after that.
    fn latent_map(&self, z: &Tensor<4>) -> Result<(Tensor<4>, Tensor<4>), ModelError> {
        let config = &self.config;
        check_latents(z, config.latent_channels)?;
        let scale = config.scaling_factor;
        let (offset, factor) = match (&config.latents_mean, &config.latents_std) {
            (Some(mean), Some(std)) => (mean.clone(), std.iter().map(|std| scale / std).collect()),
            _ => (vec![config.shift_factor.unwrap_or(0.0)], vec![scale]),
        };
        let row = |values: Vec<f64>| {
            let count = values.len();
            Tensor::<1>::from_data(values.as_slice(), (&z.device(), z.dtype())).reshape([1, count, 1, 1])
        };
        Ok((row(offset), row(factor)))
    }

    fn dtype(&self) -> DType {
        self.encoder.conv_in.weight.val().dtype()
    }

    fn moments(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = tap.scope("encoder", |tap| self.encoder.forward(x, tap));
        match &self.quant_conv {
            Some(conv) => {
                let h = conv.forward(h);
                tap.see("quant_conv", &h);
                h
            }
            None => h,
        }
    }

    fn image(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let z = match &self.post_quant_conv {
            Some(conv) => {
                let z = conv.forward(z);
                tap.see("post_quant_conv", &z);
                z
            }
            None => z,
        };
        tap.scope("decoder", |tap| self.decoder.forward(z, None, tap))
    }
}

fn sides(x: &Tensor<4>) -> [usize; 2] {
    let [_, _, height, width] = x.dims();
    [height, width]
}
