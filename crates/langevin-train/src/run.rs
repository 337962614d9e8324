//! The training loop.

use crate::batches::{Prepared, Source};
use crate::checkpoint::{self, Checkpoint, Records, parameters};
use crate::conditioning::drop_labels;
use crate::finite::{first_parameter_not_finite, last_gradient_not_finite};
use crate::norm::{Scaled, factor, sum_of_squares};
use crate::optimizer::{Optimizer, OptimizerState};
use crate::precision::{LossScale, Precision, in_precision, require_epsilon, require_full};
use crate::progress::Progress;
use crate::question::Question;
use crate::random::{Purpose, Stream};
use crate::trainer::{Settings, Trained, Trainer};
use crate::watch::{Watch, Watcher};
use crate::{CheckpointError, Ema, Origin, TrainError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, Device, Int, Tensor};
use langevin_core::Network;
use langevin_core::noise::Seeded;
use langevin_data::{BatchOrder, DataSet};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Steps whose losses wait on the device until they are read together.
const READ_EVERY: usize = 16;

/// Trains with settings that have been checked.
pub(crate) fn run<N, S, const D: usize>(
    trainer: Trainer<N, D>,
    data: &S,
    mut watcher: Option<Watcher<'_, N>>,
) -> Result<Trained<N>, TrainError>
where
    N: Network<D> + Module,
    S: DataSet<D> + ?Sized,
{
    let Trainer { network, objective, condition, classes, settings } = trainer;
    let seed = settings.seed;
    let device = plain_device(&network)?;
    let working_type = settings.precision.dtype(|dtype| device.supports_dtype(dtype))?;
    // Parameters that do not exist yet are drawn when first used: here, under the seed of the run.
    device.seed(device_seed(seed, u64::MAX));
    network.visit(&mut Touch);
    if working_type.is_some() {
        require_full(&network)?;
        if !network.casts_input() {
            return Err(TrainError::InputNotCast);
        }
    }
    require_epsilon(&network, settings.optimizer.epsilon)?;

    if let (Some(known), Some(given)) = (classes, data.classes())
        && given > known
        && settings.condition_dropout < 1.0
    {
        return Err(TrainError::Classes { known, given });
    }
    let fingerprint = settings.fingerprint(network.describe(), &objective, data.len());
    let mut state = State::new(network.valid().train(), &settings)?;
    if let Some(folder) = &settings.folder {
        state.load(folder, &fingerprint, &settings)?;
    }
    let start = state.losses.len() as u64;
    let mut progress = Progress::new(start, settings.steps, settings.quiet);
    let noise = Seeded::new(seed);
    let order = BatchOrder::new(data.len(), settings.batch_size, seed)?;
    let source = Source { data, order, noise: &noise, device: &device };

    let state = std::thread::scope(|scope| {
        let mut state = state;
        let batches = source.batches(scope, start..settings.steps, settings.workers);
        let mut pending = Vec::new();
        for (step, batch) in (start..settings.steps).zip(batches) {
            let Prepared { x, labels, noise } = batch?;
            let rows = x.dims()[0];
            let levels = objective.levels(seed, step, rows)?;
            if let (None, Some(classes)) = (&labels, classes)
                && settings.condition_dropout < 1.0
            {
                return Err(TrainError::NoLabels { classes });
            }
            let labels = drop_labels(labels, rows, settings.condition_dropout, seed, step);
            let cond = condition(&labels)?;
            let working = working_type.map(|dtype| in_precision(&state.network, dtype));
            let question = Question {
                objective: &objective,
                x0: x,
                noise,
                levels,
                cond,
                device: &device,
                seed: device_seed(seed, step),
                step,
                precision: settings.precision,
                checkpoint: state.saved,
                // Nothing is known of a network yet that somebody has just brought.
                checked: step == start || settings.check_numbers,
            };
            let asked = working.as_ref().unwrap_or(&state.network);
            let loss = question.loss(asked)?;
            pending.push(loss.clone().inner());
            if question.checked {
                question.check(asked, &loss)?;
            }
            if let Some(scaled) = state.gradients(loss, working, &settings, &question)? {
                state = state.update(settings.learning_rate.at(step), scaled);
            }

            let done = step + 1;
            let stopping = settings.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            let last = done == settings.steps || stopping;
            let folder = settings.folder.as_deref();
            let folder = folder.filter(|_| last || done % settings.checkpoint_every == 0);
            let watched = watcher.as_ref().is_some_and(|watcher| done % watcher.every == 0);
            if pending.len() == READ_EVERY || folder.is_some() || last || watched {
                let fresh = state.read(std::mem::take(&mut pending), settings.precision)?;
                progress.advance(done, &state.losses[state.losses.len() - fresh..], state.loss_scale.left_out);
            }
            if folder.is_some() || last {
                state.check_parameters(done)?;
            }
            if let Some(folder) = folder {
                state.save(folder, &fingerprint)?;
            }
            if let Some(watcher) = watcher.as_mut().filter(|_| watched) {
                let (losses, network) = (&state.losses, state.sampler());
                let watch = Watch { step: done, steps: settings.steps, resumed_at: start, losses, network };
                progress
                    .suspend(|| (watcher.look)(watch))
                    .map_err(|source| TrainError::Watch { step: done, source })?;
            }
            if stopping {
                break;
            }
        }
        Ok::<_, TrainError>(state)
    })?;
    progress.finish();
    let finished = state.losses.len() as u64 == settings.steps;
    Ok(state.finish(start, finished))
}

