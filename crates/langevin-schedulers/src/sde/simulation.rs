//! Simulation of a user's own SDE.

use super::{HostSde, Sde};
use crate::ode::fingerprint;
use crate::sampler::{Context, Run, RunState, SampleError, Sampler, SamplerExt, SavedRun, Step};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::{
    DenoiseError, Denoiser, Estimate, Key, Level, Levels, Load, NoiseError, NoiseSource, Query, noise,
};

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    EulerMaruyama,
    Milstein,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::EulerMaruyama => super::euler_maruyama::NAME,
            Self::Milstein => super::milstein::NAME,
        }
    }
}

/// An SDE with the times at which it is to be known: a [`Sampler`] that asks no denoiser. Made by
/// [`EulerMaruyama::simulate`](super::EulerMaruyama::simulate) and [`Milstein::simulate`](super::Milstein::simulate).
///
/// In its steps `levels` only carries the time; α = 1 and σ = 0 have no meaning.
#[derive(Clone, Debug)]
pub struct Simulation<S> {
    sde: S,
    times: Vec<f64>,
    path: bool,
    scheme: Scheme,
}

/// One step's way of drawing noise: its key, and the interval and scale of path increments.
struct Increment {
    dt: f64,
    interval: (f64, f64),
}

impl<S> Simulation<S> {
    pub(super) fn new(scheme: Scheme, path: bool, sde: S, times: Vec<f64>) -> Result<Self, PlanError> {
        let solver = scheme.name();
        let bad = |setting, given, expected| Err(PlanError::Setting { solver, setting, given, expected });
        if times.len() < 2 {
            return bad("number of times", times.len() as f64, "at least 2: one step goes from each to the next");
        }
        if let Some(t) = times.iter().find(|t| !t.is_finite()) {
            return bad("time", *t, "a finite number");
        }
        let rising = times[1] > times[0];
        for pair in times.windows(2) {
            if pair[0] == pair[1] || (pair[1] > pair[0]) != rising {
                return bad("time", pair[1], "times that all rise or all fall");
            }
        }
        if let Some(t) = times.iter().find(|t| path && **t < 0.0) {
            return bad("time", *t, "0 or more along a Brownian path, which starts at time 0");
        }
        Ok(Self { sde, times, path, scheme })
    }

    pub(super) fn uniform(
        scheme: Scheme,
        path: bool,
        sde: S,
        (from, to): (f64, f64),
        steps: usize,
    ) -> Result<Self, PlanError> {
        if steps == 0 {
            let (setting, expected) = ("number of steps", "1 or more");
            return Err(PlanError::Setting { solver: scheme.name(), setting, given: 0.0, expected });
        }
        // Times that do not depend on the number of steps where they should agree: ends are exact.
        let time = |i: usize| {
            let share = i as f64 / steps as f64;
            from * (1.0 - share) + to * share
        };
        Self::new(scheme, path, sde, (0..=steps).map(time).collect())
    }

