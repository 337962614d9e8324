//! Samplers, runs and their state.
//!
//! A [`Sampler`] moves a state by one committed step. A [`Run`] drives one as an iterator of [`Step`]s; its
//! [`RunState`] is a value that can be cloned, saved mid-way and resumed to the same bits.

use crate::plan::Memory;
use burn::tensor::{Tensor, TensorData};
use langevin_core::{
    Constraint, DenoiseError, Denoiser, Estimate, Key, Levels, Load, NoiseError, NoiseSource, PredictionError, Query,
};
use serde::{Deserialize, Serialize};

/// What a sampler works with: who answers, and where noise comes from.
pub struct Context<'a, const D: usize> {
    /// The denoiser.
    pub denoiser: &'a dyn Denoiser<D>,
    /// The noise source.
    pub noise: &'a dyn NoiseSource,
}

impl<const D: usize> Context<'_, D> {
    /// Asks the denoiser, counts the evaluation and keeps the estimate if the denoiser remembers.
    ///
    /// # Errors
    /// Whatever the denoiser returns.
    pub fn ask(&self, state: &mut RunState<D>, x: Tensor<D>, levels: &Levels) -> Result<Estimate<D>, SampleError> {
        let estimate = self.denoiser.denoise(Query { x, levels, past: &state.past, noise: self.noise })?;
        state.evaluations += 1;
        let memory = self.denoiser.memory();
        if memory > 0 {
            state.past.push(estimate.clone());
            let excess = state.past.len().saturating_sub(memory);
            state.past.drain(..excess);
        }
        Ok(estimate)
    }
}

/// Moves a state along a process, one committed step at a time. Object-safe.
///
/// A user's own solver is one `impl`: read `state.x()`, ask, write back, and return
/// [`state.step(..)`](RunState::step); `Ok(None)` ends the run. A [`Plan`](crate::Plan) is a sampler.
pub trait Sampler<const D: usize>: Send + Sync {
    /// Makes one step. On an error the run keeps the state from before.
    ///
    /// # Errors
    /// [`SampleError`] from the denoiser, the noise or the method itself.
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError>;

    /// The levels a run starts at.
    fn start_levels(&self) -> Levels;

    /// Standard deviation of the noise that a run starts from.
    fn prior_std(&self) -> f64;

    /// Number of steps, if it is known beforehand.
    fn total_steps(&self) -> Option<usize> {
        None
    }

    /// Tells samplers apart, so that a saved run is not resumed by another one.
    fn fingerprint(&self) -> u64 {
        0
    }
}

