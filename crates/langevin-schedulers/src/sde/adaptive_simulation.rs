//! Simulation of a user's own SDE with steps of its own choice.

use super::Sde;
use super::adaptive::{AdaptiveSde, NAME};
use super::simulation::{Nobody, same_shape};
use crate::ode::{Clock, Trial, fingerprint};
use crate::plan::Memory;
use crate::sampler::rows::{noise_by_row, pooled, scaled_errors, select};
use crate::sampler::{Context, Run, RunState, SampleError, Sampler, SamplerExt, SavedRun, Step};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::level::Scalars;
use langevin_core::{Level, Levels, Load, NoiseSource};

/// Register of the Euler-Maruyama result of the last accepted step, to which tolerances are relative.
const BEFORE: u8 = 1;

/// An SDE of one's own, solved with adaptive steps: a [`Sampler`] that asks no denoiser, made by
/// [`AdaptiveSde::simulate`].
///
/// In its steps `levels` only carries the time of each sample; α = 1 and σ = 0 have no meaning.
#[derive(Clone, Debug)]
pub struct AdaptiveSimulation<S> {
    method: AdaptiveSde,
    sde: S,
    start: f64,
    end: f64,
}

impl AdaptiveSde {
    /// Solves an [`Sde`] of one's own between two times, rising or falling, along one Brownian path per sample in the
    /// SDE's own time.
    ///
    /// A step of length h compares Euler-Maruyama, `x' = x + b·h + G·ΔW`, with a step of Milstein's method whose drift is
    /// the mean of both ends, `x'' = x + ½(b + b(x', t + h))·h + G·ΔW + ½·G·∂G/∂x·(ΔW² − |h|)`, and keeps the latter if
    /// they agree. Its strong order is 1, which matters here: steps that follow the noise can lead Euler-Maruyama to
    /// another limit (Gaines & Lyons 1997). Rejected steps only query the path. The slope of G is found as by
    /// [`Milstein`](super::Milstein).
    ///
    /// Each sample has its own clock. An [`Sde`] is told one time for all states, so that samples at different times are
    /// asked about one by one; with [`batch_control`](Self::batch_control) they share one clock and one call.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_core::noise::Seeded;
    /// use langevin_schedulers::sde::{self, AdaptiveSde};
    /// let price = sde::from_fn(|x: Tensor<2>, _t| x.mul_scalar(0.05), |x: Tensor<2>, _t| x.mul_scalar(0.2));
    /// let simulation = AdaptiveSde::new(1e-2, 1e-2)?.simulate(price, (0.0, 1.0))?;
    /// let noise = Seeded::new(42);
    /// let in_a_year = simulation.run(0, Tensor::<2>::full([4, 1], 100.0, &Device::flex()), &noise)?.finish()?;
    /// assert_eq!(in_a_year.dims(), [4, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::Setting`] for times that are not finite, negative or equal; [`PlanError::Combination`] with
    /// [`denoise_at_end`](Self::denoise_at_end): there is no denoiser.
    ///
    /// # References
    /// Kloeden & Platen 1992, section 10.3; Gaines & Lyons 1997, "Variable step size control in the numerical solution of
    /// stochastic differential equations".
    pub fn simulate<S>(self, sde: S, (start, end): (f64, f64)) -> Result<AdaptiveSimulation<S>, PlanError> {
        let bad = |given, expected| Err(PlanError::Setting { solver: NAME, setting: "time", given, expected });
        for t in [start, end] {
            if !(t >= 0.0 && t.is_finite()) {
                return bad(t, "a finite number that is 0 or more: the Brownian path starts at time 0");
            }
        }
        if start == end {
            return bad(end, "an end that is not the start");
        }
        if self.denoise {
            return Err(PlanError::Combination {
                first: "a last step to a clean sample".into(),
                second: "the simulation of an SDE of one's own".into(),
                reason: "it asks no denoiser; leave `.denoise_at_end()` out",
            });
        }
        Ok(AdaptiveSimulation { method: self, sde, start, end })
    }
}

/// What an attempt leaves in which some sample moved.
struct Attempt<const D: usize> {
    x: Tensor<D>,
    before: Tensor<D>,
}

