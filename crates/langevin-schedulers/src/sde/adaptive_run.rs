//! Adaptive steps of a reverse SDE on tensors: a sampler whose samples have clocks of their own.

use super::adaptive::{AdaptiveReverse, NAME};
use super::clock as path_clock;
use crate::ode::{Clock, Trial};
use crate::sampler::rows::{Attempt, check_company, noise_by_row, pooled, scaled_errors, select};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use burn::tensor::Tensor;
use langevin_core::level::Scalars;
use langevin_core::{Denoiser, Level, Levels, NoiseSource, Process};

/// `x + of_x·x + of_eps·ε̂ + std·z`.
struct Weights {
    of_x: f64,
    of_eps: f64,
    std: f64,
}

impl<P: Process> AdaptiveReverse<P> {
    /// Drift and noise of a step of length `h < 0` with the coefficients of time `at`.
    fn weights(&self, at: f64, h: f64) -> Weights {
        let squared = self.process.diffusion_squared(at);
        Weights {
            of_x: self.process.drift(at) * h,
            of_eps: squared / self.process.sigma(at) * h,
            std: (squared * h.abs()).sqrt(),
        }
    }

    fn levels(&self, times: impl Iterator<Item = f64>) -> Levels {
        let mut times = times.map(|t| self.process.level(t));
        match times.next() {
            Some(first) if self.method.together => Levels::Shared(first),
            first => Levels::Each(first.into_iter().chain(times).collect()),
        }
    }

    fn scalars(&self, weights: &[Weights], of: impl Fn(&Weights) -> f64) -> Scalars {
        match weights.first() {
            Some(first) if self.method.together => Scalars::Shared(of(first)),
            _ => Scalars::Each(weights.iter().map(of).collect()),
        }
    }

    /// Standard normal values: the path's increments in units of their deviation; zero for samples that have arrived.
    fn noise<const D: usize>(
        &self,
        clocks: &[Clock],
        trials: &[Trial],
        x: &Tensor<D>,
        (first, source): (u64, &dyn NoiseSource),
    ) -> Result<Tensor<D>, SampleError> {
        let at = |t: f64| path_clock(&self.process.level(t));
        let noise = noise_by_row(x, |i, row| {
            let (from, until) = (at(clocks[i].t), at(trials[i].to));
            if trials[i].h == 0.0 || from == until {
                return Ok(());
            }
            source.fill_path(first + i as u64, from, until, row)?;
            let scale = 1.0 / (until - from).sqrt();
            row.iter_mut().for_each(|value| *value *= scale);
            Ok(())
        });
        Ok(noise?)
    }

    /// Tries one step of every sample that has not arrived; nothing if all were rejected. Tolerances are relative to
    /// Euler-Maruyama's result.
    fn attempt<const D: usize>(
        &self,
        state: &mut RunState<D>,
        cx: &Context<'_, D>,
        clocks: &mut [Clock],
        before: &Tensor<D>,
    ) -> Result<Option<Attempt<D>>, SampleError> {
        let (first, x, control) = (state.first_sample(), state.x(), &self.method.control);
        let trials = clocks.iter().zip(first..).map(|(clock, sample)| clock.trial(control, self.end, sample));
        let trials: Vec<Trial> = trials.collect::<Result<_, _>>()?;
        let z = self.noise(clocks, &trials, &x, (first, cx.noise))?;
        let part = |weights: &[Weights], at: &Tensor<D>, eps: Tensor<D>| {
            let drift = self.scalars(weights, |w| w.of_x).times(at.clone());
            let score = self.scalars(weights, |w| w.of_eps).times(eps);
            drift.add(score).add(self.scalars(weights, |w| w.std).times(z.clone()))
        };
        let begins: Vec<f64> = clocks.iter().map(|clock| clock.t).collect();
        let pairs = || begins.iter().zip(&trials);

        let estimate = cx.ask(state, x.clone(), &self.levels(begins.iter().copied()))?;
        let here: Vec<Weights> = pairs().map(|(t, trial)| self.weights(*t, trial.h)).collect();
        let first_part = part(&here, &x, estimate.eps()?);
        let low = x.clone().add(first_part.clone());
        let x0 = estimate.x0().ok();

        let estimate = cx.ask(state, low.clone(), &self.levels(trials.iter().map(|trial| trial.to)))?;
        let there: Vec<Weights> = trials.iter().map(|trial| self.weights(trial.to, trial.h)).collect();
        let second_part = part(&there, &low, estimate.eps()?);
        let high = x.clone().add(first_part.add(second_part).mul_scalar(0.5));

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
        Ok(Some(Attempt { x: select(&accepted, &high, &x), before: select(&accepted, &low, before), x0 }))
    }

    /// The clocks, the state that tolerances are relative to, and whether the run has ended.
    fn restore<const D: usize>(&self, state: &RunState<D>) -> Result<(Vec<Clock>, Tensor<D>, bool), SampleError> {
        let Some((done, clocks)) = state.numbers.split_first() else {
            let span = (self.end - self.start).abs();
            let control = &self.method.control;
            let h = control.first_step.unwrap_or(span).min(span).min(control.max_step);
            let clock = Clock::new(self.start, h.copysign(self.end - self.start));
            return Ok((vec![clock; state.x().dims()[0]], state.x(), false));
        };
        let clocks: Vec<Clock> = clocks.chunks(Clock::NUMBERS).filter_map(Clock::restore).collect();
        let (clocks, before) = Attempt::last(state, clocks)?;
        Ok((clocks, before, *done != 0.0))
    }
}

/// The numbers of a state: whether its last answer was taken, and its clocks.
fn numbers(clocks: &[Clock], done: bool) -> Vec<f64> {
    std::iter::once(f64::from(u8::from(done))).chain(clocks.iter().flat_map(Clock::save)).collect()
}

impl<P: Process, const D: usize> Sampler<D> for AdaptiveReverse<P> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        self.check_denoiser(cx.denoiser, &state.x().dims())?;
        let (mut clocks, before, done) = self.restore(state)?;
        while clocks.iter().any(|clock| clock.t != self.end) {
            let saved = state.clone();
            let Some(attempt) = self.attempt(state, cx, &mut clocks, &before)? else {
                state.roll_back(&saved);
                continue;
            };
            let x0 = attempt.commit(state, numbers(&clocks, false));
            return Ok(Some(state.step(self.levels(clocks.iter().map(|clock| clock.t)), x0)));
        }
        if done || !self.method.denoise {
            return Ok(None);
        }
        let level = self.process.level(self.end);
        let x0 = cx.ask(state, state.x(), &Levels::Shared(level))?.x0()?;
        let x0 = Attempt { x: x0.clone(), before, x0: Some(x0) }.commit(state, numbers(&clocks, true));
        let clean = Level { alpha: 1.0, sigma: 0.0, ..level };
        Ok(Some(state.step(Levels::Shared(clean), x0)))
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.process.level(self.start))
    }

    fn prior_std(&self) -> f64 {
        crate::solver::prior_std(&self.process, &self.process.node(self.start))
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, shape: &[usize]) -> Result<(), SampleError> {
        check_company(NAME, self.method.together, denoiser, shape)
    }

    fn reads_clean(&self) -> bool {
        self.method.denoise
    }

    fn zero_terminal_snr(&self) -> bool {
        crate::solver::has_zero_terminal_snr(&self.process)
    }

    fn fingerprint(&self) -> u64 {
        self.numbers_fingerprint()
    }
}
