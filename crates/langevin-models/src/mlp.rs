//! A network for vectors.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Network};
use serde::{Deserialize, Serialize};

use crate::condition::Labels;
use crate::error::{ModelError, at_least_one, layer_count, positive};
use crate::layers::{
    Activation, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, SinusoidalEmbedding,
    TimestepEmbedding, TimestepEmbeddingConfig,
};
use crate::tap::Tap;
use crate::weights::{read_config, read_config_file, read_folder, write_folder};
use langevin_core::Load;

const CLASS: &str = "LangevinMlp";

/// Configuration of an [`Mlp`].
///
/// # Example
///
/// ```
/// use langevin_models::MlpConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = MlpConfig::new(2).hidden(128).layers(3).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MlpConfig {
    /// Entries of a vector.
    pub dim: usize,
    /// Width of the hidden layers. Default: `128`.
    pub hidden: usize,
    /// Number of residual blocks. Default: `3`.
    pub layers: usize,
    /// Features of the time. Default: `64`.
    pub time_features: usize,
    /// Factor of the time before it is embedded, chosen so that the times of the process span about 1000: 1 for
    /// steps, 1000 for times in `[0, 1]`. Default: `1`.
    pub time_scale: f64,
    /// Number of classes, with one more embedding for "no class"; or none. Default: none.
    pub classes: Option<usize>,
    /// Activation. Default: SiLU.
    pub activation: Activation,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            dim: 2,
            hidden: 128,
            layers: 3,
            time_features: 64,
            time_scale: 1.0,
            classes: None,
            activation: Activation::Silu,
        }
    }
}

impl MlpConfig {
    /// A network for vectors with `dim` entries: three blocks of width 128.
    #[must_use]
    pub fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    /// Sets the width of the hidden layers.
    #[must_use]
    pub fn hidden(mut self, width: usize) -> Self {
        self.hidden = width;
        self
    }

    /// Sets the number of residual blocks.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the number of features of the time.
    #[must_use]
    pub fn time_features(mut self, features: usize) -> Self {
        self.time_features = features;
        self
    }

    /// Sets the factor of the time: 1 for steps, 1000 for times in `[0, 1]`.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }

    /// Makes the network conditional on `count` classes, with one more embedding for "no class".
    #[must_use]
    pub fn classes(mut self, count: usize) -> Self {
        self.classes = Some(count);
        self
    }

    /// Sets the activation.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Reads a `config.json` as [`Mlp::save`] writes it. Absent keys have their defaults.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and [`ModelError::WrongClass`] for
    /// other files; and those of [`init`](Self::init).
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("dim", self.dim)?;
        at_least_one("hidden", self.hidden)?;
        layer_count("layers", self.layers)?;
        if self.time_features < 2 {
            let expected = "at least 2: a sine and a cosine".into();
            return Err(ModelError::Config { field: "time_features", given: self.time_features.to_string(), expected });
        }
        at_least_one("time_features", self.time_features)?;
        positive("time_scale", self.time_scale)
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names a size that is zero or a scale that is not above zero.
    pub fn init(&self, device: &Device) -> Result<Mlp, ModelError> {
        self.check()?;
        let hidden = self.hidden;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let time = SinusoidalEmbedding::new(self.time_features).scale(self.time_scale).check()?;
        let class_embedding = match self.classes {
            Some(count) => {
                at_least_one("classes", count)?;
                Some(EmbeddingConfig::new(count + 1, hidden).init(device)?)
            }
            None => None,
        };
        let blocks = (0..self.layers).map(|_| {
            Ok(MlpBlock {
                norm: LayerNormConfig::new(hidden).init(device)?,
                linear_1: linear(hidden, hidden)?,
                time_emb_proj: linear(hidden, hidden)?,
                linear_2: linear(hidden, hidden)?,
            })
        });
        Ok(Mlp {
            linear_in: linear(self.dim, hidden)?,
            time_embedding: TimestepEmbeddingConfig::new(self.time_features, hidden).init(device)?,
            class_embedding,
            blocks: blocks.collect::<Result<_, ModelError>>()?,
            norm_out: LayerNormConfig::new(hidden).init(device)?,
            linear_out: linear(hidden, self.dim)?,
            time,
            config: self.clone(),
        })
    }
}

