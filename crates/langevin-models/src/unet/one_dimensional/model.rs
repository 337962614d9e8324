//! The UNet for signals.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::blocks::{DownBlock1d, MidBlock1d, OutBlock1d, UpBlock1d};
use super::config::{OutKind, UNet1dConfig};
use super::published::PublishedUNet1d;
use crate::condition::Labels;
use crate::error::ModelError;
use crate::layers::{
    GaussianFourier, GaussianFourierConfig, SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A UNet for audio, trajectories and other sequences, or for the value of a trajectory. Made by [`UNet1dConfig::init`]
/// or [`UNet1d::load`].
///
/// Audio networks take a time in `[0, 1]`, planners and values a step. The condition is [`Labels::none`].
///
/// # References
///
/// Audio: [Dance Diffusion](https://github.com/harmonai-org/sample-generator). Planning: Janner et al. 2022,
/// [arXiv:2205.09991](https://arxiv.org/abs/2205.09991). Parameters have the names of diffusers' `UNet1DModel`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{Labels, UNet1dConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet1dConfig::sequences(6, 16).channels(&[8, 16]).init(&device)?;
/// let x = Tensor::<3>::zeros([2, 6, 16], &device);
/// let time = Tensor::<1>::from_data([19.0, 0.0], &device);
/// let y = net.forward(x, time, &Labels::none(2))?;
/// assert_eq!(y.dims(), [2, 6, 16]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct UNet1d {
    /// Features of the time, where they have parameters.
    pub time_proj: TimeProjection1d,
    /// Layers that turn the features into the time embedding.
    pub time_mlp: Option<TimestepEmbedding>,
    /// Blocks on the way down, finest level first.
    pub down_blocks: Vec<DownBlock1d>,
    /// Block at the coarsest level.
    pub mid_block: MidBlock1d,
    /// Blocks on the way up, coarsest level first.
    pub up_blocks: Vec<UpBlock1d>,
    /// What follows the blocks.
    pub out_block: Option<OutBlock1d>,
    #[module(skip)]
    config: UNet1dConfig,
}

/// Features of the time.
#[derive(Module, Debug)]
pub enum TimeProjection1d {
    /// Sines and cosines at fixed frequencies.
    Sinusoidal(FixedFrequencies),
    /// Sines and cosines at random frequencies.
    Fourier(GaussianFourier),
}

/// Sines and cosines as a module without parameters.
#[derive(Module, Debug)]
pub struct FixedFrequencies {
    #[module(skip)]
    embedding: SinusoidalEmbedding,
}