impl<const D: usize, T: Sampler<D> + ?Sized> Sampler<D> for &T {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        (**self).advance(state, cx)
    }
    fn start_levels(&self) -> Levels {
        (**self).start_levels()
    }
    fn prior_std(&self) -> f64 {
        (**self).prior_std()
    }
    fn total_steps(&self) -> Option<usize> {
        (**self).total_steps()
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

impl<const D: usize, T: Sampler<D> + ?Sized> Sampler<D> for Box<T> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        (**self).advance(state, cx)
    }
    fn start_levels(&self) -> Levels {
        (**self).start_levels()
    }
    fn prior_std(&self) -> f64 {
        (**self).prior_std()
    }
    fn total_steps(&self) -> Option<usize> {
        (**self).total_steps()
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

/// Starting and resuming, for every sampler.
pub trait SamplerExt<const D: usize>: Sampler<D> + Sized {
    /// Starts from seeded noise of `shape` (`[batch, ..]`).
    ///
    /// # Errors
    /// [`SampleError::Noise`] if the noise source fails, [`SampleError::EmptyShape`] for a dimension of zero.
    fn start<'a>(
        &'a self,
        shape: [usize; D],
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
        load: Load,
    ) -> Result<Run<'a, D>, SampleError> {
        self.start_at(0, shape, denoiser, noise, load)
    }

    /// Starts from noise, with global sample numbers from `first` on: batches of one large run.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`SampleError::SampleNumbers`] if the numbers do not fit into 64 bits.
    fn start_at<'a>(
        &'a self,
        first: u64,
        shape: [usize; D],
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
        load: Load,
    ) -> Result<Run<'a, D>, SampleError> {
        if shape.contains(&0) {
            return Err(SampleError::EmptyShape { shape: shape.to_vec() });
        }
        let last = first.checked_add(shape[0] as u64).ok_or(SampleError::SampleNumbers { first, rows: shape[0] })?;
        let numel = shape[1..].iter().product();
        let z = noise.normal(first..last, Key::INITIAL, numel, load.options())?;
        let x = z.reshape(shape).mul_scalar(Sampler::prior_std(self));
        self.start_from(first, x, denoiser, noise)
    }

    /// Starts from a given state at the sampler's first level.
    ///
    /// # Errors
    /// [`SampleError::EmptyShape`] for a dimension of zero, [`SampleError::SampleNumbers`] if the sample numbers do not
    /// fit into 64 bits.
    fn start_from<'a>(
        &'a self,
        first: u64,
        x: Tensor<D>,
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
    ) -> Result<Run<'a, D>, SampleError> {
        if x.dims().contains(&0) {
            return Err(SampleError::EmptyShape { shape: x.dims().to_vec() });
        }
        if first.checked_add(x.dims()[0] as u64).is_none() {
            return Err(SampleError::SampleNumbers { first, rows: x.dims()[0] });
        }
        Ok(Run::new(self, RunState::new(first, x), Context { denoiser, noise }))
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// [`SampleError::OtherSampler`] if it was saved by another sampler, [`SampleError::Rank`] if it has another
    /// number of dimensions, [`SampleError::Incomplete`] if the samples themselves are missing. Plans check the rest
    /// in their next step.
    fn resume<'a>(
        &'a self,
        saved: &SavedRun,
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
        load: Load,
    ) -> Result<Run<'a, D>, SampleError> {
        let (expected, given) = (Sampler::fingerprint(self), saved.fingerprint);
        if expected != given {
            return Err(SampleError::OtherSampler { expected, given });
        }
        Ok(Run::new(self, saved.restore(load)?, Context { denoiser, noise }))
    }
}

impl<const D: usize, T: Sampler<D>> SamplerExt<D> for T {}

/// One committed step.
#[derive(Clone, Debug)]
pub struct Step<const D: usize> {
    /// Its number, from 0.
    pub index: usize,
    /// Where the samples are now.
    pub levels: Levels,
    /// The samples, `[batch, ..]`.
    pub x: Tensor<D>,
    /// The clean sample as predicted in this step, if the sampler reports one.
    pub x0: Option<Tensor<D>>,
    /// Evaluations of the denoiser so far.
    pub evaluations: usize,
}

/// Everything a run is: clone it, save it, go on with it elsewhere.
#[derive(Clone, Debug)]
pub struct RunState<const D: usize> {
    first: u64,
    row: usize,
    steps: usize,
    evaluations: usize,
    memory: Memory<Tensor<D>>,
    /// Host numbers of adaptive samplers (clocks, step sizes, controllers), in a layout of their own.
    pub numbers: Vec<f64>,
    past: Vec<Estimate<D>>,
    replaced: bool,
}

impl<const D: usize> RunState<D> {
    /// The state of a run that has not stepped yet.
    pub fn new(first: u64, x: Tensor<D>) -> Self {
        Self {
            first,
            row: 0,
            steps: 0,
            evaluations: 0,
            memory: Memory::new(x),
            numbers: Vec::new(),
            past: Vec::new(),
            replaced: false,
        }
    }

    /// The samples, `[batch, ..]`.
    pub fn x(&self) -> Tensor<D> {
        self.memory.state(0).cloned().expect("register 0 is written when a run starts and never removed")
    }

    /// Replaces the samples.
    pub fn set_x(&mut self, x: Tensor<D>) {
        self.memory.set_state(0, x);
        self.replaced = true;
    }

