//! Dormand-Prince steps of the probability-flow ODE with error control.

use super::control::Control;
use super::drive::Course;
use super::probability_flow::{Slope, check_time};
use super::{Tableau, fingerprint};
use crate::sampler::{SampleError, SamplerExt};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::{Denoiser, NoiseSource, Process};

pub(super) const NAME: &str = "Dormand-Prince";

/// The adaptive Runge-Kutta method of Dormand & Prince, orders 5(4), with PI step size control.
///
/// A step is accepted if the root mean square of `error/(atol + rtol·|x|)` over a sample's elements is at most 1. Error
/// control is *per sample*: each sample of a batch has its own clock and step size, so its result does not depend on
/// its neighbors. The denoiser is asked at one level per sample; samples that have arrived wait unchanged.
///
/// Settings that fix the method are made here; [`over`](Self::over) and [`between`](Self::between) put it on a process.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Load, Prediction, denoiser, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{SamplerExt, ode::DormandPrince};
///
/// // All data is zero: the noise in x is x/σ.
/// let denoiser = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, levels| {
///     Ok(levels.map(|level| 1.0 / level.sigma).times(x))
/// });
/// let sampler = DormandPrince::new(1e-4, 1e-4)?.over(VpSde::default())?;
/// let noise = Seeded::new(42);
/// let x = sampler.start([4, 2], &denoiser, &noise, Load::on(&Device::flex()))?.finish()?;
/// assert!(x.abs().max().into_scalar::<f32>() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Notes
/// Tolerances far below the precision of the tensors (1e-7 of the state's size in `f32`) make steps tiny, not results
/// better. [`solve_host`](Self::solve_host) is the same method on `f64` vectors.
///
/// # References
/// Dormand & Prince 1980, "A family of embedded Runge-Kutta formulae"; Hairer, Nørsett & Wanner, *Solving Ordinary
/// Differential Equations I*, II.4 to II.6; Gustafsson 1991 for the controller.
#[derive(Clone, Debug, PartialEq)]
pub struct DormandPrince {
    pub(super) tableau: Tableau,
    pub(super) control: Control,
    pub(super) together: bool,
}

fn positive(setting: &'static str, given: f64) -> Result<f64, PlanError> {
    if given > 0.0 && given.is_finite() {
        return Ok(given);
    }
    Err(PlanError::Setting { solver: NAME, setting, given, expected: "a positive, finite number" })
}

impl DormandPrince {
    /// With relative and absolute tolerance, both positive.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a tolerance that is not positive and finite.
    pub fn new(rtol: f64, atol: f64) -> Result<Self, PlanError> {
        let control = Control::new(positive("relative tolerance", rtol)?, positive("absolute tolerance", atol)?);
        Ok(Self { tableau: Tableau::dormand_prince(), control, together: false })
    }

    /// The relative and the absolute tolerance.
    pub fn tolerances(&self) -> (f64, f64) {
        (self.control.rtol, self.control.atol)
    }

    /// One error norm, clock and step size for the whole batch, as scipy's and score_sde's solvers have it. The result
    /// of a sample then depends on its batch.
    pub fn batch_control(mut self) -> Self {
        self.together = true;
        self
    }

    /// Most steps, accepted or not, that a sample may try. Default 10 000.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn max_steps(mut self, steps: usize) -> Result<Self, PlanError> {
        if steps == 0 {
            let (setting, expected) = ("largest number of steps", "1 or more");
            return Err(PlanError::Setting { solver: NAME, setting, given: 0.0, expected });
        }
        self.control.limit = steps;
        Ok(self)
    }

    /// The first step size, in units of time. By default it is chosen from the problem, for one evaluation.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is positive and finite.
    pub fn first_step(mut self, step: f64) -> Result<Self, PlanError> {
        self.control.first_step = Some(positive("first step", step)?);
        Ok(self)
    }

    /// The largest step size, in units of time. Default: none.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is positive and finite.
    pub fn max_step(mut self, step: f64) -> Result<Self, PlanError> {
        self.control.max_step = positive("largest step", step)?;
        Ok(self)
    }

    /// How step sizes change: the share of the permitted step that is taken (0.9), and the smallest and largest factor
    /// from one step to the next (0.2 and 10).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 < safety < 1`, `0 < shrink < 1` and `1 < grow < ∞`.
    pub fn factors(mut self, safety: f64, shrink: f64, grow: f64) -> Result<Self, PlanError> {
        let bad = |setting, given, expected| PlanError::Setting { solver: NAME, setting, given, expected };
        for (setting, given) in [("safety factor", safety), ("smallest factor", shrink)] {
            if !(given > 0.0 && given < 1.0) {
                return Err(bad(setting, given, "a number between 0 and 1"));
            }
        }
        if !(grow > 1.0 && grow.is_finite()) {
            return Err(bad("largest factor", grow, "a finite number above 1"));
        }
        (self.control.safety, self.control.shrink, self.control.grow) = (safety, shrink, grow);
        Ok(self)
    }

    /// Samples a process: from the noisy to the clean end of its range.
    ///
    /// # Errors
    /// [`PlanError::Singular`] if α or σ has no finite slope at an end: use [`between`](Self::between).
    pub fn over<P: Process>(self, process: P) -> Result<AdaptiveFlow<P>, PlanError> {
        let (clean, noisy) = process.time_range();
        self.between(process, noisy, clean)
    }

    /// From `start` to `end` in the process's time: falling times sample, rising ones encode.
    ///
    /// # Errors
    /// [`PlanError::TimeRange`] for times outside the process's range, [`PlanError::Setting`] if they are equal,
    /// [`PlanError::Singular`] if α or σ has no finite slope at one of them.
    pub fn between<P: Process>(self, process: P, start: f64, end: f64) -> Result<AdaptiveFlow<P>, PlanError> {
        for t in [start, end] {
            check_time(NAME, &process, t)?;
            Slope::at(&process, t)?;
        }
        if start == end {
            let (setting, expected) = ("end of the run", "another time than its start");
            return Err(PlanError::Setting { solver: NAME, setting, given: end, expected });
        }
        Ok(AdaptiveFlow { method: self, process, start, end, outputs: Vec::new() })
    }

    pub(super) fn course(&self, start: f64, end: f64) -> Course<'_> {
        Course { tableau: &self.tableau, control: &self.control, together: self.together, start, end }
    }
}