/// The seed that Burn's generator gets in a step.
fn device_seed(seed: u64, step: u64) -> u64 {
    Stream::new(seed, Purpose::Device, step).next_u64()
}

/// The one device of a network, without autodiff.
fn plain_device<M: Module>(network: &M) -> Result<Device, TrainError> {
    match network.devices().as_slice() {
        [] => Err(TrainError::NoParameters),
        [device] => Ok(device.clone().inner()),
        devices => Err(TrainError::Devices { count: devices.len() }),
    }
}

/// Asks every parameter for its value, so that it exists.
struct Touch;

impl ModuleVisitor for Touch {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        param.val();
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        param.val();
    }
}

/// What changes from step to step.
struct State<N> {
    /// In training.
    network: N,
    optimizer: Optimizer,
    ema: Option<Ema<N>>,
    /// The losses that have been read, from step 0 on.
    losses: Vec<f32>,
    /// Steps in the last checkpoint.
    saved: Option<u64>,
    /// In half precision.
    loss_scale: LossScale,
}

impl<N: Module> State<N> {
    fn new(network: N, settings: &Settings) -> Result<Self, TrainError> {
        let ema = settings.ema.map(|decay| Ema::new(&network, decay)).transpose()?;
        let optimizer = Optimizer::new(settings.optimizer);
        Ok(Self { network, optimizer, ema, losses: Vec::new(), saved: None, loss_scale: LossScale::default() })
    }

    /// The gradients of the loss of `working`, the network in another precision, or of the network itself. `None` for a step to be
    /// left out, whose gradients overflowed although the loss is finite.
    fn gradients<const D: usize>(
        &mut self,
        loss: Tensor<1>,
        working: Option<N>,
        settings: &Settings,
        question: &Question<'_, N::Cond, D>,
    ) -> Result<Option<Scaled>, TrainError>
    where
        N: Network<D>,
    {
        let half = question.precision == Precision::F16;
        let scale = if half { self.loss_scale.factor } else { 1.0 };
        let asked = working.as_ref().unwrap_or(&self.network);
        let of = |loss: Tensor<1>| GradientsParams::from_grads(loss.backward(), asked);
        let gradients = of(if half { loss.clone().mul_scalar(scale) } else { loss.clone() });
        let squares =
            (half || settings.clip_norm.is_some()).then(|| sum_of_squares(&gradients, &self.network)).flatten();
        // One number is read; the rest is asked only where it says that something is wrong.
        let suspected = match &squares {
            Some(squares) if half => !squares.clone().try_into_scalar::<f32>()?.is_finite(),
            _ => question.checked,
        };
        let wrong = if suspected { last_gradient_not_finite(&gradients, &self.network)? } else { None };
        if half {
            self.loss_scale = self.loss_scale.after(wrong.is_none());
        }
        if let Some(parameter) = wrong {
            question.check(asked, &loss)?;
            let scaled = half && self.loss_scale.factor >= LossScale::LEAST;
            let parameter = match scaled {
                // What has no scale that would be small enough is told at once, and not after sixteen steps.
                true if question.checked => last_gradient_not_finite(&of(question.loss(asked)?), &self.network)?,
                true => None,
                false => Some(parameter),
            };
            let Some(parameter) = parameter else { return Ok(None) };
            let Question { step, precision, checkpoint, .. } = *question;
            return Err(TrainError::NonFiniteGradient { step, parameter, precision, checkpoint });
        }
        let factor = squares.and_then(|squares| factor(squares, scale, settings.clip_norm));
        Ok(Some(Scaled { gradients, factor }))
    }

