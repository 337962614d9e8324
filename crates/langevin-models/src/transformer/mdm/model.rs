//! The motion diffusion model.
#![allow(non_snake_case, reason = "fields have the names of published parameters")]

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use langevin_core::{DenoiseError, Load, Network};

use super::config::{CLASS, MdmConfig, MotionCondition};
use super::encoder::EncoderLayer;
use crate::condition::Labels;
use crate::error::ModelError;
use crate::layers::{
    Activation, Dropout, DropoutConfig, Linear, LinearConfig, SinusoidalEmbedding, permuted, positions, random, swapped,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{published_value, read_config_file, read_folder, write_folder};

/// An encoder-only transformer over the frames of a motion, conditional on the time and a text or an action, which
/// together are one more token before the frames. Made by [`MdmConfig::init`] or [`Mdm::load`].
///
/// The published networks predict the motion itself (x_0). They are told a text as an embedding of CLIP,
/// [`Labels::embeddings`]; zeros stand for no text. An action is [`Labels::of`], its absence [`Labels::none`].
///
/// # References
///
/// Tevet et al. 2022, [arXiv:2209.14916](https://arxiv.org/abs/2209.14916), section 3 and figure 2. Parameters have the
/// names of the authors' checkpoints.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{Labels, MdmConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = MdmConfig::new(22, 3).width(32, 4).layers(2).text(16).init(&device)?;
/// let text = Labels::embeddings(Tensor::ones([1, 16], &device));
/// let frames = Tensor::<4>::zeros([2, 22, 3, 60], &device);
/// let y = net.forward(frames, Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(y.dims(), [2, 22, 3, 60]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct Mdm {
    /// From frames to tokens.
    pub input_process: InputProcess,
    /// Positions of tokens.
    pub sequence_pos_encoder: MotionPositions,
    /// The layers.
    pub seqTransEncoder: MotionEncoder,
    /// From the time to a token.
    pub embed_timestep: TimeEmbedding,
    /// From the embedding of a text to a token.
    pub embed_text: Option<Linear>,
    /// From an action to a token.
    pub embed_action: Option<ActionEmbedding>,
    /// From tokens to frames.
    pub output_process: OutputProcess,
    dropout: Dropout,
    #[module(skip)]
    config: MdmConfig,
}

/// From the numbers of a frame to a token.
#[derive(Module, Debug)]
pub struct InputProcess {
    /// The layer.
    pub poseEmbedding: Linear,
}

/// From a token to the numbers of a frame.
#[derive(Module, Debug)]
pub struct OutputProcess {
    /// The layer.
    pub poseFinal: Linear,
}

/// The layers over tokens.
#[derive(Module, Debug)]
pub struct MotionEncoder {
    /// One after the other.
    pub layers: Vec<EncoderLayer>,
}

/// A stored table of positions, as [`SinusoidalPositions`](crate::layers::SinusoidalPositions) has it, with another shape.
#[derive(Module, Debug)]
pub struct MotionPositions {
    /// `[rows, 1, width]`; not trained.
    pub pe: Param<Tensor<3>>,
}

/// From the time to a token: its position, as that of a frame would be, through two layers.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    /// The table of positions, which published weights have a second time.
    pub sequence_pos_encoder: MotionPositions,
    /// First layer, the place of the activation, and second layer.
    pub time_embed: Vec<Option<Linear>>,
}

/// A table of actions.
#[derive(Module, Debug)]
pub struct ActionEmbedding {
    /// `[actions, width]`
    pub action_embedding: Param<Tensor<2>>,
}

impl MotionPositions {
    fn new(config: &MdmConfig, device: &Device) -> Self {
        Self { pe: positions([config.max_len, 1, config.latent_dim], device) }
    }
}

impl TimeEmbedding {
    fn new(config: &MdmConfig, device: &Device) -> Result<Self, ModelError> {
        let layer = || LinearConfig::new(config.latent_dim, config.latent_dim).init(device);
        Ok(Self {
            sequence_pos_encoder: MotionPositions::new(config, device),
            time_embed: vec![Some(layer()?), None, Some(layer()?)],
        })
    }

    /// The token of each time `[batch, width]`. Positions of times are computed and not looked up, so that any time has
    /// one.
    fn forward(&self, time: Tensor<1>, width: usize, dtype: DType, tap: &mut Tap<'_>) -> Tensor<2> {
        let [batch] = time.dims();
        // Sines and then cosines become pairs of both.
        let sides = SinusoidalEmbedding::new(width).forward(time).reshape([batch, 2, width / 2]);
        let mut y = swapped(sides, 1).reshape([batch, width]).cast(dtype);
        for (i, part) in self.time_embed.iter().enumerate() {
            y = match part {
                Some(layer) => layer.forward(y),
                None => Activation::Silu.forward(y),
            };
            tap.see(format_args!("time_embed.{i}"), &y);
        }
        tap.see("", &y);
        y
    }
}

