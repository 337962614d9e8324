//! The trainer and its settings.

use crate::error::require;
use crate::precision::Precision;
use crate::schedule::{Decay, LearningRate};
use crate::watch::{Watch, WatchError, Watcher};
use crate::{AdamW, EmaDecay, FromLabels, Objective, TrainError, run};
use burn::module::Module;
use langevin_core::{DenoiseError, Network};
use langevin_data::DataSet;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How labels become the network's condition.
pub(crate) type MakeCondition<C> = Box<dyn Fn(&[Option<usize>]) -> Result<C, DenoiseError> + Send + Sync>;

/// Trains a network on an [`Objective`], step by step.
///
/// The network may come from anywhere: freshly made, loaded, for sampling or for training, as long as it lives on one
/// device. It is trained on that device, in its dtype. Settings are checked by [`fit`](Self::fit), before the first
/// step.
///
/// | setting | default |
/// |---|---|
/// | [`steps`](Self::steps) | 10 000 |
/// | [`batch_size`](Self::batch_size) | 64 |
/// | [`seed`](Self::seed) | 0 |
/// | [`learning_rate`](Self::learning_rate), [`warmup`](Self::warmup), [`decay`](Self::decay) | 2e-4, no warm-up, constant |
/// | [`optimizer`](Self::optimizer) | [`AdamW`] with torch's defaults |
/// | [`clip_norm`](Self::clip_norm) | 1 |
/// | [`ema`](Self::ema) | decay 0.9999 with the default warm-up |
/// | [`condition_dropout`](Self::condition_dropout) | 0 |
/// | [`precision`](Self::precision), [`check_numbers`](Self::check_numbers) | the parameters'; the first step of each call |
/// | [`resume`](Self::resume), [`checkpoint_every`](Self::checkpoint_every) | no checkpoints; 1000 |
/// | [`workers`](Self::workers) | 0: batches are made between the steps |
/// | [`stop_when`](Self::stop_when) | never |
///
/// # Reproducibility
/// The batches, their noise, levels and dropped labels are functions of (seed, step). Before each step Burn's
/// generator is seeded from (seed, step) for what layers draw themselves (dropout). On most backends that generator
/// belongs to the whole process: two trainings with dropout at the same time in one process disturb each other's
/// dropout, and nothing else. On one machine and device a seed gives the same numbers every time where the
/// backend's kernels do; the CPU's do.
///
/// # Example
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::tensor::{Device, Tensor};
/// # use langevin_core::process::RectifiedFlow;
/// # use langevin_core::{DenoiseError, Network, Prediction};
/// # use langevin_data::VectorSet;
/// # use langevin_train::{Objective, Trainer};
/// /// The least of networks: one number.
/// #[derive(Module, Debug)]
/// struct Scale { scale: Param<Tensor<1>> }
/// impl Network<2> for Scale {
///     type Cond = ();
///     fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
///         Ok(x.mul(self.scale.val().reshape([1, 1])))
///     }
///     fn for_sampling(&self) -> Self { self.valid() }
/// }
/// let network = Scale { scale: Param::from_data([1.0], &Device::flex()) };
/// let data = VectorSet::new(vec![0.5, 1.0, -0.5, -1.0], [4, 1])?;
/// let objective = Objective::new(RectifiedFlow::new(), Prediction::Flow)?;
/// let trained = Trainer::new(network, objective).steps(5).batch_size(4).learning_rate(1e-2).quiet().fit(&data)?;
/// assert_eq!(trained.history.len(), 5);
/// let network = trained.for_sampling(); // the moving average
/// # assert!(network.scale.val().into_scalar::<f32>() != 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<N: Network<D>, const D: usize> {
    pub(crate) network: N,
    pub(crate) objective: Objective,
    pub(crate) condition: MakeCondition<N::Cond>,
    /// Classes that the network is told of by labels.
    pub(crate) classes: Option<usize>,
    pub(crate) settings: Settings,
}

