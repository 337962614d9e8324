//! Runs: iterators of steps.

use super::{Context, RunState, SampleError, Sampler, SavedRun, Step};
use burn::tensor::{DType, Tensor};
use langevin_core::denoiser::After;
use langevin_core::{Constraint, DenoiseError};

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
    pub(super) sampler: &'a dyn Sampler<D>,
    cx: Context<'a, D>,
    constraints: Vec<&'a dyn Constraint<D>>,
    pub(super) state: RunState<D>,
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
    pub(super) fn new(sampler: &'a dyn Sampler<D>, mut state: RunState<D>, cx: Context<'a, D>) -> Self {
        state.zero_terminal_snr = sampler.zero_terminal_snr();
        Self { sampler, cx, constraints: Vec::new(), state, check_every: None, progress: Progress::Going }
    }

    /// Applies a constraint to the state after every step, after those given before. What it returns must have the shape and
    /// dtype of the state; steps say so if not.
    pub fn constrained(mut self, constraint: &'a dyn Constraint<D>) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// Waits for the device every `steps` steps, and stops with [`SampleError::NotFinite`] if the state is no longer finite.
    /// Without it only [`finish`](Self::finish) looks, since looking costs as much as a step of a solver. With 1 the error
    /// names the step after which a NaN or an infinity came.
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

    /// The present state as plain data, which [`SamplerExt::resume`](super::SamplerExt::resume) takes up again.
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
    pub fn finish(self) -> Result<Tensor<D>, SampleError> {
        Ok(self.finish_state()?.x())
    }

    /// As [`finish`](Self::finish), and returns the last state, which has the samples and knows how many steps and
    /// evaluations they took.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_core::{Load, Prediction, denoiser, noise::Seeded, process::VpSde};
    /// use langevin_schedulers::{DormandPrince, SamplerExt};
    ///
    /// let denoiser = denoiser::from_fn(Prediction::Sample, |x: Tensor<2>, _levels| Ok(x.zeros_like()));
    /// let sampler = DormandPrince::new(1e-3, 1e-3)?.over(VpSde::default())?;
    /// let noise = Seeded::new(42);
    /// let run = sampler.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?;
    /// let end = run.finish_state()?;
    /// println!("{} steps, {} evaluations", end.steps(), end.evaluations());
    /// assert_eq!(end.x().dims(), [4, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_state(mut self) -> Result<RunState<D>, SampleError> {
        if self.progress == Progress::Failed {
            return Err(SampleError::Unfinished { step: self.state.steps });
        }
        for step in &mut self {
            step?;
        }
        check_finite(&self.state.x(), self.state.steps)?;
        Ok(self.state)
    }

    fn try_step(&mut self) -> Result<Option<Step<D>>, SampleError> {
        // The old state stays until everything has succeeded; tensors are shared, not copied.
        let mut next = self.state.clone();
        let Some(mut step) = self.sampler.advance(&mut next, &self.cx)? else { return Ok(None) };
        if !self.constraints.is_empty() {
            let after = After {
                levels: &step.levels,
                step: step.index,
                first_sample: next.first_sample(),
                noise: self.cx.noise,
            };
            for constraint in &self.constraints {
                let (dims, states) = (step.x.dims(), step.x.dtype());
                step.x = constraint.apply(step.x, &after)?;
                like_states("the constrained state", &step.x, (dims, states))?;
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

/// Refuses what is not of the shape and dtype of the states.
pub(super) fn like_states<const D: usize>(
    what: &'static str,
    given: &Tensor<D>,
    (dims, states): ([usize; D], DType),
) -> Result<(), DenoiseError> {
    if given.dims() != dims {
        let (what, given) = (what.into(), given.dims().to_vec());
        return Err(DenoiseError::Shape { what, given, expected: format!("{dims:?}, the shape of the states") });
    }
    if given.dtype() != states {
        return Err(DenoiseError::DType { what, given: given.dtype(), states });
    }
    Ok(())
}

/// Refuses a state with a NaN or an infinity, after so many steps.
pub(crate) fn check_finite<const D: usize>(x: &Tensor<D>, step: usize) -> Result<(), SampleError> {
    let finite = x.clone().is_finite().all();
    match finite.try_into_scalar::<bool>() {
        Ok(true) => Ok(()),
        Ok(false) => Err(SampleError::NotFinite { step }),
        Err(error) => Err(SampleError::Read { message: error.to_string() }),
    }
}
