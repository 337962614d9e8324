//! ln p(x) through the probability-flow ODE.
//!
//! Along `dx/dt = f(x, t)` with `f = α̇·x̂_0 + σ̇·ε̂` densities change by `d ln p/dt = −tr ∂f/∂x`, so that
//! `ln p_ε(x) = ln p_T(x_T) + ∫_ε^T tr(∂f/∂x) dt` (Chen et al. 2018; Grathwohl et al. 2019, FFJORD; Song et al. 2021,
//! section 4.3 and appendix D.2). The trace is exact, by one vector-Jacobian product for each value of a sample, or
//! Hutchinson's estimate `vᵀ(∂f/∂x)v` with probes v that stay the same for the whole run. The trajectory and the
//! integrals of all probes are one state of the methods in [`langevin_schedulers::ode`].
//!
//! What the number leaves open is reported beside it, and never mixed into it:
//!
//! * the **solver's error**: tolerance and an estimate, [`LogDensity::solver`];
//! * the **probes**: an interval for what the exact trace would give, [`LogDensity::interval`];
//! * the **truncation**: p_ε is the density of slightly noised data, not of data; and the **prior gap**: at T the model
//!   begins from a Gaussian that the data has not quite become. Both need the true density,
//!   [`LogDensity::gaps`]; without it there is a bound on the mean prior gap, [`LogDensity::prior_kl`].

mod density;
mod flow;
mod student;

pub(crate) use density::gaussian_kl;
use density::log_p;
pub use density::{Gaps, LogDensity, SolverReport};

use crate::MetricError;
use crate::quantization::Quantization;
use crate::read::{check_finite, check_samples, values};
use burn::tensor::{DType, Tensor};
use flow::Flow;
use langevin_core::{Denoiser, Grid, NoiseSource, Process};
use langevin_schedulers::ode::{DormandPrince, ProbabilityFlow, Tableau};
use langevin_schedulers::{PlanError, Solver};
use serde::{Deserialize, Serialize};

/// What Hutchinson's probes are made of; any distribution with mean 0 and covariance 1 is unbiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// ±1 with equal probability: the smallest variance of independent entries, none from the diagonal. In few dimensions
    /// there are few of them, and they may all be alike: see [`LogDensity::interval`].
    #[default]
    Rademacher,
    /// Standard normal.
    Gaussian,
}

/// How the trace of the Jacobian is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trace {
    /// Every diagonal entry: as many vector-Jacobian products as a sample has values.
    Exact,
    /// Hutchinson's estimate (1989). Below about 10 values a sample [`Exact`](Self::Exact) is cheaper.
    Probes {
        /// How many probes, at least 1; two are needed for an interval.
        count: usize,
        /// What they are made of.
        kind: Probe,
    },
}

impl Trace {
    /// `count` probes of ±1.
    pub const fn rademacher(count: usize) -> Self {
        Trace::Probes { count, kind: Probe::Rademacher }
    }

    /// `count` standard normal probes.
    pub const fn gaussian(count: usize) -> Self {
        Trace::Probes { count, kind: Probe::Gaussian }
    }
}

/// How the equation is integrated.
#[derive(Clone, Debug, PartialEq)]
enum Steps {
    Adaptive(DormandPrince),
    /// The times, and whether the error is estimated.
    Fixed(Tableau, Vec<f64>, bool),
}

