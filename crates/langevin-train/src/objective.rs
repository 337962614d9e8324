//! What a network is trained for.

use crate::times::steps;
use crate::{Times, TrainError, Weighting};
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Level, Levels, Network, Prediction, Process};
use std::sync::Arc;

/// Points of a continuous process at which an objective is checked when it is built.
const PROBES: usize = 257;

/// Denoising as regression: noise the data to a random level, ask the network, weigh the squared error.
///
/// For data `x_0`, noise ε and a level (α, σ) drawn as [`Times`] says, the loss of one sample is
/// `w·mean((F(s·x_t, time) − target)²)` with `x_t = α·x_0 + σ·ε`; the target and the input scale `s` are those of the
/// [`Prediction`], the weight `w` that of the [`Weighting`]. Coefficients are `f64` on the host; a step sends them to the
/// device as one number a sample.
///
/// A prediction that is trainable everywhere on the process need not be samplable everywhere: ε on a chain with zero
/// terminal SNR trains, but its last step carries no information about x_0, and sampling from there is an error (use
/// v, flow or x_0). The variance is not learned: the loss is of the prediction alone.
///
/// ```
/// use langevin_core::{Prediction, Process};
/// use langevin_train::{Objective, Times, Weighting};
/// /// Straight lines from data to noise.
/// #[derive(Debug)]
/// struct Straight;
/// impl Process for Straight {
///     fn alpha(&self, t: f64) -> f64 { 1.0 - t }
///     fn sigma(&self, t: f64) -> f64 { t }
///     fn alpha_dot(&self, _: f64) -> f64 { -1.0 }
///     fn sigma_dot(&self, _: f64) -> f64 { 1.0 }
///     fn time_range(&self) -> (f64, f64) { (0.0, 1.0) }
/// }
/// let objective = Objective::new(Straight, Prediction::Flow)?.weighting(Weighting::Constant)?.times(Times::Stratified)?;
/// // The score would be infinite at time 0, where there is no noise:
/// assert!(Objective::new(Straight, Prediction::Score).is_err());
/// # Ok::<(), langevin_train::TrainError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Objective {
    process: Arc<dyn Process>,
    prediction: Prediction,
    weighting: Weighting,
    times: Times,
}

impl Objective {
    /// Regression on `prediction` along `process`, with [`Weighting::Constant`] and [`Times::Uniform`].
    ///
    /// # Errors
    /// [`TrainError::Prediction`] where the prediction has bad settings or no finite target (score at σ = 0, EDM at
    /// α = 0); [`TrainError::Level`] and [`TrainError::TimeRange`] for a process that is not finite.
    pub fn new(process: impl Process + 'static, prediction: Prediction) -> Result<Self, TrainError> {
        let objective = Self {
            process: Arc::new(process),
            prediction: prediction.validate()?,
            weighting: Weighting::Constant,
            times: Times::Uniform,
        };
        let (min, max) = objective.process.time_range();
        let exists = match steps(objective.process.as_ref()) {
            Some(steps) => steps > 0,
            None => min.is_finite() && max.is_finite() && min < max,
        };
        if !exists {
            return Err(TrainError::TimeRange { min, max });
        }
        objective.check()?;
        Ok(objective)
    }

    /// Sets the loss weights.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a bad γ, [`TrainError::Weight`] where the weight is infinite on the process.
    pub fn weighting(mut self, weighting: Weighting) -> Result<Self, TrainError> {
        self.weighting = weighting.validate()?;
        self.check()?;
        Ok(self)
    }

    /// Sets how noise levels are drawn.
    ///
    /// # Errors
    /// [`TrainError::Times`] or [`TrainError::Setting`] if that is not possible on the process.
    pub fn times(mut self, times: Times) -> Result<Self, TrainError> {
        self.times = times.validate(self.process.as_ref())?;
        Ok(self)
    }