    /// Whether the samples were replaced (by a constraint) since the last [`commit`](Self::commit): what a sampler has
    /// derived from them is stale.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Global number of the first sample of the batch.
    pub fn first_sample(&self) -> u64 {
        self.first
    }

    /// Rows of the plan that have run; samplers that are no plans may count their own stages here.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Committed steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Evaluations of the denoiser.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Registers, estimates and noises that live across rows.
    pub fn memory(&self) -> &Memory<Tensor<D>> {
        &self.memory
    }

    /// Writes back what a sampler has computed.
    pub fn commit(&mut self, row: usize, memory: Memory<Tensor<D>>) {
        self.row = row;
        self.memory = memory;
        self.replaced = false;
    }

    /// Takes back everything since `before` except the count of evaluations: a rejected step leaves no trace in
    /// what denoisers remember.
    pub fn roll_back(&mut self, before: &Self) {
        *self = Self { evaluations: self.evaluations, ..before.clone() };
    }

    /// Counts a step that has just been written, and describes it.
    pub fn step(&mut self, levels: Levels, x0: Option<Tensor<D>>) -> Step<D> {
        let index = self.steps;
        self.steps += 1;
        Step { index, levels, x: self.x(), x0, evaluations: self.evaluations }
    }
}

/// A run: an iterator of steps. After an error or the end it yields nothing more.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Grid, Load, Prediction, denoiser, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{Ddim, SamplerExt, Solver};
///
/// // All data is zero: the noise in x is x/σ.
/// let denoiser = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, levels| {
///     Ok(levels.map(|level| 1.0 / level.sigma).times(x))
/// });
/// let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(20))?;
/// let noise = Seeded::new(42);
/// let mut run = plan.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?;
/// for step in &mut run {
///     let step = step?;
///     println!("step {} at {:?}", step.index, step.levels);
/// }
/// let x = run.finish()?;
/// assert!(x.abs().max().into_scalar::<f32>() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Run<'a, const D: usize> {
    sampler: &'a dyn Sampler<D>,
    cx: Context<'a, D>,
    constraints: Vec<&'a dyn Constraint<D>>,
    state: RunState<D>,
    check_every: Option<usize>,
    progress: Progress,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Going,
    Done,
    Failed,
}

impl<'a, const D: usize> Run<'a, D> {
    fn new(sampler: &'a dyn Sampler<D>, state: RunState<D>, cx: Context<'a, D>) -> Self {
        Self { sampler, cx, constraints: Vec::new(), state, check_every: None, progress: Progress::Going }
    }

    /// Applies a constraint to the state after every step, after those given before.
    pub fn constrained(mut self, constraint: &'a dyn Constraint<D>) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// Reads a flag from the device every `steps` steps and stops with an error when the state is not finite.
    /// Without it only [`finish`](Self::finish) looks.
    pub fn check_finite_every(mut self, steps: usize) -> Self {
        self.check_every = (steps > 0).then_some(steps);
        self
    }

    /// The present state.
    pub fn state(&self) -> &RunState<D> {
        &self.state
    }

    /// Number of steps, if it is known beforehand.
    pub fn total_steps(&self) -> Option<usize> {
        self.sampler.total_steps()
    }

    /// The present state as plain data, which [`SamplerExt::resume`] takes up again.
    ///
    /// # Errors
    /// [`SampleError::Read`] if the device cannot be read.
    pub fn save(&self) -> Result<SavedRun, SampleError> {
        SavedRun::of(&self.state, self.sampler.fingerprint())
    }

    /// Runs to the end and returns the samples, `[batch, ..]`.
    ///
    /// # Errors
    /// The first error of a step, [`SampleError::NotFinite`], or [`SampleError::Unfinished`] if the run has yielded an
    /// error before.
    pub fn finish(mut self) -> Result<Tensor<D>, SampleError> {
        if self.progress == Progress::Failed {
            return Err(SampleError::Unfinished { step: self.state.steps });
        }
        for step in &mut self {
            step?;
        }
        let x = self.state.x();
        check_finite(&x, self.state.steps)?;
        Ok(x)
    }

    fn try_step(&mut self) -> Result<Option<Step<D>>, SampleError> {
        // The old state stays until everything has succeeded; tensors are shared, not copied.
        let mut next = self.state.clone();
        let Some(mut step) = self.sampler.advance(&mut next, &self.cx)? else { return Ok(None) };
        if !self.constraints.is_empty() {
            for constraint in &self.constraints {
                step.x = constraint.apply(step.x, &step.levels)?;
            }
            next.set_x(step.x.clone());
        }
        if self.check_every.is_some_and(|every| next.steps.is_multiple_of(every)) {
            check_finite(&step.x, next.steps)?;
        }
        self.state = next;
        Ok(Some(step))
    }
}

impl<const D: usize> Iterator for Run<'_, D> {
    type Item = Result<Step<D>, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.progress != Progress::Going {
            return None;
        }
        let step = self.try_step().transpose();
        self.progress = match &step {
            Some(Ok(_)) => Progress::Going,
            Some(Err(_)) => Progress::Failed,
            None => Progress::Done,
        };
        step
    }
}