impl<S> AdaptiveSimulation<S> {
    /// Starts at states `[batch, ..]`, samples `first`, `first + 1`, … of the noise; iterate over the steps or
    /// [`finish`](Run::finish). A step is one in which at least one sample has moved.
    ///
    /// # Errors
    /// [`SampleError::EmptyShape`] for a dimension of zero.
    pub fn run<'a, const D: usize>(
        &'a self,
        first: u64,
        x: Tensor<D>,
        noise: &'a dyn NoiseSource,
    ) -> Result<Run<'a, D>, SampleError>
    where
        S: Sde<D>,
    {
        self.start_from(first, x, &Nobody, noise)
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// As [`SamplerExt::resume`].
    pub fn resume_run<'a, const D: usize>(
        &'a self,
        saved: &SavedRun,
        noise: &'a dyn NoiseSource,
        load: Load,
    ) -> Result<Run<'a, D>, SampleError>
    where
        S: Sde<D>,
    {
        self.resume(saved, &Nobody, noise, load)
    }

    fn levels(&self, times: &[f64]) -> Levels {
        let level = |t: &f64| Level { alpha: 1.0, sigma: 0.0, time: *t };
        Levels::Each(times.iter().map(level).collect())
    }

    /// The increment of each sample's path over its trial; zero for samples that have arrived.
    fn increments<const D: usize>(
        times: &[f64],
        trials: &[Trial],
        x: &Tensor<D>,
        (first, source): (u64, &dyn NoiseSource),
    ) -> Result<Tensor<D>, SampleError> {
        let noise = noise_by_row(x, |i, row| {
            let (a, b) = (times[i], trials[i].to);
            if a == b {
                return Ok(());
            }
            source.fill_path(first + i as u64, a.min(b), a.max(b), row)
        });
        Ok(noise?)
    }

    /// Tries one step of every sample that has not arrived. Returns nothing if all were rejected.
    fn attempt<const D: usize>(
        &self,
        state: &RunState<D>,
        noise: &dyn NoiseSource,
        clocks: &mut [Clock],
        before: &Tensor<D>,
    ) -> Result<Option<Attempt<D>>, SampleError>
    where
        S: Sde<D>,
    {
        let (first, x, control) = (state.first_sample(), state.x(), &self.method.control);
        let trials = clocks.iter().zip(first..).map(|(clock, sample)| clock.trial(control, self.end, sample));
        let trials: Vec<Trial> = trials.collect::<Result<_, _>>()?;
        let times: Vec<f64> = clocks.iter().map(|clock| clock.t).collect();
        let dw = Self::increments(&times, &trials, &x, (first, noise))?;
        let lengths = |of: fn(f64) -> f64| Scalars::Each(trials.iter().map(|trial| of(trial.h)).collect());

        let drift = each_at(&x, &times, "drift", |x, t| self.sde.drift(x, t))?;
        let diffusion = each_at(&x, &times, "diffusion", |x, t| self.sde.diffusion(x, t))?;
        let moved = diffusion.clone().mul(dw.clone());
        let low = x.clone().add(lengths(|h| h).times(drift.clone())).add(moved.clone());

        let product = self.product(&x, &times, &trials, &diffusion)?;
        let there: Vec<f64> = trials.iter().map(|trial| trial.to).collect();
        let far = each_at(&low, &there, "drift", |x, t| self.sde.drift(x, t))?;
        // ΔW² − |h|, the second iterated integral twice.
        let excess = dw.clone().mul(dw).sub(lengths(f64::abs).times(x.ones_like()));
        let high = x.clone().add(lengths(|h| 0.5 * h).times(drift.add(far))).add(moved);
        let high = high.add(product.mul(excess).mul_scalar(0.5));

        let errors = scaled_errors(&low, &high, before, (control.rtol, control.atol))?;
        let errors = if self.method.together { pooled(errors) } else { errors };
        let accepted: Vec<bool> = clocks
            .iter_mut()
            .zip(trials.iter().zip(errors))
            .map(|(clock, (trial, error))| trial.h != 0.0 && clock.judge(control, *trial, error))
            .collect();
        if !accepted.contains(&true) {
            return Ok(None);
        }
        Ok(Some(Attempt { x: select(&accepted, &high, &x), before: select(&accepted, &low, before) }))
    }

    /// G·∂G/∂x, by the slope that the SDE knows, or by a difference over the typical increment of each sample's step.
    fn product<const D: usize>(
        &self,
        x: &Tensor<D>,
        times: &[f64],
        trials: &[Trial],
        diffusion: &Tensor<D>,
    ) -> Result<Tensor<D>, SampleError>
    where
        S: Sde<D>,
    {
        let mut knows = true;
        let slope = each_at(x, times, "slope of the diffusion", |x, t| {
            let zeros = x.zeros_like();
            self.sde.diffusion_slope(x, t).unwrap_or_else(|| {
                knows = false;
                zeros
            })
        })?;
        if knows {
            return Ok(slope.mul(diffusion.clone()));
        }
        // Of a sample that has arrived nothing is kept; any length will do.
        let root = |trial: &Trial| if trial.h == 0.0 { 1.0 } else { trial.h.abs().sqrt() };
        let roots: Vec<f64> = trials.iter().map(root).collect();
        let support = x.clone().add(Scalars::Each(roots.clone()).times(diffusion.clone()));
        let there = each_at(&support, times, "diffusion", |x, t| self.sde.diffusion(x, t))?;
        let inverse = Scalars::Each(roots.iter().map(|root| 1.0 / root).collect());
        Ok(inverse.times(there.sub(diffusion.clone())))
    }

    /// The clocks, and the state that tolerances are relative to.
    fn restore<const D: usize>(&self, state: &RunState<D>) -> Result<(Vec<Clock>, Tensor<D>), SampleError> {
        let x = state.x();
        let batch = x.dims()[0];
        if state.numbers.is_empty() {
            let span = (self.end - self.start).abs();
            let control = &self.method.control;
            let h = control.first_step.unwrap_or(span).min(span).min(control.max_step);
            return Ok((vec![Clock::new(self.start, h.copysign(self.end - self.start)); batch], x));
        }
        let clocks: Vec<Clock> = state.numbers.chunks(Clock::NUMBERS).filter_map(Clock::restore).collect();
        // Only a run that was edited, or written by another sampler, is not whole.
        let before = state.memory().state(BEFORE).filter(|before| before.dims() == x.dims());
        match before {
            Some(before) if clocks.len() == batch => Ok((clocks, before.clone())),
            _ => Err(SampleError::Incomplete { row: state.row() }),
        }
    }
}