/// ln p(x) under a denoiser on a process, by the probability-flow ODE.
///
/// Works on every process, with every prediction, for states of any rank. The denoiser must answer by tensor operations
/// that autodiff can follow; networks in their sampling form do.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor, TensorData};
/// use langevin_core::exact::{Gaussian, Posterior};
/// use langevin_core::{Prediction, noise::Seeded, process::VpSde};
/// use langevin_metrics::{Likelihood, Trace};
/// let data = Gaussian::new(vec![0.5, 0.0], vec![0.5, 0.2, 0.2, 0.3])?;
/// let denoiser = data.clone().denoiser(Prediction::Epsilon)?;
/// let x = Tensor::<2>::from_data(TensorData::from([[0.7, -0.1]]), (&Device::flex(), DType::F64));
/// let density = Likelihood::new(VpSde::default(), Trace::Exact)?.evaluate(x, &denoiser, &Seeded::new(0))?;
/// let gaps = density.gaps(&data)?;
/// let exact = density.log_p()[0] - gaps.truncation[0] + gaps.prior[0] - gaps.flow[0];
/// let clean = langevin_core::Level { alpha: 1.0, sigma: 0.0, time: 0.0 };
/// assert!((exact - data.at(&clean)?.log_density(&[0.7, -0.1])?).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", section 4.3, appendix
/// D.2; Grathwohl et al. 2019, "FFJORD"; Hutchinson 1989.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood<P> {
    process: P,
    trace: Trace,
    steps: Steps,
    start: f64,
    end: f64,
    prior_std: Option<f64>,
    quantization: Option<Quantization>,
    rows: usize,
}

fn positive(setting: &'static str, given: f64) -> Result<f64, MetricError> {
    if given > 0.0 && given.is_finite() {
        return Ok(given);
    }
    Err(MetricError::Setting { setting, given, expected: "a positive, finite number" })
}

impl<P: Process> Likelihood<P> {
    /// Over the whole time range of the process, with adaptive steps of relative and absolute tolerance 1e-5.
    ///
    /// # Errors
    /// [`MetricError::Setting`] for no probes, [`MetricError::Process`] for a process that is none,
    /// [`MetricError::Plan`] where α or σ has no finite slope at an end (give the process another range, or use
    /// [`between`](Self::between)).
    pub fn new(process: P, trace: Trace) -> Result<Self, MetricError> {
        if let Trace::Probes { count: 0, .. } = trace {
            let expected = "1 or more";
            return Err(MetricError::Setting { setting: "number of probes", given: 0.0, expected });
        }
        langevin_core::process::validate(&process)?;
        let method = DormandPrince::new(1e-5, 1e-5)?;
        let (start, end) = process.time_range();
        let new = Self {
            process,
            trace,
            steps: Steps::Adaptive(method),
            start,
            end,
            prior_std: None,
            quantization: None,
            rows: usize::MAX,
        };
        new.check_times()?;
        Ok(new)
    }

    /// Checks times and slopes as a sampler between start and end would.
    fn check_times(&self) -> Result<(), MetricError> {
        DormandPrince::new(1e-5, 1e-5)?.between(&self.process, self.start, self.end)?;
        Ok(())
    }

    /// From `start` at the clean end to `end` at the noisy end, in the process's time. Data is taken to be at `start`. Takes
    /// the place of a fixed grid set before, with adaptive steps as of [`new`](Self::new).
    ///
    /// # Errors
    /// [`MetricError::Plan`] for times outside the range of the process and ends without a finite slope,
    /// [`MetricError::Setting`] unless `start < end`.
    pub fn between(mut self, start: f64, end: f64) -> Result<Self, MetricError> {
        (self.start, self.end) = (start, end);
        self.check_times()?;
        if !(start < end) {
            let expected = "a time after the start: densities are followed from data to noise";
            return Err(MetricError::Setting { setting: "end of the integration", given: end, expected });
        }
        if let Steps::Fixed(..) = self.steps {
            self.steps = Steps::Adaptive(DormandPrince::new(1e-5, 1e-5)?);
        }
        Ok(self)
    }

    /// Adaptive steps with these tolerances.
    ///
    /// # Errors
    /// [`MetricError::Plan`] for a tolerance that is not positive and finite.
    pub fn tolerance(self, rtol: f64, atol: f64) -> Result<Self, MetricError> {
        Ok(self.adaptive(DormandPrince::new(rtol, atol)?))
    }

    /// Adaptive steps by a method with settings of its own.
    pub fn adaptive(mut self, method: DormandPrince) -> Self {
        self.steps = Steps::Adaptive(method);
        self
    }

