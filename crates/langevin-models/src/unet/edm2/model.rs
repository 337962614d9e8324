//! The network.

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::block::{Edm2Block, Place, Resample};
use super::config::Edm2UNetConfig;
use super::magnitude::{MpConv2d, MpFourier, MpLinear, mp_cat, mp_silu, mp_sum};
use super::named::Named;
use crate::condition::Labels;
use crate::error::ModelError;
use crate::layers::constant;
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// The magnitude-preserving UNet of EDM2. Made by [`Edm2UNetConfig::init`] or [`Edm2UNet::load`].
///
/// Its output is the F of EDM's preconditioning, and its time is `ln(σ)/4`: bind it with
/// [`Prediction::Edm`](langevin_core::Prediction::Edm) and use it on the process
/// [`Edm`](langevin_core::process::Edm).
///
/// Only the directions of its weights count: they are normalized whenever they are used. In training they would grow all
/// the same, and slow the effective learning rate: replace the network by [`normalized`](Self::normalized) after each
/// step of the optimizer.
///
/// # References
///
/// Karras, Aittala, Lehtinen, Hellsten, Aila, Laine 2024, [arXiv:2312.02696](https://arxiv.org/abs/2312.02696), configuration
/// G: figure 21 and appendix B. Written from the paper; parameters have the names of the published state dictionaries.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::{Network, Prediction};
/// use langevin_models::Labels;
/// use langevin_models::unet::Edm2UNetConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = Edm2UNetConfig::new(1, 8, 8).classes(10).init(&device)?;
/// let x = Tensor::<4>::zeros([2, 1, 8, 8], &device);
/// let y = net.forward(x, Tensor::from_data([-1.0, 0.3], &device), &Labels::of([3, 7]))?;
/// assert_eq!(y.dims(), [2, 1, 8, 8]);
/// let denoiser = net.denoiser(Prediction::Edm { sigma_data: 0.5 }, Labels::of([3]))?;
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct Edm2UNet {
    /// Features of the noise level.
    pub emb_fourier: MpFourier,
    /// Features to the embedding.
    pub emb_noise: MpLinear,
    /// Classes to the embedding.
    pub emb_label: Option<MpLinear>,
    /// Layers of the encoder, finest first.
    pub enc: Named<Edm2Layer>,
    /// Blocks of the decoder, coarsest first.
    pub dec: Named<Edm2Block>,
    /// Scale of the output: `[1]`, starts at 0.
    pub out_gain: Param<Tensor<1>>,
    /// Last convolution.
    pub out_conv: MpConv2d,
    #[module(skip)]
    config: Edm2UNetConfig,
}

/// A layer of the encoder.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum Edm2Layer {
    /// The first convolution.
    Conv(MpConv2d),
    /// A block.
    Block(Edm2Block),
}

impl Edm2Layer {
    fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => {
                let y = conv.forward(x);
                tap.see("", &y);
                y
            }
            Self::Block(block) => block.forward(x, embedding, tap),
        }
    }
}

impl Edm2UNet {
    pub(super) fn new(config: &Edm2UNetConfig, device: &Device) -> Result<Self, ModelError> {
        let levels = config.multipliers.len();
        let name = |level: usize, what: &str| {
            let size = config.size >> level;
            format!("{size}x{size}_{what}")
        };
        let attends = |level| config.attention_levels.contains(&level);
        let block = |place| Edm2Block::new(config, place, device);
        let plain = Place { input: 0, output: 0, decoder: false, resample: Resample::Keep, attention: false };
        let (mut enc, mut kept) = (Vec::new(), Vec::new());
        // A channel of ones stands in for biases.
        let mut channels = config.image_channels + 1;
        for level in 0..levels {
            let output = config.level_channels(level);
            if level == 0 {
                enc.push((name(0, "conv"), Edm2Layer::Conv(MpConv2d::new(channels, output, 3, device)?)));
                channels = output;
            } else {
                let place = Place { input: channels, output: channels, resample: Resample::Halve, ..plain };
                enc.push((name(level, "down"), Edm2Layer::Block(block(place)?)));
            }
            kept.push(channels);
            for i in 0..config.blocks {
                let place = Place { input: channels, output, attention: attends(level), ..plain };
                enc.push((name(level, &format!("block{i}")), Edm2Layer::Block(block(place)?)));
                channels = output;
                kept.push(channels);
            }
        }
        let mut dec = Vec::new();
        for level in (0..levels).rev() {
            let output = config.level_channels(level);
            let place = Place { input: channels, output: channels, decoder: true, ..plain };
            if level + 1 == levels {
                dec.push((name(level, "in0"), block(Place { attention: true, ..place })?));
                dec.push((name(level, "in1"), block(place)?));
            } else {
                dec.push((name(level, "up"), block(Place { resample: Resample::Double, ..place })?));
            }
            for i in 0..=config.blocks {
                let input = channels + kept.pop().unwrap_or_default();
                let place = Place { input, output, attention: attends(level), ..place };
                dec.push((name(level, &format!("block{i}")), block(place)?));
                channels = output;
            }
        }
        let width = config.embedding_width();
        Ok(Self {
            emb_fourier: MpFourier::new(config.level_channels(0), device)?,
            emb_noise: MpLinear::new(config.level_channels(0), width, device)?,
            emb_label: match config.classes {
                0 => None,
                classes => Some(MpLinear::new(classes, width, device)?),
            },
            enc: Named::new(enc),
            dec: Named::new(dec),
            out_gain: constant([1], 0.0, device),
            out_conv: MpConv2d::new(channels, config.image_channels, 3, device)?,
            config: config.clone(),
        })
    }