    fn update(mut self, learning_rate: f64, scaled: Scaled) -> Self {
        self.network = self.optimizer.step(learning_rate, self.network, scaled);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.network);
        }
        self
    }

    /// Reads losses from the device, checks them, and returns how many there were.
    fn read(&mut self, pending: Vec<Tensor<1>>, precision: Precision) -> Result<usize, TrainError> {
        let losses = Tensor::cat(pending, 0).try_into_vec_as::<f32>()?;
        for (step, &loss) in (self.losses.len() as u64..).zip(&losses) {
            if !loss.is_finite() {
                let (origin, checkpoint) = (Origin::Unknown, self.saved);
                return Err(TrainError::NonFiniteLoss { step, loss, origin, precision, checkpoint });
            }
        }
        self.losses.extend(&losses);
        Ok(losses.len())
    }

    /// The last update can spoil parameters without a loss that shows it.
    fn check_parameters(&self, step: u64) -> Result<(), TrainError> {
        match first_parameter_not_finite(&self.network)? {
            Some(parameter) => Err(TrainError::NonFiniteParameters { step, parameter, checkpoint: self.saved }),
            None => Ok(()),
        }
    }

    fn save(&mut self, folder: &Path, fingerprint: &BTreeMap<String, String>) -> Result<(), CheckpointError> {
        let network = self.network.valid();
        let OptimizerState { first, second, updates } = self.optimizer.state(&network);
        let step = self.losses.len() as u64;
        let checkpoint = Checkpoint {
            step,
            settings: fingerprint.clone(),
            parameters: parameters(&network),
            optimizer_updates: updates,
            ema_updates: self.ema.as_ref().map(Ema::updates),
            loss_scale: self.loss_scale,
            records: Records {
                network: checkpoint::record(network)?,
                first: checkpoint::record(first)?,
                second: checkpoint::record(second)?,
                ema: self.ema.as_ref().map_or(Ok(Vec::new()), |ema| checkpoint::record(ema.network()))?,
            },
            losses: self.losses.clone(),
        };
        checkpoint.save(folder)?;
        self.saved = Some(step);
        Ok(())
    }

    /// Goes on from the checkpoint in `folder`, if there is one.
    fn load(
        &mut self,
        folder: &Path,
        fingerprint: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<(), CheckpointError> {
        let Some(checkpoint) = Checkpoint::load(folder)? else {
            return Ok(());
        };
        let path = checkpoint::file(folder);
        let plain = self.network.valid();
        checkpoint.check(fingerprint, &parameters(&plain), &path)?;
        let Checkpoint { step, optimizer_updates: updates, ema_updates, loss_scale, records, losses, .. } = checkpoint;
        if step > settings.steps {
            return Err(CheckpointError::Beyond { path, step, steps: settings.steps });
        }
        let restore = |network, record| checkpoint::restore(network, record, &path);
        self.network = restore(plain.clone(), records.network)?.train();
        let (first, second) = (restore(plain.clone(), records.first)?, restore(plain, records.second)?);
        self.optimizer.resume(&OptimizerState { first, second, updates });
        if let (Some(ema), Some(updates)) = (&mut self.ema, ema_updates) {
            ema.resume(restore(ema.network(), records.ema)?, updates);
        }
        self.losses = losses;
        self.loss_scale = loss_scale;
        self.saved = Some(step);
        Ok(())
    }

    /// The network to sample with: the average if there is one.
    fn sampler(&self) -> N {
        self.ema.as_ref().map_or_else(|| self.network.valid(), |ema| ema.network_like(&self.network))
    }

    fn finish(self, resumed_at: u64, finished: bool) -> Trained<N> {
        Trained {
            resumed_at,
            finished,
            ema: self.ema.map(|ema| ema.network_like(&self.network)),
            network: self.network.valid(),
            history: (0..).zip(self.losses).collect(),
            left_out: self.loss_scale.left_out,
        }
    }
}