/// The probability-flow ODE of a process with adaptive steps: a [`Sampler`](crate::Sampler), made by
/// [`DormandPrince::over`] and [`DormandPrince::between`].
///
/// A [`Step`](crate::Step) of a run is one in which at least one sample has moved; its levels say where each is.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveFlow<P> {
    pub(super) method: DormandPrince,
    pub(super) process: P,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) outputs: Vec<f64>,
}

impl<P: Process> AdaptiveFlow<P> {
    /// Makes the run yield its steps exactly at `times` and at the end, by dense output of order 4.
    ///
    /// The times do not change the steps that are taken inside: the end state has the same bits with and without. They
    /// are ordered from start to end, may include both, and cannot be combined with constraints (which would have to
    /// act on states between the outputs).
    ///
    /// # Errors
    /// [`PlanError::Setting`] for times that are out of order or outside the run.
    pub fn output_at(mut self, times: &[f64]) -> Result<Self, PlanError> {
        let bad = |given, expected| PlanError::Setting { solver: NAME, setting: "output time", given, expected };
        let course = self.method.course(self.start, self.end);
        let mut before = f64::NEG_INFINITY;
        for &t in times {
            let along = course.along(t);
            if !(along >= 0.0 && along <= course.along(self.end)) {
                return Err(bad(t, "a time between start and end of the run"));
            }
            if !(along > before) {
                return Err(bad(t, "strictly ordered times, from the run's start to its end"));
            }
            before = along;
        }
        // The end is always a step of the run.
        self.outputs = times.iter().copied().filter(|t| *t != self.end).collect();
        Ok(self)
    }

    /// The states at the times of [`output_at`](Self::output_at) and at the end, for samples `[batch, ..]` that are `x`
    /// at the start.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_core::{Prediction, denoiser, noise::Seeded, process::VeSde};
    /// use langevin_schedulers::ode::DormandPrince;
    /// // Standard normal data: x̂_0 = x/(1 + σ²).
    /// let denoiser = denoiser::from_fn(Prediction::Sample, |x: Tensor<2>, levels| {
    ///     Ok(levels.map(|level| 1.0 / (1.0 + level.sigma * level.sigma)).times(x))
    /// });
    /// let flow = DormandPrince::new(1e-5, 1e-5)?.between(VeSde::default(), 0.1, 0.9)?.output_at(&[0.3, 0.5])?;
    /// let x = Tensor::<2>::ones([3, 2], &Device::flex());
    /// assert_eq!(flow.solve_dense(x, &denoiser, &Seeded::new(0))?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first error of a step.
    pub fn solve_dense<const D: usize>(
        &self,
        x: Tensor<D>,
        denoiser: &dyn Denoiser<D>,
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Tensor<D>>, SampleError> {
        self.start_from(0, x, denoiser, noise)?.map(|step| Ok(step?.x)).collect()
    }

    pub(super) fn numbers_fingerprint(&self) -> u64 {
        let levels = [0.0, 0.5, 1.0].map(|share| {
            let level = self.process.level(self.start + share * (self.end - self.start));
            [level.alpha, level.sigma, level.time]
        });
        let run = [self.start, self.end, f64::from(u8::from(self.method.together))];
        let numbers = self.method.control.numbers();
        let all = run.into_iter().chain(numbers).chain(levels.into_iter().flatten());
        fingerprint(all.chain(self.outputs.iter().copied()))
    }
}