    /// Loads a folder with `config.json`, as [`save`](Self::save) writes it, and
    /// `diffusion_pytorch_model.safetensors` with the published names, without the prefix `unet.`.
    ///
    /// # Errors
    ///
    /// Those of [`Edm2UNetConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, Edm2UNetConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) reads. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &self.config.to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &Edm2UNetConfig {
        &self.config
    }

    /// The same network, the same function, with every filter and every row of weights normalized to a root mean square
    /// of one: the forced weight normalization that the paper does before each step of training (section 2.3, algorithm 1).
    #[must_use]
    pub fn normalized(mut self) -> Self {
        let layer = |layer: Edm2Layer| match layer {
            Edm2Layer::Conv(conv) => Edm2Layer::Conv(conv.force()),
            Edm2Layer::Block(block) => Edm2Layer::Block(block.force()),
        };
        self.emb_noise = self.emb_noise.force();
        self.emb_label = self.emb_label.map(MpLinear::force);
        self.enc = self.enc.each(layer);
        self.dec = self.dec.each(Edm2Block::force);
        self.out_conv = self.out_conv.force();
        self
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Images are converted to the element type of the weights, and the output back to that of the images.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, image_channels, height, width]`, both sides multiples of 2 to the number of levels less one
    /// - time: `[batch]`, or `[1]` for all samples: `ln(σ)/4`
    /// - output: as x
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for images or times of another shape;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`] and [`ModelError::ConditionKind`] for conditions that do
    ///   not fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, _, height, width] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let time = for_batch(time, batch)?;
        let given = x.dtype();
        let dtype = self.out_conv.weight.val().dtype();
        let features = self.emb_fourier.forward(time).cast(dtype);
        tap.see("emb_fourier", &features);
        let mut embedding = self.emb_noise.forward(features);
        tap.see("emb_noise", &embedding);
        match &self.emb_label {
            Some(layer) => {
                let class = layer.columns(&cond.for_batch(batch)?.rows_of(self.config.classes, true)?);
                tap.see("emb_label", &class);
                embedding = mp_sum(embedding, class, self.config.label_balance);
            }
            None => cond.for_batch(batch)?.nothing()?,
        }
        let embedding = mp_silu(embedding);
        let ones = Tensor::ones([batch, 1, height, width], (&x.device(), dtype));
        let mut h = Tensor::cat(vec![x.cast(dtype), ones], 1);
        let mut kept = Vec::new();
        for (name, layer) in self.enc.iter() {
            h = tap.scope(format_args!("enc.{name}"), |tap| layer.forward(h, &embedding, tap));
            kept.push(h.clone());
        }
        for (name, block) in self.dec.iter() {
            if name.contains("block")
                && let Some(skip) = kept.pop()
            {
                h = mp_cat(h, skip, self.config.concat_balance);
            }
            h = tap.scope(format_args!("dec.{name}"), |tap| block.forward(h, &embedding, tap));
        }
        let y = self.out_conv.forward(h) * self.out_gain.val().reshape([1, 1, 1, 1]);
        tap.see("out_conv", &y);
        Ok(y.cast(given))
    }

    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.image_channels;
        let step = 1usize << (self.config.multipliers.len() - 1);
        let fits = matches!(sample, [c, h, w]
            if *c == channels && *h > 0 && *w > 0 && h.is_multiple_of(step) && w.is_multiple_of(step));
        if fits {
            return Ok(());
        }
        Err(ModelError::Shape {
            what: "x",
            given: given.to_vec(),
            expected: format!("[batch, {channels}, height, width], height and width multiples of {step}"),
        })
    }
}

impl Network<4> for Edm2UNet {
    type Cond = Labels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, cond: &Labels) -> Result<Tensor<4>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(&self, x: Tensor<4>, time: Tensor<1>, cond: &Labels) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn known_classes(&self) -> Option<usize> {
        (self.config.classes > 0).then_some(self.config.classes)
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        match self.config.classes {
            0 => cond.nothing()?,
            classes => drop(cond.rows_of(classes, true)?),
        }
        Ok(())
    }
}