impl UNet1d {
    pub(super) fn new(config: &UNet1dConfig, device: &Device) -> Result<Self, ModelError> {
        let features = config.time_features();
        let first = config.channels[0];
        Ok(Self {
            time_proj: if config.fourier {
                let fourier = GaussianFourierConfig {
                    scale: 1.0,
                    log: false,
                    cosine_first: config.cosine_first,
                    ..GaussianFourierConfig::new(features / 2)
                };
                TimeProjection1d::Fourier(fourier.init(device)?)
            } else {
                let embedding = SinusoidalEmbedding::new(features).cosine_first(config.cosine_first);
                let embedding = embedding.shift(config.freq_shift).check()?;
                TimeProjection1d::Sinusoidal(FixedFrequencies { embedding })
            },
            time_mlp: if config.embed_time {
                let layers = TimestepEmbeddingConfig {
                    inner: 4 * first,
                    activation: config.activation.unwrap_or_default(),
                    ..TimestepEmbeddingConfig::new(features, first)
                };
                Some(layers.init(device)?)
            } else {
                None
            },
            down_blocks: (0..config.down.len())
                .map(|i| DownBlock1d::new(config, i, device))
                .collect::<Result<_, _>>()?,
            mid_block: MidBlock1d::new(config, device)?,
            up_blocks: (0..config.up.len()).map(|i| UpBlock1d::new(config, i, device)).collect::<Result<_, _>>()?,
            out_block: config.out.map(|kind| OutBlock1d::new(config, kind, device)).transpose()?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`UNet1dConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, UNet1dConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let config = PublishedUNet1d::from(self.config.clone()).to_value();
        write_folder(self, &config, folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &UNet1dConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Signals are converted to the element type of the weights, and the output back to that of the signals.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, length]`, of a length that the levels can halve, with the extra channels where there are
    ///   any
    /// - time: `[batch]`, or `[1]` for all samples
    /// - output: `[batch, out_channels, length]`, or `[batch, 1, 1]` of a network for values
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for signals or times of another shape, [`ModelError::ConditionKind`] for a condition that
    /// tells anything.
    pub fn forward_with(
        &self,
        x: Tensor<3>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let [batch, ..] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        cond.for_batch(batch)?.nothing()?;
        let given = x.dtype();
        let dtype = self.dtype();
        let time = for_batch(time, batch)?;
        let features = match &self.time_proj {
            TimeProjection1d::Sinusoidal(layer) => layer.embedding.forward(time),
            TimeProjection1d::Fourier(layer) => layer.forward(time),
        };
        tap.see("time_proj", &features);
        let mut time = features.cast(dtype);
        if let Some(layers) = &self.time_mlp {
            time = tap.scope("time_mlp", |tap| layers.forward(time, tap));
        }
        let mut h = x.cast(dtype);
        let mut skips = Vec::with_capacity(self.down_blocks.len());
        for (i, block) in self.down_blocks.iter().enumerate() {
            let (hidden, kept) = tap.scope(format_args!("down_blocks.{i}"), |tap| block.forward(h, &time, tap));
            skips.push(kept);
            h = hidden;
        }
        h = tap.scope("mid_block", |tap| self.mid_block.forward(h, &time, tap));
        for ((i, block), kept) in self.up_blocks.iter().enumerate().zip(skips.into_iter().rev()) {
            h = tap.scope(format_args!("up_blocks.{i}"), |tap| block.forward(h, kept, &time, tap));
        }
        if let Some(block) = &self.out_block {
            h = tap.scope("out_block", |tap| block.forward(h, &time, tap));
        }
        Ok(h.cast(given))
    }

    /// The value of each trajectory, by a network that was built for values: what guides a planner.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, length]`
    /// - time: `[batch]`, or `[1]` for all samples
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the network returns no value, and those of [`forward_with`](Self::forward_with).
    pub fn value(&self, x: Tensor<3>, time: Tensor<1>) -> Result<Tensor<1>, ModelError> {
        if self.config.out != Some(OutKind::Value) {
            return Err(ModelError::Config {
                field: "out",
                given: format!("{:?}", self.config.out),
                expected: "a network with the layers of a value".into(),
            });
        }
        let [batch, ..] = x.dims();
        Ok(self.forward_with(x, time, &Labels::none(batch), &mut Tap::none())?.reshape([batch]))
    }

    fn dtype(&self) -> DType {
        match &self.down_blocks[0] {
            DownBlock1d::Residual(block) => block.resnets[0].time_emb.weight.val().dtype(),
            DownBlock1d::Signal(block) | DownBlock1d::Time(block) => block.resnets[0].conv_1.weight.val().dtype(),
        }
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let channels = self.config.input_channels();
        let wrong = |length: &str| ModelError::Shape {
            what: "x",
            given: given.to_vec(),
            expected: format!("[batch, {channels}, length], the length {length}"),
        };
        match *sample {
            [c, length] if c == channels => self.config.trace(length).map(drop).map_err(wrong),
            _ => Err(wrong("one that its levels can halve")),
        }
    }
}

impl Network<3> for UNet1d {
    type Cond = Labels;

    fn forward(&self, x: Tensor<3>, time: Tensor<1>, cond: &Labels) -> Result<Tensor<3>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(&self, x: Tensor<3>, time: Tensor<1>, cond: &Labels) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        self.check_sample(sample, sample)?;
        let length = sample[1];
        if self.config.out == Some(OutKind::Value) || self.config.trace(length) != Ok(length) {
            return Err(ModelError::Config {
                field: "up",
                given: format!("{:?}, followed by {:?}", self.config.up, self.config.out),
                expected: "blocks that return signals of the length they are given, to sample from".into(),
            }
            .into());
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        Ok(cond.nothing()?)
    }
}
