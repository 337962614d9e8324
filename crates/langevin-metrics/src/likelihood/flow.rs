//! The trajectory and, beside it, the integrals of the trace.

use super::{Probe, Trace};
use crate::MetricError;
use crate::read::values;
use burn::tensor::{DType, Tensor, TensorData};
use langevin_core::noise::{Domain, Key};
use langevin_core::{DenoiseError, Denoiser, Levels, NoiseSource, Process, Query, denoiser};
use langevin_schedulers::SampleError;
use langevin_schedulers::ode::{Field, flow_slope};

/// The right-hand side: slope of the state, and `vᵀ(∂f/∂x)v` for each probe v (or the sum of it over all axes).
pub(super) struct Flow<'a, P, const D: usize> {
    process: &'a P,
    denoiser: &'a dyn Denoiser<D>,
    noise: &'a dyn NoiseSource,
    shape: [usize; D],
    /// `[probes, batch, numel]`, or `[numel, 1, numel]` for the axes.
    vectors: Tensor<3>,
    exact: bool,
    /// Vectors of one call.
    at_once: usize,
    evaluations: usize,
    /// The score where the denoiser was asked last, `[batch, numel]`.
    score: Option<Tensor<2>>,
    /// What the accepted steps may have added to ln p, `[batch, 1]`.
    error: Option<Tensor<2>>,
}

impl<'a, P: Process, const D: usize> Flow<'a, P, D> {
    pub fn new(
        process: &'a P,
        denoiser: &'a dyn Denoiser<D>,
        noise: &'a dyn NoiseSource,
        (trace, rows): (Trace, usize),
        first: u64,
        x: &Tensor<D>,
    ) -> Result<Self, MetricError> {
        let shape = x.dims();
        let (batch, numel) = (shape[0], shape[1..].iter().product::<usize>());
        let options = (&x.device(), x.dtype());
        let vectors = match trace {
            Trace::Exact => Tensor::<2>::eye(numel, &x.device()).cast(x.dtype()).reshape([numel, 1, numel]),
            Trace::Probes { count, kind } => {
                let probe = |lane: usize| -> Result<Tensor<2>, MetricError> {
                    let key = Key { domain: Domain::Probe, index: 0, lane: lane as u32 };
                    let mut values = vec![0.0; batch * numel];
                    for (row, sample) in values.chunks_mut(numel).zip(first..) {
                        noise.fill(sample, key, row)?;
                    }
                    if kind == Probe::Rademacher {
                        values.iter_mut().for_each(|value| *value = if *value < 0.0 { -1.0 } else { 1.0 });
                    }
                    Ok(Tensor::from_data(TensorData::new(values, [batch, numel]), options))
                };
                Tensor::stack((0..count).map(probe).collect::<Result<_, _>>()?, 0)
            }
        };
        let at_once = (rows / batch).clamp(1, vectors.dims()[0]);
        let fits = |copies: usize| {
            let mut many = shape;
            many[0] *= copies;
            denoiser.check(&many).is_ok()
        };
        // A condition with a row for each sample fits no larger batch.
        let at_once = if fits(at_once) { at_once } else { 1 };
        let exact = trace == Trace::Exact;
        let (score, error) = (None, None);
        Ok(Self { process, denoiser, noise, shape, vectors, exact, at_once, evaluations: 0, score, error })
    }

    /// Columns of the integrals: one for each probe, or one for the exact trace.
    pub fn integrals(&self) -> usize {
        if self.exact { 1 } else { self.vectors.dims()[0] }
    }

    /// Calls of the denoiser.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// The estimate of the solver's error in ln p for each sample, in nats, if there is one.
    pub fn error(&self) -> Result<Option<Vec<f64>>, MetricError> {
        self.error.as_ref().map(values).transpose()
    }

    /// Slope and traces for the vectors `[from, to)`: `[batch, numel]` and `[batch, to − from]`.
    fn part(
        &mut self,
        x: &Tensor<2>,
        levels: &Levels,
        t: &[f64],
        (from, to): (usize, usize),
    ) -> Result<(Tensor<2>, Tensor<2>), SampleError> {
        let ([batch, numel], count) = (x.dims(), to - from);
        let mut shape = self.shape;
        shape[0] = count * batch;
        let many = x.clone().repeat_dim(0, count).reshape(shape);
        let vectors = self.vectors.clone().narrow(0, from, count).expand([count, batch, numel]).reshape(shape);
        let (levels, times) = (levels.repeat(count), t.repeat(count));
        let query = Query { x: many, levels: &levels, past: &[], noise: self.noise };
        let mut slope = None;
        let graded = denoiser::gradient(self.denoiser, query, |estimate| {
            let here = flow_slope(self.process, estimate, &times).map_err(DenoiseError::from)?;
            slope = Some(here.clone().inner());
            Ok(here.mul(vectors.clone().autodiff()).sum())
        })?;
        self.evaluations += 1;
        let of_one = |all: Tensor<D>| all.narrow(0, 0, batch).reshape([batch, numel]);
        if from == 0 {
            // Only the estimate of the solver's error reads it, so it may be missing.
            self.score = graded.estimate.score().ok().map(of_one);
        }
        let products: Tensor<3> = graded.gradient.mul(vectors).reshape([count, batch, numel]);
        let traces: Tensor<2> = widen(products).sum_dim(2).reshape([count, batch]).transpose();
        Ok((slope.map_or_else(|| x.zeros_like(), of_one), traces))
    }
}

/// Half precision adds up in f32.
fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

impl<P: Process, const D: usize> Field for Flow<'_, P, D> {
    fn slope(&mut self, parts: &[Tensor<2>], t: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
        let together = t.iter().all(|time| *time == t[0]);
        let levels = match together {
            true => Levels::Shared(self.process.level(t[0])),
            false => Levels::Each(t.iter().map(|t| self.process.level(*t)).collect()),
        };
        let count = self.vectors.dims()[0];
        let (mut slope, mut traces) = (None, Vec::new());
        for from in (0..count).step_by(self.at_once) {
            let to = (from + self.at_once).min(count);
            let (here, part) = self.part(&parts[0], &levels, t, (from, to))?;
            slope = slope.or(Some(here));
            traces.push(if self.exact { part.sum_dim(1) } else { part });
        }
        let traces = if self.exact { traces.into_iter().reduce(Tensor::add) } else { Some(Tensor::cat(traces, 1)) };
        let missing = || SampleError::EmptyShape { shape: self.shape.to_vec() };
        Ok(vec![slope.ok_or_else(missing)?, traces.ok_or_else(missing)?])
    }

    /// An error e of the state moves the ln p that is found in the end by `∇ln p·e`, which is the score here, and an
    /// error of the integral by itself.
    fn attempted(&mut self, errors: &[Tensor<2>], accepted: &[bool]) {
        let Some(score) = &self.score else { return };
        let of_state = widen(errors[0].clone().mul(score.clone())).sum_dim(1);
        let of_integral = errors[1].clone().mean_dim(1);
        let step = of_state.abs().cast(of_integral.dtype()).add(of_integral.abs());
        // A rejected step may have errors that are not numbers.
        let column = TensorData::new(accepted.to_vec(), [accepted.len(), 1]);
        let rejected = Tensor::<2, burn::tensor::Bool>::from_data(column, &step.device()).bool_not();
        let step = step.mask_fill(rejected, 0.0);
        self.error = Some(match self.error.take() {
            Some(sum) => sum.add(step),
            None => step,
        });
    }
}
