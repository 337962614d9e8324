//! Samplers, runs and their state.
//!
//! A [`Sampler`] moves a state by one committed step. A [`Run`] drives one as an iterator of [`Step`]s; its
//! [`RunState`] is a value that can be cloned, saved mid-way and resumed to the same bits.

mod error;
mod given;
pub(crate) mod rows;
mod run;
mod saved;
mod state;

pub use error::SampleError;
pub use run::Run;
pub(crate) use run::check_finite;
pub use saved::SavedRun;
pub use state::{RunState, Step};

use crate::plan::Aux;
use burn::tensor::Tensor;
use langevin_core::{Denoiser, Estimate, Key, Levels, Load, NoiseSource, Query};

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
    /// Whatever the denoiser returns, [`DenoiseError::Shape`](langevin_core::DenoiseError::Shape) and
    /// [`DenoiseError::DType`](langevin_core::DenoiseError::DType) for an answer that is not like x, and
    /// [`SampleError::ZeroTerminalSnr`] for what the run does not take.
    pub fn ask(&self, state: &mut RunState<D>, x: Tensor<D>, levels: &Levels) -> Result<Estimate<D>, SampleError> {
        let asked = (x.dims(), x.dtype());
        let estimate = self.denoiser.denoise(Query { x, levels, past: &state.past, noise: self.noise });
        let estimate = estimate.map_err(|error| state.explain(error))?;
        state.accept(&estimate, asked)?;
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
///
/// A trait cannot be called by its own name, so there is no `Sampler::from_name`: one by the name that a program gives it is
/// [`names::from_name`](crate::names::from_name)`("dpmpp_2m_sde_karras")?.sampler(..)`, and one by diffusers'
/// `scheduler_config.json` is [`diffusers::from_config`](crate::diffusers::from_config)`(json)?.plan(..)`.
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

    /// What errors call it.
    fn name(&self) -> String {
        "this sampler".into()
    }

    /// Checks a denoiser, and the shape of the batch that it is to be asked about, before a run starts: what it remembers, whether
    /// autodiff sees through it. [`Denoiser::check`] is asked besides.
    ///
    /// # Errors
    /// [`SampleError`] that names both, if they do not go together.
    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, shape: &[usize]) -> Result<(), SampleError> {
        let _ = (denoiser, shape);
        Ok(())
    }

    /// Number of steps, if it is known beforehand.
    fn total_steps(&self) -> Option<usize> {
        None
    }

    /// Whether the sampler goes on from x̂_0 and ε̂ of its answers alone, so that the two may answer different questions
    /// ([`Denoiser::is_split`]).
    fn takes_split(&self) -> bool {
        false
    }

    /// Whether the sampler is one of CFG++, for which the two must answer different questions.
    fn needs_split(&self) -> bool {
        false
    }

    /// Whether samples depend on x̂_0 of the answers. One that reads ε̂ alone does not see what changes x̂_0 alone
    /// ([`Denoiser::beyond_eps`]).
    fn reads_clean(&self) -> bool {
        true
    }

    /// Tells samplers apart, so that a saved run is not resumed by another one.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// The tensors that a run must be given beside its samples, for instance with [`Run::known`].
    fn auxiliaries(&self) -> Vec<Aux> {
        Vec::new()
    }

    /// Whether the process is a chain with zero terminal SNR: then runs refuse networks whose output says nothing of the
    /// sample in pure noise, wherever they start.
    fn zero_terminal_snr(&self) -> bool {
        false
    }
}