/// All settings but network and objective.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) steps: u64,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) learning_rate: LearningRate,
    /// The cosine's length is the number of steps, known at the end only.
    cosine_to_end: bool,
    pub(crate) optimizer: AdamW,
    pub(crate) clip_norm: Option<f64>,
    pub(crate) ema: Option<EmaDecay>,
    pub(crate) condition_dropout: f64,
    pub(crate) precision: Precision,
    pub(crate) check_numbers: bool,
    pub(crate) checkpoint_every: u64,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) workers: usize,
    pub(crate) quiet: bool,
    pub(crate) stop: Option<Arc<AtomicBool>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 10_000,
            batch_size: 64,
            seed: 0,
            learning_rate: LearningRate { base: 2e-4, warmup: 0, decay: Decay::Constant },
            cosine_to_end: false,
            optimizer: AdamW::default(),
            clip_norm: Some(1.0),
            ema: Some(EmaDecay::from(0.9999)),
            condition_dropout: 0.0,
            precision: Precision::Full,
            check_numbers: false,
            checkpoint_every: 1000,
            folder: None,
            workers: 0,
            quiet: false,
            stop: None,
        }
    }
}

impl<N: Network<D> + Module, const D: usize> Trainer<N, D> {
    /// A trainer whose network's condition is made from the labels of the data.
    pub fn new(network: N, objective: Objective) -> Self
    where
        N::Cond: FromLabels + 'static,
    {
        let classes = network.known_classes();
        Self { classes, ..Self::conditioned(network, objective, N::Cond::from_labels) }
    }

    /// A trainer that makes the network's condition with a function of the labels, one for each sample of a batch; `None` is "no class". Its
    /// error comes out of [`fit`](Self::fit) as [`TrainError::Denoise`].
    pub fn conditioned(
        network: N,
        objective: Objective,
        condition: impl Fn(&[Option<usize>]) -> Result<N::Cond, DenoiseError> + Send + Sync + 'static,
    ) -> Self {
        Self { network, objective, condition: Box::new(condition), classes: None, settings: Settings::default() }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Number of steps in all, those of a resumed checkpoint included; at least 1. Default: 10 000.
    #[must_use]
    pub fn steps(self, steps: u64) -> Self {
        self.set(|s| s.steps = steps)
    }

    /// Samples in a step, between 1 and the size of the data set. Default: 64.
    #[must_use]
    pub fn batch_size(self, batch_size: usize) -> Self {
        self.set(|s| s.batch_size = batch_size)
    }

    /// The seed of everything random. Default: 0.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set(|s| s.seed = seed)
    }

    /// The learning rate after warm-up, > 0. Default: 2e-4.
    #[must_use]
    pub fn learning_rate(self, rate: f64) -> Self {
        self.set(|s| s.learning_rate.base = rate)
    }

    /// Steps over which the learning rate grows linearly from 0. Default: 0.
    #[must_use]
    pub fn warmup(self, steps: u64) -> Self {
        self.set(|s| s.learning_rate.warmup = steps)
    }

    /// The course of the learning rate after warm-up. Default: constant.
    #[must_use]
    pub fn decay(self, decay: Decay) -> Self {
        self.set(|s| (s.learning_rate.decay, s.cosine_to_end) = (decay, false))
    }

    /// Lets the learning rate fall to 0 along half a cosine that ends with the last step.
    #[must_use]
    pub fn cosine(self) -> Self {
        self.set(|s| s.cosine_to_end = true)
    }

    /// The settings of AdamW.
    #[must_use]
    pub fn optimizer(self, optimizer: AdamW) -> Self {
        self.set(|s| s.optimizer = optimizer)
    }

    /// Scales gradients down to this norm, > 0, over all parameters together. Default: 1.
    #[must_use]
    pub fn clip_norm(self, norm: f64) -> Self {
        self.set(|s| s.clip_norm = Some(norm))
    }

    /// Leaves gradients as they are.
    #[must_use]
    pub fn no_clipping(self) -> Self {
        self.set(|s| s.clip_norm = None)
    }

    /// Keeps a moving average of the parameters: a decay in `[0, 1)`, or an [`EmaDecay`] with its warm-up. Default:
    /// 0.9999.
    #[must_use]
    pub fn ema(self, decay: impl Into<EmaDecay>) -> Self {
        self.set(|s| s.ema = Some(decay.into()))
    }

    /// Keeps no moving average.
    #[must_use]
    pub fn no_ema(self) -> Self {
        self.set(|s| s.ema = None)
    }

    /// Probability, in `[0, 1]`, that a sample's label is replaced by "no class"; about 0.1 for classifier-free
    /// guidance; 1 trains a network without classes on labeled data. Default: 0.
    #[must_use]
    pub fn condition_dropout(self, probability: f64) -> Self {
        self.set(|s| s.condition_dropout = probability)
    }

