//! The UNet.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use langevin_core::{DenoiseError, Network};

use super::blocks::{DownBlock2d, MidBlock2d, UpBlock2d};
use super::config::{Classes, TimeFeatures, UNet2dConfig};
use super::published::PublishedUNet2d;
use crate::condition::Labels;
use crate::error::ModelError;
use crate::layers::{
    Activation, Conv2d, Conv2dConfig, Embedding, EmbeddingConfig, GaussianFourier, GaussianFourierConfig, GroupNorm,
    GroupNormConfig, SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig, widen,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};
use langevin_core::Load;

/// A UNet for images, conditional on a time and perhaps a class. Made by [`UNet2dConfig::init`] or
/// [`UNet2d::load`].
///
/// # References
///
/// Ho, Jain, Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239); Dhariwal, Nichol 2021,
/// [arXiv:2105.05233](https://arxiv.org/abs/2105.05233); with skip blocks: Song et al. 2021,
/// [arXiv:2011.13456](https://arxiv.org/abs/2011.13456). Parameters have the names of diffusers' `UNet2DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{Labels, UNet2dConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet2dConfig::images(1, 8).channels(&[8, 16]).classes(10).init(&device)?;
/// let x = Tensor::<4>::zeros([2, 1, 8, 8], &device);
/// let time = Tensor::<1>::from_data([999.0, 0.0], &device);
/// let y = net.forward(x, time, &Labels::of([3, 7]))?;
/// assert_eq!(y.dims(), [2, 1, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNet2d {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Features of the time, where they have parameters.
    pub time_proj: TimeProjection,
    /// Layers that turn the features into the time embedding.
    pub time_embedding: TimestepEmbedding,
    /// What is added to the time embedding for a class.
    pub class_embedding: Option<ClassEmbedding>,
    /// Blocks on the way down, finest level first.
    pub down_blocks: Vec<DownBlock2d>,
    /// Block at the coarsest level.
    pub mid_block: Option<MidBlock2d>,
    /// Blocks on the way up, coarsest level first.
    pub up_blocks: Vec<UpBlock2d>,
    /// Normalization before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// Last convolution.
    pub conv_out: Conv2d,
    #[module(skip)]
    config: UNet2dConfig,
}

/// Features of the time.
#[derive(Module, Debug)]
pub enum TimeProjection {
    /// Sines and cosines.
    Sinusoidal(Sinusoidal),
    /// Random Fourier features.
    Fourier(GaussianFourier),
    /// A table of steps.
    Learned(Embedding),
}

/// Sines and cosines as a module without parameters.
#[derive(Module, Debug)]
pub struct Sinusoidal {
    #[module(skip)]
    embedding: SinusoidalEmbedding,
}

/// What is added to the time embedding for a class.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum ClassEmbedding {
    /// A table of classes.
    Table(Embedding),
    /// Layers that embed a number as the time is.
    Timestep(TimestepEmbedding),
}

impl TimeProjection {
    fn new(config: &UNet2dConfig, device: &Device) -> Result<(Self, usize), ModelError> {
        let width = config.channels[0];
        Ok(match config.time {
            TimeFeatures::Sinusoidal { cosine_first, shift } => (Self::sinusoidal(width, cosine_first, shift)?, width),
            TimeFeatures::Fourier => (Self::Fourier(GaussianFourierConfig::new(width).init(device)?), 2 * width),
            TimeFeatures::Learned { steps } => (Self::Learned(EmbeddingConfig::new(steps, width).init(device)?), width),
        })
    }

    /// Sines and cosines.
    pub(crate) fn sinusoidal(width: usize, cosine_first: bool, shift: f64) -> Result<Self, ModelError> {
        let embedding = SinusoidalEmbedding::new(width).cosine_first(cosine_first).shift(shift).check()?;
        Ok(Self::Sinusoidal(Sinusoidal { embedding }))
    }

    /// Random Fourier features of the time itself.
    pub(crate) fn fourier(frequencies: usize, cosine_first: bool, device: &Device) -> Result<Self, ModelError> {
        let config = GaussianFourierConfig { frequencies, scale: 1.0, log: false, cosine_first };
        Ok(Self::Fourier(config.init(device)?))
    }