/// What points to a sampler is one.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<const D: usize, T: Sampler<D> + ?Sized> Sampler<D> for $pointer {
            fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
                (**self).advance(state, cx)
            }
            fn start_levels(&self) -> Levels {
                (**self).start_levels()
            }
            fn prior_std(&self) -> f64 {
                (**self).prior_std()
            }
            fn name(&self) -> String {
                (**self).name()
            }
            fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, shape: &[usize]) -> Result<(), SampleError> {
                (**self).check_denoiser(denoiser, shape)
            }
            fn total_steps(&self) -> Option<usize> {
                (**self).total_steps()
            }
            fn takes_split(&self) -> bool {
                (**self).takes_split()
            }
            fn needs_split(&self) -> bool {
                (**self).needs_split()
            }
            fn reads_clean(&self) -> bool {
                (**self).reads_clean()
            }
            fn fingerprint(&self) -> u64 {
                (**self).fingerprint()
            }
            fn auxiliaries(&self) -> Vec<Aux> {
                (**self).auxiliaries()
            }
            fn zero_terminal_snr(&self) -> bool {
                (**self).zero_terminal_snr()
            }
        }
    )*};
}
forward!(&T, Box<T>);

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
        // What does not fit is refused by the noise.
        let numel = shape[1..].iter().fold(1, |numel: usize, side| numel.saturating_mul(*side));
        let z = noise.normal(first..last, Key::INITIAL, numel, load.options())?;
        let x = z.reshape(shape).mul_scalar(Sampler::prior_std(self));
        self.start_from(first, x, denoiser, noise)
    }

    /// Starts from a given state at the sampler's first level.
    ///
    /// # Errors
    /// [`SampleError::EmptyShape`] for a dimension of zero, [`SampleError::SampleNumbers`] if the sample numbers do not
    /// fit into 64 bits, [`SampleError::Denoise`] if the denoiser cannot take the states, [`SampleError::Split`] for
    /// CFG++ with a sampler that makes no sense of it, [`SampleError::NotSplit`] for a sampler of CFG++ without it, and what the sampler [says of the
    /// denoiser](Sampler::check_denoiser).
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
        check_company(self, denoiser, &x.dims())?;
        Ok(Run::new(self, RunState::new(first, x), Context { denoiser, noise }))
    }

    /// Goes on from a saved state.
    ///
    /// A saved run is plain data and does not say in its type how many dimensions its tensors have; the denoiser does,
    /// unless it answers for several. Then `SamplerExt::<2>::resume(&plan, ..)` does.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use langevin_core::exact::{Posterior, correlated_mixture};
    /// use langevin_core::{Grid, Load, Prediction, noise::Seeded, process::VpSde};
    /// use langevin_schedulers::{Ddim, SamplerExt, SavedRun, Solver};
    ///
    /// let (noise, load) = (Seeded::new(42), Load::on(&Device::flex()));
    /// let denoiser = correlated_mixture()?.denoiser(Prediction::Epsilon)?;
    /// let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(20))?;
    ///
    /// let mut run = plan.start([4, 2], &denoiser, &noise, load.clone())?;
    /// for step in run.by_ref().take(5) {
    ///     step?;
    /// }
    /// let json = serde_json::to_string(&run.save()?)?;
    ///
    /// // Later, elsewhere: the same plan, made again.
    /// let saved: SavedRun = serde_json::from_str(&json)?;
    /// let resumed = SamplerExt::<2>::resume(&plan, &saved, &denoiser, &noise, load)?;
    /// assert_eq!(resumed.count(), 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SampleError::OtherSampler`] if it was saved by another sampler, [`SampleError::Rank`] if it has another
    /// number of dimensions, [`SampleError::Incomplete`] if the samples themselves are missing,
    /// [`SampleError::Denoise`] if the denoiser cannot take them, [`SampleError::Split`] and [`SampleError::NotSplit`] as when a run starts. Plans check the rest in their next step.
    fn resume<'a>(
        &'a self,
        saved: &SavedRun,
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
        load: Load,
    ) -> Result<Run<'a, D>, SampleError> {
        let (expected, given) = (Sampler::fingerprint(self), saved.fingerprint());
        if expected != given {
            return Err(SampleError::OtherSampler { expected, given });
        }
        let state = saved.restore(load)?;
        check_company(self, denoiser, &state.x().dims())?;
        Ok(Run::new(self, state, Context { denoiser, noise }))
    }
}

impl<const D: usize, T: Sampler<D>> SamplerExt<D> for T {}

/// What can be known of a denoiser before it is asked.
fn check_company<const D: usize>(
    sampler: &impl Sampler<D>,
    denoiser: &dyn Denoiser<D>,
    shape: &[usize],
) -> Result<(), SampleError> {
    if denoiser.is_split() && !sampler.takes_split() {
        return Err(SampleError::Split { sampler: sampler.name() });
    }
    if sampler.needs_split() && !denoiser.is_split() {
        return Err(SampleError::NotSplit { sampler: sampler.name() });
    }
    if let Some(change) = denoiser.beyond_eps().filter(|_| !sampler.reads_clean()) {
        return Err(SampleError::Unseen { sampler: sampler.name(), change });
    }
    sampler.check_denoiser(denoiser, shape)?;
    Ok(denoiser.check(shape)?)
}