    /// Sets what the network computes in. Default: [`Precision::Full`].
    ///
    /// With [`Precision::F16`] each step waits for the device once, to see whether gradients overflowed; a step whose gradients
    /// did changes nothing.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        self.set(|s| s.precision = precision)
    }

    /// Looks at the loss and at the gradients of each step before it changes the network, and ends the run by an error that names where
    /// numbers stopped being finite: the layer, the parameter, the data. In [`Precision::F16`] gradients that overflow are no error as long as they do
    /// not without a scale, for which such a step is done twice. Each step waits for the device twice. The result is the same with it as without.
    ///
    /// Without it the first step of each call is looked at in this way, and in `F16` the loss of every one whose gradients overflow; other
    /// losses are read some steps later, when the network that made them is gone.
    #[must_use]
    pub fn check_numbers(self) -> Self {
        self.set(|s| s.check_numbers = true)
    }

    /// Writes checkpoints into `folder`, the last one after the last step, and goes on from the one that is there, if
    /// there is one.
    ///
    /// A resumed run ends at the same numbers as an uninterrupted one. All settings must be the same but the number of
    /// steps (which counts with [`cosine`](Self::cosine), too), workers, and how often checkpoints are written. Of the data
    /// only the number of samples is compared: that they are the same is up to you.
    #[must_use]
    pub fn resume(self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // An empty path is the present folder, which has to be said where it is opened.
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        self.set(|s| s.folder = Some(folder))
    }

    /// Steps between two checkpoints, at least 1. Default: 1000. Without effect unless [`resume`](Self::resume) names
    /// a folder.
    #[must_use]
    pub fn checkpoint_every(self, steps: u64) -> Self {
        self.set(|s| s.checkpoint_every = steps)
    }

    /// Threads that make batches and their noise ahead of the steps, on the CPU; at most 64. The result is the same for any
    /// number. Default: 0.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        self.set(|s| s.workers = workers)
    }

    /// Shows no progress. Otherwise there is a bar on a terminal, and a line every quarter of a minute elsewhere, on
    /// standard error.
    #[must_use]
    pub fn quiet(self) -> Self {
        self.set(|s| s.quiet = true)
    }

    /// Ends the run after the step during which `stop` becomes true, with a checkpoint if there is a folder for it:
    /// what a handler of interrupts sets. [`Trained::finished`] is false then, and the same run goes on later.
    #[must_use]
    pub fn stop_when(self, stop: Arc<AtomicBool>) -> Self {
        self.set(|s| s.stop = Some(stop))
    }

    /// Trains, and shows the run to `look` after every `every` steps, at least 1: to save samples, to measure a
    /// held-out loss, to draw curves. What it draws at random does not change the training.
    ///
    /// ```
    /// # use langevin_core::{Prediction, process::RectifiedFlow};
    /// # use langevin_data::VectorSet;
    /// # use langevin_models::MlpConfig;
    /// # use langevin_train::{Objective, Trainer};
    /// # let data = VectorSet::new(vec![0.5, 1.0, -0.5, -1.0], [4, 1])?;
    /// # let network = MlpConfig::new(1).hidden(8).init(&burn::tensor::Device::flex())?;
    /// # let objective = Objective::new(RectifiedFlow::new(), Prediction::Flow)?;
    /// let mut curve = Vec::new();
    /// let trained = Trainer::new(network, objective).steps(6).batch_size(4).quiet().fit_watched(&data, 2, |watch| {
    ///     curve.push((watch.step, watch.mean_loss(2)));
    ///     Ok(())
    /// })?;
    /// assert!(trained.finished);
    /// assert_eq!(curve.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 6]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`fit`](Self::fit), and [`TrainError::Watch`] with what `look` returned.
    pub fn fit_watched<S: DataSet<D> + ?Sized>(
        mut self,
        data: &S,
        every: u64,
        mut look: impl FnMut(Watch<'_, N>) -> Result<(), WatchError>,
    ) -> Result<Trained<N>, TrainError> {
        require(every > 0, "every", every as f64, "a whole number, at least 1")?;
        self.settings.resolve(data.len())?;
        run::run(self, data, Some(Watcher { every, look: &mut look }))
    }

    /// Trains.
    ///
    /// # Errors
    /// Settings: [`TrainError::Setting`], [`TrainError::BatchSize`]. The network: [`TrainError::NoParameters`],
    /// [`TrainError::Devices`], [`TrainError::NoLabels`], [`TrainError::Classes`], [`TrainError::Denoise`], [`TrainError::EpsilonVanishes`]; [`TrainError::Precision`],
    /// [`TrainError::NarrowParameter`] and [`TrainError::InputNotCast`] with a precision. Along the way: [`TrainError::Data`],
    /// [`TrainError::NonFiniteLoss`], [`TrainError::NonFiniteGradient`] and [`TrainError::NonFiniteParameters`]; the last checkpoint stays then.
    /// [`TrainError::Checkpoint`] for one that cannot be written, is damaged, or belongs to another configuration.
    pub fn fit<S: DataSet<D> + ?Sized>(mut self, data: &S) -> Result<Trained<N>, TrainError> {
        self.settings.resolve(data.len())?;
        run::run(self, data, None)
    }
}