    pub(crate) fn forward(&self, time: Tensor<1>) -> Result<Tensor<2>, ModelError> {
        Ok(match self {
            Self::Sinusoidal(layer) => layer.embedding.forward(time),
            Self::Fourier(layer) => layer.forward(time),
            Self::Learned(table) => table.forward(table_rows(time, table.weight.dims()[0])?),
        })
    }
}

/// The rows of a table of steps. This is the one embedding that must read the times back from the device: a step
/// off the table has no value, and backends do not report it.
fn table_rows(time: Tensor<1>, steps: usize) -> Result<Tensor<1, Int>, ModelError> {
    let device = time.device();
    let rows = time.to_data_as::<f64>();
    let rows: Vec<f64> = rows.iter::<f64>().collect();
    let whole = |t: &f64| *t >= 0.0 && *t < steps as f64 && t.fract() == 0.0;
    match rows.iter().find(|t| !whole(t)) {
        Some(&time) => Err(ModelError::StepOutOfRange { time, steps }),
        None => {
            let rows: Vec<i64> = rows.iter().map(|t| *t as i64).collect();
            Ok(Tensor::from_data(rows.as_slice(), &device))
        }
    }
}

impl UNet2d {
    pub(super) fn new(config: &UNet2dConfig, device: &Device) -> Result<Self, ModelError> {
        let first = config.channels[0];
        let levels = config.channels.len();
        let time_width = config.time_embedding_width();
        let (time_proj, features) = TimeProjection::new(config, device)?;
        let groups = config.norm_groups.unwrap_or((first / 4).min(32));
        Ok(Self {
            conv_in: Conv2dConfig::new(config.in_channels, first, 3).padding(1).init(device)?,
            time_proj,
            time_embedding: TimestepEmbeddingConfig::new(features, time_width).init(device)?,
            class_embedding: match config.classes {
                Classes::None | Classes::Identity => None,
                Classes::Table { count, null } => {
                    let rows = count + usize::from(null);
                    Some(ClassEmbedding::Table(EmbeddingConfig::new(rows, time_width).init(device)?))
                }
                Classes::Timestep => {
                    let layers = TimestepEmbeddingConfig::new(features, time_width).init(device)?;
                    Some(ClassEmbedding::Timestep(layers))
                }
            },
            down_blocks: (0..levels).map(|i| DownBlock2d::new(config, i, device)).collect::<Result<_, _>>()?,
            mid_block: match config.mid {
                true => Some(MidBlock2d::new(config, device)?),
                false => None,
            },
            up_blocks: (0..levels).map(|i| UpBlock2d::new(config, i, device)).collect::<Result<_, _>>()?,
            conv_norm_out: GroupNormConfig::new(groups, first).epsilon(config.norm_epsilon).init(device)?,
            conv_out: Conv2dConfig::new(first, config.out_channels, 3).padding(1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::{Load, UNet2d, UNet2dConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// # let folder = tempfile::tempdir()?;
    /// let net = UNet2dConfig::images(1, 8).channels(&[8, 16]).init(&device)?;
    /// net.save(folder.path())?;
    /// let same = UNet2d::load(folder.path(), Load::on(&device))?;
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNet2dConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let config = PublishedUNet2d::from(self.config.clone()).to_value();
        write_folder(self, &config, folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &UNet2dConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Images are converted to the element type of the weights, and the output back to that of the images.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides multiples of 2 to the number of levels less one
    /// - time: `[batch]`, or `[1]` for all samples; steps, or noise levels above zero with Fourier features
    /// - output: `[batch, out_channels, height, width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for images or times of another shape;
    /// * [`ModelError::StepOutOfRange`] for times off a table of steps;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`], [`ModelError::NoNullClass`] and
    ///   [`ModelError::ConditionKind`] for conditions that do not fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, ..] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let time = for_batch(time, batch)?;
        let given = x.dtype();
        let dtype = self.conv_in.weight.val().dtype();
        let embedding = self.embed(time.clone(), &cond.for_batch(batch)?, dtype, tap)?;
        let y = self.run(x.cast(dtype), embedding, tap);
        let y = match self.config.time {
            // A small level has few digits in half precision, and its quotient may be beyond it.
            TimeFeatures::Fourier => {
                let y = widen(y);
                let level = time.cast(y.dtype()).reshape([batch, 1, 1, 1]);
                y / level
            }
            _ => y,
        };
        Ok(y.cast(given))
    }

    /// What the blocks are told: the embedding of time and class, after its activation.
    fn embed(&self, time: Tensor<1>, cond: &Labels, dtype: DType, tap: &mut Tap<'_>) -> Result<Tensor<2>, ModelError> {
        let device = time.device();
        let features = self.time_proj.forward(time)?.cast(dtype);
        tap.see("time_proj", &features);
        let mut embedding = tap.scope("time_embedding", |tap| self.time_embedding.forward(features, tap));
        let class = match (self.config.classes, &self.class_embedding) {
            (Classes::Table { count, null }, Some(ClassEmbedding::Table(table))) => {
                let class = table.forward(cond.indices(count, null, &device)?);
                tap.see("class_embedding", &class);
                Some(class)
            }
            (Classes::Timestep, Some(ClassEmbedding::Timestep(layers))) => {
                let features = self.time_proj.forward(cond.numbers(&device)?)?.cast(dtype);
                // The same module runs a second time.
                tap.see("time_proj", &features);
                Some(tap.scope("class_embedding", |tap| layers.forward(features, tap)))
            }
            (Classes::Identity, _) => {
                let class = cond.vectors(self.config.time_embedding_width())?.cast(dtype);
                tap.see("class_embedding", &class);
                Some(class)
            }
            _ => {
                cond.nothing()?;
                None
            }
        };
        if let Some(class) = class {
            embedding = embedding + class;
        }
        Ok(self.config.activation.forward(embedding))
    }

    fn run(&self, x: Tensor<4>, time: Tensor<2>, tap: &mut Tap<'_>) -> Tensor<4> {
        let x = if self.config.center_input { x * 2.0 - 1.0 } else { x };
        let mut image = x.clone();
        let mut h = self.conv_in.forward(x);
        tap.see("conv_in", &h);
        let mut skips = vec![h.clone()];
        for (i, block) in self.down_blocks.iter().enumerate() {
            let down = tap.scope(format_args!("down_blocks.{i}"), |tap| block.forward(h, image, &time, tap));
            skips.extend(down.skips);
            (h, image) = (down.hidden, down.image);
        }
        if let Some(block) = &self.mid_block {
            h = tap.scope("mid_block", |tap| block.forward(h, &time, tap));
        }
        let mut image = None;
        for (i, block) in self.up_blocks.iter().enumerate() {
            let kept = skips.split_off(skips.len() - block.takes());
            (h, image) = tap.scope(format_args!("up_blocks.{i}"), |tap| block.forward(h, kept, image, &time, tap));
        }
        let h = self.conv_norm_out.forward(h);
        tap.see("conv_norm_out", &h);
        let h = Activation::Silu.forward(h);
        tap.see("conv_act", &h);
        let y = self.conv_out.forward(h);
        tap.see("conv_out", &y);
        match image {
            Some(image) => y + image,
            None => y,
        }
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.in_channels;
        let step = 1usize << (self.config.channels.len() - 1);
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

impl Network<4> for UNet2d {
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
        match self.config.classes {
            Classes::Table { count, .. } => Some(count),
            Classes::None | Classes::Timestep | Classes::Identity => None,
        }
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        match self.config.classes {
            Classes::Table { count, null } => drop(cond.rows_of(count, null)?),
            Classes::Timestep => drop(cond.checked_values()?.len()),
            Classes::Identity => drop(cond.vectors(self.config.time_embedding_width())?),
            Classes::None => cond.nothing()?,
        }
        Ok(())
    }
}