/// A function of the SDE at each sample's time: in one call where the times are one.
fn each_at<const D: usize>(
    x: &Tensor<D>,
    times: &[f64],
    what: &str,
    mut of: impl FnMut(Tensor<D>, f64) -> Tensor<D>,
) -> Result<Tensor<D>, SampleError> {
    if times.iter().all(|t| *t == times[0]) {
        return same_shape(what, of(x.clone(), times[0]), x);
    }
    let row = |(i, t): (usize, &f64)| {
        let x = x.clone().narrow(0, i, 1);
        same_shape(what, of(x.clone(), *t), &x)
    };
    Ok(Tensor::cat(times.iter().enumerate().map(row).collect::<Result<_, _>>()?, 0))
}

impl<S: Sde<D>, const D: usize> Sampler<D> for AdaptiveSimulation<S> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let (mut clocks, before) = self.restore(state)?;
        while clocks.iter().any(|clock| clock.t != self.end) {
            let Some(Attempt { x, before }) = self.attempt(state, cx.noise, &mut clocks, &before)? else { continue };
            let mut memory = Memory::new(x);
            memory.set_state(BEFORE, before);
            state.numbers = clocks.iter().flat_map(Clock::save).collect();
            state.commit(state.row() + 1, memory);
            let times: Vec<f64> = clocks.iter().map(|clock| clock.t).collect();
            return Ok(Some(state.step(self.levels(&times), None)));
        }
        Ok(None)
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(Level { alpha: 1.0, sigma: 0.0, time: self.start })
    }

    fn prior_std(&self) -> f64 {
        1.0
    }

    fn fingerprint(&self) -> u64 {
        let run = [self.start, self.end, f64::from(u8::from(self.method.together)), self.method.control.exponent];
        fingerprint(run.into_iter().chain(self.method.control.numbers()))
    }
}