impl Mdm {
    pub(super) fn new(config: &MdmConfig, device: &Device) -> Result<Self, ModelError> {
        let (numbers, width) = (config.njoints * config.nfeats, config.latent_dim);
        let layers = (0..config.num_layers).map(|_| EncoderLayer::new(config, device));
        let table = || random([config.num_actions, width], Distribution::Normal(0.0, 1.0), device);
        Ok(Self {
            input_process: InputProcess { poseEmbedding: LinearConfig::new(numbers, width).init(device)? },
            sequence_pos_encoder: MotionPositions::new(config, device),
            seqTransEncoder: MotionEncoder { layers: layers.collect::<Result<_, _>>()? },
            embed_timestep: TimeEmbedding::new(config, device)?,
            embed_text: match config.cond_mode {
                MotionCondition::Text => Some(LinearConfig::new(config.clip_dim, width).init(device)?),
                _ => None,
            },
            embed_action: (config.cond_mode == MotionCondition::Action)
                .then(|| ActionEmbedding { action_embedding: table() }),
            output_process: OutputProcess { poseFinal: LinearConfig::new(width, numbers).init(device)? },
            dropout: DropoutConfig::new(config.dropout).init()?,
            config: config.clone(),
        })
    }

    /// Loads a folder that [`save`](Self::save) wrote: `config.json`, and weights with the names of the authors'
    /// checkpoints.
    ///
    /// # Errors
    ///
    /// Those of [`MdmConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, MdmConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes configuration and weights to a folder. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &published_value(&self.config, CLASS), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &MdmConfig {
        &self.config
    }

    /// The condition of no text for `rows` samples: zeros, as the published networks were trained.
    #[must_use]
    pub fn no_text(&self, rows: usize, device: &Device) -> Labels {
        Labels::embeddings(Tensor::zeros([rows, self.config.clip_dim], device))
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Motions are converted to the element type of the weights, and the output back to that of the motions.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, joints, features, frames]`, fewer frames than `max_len`
    /// - time: `[batch]`, or `[1]` for all samples; steps
    /// - output: that of `x`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for motions, times or embeddings of another shape;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`] and [`ModelError::ConditionKind`] for conditions that do
    ///   not fit.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, joints, features, frames] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let time = for_batch(time, batch)?;
        let cond = cond.for_batch(batch)?;
        let given = x.dtype();
        let dtype = self.output_process.poseFinal.weight.val().dtype();
        let width = self.config.latent_dim;
        let mut token = tap.scope("embed_timestep", |tap| self.embed_timestep.forward(time, width, dtype, tap));
        if let Some(told) = self.told(&cond, dtype, &x.device(), tap)? {
            token = token + told;
        }
        let numbers = permuted(x.cast(dtype), [0, 3, 1, 2]).reshape([batch, frames, joints * features]);
        let tokens = self.input_process.poseEmbedding.forward(numbers);
        tap.see("input_process.poseEmbedding", &tokens);
        tap.see("input_process", &tokens);
        let positions = swapped(self.sequence_pos_encoder.pe.val().narrow(0, 0, frames + 1), 0);
        let all = Tensor::cat(vec![token.unsqueeze_dim(1), tokens], 1) + positions;
        let mut h = self.dropout.forward(all);
        tap.see("sequence_pos_encoder", &h);
        for (i, layer) in self.seqTransEncoder.layers.iter().enumerate() {
            h = tap.scope(format_args!("seqTransEncoder.layers.{i}"), |tap| layer.forward(h, tap));
        }
        tap.see("seqTransEncoder", &h);
        let y = self.output_process.poseFinal.forward(h.narrow(1, 1, frames));
        tap.see("output_process.poseFinal", &y);
        let y = permuted(y.reshape([batch, frames, joints, features]), [0, 2, 3, 1]);
        tap.see("output_process", &y);
        Ok(y.cast(given))
    }

    /// What is added to the token of the time.
    fn told(
        &self,
        cond: &Labels,
        dtype: DType,
        device: &Device,
        tap: &mut Tap<'_>,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        if let Some(layer) = &self.embed_text {
            let y = layer.forward(cond.vectors(self.config.clip_dim)?.cast(dtype));
            tap.see("embed_text", &y);
            return Ok(Some(y));
        }
        if let Some(table) = &self.embed_action {
            let actions = self.config.num_actions;
            let rows = cond.rows_of(actions, true)?;
            // "No action" is a row of zeros behind the table.
            let zeros = Tensor::zeros([1, self.config.latent_dim], (device, dtype));
            let table = Tensor::cat(vec![table.action_embedding.val(), zeros], 0);
            let y = table.select(0, Tensor::from_data(rows.as_slice(), device));
            tap.see("embed_action", &y);
            return Ok(Some(y));
        }
        cond.nothing()?;
        Ok(None)
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let MdmConfig { njoints, nfeats, max_len, .. } = self.config;
        if matches!(sample, [j, f, n] if *j == njoints && *f == nfeats && *n > 0 && *n < max_len) {
            return Ok(());
        }
        let expected = format!("[batch, {njoints}, {nfeats}, frames], 1 to {} frames", max_len - 1);
        Err(ModelError::Shape { what: "x", given: given.to_vec(), expected })
    }
}

impl Network<4> for Mdm {
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
        published_value(&self.config, CLASS).to_string()
    }

    fn known_classes(&self) -> Option<usize> {
        (self.config.cond_mode == MotionCondition::Action).then_some(self.config.num_actions)
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        match self.config.cond_mode {
            MotionCondition::Text => drop(cond.vectors(self.config.clip_dim)?),
            MotionCondition::Action => drop(cond.rows_of(self.config.num_actions, true)?),
            MotionCondition::None => cond.nothing()?,
        }
        Ok(())
    }
}