    /// The times.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    fn increment(&self, step: usize) -> Increment {
        let (from, to) = (self.times[step], self.times[step + 1]);
        Increment { dt: to - from, interval: (from.min(to), from.max(to)) }
    }

    /// Starts at states `[batch, ..]`, samples `first`, `first + 1`, … of the noise; iterate over the steps or
    /// [`finish`](Run::finish).
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

    /// Runs one sample in `f64`, shows time and state after every step, and returns the last state.
    ///
    /// # Errors
    /// [`NoiseError`] if noise cannot be delivered.
    pub fn run_host(
        &self,
        sample: u64,
        mut x: Vec<f64>,
        noise: &dyn NoiseSource,
        mut each: impl FnMut(f64, &[f64]),
    ) -> Result<Vec<f64>, NoiseError>
    where
        S: HostSde,
    {
        let [mut drift, mut diffusion, mut dw] = [vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]];
        let mut product = vec![0.0; x.len()];
        for step in 0..self.times.len() - 1 {
            let Increment { dt, interval } = self.increment(step);
            self.sde.drift(&x, self.times[step], &mut drift);
            self.sde.diffusion(&x, self.times[step], &mut diffusion);
            if self.path {
                noise.fill_path(sample, interval.0, interval.1, &mut dw)?;
            } else {
                noise.fill(sample, Key::step(step as u64, 0), &mut dw)?;
                dw.iter_mut().for_each(|z| *z *= dt.abs().sqrt());
            }
            if self.scheme == Scheme::Milstein {
                self.host_product(&x, self.times[step], dt.abs().sqrt(), &diffusion, &mut product);
            }
            for (i, x) in x.iter_mut().enumerate() {
                *x += drift[i] * dt + diffusion[i] * dw[i] + 0.5 * product[i] * (dw[i] * dw[i] - dt.abs());
            }
            each(self.times[step + 1], &x);
        }
        Ok(x)
    }

    /// G·∂G/∂x, by the slope that the SDE knows, or by a difference over the typical increment of a step.
    fn host_product(&self, x: &[f64], t: f64, root: f64, diffusion: &[f64], out: &mut [f64])
    where
        S: HostSde,
    {
        if self.sde.diffusion_slope(x, t, out) {
            out.iter_mut().zip(diffusion).for_each(|(slope, g)| *slope *= g);
            return;
        }
        let support: Vec<f64> = x.iter().zip(diffusion).map(|(x, g)| x + g * root).collect();
        self.sde.diffusion(&support, t, out);
        out.iter_mut().zip(diffusion).for_each(|(there, here)| *there = (*there - here) / root);
    }

    /// As [`host_product`](Self::host_product), on tensors.
    fn product<const D: usize>(
        &self,
        x: &Tensor<D>,
        t: f64,
        root: f64,
        diffusion: &Tensor<D>,
    ) -> Result<Tensor<D>, SampleError>
    where
        S: Sde<D>,
    {
        if let Some(slope) = self.sde.diffusion_slope(x.clone(), t) {
            return Ok(same_shape("slope of the diffusion", slope, x)?.mul(diffusion.clone()));
        }
        let support = x.clone().add(diffusion.clone().mul_scalar(root));
        Ok(self.sde.diffusion(support, t).sub(diffusion.clone()).div_scalar(root))
    }
}

/// An SDE simulation has nobody to ask.
pub(super) struct Nobody;

impl<const D: usize> Denoiser<D> for Nobody {
    fn denoise(&self, _query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        Err(DenoiseError::Condition { problem: "is missing: the simulation of a user's SDE asks none".into() })
    }
}

fn at(t: f64) -> Levels {
    Levels::Shared(Level { alpha: 1.0, sigma: 0.0, time: t })
}

pub(super) fn same_shape<const D: usize>(what: &str, y: Tensor<D>, x: &Tensor<D>) -> Result<Tensor<D>, SampleError> {
    if y.dims() == x.dims() {
        return Ok(y);
    }
    Err(SampleError::Denoise(DenoiseError::Shape {
        what: format!("the SDE's {what}"),
        given: y.dims().to_vec(),
        expected: format!("{:?}, the shape of the states", x.dims()),
    }))
}

impl<S: Sde<D>, const D: usize> Sampler<D> for Simulation<S> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let step = state.row();
        if step + 1 >= self.times.len() {
            return Ok(None);
        }
        let (t, x) = (self.times[step], state.x());
        let Increment { dt, interval } = self.increment(step);
        let drift = same_shape("drift", self.sde.drift(x.clone(), t), &x)?;
        let diffusion = same_shape("diffusion", self.sde.diffusion(x.clone(), t), &x)?;
        let first = state.first_sample();
        let dw = if self.path {
            noise::path_like(cx.noise, &x, first, interval)?
        } else {
            noise::like(cx.noise, &x, first, Key::step(step as u64, 0))?.mul_scalar(dt.abs().sqrt())
        };
        let mut next = x.clone().add(drift.mul_scalar(dt)).add(diffusion.clone().mul(dw.clone()));
        if self.scheme == Scheme::Milstein {
            let product = self.product(&x, t, dt.abs().sqrt(), &diffusion)?;
            next = next.add(product.mul(dw.powf_scalar(2.0).sub_scalar(dt.abs())).mul_scalar(0.5));
        }
        let mut memory = state.memory().clone();
        memory.set_state(0, next);
        state.commit(step + 1, memory);
        Ok(Some(state.step(at(self.times[step + 1]), None)))
    }

    fn start_levels(&self) -> Levels {
        at(self.times[0])
    }

    fn prior_std(&self) -> f64 {
        1.0
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.times.len() - 1)
    }

    fn fingerprint(&self) -> u64 {
        let setting = 2 * u8::from(self.scheme == Scheme::Milstein) + u8::from(self.path);
        fingerprint(self.times.iter().copied().chain([f64::from(setting)]))
    }
}