impl Settings {
    /// Fills in what depends on other settings, and checks them all.
    fn resolve(&mut self, len: usize) -> Result<(), TrainError> {
        let positive = "a whole number, at least 1";
        require(self.steps > 0, "steps", self.steps as f64, positive)?;
        require(self.batch_size > 0, "batch_size", self.batch_size as f64, positive)?;
        if self.batch_size > len {
            return Err(TrainError::BatchSize { batch_size: self.batch_size, len });
        }
        if self.cosine_to_end {
            self.learning_rate.decay = Decay::Cosine { steps: self.steps, floor: 0.0 };
        }
        self.learning_rate.validate()?;
        self.optimizer.validate()?;
        if let Some(norm) = self.clip_norm {
            require(norm > 0.0 && norm.is_finite(), "clip_norm", norm, "a positive, finite number")?;
        }
        if let Some(ema) = self.ema {
            ema.validate()?;
        }
        let p = self.condition_dropout;
        require((0.0..=1.0).contains(&p), "condition_dropout", p, "a probability in [0, 1]")?;
        require(self.checkpoint_every > 0, "checkpoint_every", self.checkpoint_every as f64, positive)?;
        require(self.workers <= 64, "workers", self.workers as f64, "at most 64 threads")?;
        Ok(())
    }

    /// What decides the result of training, by name.
    pub(crate) fn fingerprint(&self, network: String, objective: &Objective, len: usize) -> BTreeMap<String, String> {
        let objective = objective.describe();
        [
            ("network", network),
            ("process", objective.process),
            ("prediction", objective.prediction),
            ("weighting", objective.weighting),
            ("times", objective.times),
            ("samples", len.to_string()),
            ("batch_size", self.batch_size.to_string()),
            ("seed", self.seed.to_string()),
            ("learning_rate", format!("{:?}", self.learning_rate)),
            ("optimizer", format!("{:?}", self.optimizer)),
            ("clip_norm", format!("{:?}", self.clip_norm)),
            ("ema", format!("{:?}", self.ema)),
            ("condition_dropout", format!("{:?}", self.condition_dropout)),
        ]
        .into_iter()
        // Runs from before there were others say nothing.
        .chain((self.precision != Precision::Full).then(|| ("precision", format!("{:?}", self.precision))))
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
}

/// What training leaves.
#[derive(Clone, Debug)]
pub struct Trained<N> {
    /// The network after the last step, without autodiff.
    pub network: N,
    /// The moving average of its parameters, in the dtypes of the network, unless it was switched off.
    pub ema: Option<N>,
    /// The loss of each step, counted from 0, those before a resumed checkpoint included.
    pub history: Vec<(u64, f32)>,
    /// Steps that were done before this call: those of the checkpoint it went on from, or 0.
    pub resumed_at: u64,
    /// Steps that changed nothing because gradients overflowed in `f16` ([`Trainer::precision`]). The first few of a run often do: one
    /// of a few steps may have changed nothing at all.
    pub left_out: u64,
    /// Whether all steps were done; false after [`Trainer::stop_when`].
    pub finished: bool,
}

impl<N> Trained<N> {
    /// The network to sample with: the moving average if there is one.
    pub fn for_sampling(&self) -> &N {
        self.ema.as_ref().unwrap_or(&self.network)
    }
}