    /// Fixed steps along a grid, walked from its clean to its noisy end; both replace the times set before.
    ///
    /// The solver's error is estimated by a second solution along every second time, half as many calls again
    /// ([`LogDensity::solver`]); [`unestimated`](Self::unestimated) leaves it out.
    ///
    /// # Errors
    /// [`MetricError::Plan`] for what [`ProbabilityFlow`] refuses: grids that leave the time range of the process (end
    /// them with `.ending(End::Range)`), gaps between steps, inverted grids, levels without a finite slope.
    pub fn fixed(mut self, tableau: Tableau, grid: &Grid) -> Result<Self, MetricError> {
        ProbabilityFlow::new(tableau.clone()).plan(&self.process, grid)?;
        let stops = grid.stops(&self.process)?;
        let first = stops.first().map(|stop| stop.from.t);
        let mut times: Vec<f64> = first.into_iter().chain(stops.iter().map(|stop| stop.to.t)).collect();
        times.reverse();
        match times.as_slice() {
            [start, .., end] if start < end => (self.start, self.end) = (*start, *end),
            _ => {
                let first = "a likelihood".to_owned();
                let (second, reason) =
                    ("this grid".to_owned(), "it must begin at the noisy end; leave `.inverted()` out");
                return Err(PlanError::Combination { first, second, reason }.into());
            }
        }
        self.steps = Steps::Fixed(tableau, times, true);
        Ok(self)
    }

    /// Leaves out the estimate of the solver's error along a fixed grid, and the calls that it needs. Adaptive steps have theirs anyway.
    pub fn unestimated(mut self) -> Self {
        if let Steps::Fixed(_, _, estimated) = &mut self.steps {
            *estimated = false;
        }
        self
    }

    /// Standard deviation of the Gaussian that the model begins from at the end. Default: the process's own, at an
    /// earlier end less in the ratio of σ, as samplers begin.
    ///
    /// # Errors
    /// [`MetricError::Setting`] unless it is positive and finite.
    pub fn prior_std(mut self, std: f64) -> Result<Self, MetricError> {
        self.prior_std = Some(positive("standard deviation of the prior", std)?);
        Ok(self)
    }

