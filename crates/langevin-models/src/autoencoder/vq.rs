//! The autoencoder with a codebook.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use langevin_core::Load;

use super::coder::{Decoder, Encoder};
use super::quantizer::{Quantized, VectorQuantizer};
use super::vq_config::VqModelConfig;
use super::{check_image, check_latents, upcast};
use crate::error::ModelError;
use crate::layers::{Conv2d, Conv2dConfig};
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// An autoencoder whose latents are entries of a codebook. Made by [`VqModelConfig::init`] or [`VqModel::load`]. Pixels
/// are in [-1, 1].
///
/// [`encode`](Self::encode) returns latents before they are quantized, as diffusion models of this kind learn them, and
/// [`decode`](Self::decode) quantizes first.
///
/// # References
///
/// van den Oord, Vinyals, Kavukcuoglu 2017, [arXiv:1711.00937](https://arxiv.org/abs/1711.00937); Esser, Rombach, Ommer 2021,
/// [arXiv:2012.09841](https://arxiv.org/abs/2012.09841); with normalizations told by latents: Zheng et al. 2022 (MoVQ),
/// [arXiv:2209.09002](https://arxiv.org/abs/2209.09002). Parameters have the names of diffusers' `VQModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::autoencoder::VqModelConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = VqModelConfig::new(3, 4, &[8, 16], 32).init(&device)?;
/// let latents = net.encode(Tensor::zeros([1, 3, 16, 16], &device))?;
/// let codes = net.quantize(latents.clone())?.indices;
/// assert_eq!(codes.dims(), [64]);
/// let image = net.decode(latents)?;
/// assert_eq!(image.dims(), [1, 3, 16, 16]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct VqModel {
    /// Images to latents.
    pub encoder: Encoder,
    /// Latents to images.
    pub decoder: Decoder,
    /// 1 x 1 convolution before the codebook.
    pub quant_conv: Conv2d,
    /// The codebook.
    pub quantize: VectorQuantizer,
    /// 1 x 1 convolution after the codebook.
    pub post_quant_conv: Conv2d,
    #[module(skip)]
    config: VqModelConfig,
}

impl VqModel {
    pub(super) fn new(config: &VqModelConfig, device: &Device) -> Result<Self, ModelError> {
        let (latents, codes) = (config.latent_channels, config.code_width());
        Ok(Self {
            encoder: config.encoder().encoder(device)?,
            decoder: config.decoder().decoder(device)?,
            quant_conv: Conv2dConfig::new(latents, codes, 1).init(device)?,
            quantize: VectorQuantizer::new(config.codes, codes, device)?,
            post_quant_conv: Conv2dConfig::new(codes, latents, 1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`. Where `f16` is asked for, a
    /// network with `force_upcast` has its weights in `f32`, as [`AutoencoderKl::load`](super::AutoencoderKl::load) does.
    ///
    /// # Errors
    ///
    /// Those of [`VqModelConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, VqModelConfig::from_json)?;
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
    pub fn config(&self) -> &VqModelConfig {
        &self.config
    }

    /// Encodes images with values in [-1, 1] to latents that are not quantized.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides at least [`scale`](VqModelConfig::scale)
    /// - output: `[batch, code_width, height/scale, width/scale]`, rounded down
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for images of another shape.
    pub fn encode(&self, x: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        self.encode_with(x, &mut Tap::none())
    }

    /// [`encode`](Self::encode), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_image(&x, self.config.in_channels, self.config.scale())?;
        let given = x.dtype();
        let h = tap.scope("encoder", |tap| self.encoder.forward(x.cast(self.dtype()), tap));
        let h = self.quant_conv.forward(h);
        tap.see("quant_conv", &h);
        Ok(h.cast(given))
    }

    /// Replaces latents by the nearest entries of the codebook.
    ///
    /// # Shapes
    ///
    /// - z: `[batch, code_width, height, width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents of another shape.
    pub fn quantize(&self, z: Tensor<4>) -> Result<Quantized, ModelError> {
        check_latents(&z, self.config.code_width())?;
        let given = z.dtype();
        let mut quantized = self.quantize.forward(z.cast(self.dtype()), &mut Tap::none());
        quantized.latents = quantized.latents.cast(given);
        Ok(quantized)
    }

    /// Decodes latents after replacing them by the nearest entries of the codebook.
    ///
    /// # Shapes
    ///
    /// - z: `[batch, code_width, height, width]`
    /// - output: `[batch, out_channels, height·scale, width·scale]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents of another shape.
    pub fn decode(&self, z: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        self.decode_with(z, &mut Tap::none())
    }

    /// [`decode`](Self::decode), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_with(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_latents(&z, self.config.code_width())?;
        let given = z.dtype();
        let z = tap.scope("quantize", |tap| self.quantize.forward(z.cast(self.dtype()), tap)).latents;
        Ok(self.image(z, tap).cast(given))
    }

    /// Decodes latents as they are, without the codebook: those of a MoVQ are decoded so.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_unquantized(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_latents(&z, self.config.code_width())?;
        let given = z.dtype();
        Ok(self.image(z.cast(self.dtype()), tap).cast(given))
    }

    /// Decodes rows of the codebook, as models of discrete tokens draw them. The rows are read back to check them.
    ///
    /// # Shapes
    ///
    /// - indices: `[batch, height, width]`, from 0 to the number of codes less one
    /// - output: `[batch, out_channels, height·scale, width·scale]`, in the element type of the weights
    ///
    /// # Errors
    ///
    /// [`ModelError::CodeOutOfRange`] for an index that is no row of the codebook, [`ModelError::Shape`] for an empty grid.
    pub fn decode_codes(&self, indices: Tensor<3, Int>, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        let shape = indices.dims();
        if shape.contains(&0) {
            let expected = "[batch, height, width]".into();
            return Err(ModelError::Shape { what: "indices", given: shape.to_vec(), expected });
        }
        let codes = self.config.codes;
        let data = indices.to_data();
        if let Some(index) = data.iter::<i64>().find(|index| usize::try_from(*index).map_or(true, |i| i >= codes)) {
            return Err(ModelError::CodeOutOfRange { index, codes });
        }
        Ok(self.image(self.quantize.lookup(indices), tap))
    }

    fn image(&self, z: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let latents = self.config.spatial.then(|| z.clone());
        let z = self.post_quant_conv.forward(z);
        tap.see("post_quant_conv", &z);
        tap.scope("decoder", |tap| self.decoder.forward(z, latents.as_ref(), tap))
    }

    fn dtype(&self) -> DType {
        self.encoder.conv_in.weight.val().dtype()
    }
}