    /// The process.
    pub fn process(&self) -> &dyn Process {
        self.process.as_ref()
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The number the plain mean squared error is multiplied by at `level`.
    ///
    /// # Errors
    /// [`TrainError::Weight`] where it is infinite.
    pub fn weight(&self, level: &Level) -> Result<f64, TrainError> {
        self.weighting.weight(self.prediction, level)
    }

    /// The levels of the `rows` samples of step `step`: a pure function of its arguments, sample by sample.
    ///
    /// # Errors
    /// [`TrainError::Times`] if the process cannot invert its λ, which only [`Times::LogNormal`] asks for.
    pub fn levels(&self, seed: u64, step: u64, rows: usize) -> Result<Levels, TrainError> {
        self.times.levels(self.process.as_ref(), seed, step, rows).map_err(|_| TrainError::Times {
            times: "log-normal times",
            reason: "the process has no time for a level inside its own range; check its `time_at_lambda`",
        })
    }

    /// The loss of a batch, `[1]`: data and noise `[batch, ..]`, one level for each sample.
    ///
    /// Gradients flow to the network's parameters if it is in training (`Module::train`).
    ///
    /// # Errors
    /// [`TrainError::Denoise`] if shapes, levels or the condition do not fit; [`TrainError::Prediction`] and
    /// [`TrainError::Weight`] at levels outside the process that are singular.
    pub fn loss<N: Network<D>, const D: usize>(
        &self,
        network: &N,
        x0: Tensor<D>,
        noise: Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
    ) -> Result<Tensor<1>, TrainError> {
        let batch = x0.dims()[0];
        check_shapes(network, &x0, &noise, levels)?;
        let prediction = self.prediction;
        let target_x0 = levels.try_map(|level| Ok::<_, TrainError>(prediction.target(level)?.x0))?;
        let target_eps = levels.try_map(|level| Ok::<_, TrainError>(prediction.target(level)?.eps))?;
        let input = levels.try_map(|level| Ok::<_, TrainError>(prediction.input_scale(level)?))?;
        let weights = levels.try_map(|level| self.weight(level))?;

        let x = levels.map(|level| level.alpha).times(x0.clone());
        let x = input.times(x.add(levels.map(|level| level.sigma).times(noise.clone())));
        let target = target_x0.times(x0).add(target_eps.times(noise));
        // Layers such as dropout ask the input whether training goes on, so it must be on the autodiff device too.
        let (x, target) = (Tensor::from_inner(x), Tensor::from_inner(target));
        let time = levels.times(&x);
        let output = network.forward(x, time, cond)?;
        if output.dims() != target.dims() {
            let expected = format!("{:?}, the shape of the batch", target.dims());
            let given = output.dims().to_vec();
            return Err(DenoiseError::Shape { what: "the network's output".into(), given, expected }.into());
        }
        let squares = output.sub(target).square().reshape([batch as i32, -1]);
        Ok(weights.times(squares.mean_dim(1)).mean())
    }

    /// Asks every coefficient on a chain, or on a fine grid of a continuous process, whether it is finite.
    fn check(&self) -> Result<(), TrainError> {
        self.nodes().try_for_each(|t| {
            let level = self.process.level(t);
            let (alpha, sigma) = (level.alpha, level.sigma);
            if !(alpha >= 0.0 && sigma >= 0.0 && alpha + sigma > 0.0 && (alpha + sigma + level.time).is_finite()) {
                return Err(TrainError::Level { t, alpha, sigma });
            }
            self.prediction.target(&level)?;
            self.prediction.input_scale(&level)?;
            self.weight(&level)?;
            Ok(())
        })
    }

    /// All steps of a chain, or a grid over the range of a continuous process with both ends.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = f64> {
        let (min, max) = self.process.time_range();
        let steps = steps(self.process.as_ref());
        let count = steps.unwrap_or(PROBES);
        (0..count).map(move |i| match steps {
            Some(_) => i as f64,
            // The last point must be the end itself, not the end up to rounding.
            None if i + 1 == count => max,
            None => min + (max - min) * i as f64 / (count - 1) as f64,
        })
    }

    /// What decides the result of training, in words and numbers, for the fingerprint of a checkpoint.
    pub(crate) fn describe(&self) -> ObjectiveDescription {
        let mut hash = crate::checkpoint::Hash::default();
        for t in self.nodes() {
            let level = self.process.level(t);
            for number in [level.alpha, level.sigma, level.time] {
                hash.write(&number.to_bits().to_le_bytes());
            }
        }
        let debug = format!("{:?}", self.process);
        let name = debug.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        ObjectiveDescription {
            process: format!("{name} with levels #{:016x}", hash.finish()),
            prediction: format!("{:?}", self.prediction),
            weighting: format!("{:?}", self.weighting),
            times: format!("{:?}", self.times),
        }
    }
}

/// An [`Objective`] as a checkpoint remembers it.
pub(crate) struct ObjectiveDescription {
    pub(crate) process: String,
    pub(crate) prediction: String,
    pub(crate) weighting: String,
    pub(crate) times: String,
}

fn check_shapes<N: Network<D>, const D: usize>(
    network: &N,
    x0: &Tensor<D>,
    noise: &Tensor<D>,
    levels: &Levels,
) -> Result<(), DenoiseError> {
    network.check_shape(&x0.dims()[1..])?;
    if noise.dims() != x0.dims() {
        let expected = format!("{:?}, the shape of the data", x0.dims());
        return Err(DenoiseError::Shape { what: "the noise".into(), given: noise.dims().to_vec(), expected });
    }
    match levels.rows() {
        Some(rows) if rows != x0.dims()[0] => Err(DenoiseError::LevelRows { levels: rows, batch: x0.dims()[0] }),
        _ => Ok(()),
    }
}