impl<const D: usize> std::iter::FusedIterator for Run<'_, D> {}

fn check_finite<const D: usize>(x: &Tensor<D>, step: usize) -> Result<(), SampleError> {
    let finite = x.clone().is_finite().all();
    match finite.try_into_scalar::<bool>() {
        Ok(true) => Ok(()),
        Ok(false) => Err(SampleError::NotFinite { step }),
        Err(error) => Err(SampleError::Read { message: error.to_string() }),
    }
}

/// A run as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    fingerprint: u64,
    first: u64,
    row: usize,
    steps: usize,
    evaluations: usize,
    memory: Memory<TensorData>,
    numbers: Vec<f64>,
    past: Vec<SavedEstimate>,
    replaced: bool,
}

/// The parts of an estimate that a denoiser's memory holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedEstimate {
    x: TensorData,
    output: TensorData,
    levels: Levels,
    prediction: langevin_core::Prediction,
    x0: Option<TensorData>,
    eps: Option<TensorData>,
    variance: Option<TensorData>,
}

fn read<const D: usize>(x: &Tensor<D>) -> Result<TensorData, SampleError> {
    x.try_to_data().map_err(|error| SampleError::Read { message: error.to_string() })
}

impl SavedRun {
    fn of<const D: usize>(state: &RunState<D>, fingerprint: u64) -> Result<Self, SampleError> {
        let past = state.past.iter().map(|estimate| {
            let parts = estimate.parts();
            let optional = |part: Option<&Tensor<D>>| part.map(read).transpose();
            Ok(SavedEstimate {
                x: read(parts.x)?,
                output: read(parts.output)?,
                levels: parts.levels.clone(),
                prediction: parts.prediction,
                x0: optional(parts.x0)?,
                eps: optional(parts.eps)?,
                variance: optional(parts.variance)?,
            })
        });
        Ok(Self {
            fingerprint,
            first: state.first,
            row: state.row,
            steps: state.steps,
            evaluations: state.evaluations,
            memory: state.memory.try_map(read)?,
            numbers: state.numbers.clone(),
            past: past.collect::<Result<_, SampleError>>()?,
            replaced: state.replaced,
        })
    }