    /// Takes data on levels, dequantizes it, and counts bits per dimension of the levels.
    pub fn quantized(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// Most rows of one call of the denoiser, which is asked about several probes at once. Default: no limit. At least
    /// one whole batch is asked about at a time; so is exactly one if its condition fits no larger one.
    ///
    /// # Errors
    /// [`MetricError::Setting`] for 0.
    pub fn rows_at_once(mut self, rows: usize) -> Result<Self, MetricError> {
        if rows == 0 {
            return Err(MetricError::Setting { setting: "rows of one call", given: 0.0, expected: "1 or more" });
        }
        self.rows = rows;
        Ok(self)
    }

    /// The times of data and of the prior.
    pub fn times(&self) -> (f64, f64) {
        (self.start, self.end)
    }

    /// ln p of samples `[batch, ..]`, numbered from 0.
    ///
    /// # Errors
    /// As [`evaluate_at`](Self::evaluate_at).
    pub fn evaluate<const D: usize>(
        &self,
        x: Tensor<D>,
        denoiser: &dyn Denoiser<D>,
        noise: &dyn NoiseSource,
    ) -> Result<LogDensity<D>, MetricError> {
        self.evaluate_at(0, x, denoiser, noise)
    }

    /// ln p of samples `[batch, ..]`, numbered from `first`: probes and dequantization noise belong to a sample's
    /// number, not to its row.
    ///
    /// # Errors
    /// [`MetricError::EmptyShape`], [`MetricError::SampleNumbers`], [`MetricError::NotFinite`] for the data and for
    /// results; [`MetricError::OutOfRange`] and [`MetricError::NotALevel`] for data that is not on the levels of
    /// [`quantized`](Self::quantized); [`MetricError::Unsupported`] for denoisers that remember;
    /// [`MetricError::Denoise`] and [`MetricError::Sample`] for what goes wrong on the way, such as samples of another
    /// shape, and a tolerance that cannot be reached.
    pub fn evaluate_at<const D: usize>(
        &self,
        first: u64,
        x: Tensor<D>,
        denoiser: &dyn Denoiser<D>,
        noise: &dyn NoiseSource,
    ) -> Result<LogDensity<D>, MetricError> {
        check_samples("a likelihood", first, &x, denoiser)?;
        // Another graph that x may be part of does not matter here.
        let mut x = x.inner();
        if let Some(quantization) = &self.quantization {
            x = quantization.dequantize(x, first, noise)?;
        }
        let (dims, data) = (x.dims(), values(&x)?);
        let numel = data.len() / dims[0];
        let mut flow = Flow::new(&self.process, denoiser, noise, (self.trace, self.rows), first, &x)?;
        let precise = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let integrals = Tensor::zeros([dims[0], flow.integrals()], (&x.device(), precise));
        let parts = vec![x.reshape([dims[0], numel]), integrals];
        let (mut coarse, mut safety) = (None, 1.0);
        let (parts, solver) = match &self.steps {
            Steps::Adaptive(method) => {
                let solution = method.solve(&mut flow, parts, self.start, self.end)?;
                let (accepted, rejected) = (solution.accepted, solution.rejected);
                (solution.parts, SolverReport { accepted, rejected, ..SolverReport::of(method) })
            }
            Steps::Fixed(tableau, times, estimated) => {
                let report = SolverReport { accepted: vec![times.len() - 1; dims[0]], ..SolverReport::default() };
                if *estimated && times.len() > 2 {
                    // Of order 1 the distance is the error itself, give or take what orders do not show.
                    let slope: f64 = tableau.weights().iter().zip(tableau.nodes()).map(|(b, c)| b * c).sum();
                    safety = if (slope - 0.5).abs() < 1e-9 { 1.0 } else { 2.0 };
                    coarse = Some(tableau.solve(&mut flow, parts.clone(), &every_second(times))?);
                }
                (tableau.solve(&mut flow, parts, times)?, report)
            }
        };
        let mut solver = SolverReport { evaluations: flow.evaluations(), error: flow.error()?, ..solver };
        let (latent, integrals) = (values(&parts[0])?, values(&parts[1])?);
        let advice = "look at the network's output, the guidance scale and the ends of the integration";
        check_finite("the latent state", &latent, dims[0], advice)?;
        check_finite("the change of ln p", &integrals, dims[0], advice)?;
        let end = self.process.node(self.end);
        let prior_std = self.prior_std.unwrap_or_else(|| langevin_schedulers::solver::prior_std(&self.process, &end));
        if let Some(coarse) = coarse {
            let (prior, ends) = ((numel, prior_std), [values(&coarse[0])?, values(&coarse[1])?]);
            let (fine, coarse) = (log_p(prior, &latent, &integrals), log_p(prior, &ends[0], &ends[1]));
            // What is no number is no guide either.
            let apart =
                |(fine, coarse): (&f64, &f64)| Some(safety * (fine - coarse).abs()).filter(|error| error.is_finite());
            solver.error = Some(fine.iter().zip(&coarse).map(|both| apart(both).unwrap_or(f64::INFINITY)).collect());
        }
        Ok(LogDensity {
            latent: parts[0].clone().reshape(dims),
            data,
            latents: latent,
            integrals,
            probes: match self.trace {
                Trace::Exact => None,
                Trace::Probes { kind, .. } => Some(kind),
            },
            numel,
            prior_std,
            start: self.process.node(self.start),
            end,
            clean: self.process.clean(),
            quantization: self.quantization,
            solver,
        })
    }
}

/// Every second of the times, and the last.
fn every_second(times: &[f64]) -> Vec<f64> {
    let last = times.len() - 1;
    (0..times.len()).filter(|i| i % 2 == 0 || *i == last).map(|i| times[i]).collect()
}