/// A network for vectors: residual blocks of two linear layers that are told the time and perhaps a class. Made
/// by [`MlpConfig::init`] or [`Mlp::load`].
///
/// A block computes `h + linear_2(act(linear_1(norm(h)) + time_emb_proj(act(embedding))))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Projection of the vector to the hidden width.
    pub linear_in: Linear,
    /// Layers that turn features of the time into the time embedding.
    pub time_embedding: TimestepEmbedding,
    /// What is added to the time embedding for a class.
    pub class_embedding: Option<Embedding>,
    /// Residual blocks.
    pub blocks: Vec<MlpBlock>,
    /// Normalization before the output.
    pub norm_out: LayerNorm,
    /// Projection to the vector.
    pub linear_out: Linear,
    #[module(skip)]
    time: SinusoidalEmbedding,
    #[module(skip)]
    config: MlpConfig,
}

/// A residual block of an [`Mlp`].
#[derive(Module, Debug)]
pub struct MlpBlock {
    /// Normalization of the input.
    pub norm: LayerNorm,
    /// First layer.
    pub linear_1: Linear,
    /// Projection of the time embedding.
    pub time_emb_proj: Linear,
    /// Second layer.
    pub linear_2: Linear,
}

impl Mlp {
    /// Loads a folder written by [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// Those of reading the configuration, of [`MlpConfig::init`] and of
    /// [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, MlpConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes configuration and weights to a folder. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let mut config =
            serde_json::to_value(&self.config).map_err(|e| ModelError::Json { class: CLASS, reason: e.to_string() })?;
        config["_class_name"] = CLASS.into();
        write_folder(self, &config, folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &MlpConfig {
        &self.config
    }

    /// The forward pass, showing the output of every named sub-module to `tap`.
    ///
    /// Vectors are converted to the element type of the weights, and the output back to that of the vectors.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, dim]`
    /// - time: `[batch]`, or `[1]` for all samples
    /// - output: `[batch, dim]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for vectors or times of another shape;
    /// * [`ModelError::Rows`], [`ModelError::ClassOutOfRange`] and [`ModelError::ConditionKind`] for conditions
    ///   that do not fit.
    pub fn forward_with(
        &self,
        x: Tensor<2>,
        time: Tensor<1>,
        cond: &Labels,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<2>, ModelError> {
        let [batch, _] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        let time = for_batch(time, batch)?;
        let cond = cond.for_batch(batch)?;
        let given = x.dtype();
        let dtype = self.linear_in.weight.val().dtype();
        let device = x.device();
        let features = self.time.forward(time).cast(dtype);
        let mut embedding = tap.scope("time_embedding", |tap| self.time_embedding.forward(features, tap));
        match (&self.class_embedding, self.config.classes) {
            (Some(table), Some(count)) => {
                let class = table.forward(cond.indices(count, true, &device)?);
                tap.see("class_embedding", &class);
                embedding = embedding + class;
            }
            _ => cond.nothing()?,
        }
        let act = self.config.activation;
        let embedding = act.forward(embedding);
        let mut h = self.linear_in.forward(x.cast(dtype));
        tap.see("linear_in", &h);
        for (i, block) in self.blocks.iter().enumerate() {
            let inner = block.linear_1.forward(block.norm.forward(h.clone()));
            let inner = act.forward(inner + block.time_emb_proj.forward(embedding.clone()));
            h = h + block.linear_2.forward(inner);
            tap.see(format_args!("blocks.{i}"), &h);
        }
        let h = act.forward(self.norm_out.forward(h));
        let y = self.linear_out.forward(h);
        tap.see("linear_out", &y);
        Ok(y.cast(given))
    }

    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        if sample == [self.config.dim] {
            return Ok(());
        }
        let expected = format!("[batch, {}]", self.config.dim);
        Err(ModelError::Shape { what: "x", given: given.to_vec(), expected })
    }
}

/// One time for each sample.
pub(crate) fn for_batch(time: Tensor<1>, batch: usize) -> Result<Tensor<1>, ModelError> {
    match time.dims() {
        [rows] if rows == batch => Ok(time),
        [1] if batch > 0 => Ok(time.expand([batch])),
        given => Err(ModelError::Shape {
            what: "time",
            given: given.to_vec(),
            expected: format!("[{batch}], one for each sample, or [1]"),
        }),
    }
}

impl Network<2> for Mlp {
    type Cond = Labels;

    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Labels) -> Result<Tensor<2>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(&self, x: Tensor<2>, time: Tensor<1>, cond: &Labels) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        format!("{:?}", self.config)
    }

    fn known_classes(&self) -> Option<usize> {
        self.config.classes
    }

    fn check_condition(&self, cond: &Labels) -> Result<(), DenoiseError> {
        match self.config.classes {
            Some(count) => drop(cond.rows_of(count, true)?),
            None => cond.nothing()?,
        }
        Ok(())
    }
}