    fn restore<const D: usize>(&self, load: Load) -> Result<RunState<D>, SampleError> {
        let tensor = |data: &TensorData| {
            if data.shape().num_dims() != D {
                return Err(SampleError::Rank { expected: D, given: data.shape().num_dims() });
            }
            Ok(Tensor::<D>::from_data(data.clone(), (load.options().0, data.dtype())))
        };
        if self.memory.state(0).is_none() {
            return Err(SampleError::Incomplete { row: self.row });
        }
        let past = self.past.iter().map(|saved| {
            let optional = |part: &Option<TensorData>| part.as_ref().map(tensor).transpose();
            let mut estimate =
                Estimate::new(tensor(&saved.x)?, tensor(&saved.output)?, saved.levels.clone(), saved.prediction);
            if let Some(variance) = optional(&saved.variance)? {
                estimate = estimate.with_variance(variance);
            }
            Ok(estimate.with_parts(optional(&saved.x0)?, optional(&saved.eps)?))
        });
        Ok(RunState {
            first: self.first,
            row: self.row,
            steps: self.steps,
            evaluations: self.evaluations,
            memory: self.memory.try_map(tensor)?,
            numbers: self.numbers.clone(),
            past: past.collect::<Result<_, SampleError>>()?,
            replaced: self.replaced,
        })
    }
}

/// What can go wrong while sampling.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// The denoiser failed.
    #[error(transparent)]
    Denoise(#[from] DenoiseError),
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The estimate does not determine what the solver needs.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// The state has a NaN or an infinity.
    #[error("the state is not finite after {step} steps: look at the network's output and the guidance scale")]
    NotFinite {
        /// Steps done.
        step: usize,
    },
    /// A shape with a dimension of zero.
    #[error("cannot sample the shape {shape:?}: every dimension must be at least 1")]
    EmptyShape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Global sample numbers that do not fit into 64 bits.
    #[error("{rows} samples cannot be numbered from {first} on: start at a smaller number")]
    SampleNumbers {
        /// Number of the first sample.
        first: u64,
        /// Samples of the batch.
        rows: usize,
    },
    /// A saved run was made by another sampler.
    #[error("the saved run belongs to another plan or sampler (fingerprint {given:016x}, this one is {expected:016x})")]
    OtherSampler {
        /// Fingerprint of this sampler.
        expected: u64,
        /// Fingerprint in the saved run.
        given: u64,
    },
    /// A saved run has tensors of another rank.
    #[error("the saved run has tensors of {given} dimensions, expected {expected}")]
    Rank {
        /// Dimensions expected.
        expected: usize,
        /// Dimensions saved.
        given: usize,
    },
    /// A run carries a value whose shape is not that of the samples.
    #[error(
        "the run carries a value of shape {given:?} beside samples of shape {expected:?}: the saved run was edited, or the \
         samples were replaced by others"
    )]
    CarriedShape {
        /// The shape of the tensor.
        given: Vec<usize>,
        /// The shape of the samples.
        expected: Vec<usize>,
    },
    /// A run lacks values that its sampler needs.
    #[error(
        "the run lacks values that row {row} of its plan reads: the saved run was cut short or edited, or another sampler \
         has worked on the state"
    )]
    Incomplete {
        /// The row that cannot run.
        row: usize,
    },
    /// A run that stopped on an error was asked for its result.
    #[error("the run stopped on an error after {step} steps: it has no result")]
    Unfinished {
        /// Steps done.
        step: usize,
    },
    /// The device could not be read.
    #[error("the device could not be read: {message}")]
    Read {
        /// What the backend said.
        message: String,
    },
    /// An adaptive method cannot reach its tolerance.
    #[error(
        "the step size fell to {step} at t = {t} (sample {sample}): the tolerance cannot be reached; raise it, or use a process without a singular end"
    )]
    StepSize {
        /// The step size.
        step: f64,
        /// Process time.
        t: f64,
        /// The sample.
        sample: u64,
    },
    /// A time of dense output lies outside the run.
    #[error("output was asked for at t = {t}, but the run goes from {start} to {end}")]
    OutputTime {
        /// The time.
        t: f64,
        /// Where the run starts.
        start: f64,
        /// Where it ends.
        end: f64,
    },
    /// Two things that do not go together.
    #[error("{sampler} cannot be combined with {what}: {advice}")]
    Unsupported {
        /// The sampler.
        sampler: &'static str,
        /// What it was combined with.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// An adaptive method took too many steps.
    #[error("more than {limit} steps were needed: raise the limit or the tolerance")]
    TooManySteps {
        /// The limit.
        limit: usize,
    },
}
