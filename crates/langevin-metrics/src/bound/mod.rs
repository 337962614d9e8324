//! The variational bound of a discrete chain, term by term.
//!
//! A chain of Gaussian steps is a latent-variable model, and `−ln p(x_0)` is at most
//! `KL(q(x_T|x_0) ‖ p(x_T)) + Σ KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) − E ln p(x_0|x_1)` (Ho et al. 2020, eq. 5): L_T, one
//! L_{t−1} for each step, and L_0.

mod decoder;
mod report;

pub use decoder::Decoder;
pub use report::{Bound, StepTerm};

use crate::MetricError;
use crate::likelihood::gaussian_kl;
use crate::read::{check_samples, values};
use burn::tensor::{DType, Tensor};
use langevin_core::grid::Stop;
use langevin_core::process::DiscreteChain;
use langevin_core::{Denoiser, Estimate, Grid, Key, Levels, NoiseSource, Process, Query, noise};
use langevin_schedulers::ddpm::{Posterior, VARIANCE_FLOOR};
use langevin_schedulers::{Ddpm, PlanError, Solver, Variance};

const NAME: &str = "a variational bound";

/// The variational bound of the chain that DDPM samples from: its steps, its variances.
///
/// The bound is an expectation over the noise in x_t; each term takes its own draws, see [`draws`](Self::draws). The mean
/// of the reverse step is that of the posterior at x̂_0, so thresholded denoisers give the bound with clipping.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{ElementwiseMixture, Posterior};
/// use langevin_core::process::{Betas, DiscreteChain};
/// use langevin_core::{Prediction, noise::Seeded};
/// use langevin_metrics::{Decoder, Quantization, VariationalBound};
/// let chain = DiscreteChain::new(Betas::Linear { start: 1e-3, end: 0.2 }, 50)?;
/// let pixels = ElementwiseMixture::new(vec![0.5, 0.5], vec![-1.0, 1.0], vec![0.01, 0.01])?;
/// let denoiser = pixels.denoiser(Prediction::Epsilon)?;
/// let decoder = Decoder::Discretized(Quantization::bits(1)?);
/// let x0 = Tensor::<2>::from_data([[-1.0, 1.0, 1.0, -1.0]], &Device::flex());
/// let bound = VariationalBound::of_chain(&chain, decoder)?.evaluate(x0, &denoiser, &Seeded::new(0))?;
/// // Independent fair bits take one bit each, and no model does better.
/// let bits = bound.bits_per_dimension()[0];
/// assert!(bits > 0.9 && bits < 1.3, "{bits}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Ho et al. 2020, "Denoising diffusion probabilistic models", eq. 5 and section 3.3; Nichol & Dhariwal 2021, "Improved
/// denoising diffusion probabilistic models", sections 2 and 3.1.
#[derive(Clone, Debug)]
pub struct VariationalBound {
    stops: Vec<Stop>,
    variance: Variance,
    decoder: Decoder,
    decoder_variance: Option<f64>,
    draws: u32,
    prior_std: f64,
}

impl VariationalBound {
    /// Of all steps of a chain.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_chain(chain: &DiscreteChain, decoder: Decoder) -> Result<Self, MetricError> {
        Self::new(chain, &Grid::leading(chain.steps()), decoder)
    }

    /// Of the chain that a grid makes of a process, with the small fixed variance: respaced chains, and continuous
    /// processes in finite steps.
    ///
    /// # Errors
    /// [`MetricError::Grid`] and [`MetricError::Plan`] for grids that DDPM cannot walk;
    /// [`MetricError::Unsupported`] unless the grid ends in clean data; [`PlanError::Gap`] for steps that do not join.
    pub fn new(process: &dyn Process, grid: &Grid, decoder: Decoder) -> Result<Self, MetricError> {
        let plan = Ddpm::new().plan(process, grid)?;
        let stops = grid.stops(process)?;
        for (step, pair) in stops.windows(2).enumerate() {
            let (reached, next) = (pair[0].to.t, pair[1].from.t);
            if reached != next {
                return Err(PlanError::Gap { solver: NAME, step, reached, next }.into());
            }
        }
        if !stops.last().is_some_and(|stop| stop.to.level.sigma == 0.0) {
            return Err(MetricError::Unsupported {
                metric: NAME,
                what: "a grid that does not end in clean data",
                advice: "end it with `.ending(End::Clean)`, on a chain that ends in clean data",
            });
        }
        let prior_std = plan.prior_deviation();
        Ok(Self { stops, variance: Variance::default(), decoder, decoder_variance: None, draws: 1, prior_std })
    }

    /// The variance of the reverse steps. The learned ones read the network's variance channels.
    pub fn variance(mut self, variance: Variance) -> Self {
        self.variance = variance;
        self
    }

    /// Variance of the decoder p(x_0|x_1) in place of the published choice: for the fixed variances the posterior variance
    /// of the step before the last, as that of the last is zero (Ho et al. 2020). Learned variances decode with their own
    /// unless this is set. On grids that are fine in λ the published choice is far too small: σ² of the last level is right
    /// for data that is spread more widely than that.
    ///
    /// # Errors
    /// [`MetricError::Setting`] unless it is positive and finite.
    pub fn decoder_variance(mut self, variance: f64) -> Result<Self, MetricError> {
        if !(variance > 0.0 && variance.is_finite()) {
            let (setting, expected) = ("variance of the decoder", "a positive, finite number");
            return Err(MetricError::Setting { setting, given: variance, expected });
        }
        self.decoder_variance = Some(variance);
        Ok(self)
    }

    /// Noise draws for each term and sample, whose mean is taken. Default 1.
    ///
    /// # Errors
    /// [`MetricError::Setting`] for 0.
    pub fn draws(mut self, draws: u32) -> Result<Self, MetricError> {
        if draws == 0 {
            return Err(MetricError::Setting { setting: "number of draws", given: 0.0, expected: "1 or more" });
        }
        self.draws = draws;
        Ok(self)
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.stops.len()
    }

    /// The bound for samples `[batch, ..]`, numbered from 0.
    ///
    /// # Errors
    /// As [`evaluate_at`](Self::evaluate_at).
    pub fn evaluate<const D: usize>(
        &self,
        x0: Tensor<D>,
        denoiser: &dyn Denoiser<D>,
        noise: &dyn NoiseSource,
    ) -> Result<Bound, MetricError> {
        self.evaluate_at(0, x0, denoiser, noise)
    }

    /// The bound for samples `[batch, ..]`, numbered from `first`: the noise of step i, draw j is that of the key
    /// `Key::step(i, j)` of the sample's number.
    ///
    /// # Errors
    /// [`MetricError::EmptyShape`], [`MetricError::SampleNumbers`], [`MetricError::NotFinite`] for the data and for
    /// results; [`MetricError::OutOfRange`] and [`MetricError::NotALevel`] for data that is not on the decoder's levels;
    /// [`MetricError::Unsupported`] for denoisers that remember; [`MetricError::Denoise`] and
    /// [`MetricError::Prediction`] for what goes wrong in the denoiser, such as variance channels that it does not have.
    pub fn evaluate_at<const D: usize>(
        &self,
        first: u64,
        x0: Tensor<D>,
        denoiser: &dyn Denoiser<D>,
        noise: &dyn NoiseSource,
    ) -> Result<Bound, MetricError> {
        let data = check_samples(NAME, first, &x0, denoiser)?;
        let rows = x0.dims()[0];
        let x0 = x0.inner();
        let levels = self.decoder.levels(&data, rows)?;
        let numel = data.len() / rows;
        let (mut terms, mut decoded) = (Vec::new(), vec![0.0; rows]);
        for (index, stop) in self.stops.iter().enumerate() {
            let last = index + 1 == self.stops.len();
            let mut total: Option<Tensor<2>> = None;
            for draw in 0..self.draws {
                let z = noise::like(noise, &x0, first, Key::step(index as u64, draw))?;
                let at = stop.from.level;
                let x = x0.clone().mul_scalar(at.alpha).add(z.mul_scalar(at.sigma));
                let asked = Levels::Shared(stop.ask);
                let estimate = denoiser.denoise(Query { x, levels: &asked, past: &[], noise })?.without_graph();
                if last {
                    self.decode(&estimate, stop, (&data, levels.as_deref()), &mut decoded)?;
                    continue;
                }
                let term = self.step(&x0, &estimate, stop)?;
                total = Some(match total {
                    Some(total) => total.add(term),
                    None => term,
                });
            }
            terms.extend(total);
        }
        let count = f64::from(self.draws);
        decoded.iter_mut().for_each(|nats| *nats /= count);
        // One read for all steps.
        let kl = if terms.is_empty() { Vec::new() } else { values(&Tensor::cat(terms, 1).transpose())? };
        let steps = self.stops.iter().zip(kl.chunks(rows)).map(|(stop, row)| StepTerm {
            from: stop.from,
            to: stop.to,
            nats: row.iter().map(|nats| nats / count).collect(),
        });
        let noisy = self.stops[0].from.level;
        let prior = data.chunks(numel).map(|row| gaussian_kl(row, noisy.alpha, noisy.sigma, self.prior_std)).collect();
        Bound::new(prior, steps.collect(), decoded, numel)
    }

    /// `KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t))` of each sample, `[batch, 1]`, in f32 or wider.
    fn step<const D: usize>(
        &self,
        x0: &Tensor<D>,
        estimate: &Estimate<D>,
        stop: &Stop,
    ) -> Result<Tensor<2>, MetricError> {
        let posterior = Posterior::of(NAME, stop)?;
        let dims = x0.dims();
        let (rows, numel) = (dims[0], dims[1..].iter().product::<usize>());
        let flat = |x: Tensor<D>| -> Tensor<2> { widen(x).reshape([rows, numel]) };
        let off = flat(x0.clone()).sub(flat(estimate.x0()?));
        let squares = off.clone().mul(off).mul_scalar(posterior.of_x0 * posterior.of_x0);
        let log_q = libm::log(posterior.variance.max(VARIANCE_FLOOR));
        let fixed = |variance: f64| {
            // Variances in f64 on the host: ½(v − 1 − ln v) with v = q/p would cancel.
            let excess = posterior.variance / variance - 1.0;
            let of_variances = 0.5 * numel as f64 * (excess - libm::log1p(excess));
            squares.clone().sum_dim(1).mul_scalar(0.5 / variance).add_scalar(of_variances)
        };
        Ok(match self.variance {
            Variance::FixedSmall => fixed(posterior.variance),
            Variance::FixedLarge => fixed(posterior.forward),
            Variance::Learned | Variance::LearnedRange => {
                let raw = flat(estimate.variance()?);
                let log_ratio = match self.variance {
                    Variance::Learned => raw.log().sub_scalar(log_q),
                    _ => {
                        // The logarithm runs from small (at −1) to large (at 1), and small is q's own.
                        let width = libm::log(posterior.forward.max(VARIANCE_FLOOR)) - log_q;
                        raw.add_scalar(1.0).mul_scalar(0.5 * width)
                    }
                };
                let inverse = log_ratio.clone().neg().exp();
                let of_mean = squares.mul(inverse.clone()).mul_scalar(libm::exp(-log_q));
                log_ratio.add(inverse).sub_scalar(1.0).add(of_mean).sum_dim(1).mul_scalar(0.5)
            }
        })
    }

    /// Adds `−ln p(x_0|x_1)` of each sample.
    fn decode<const D: usize>(
        &self,
        estimate: &Estimate<D>,
        stop: &Stop,
        (data, levels): (&[f64], Option<&[usize]>),
        nats: &mut [f64],
    ) -> Result<(), MetricError> {
        let last = Posterior::of(NAME, stop)?;
        let before = match self.stops.len() {
            0 | 1 => last.forward,
            n => Posterior::of(NAME, &self.stops[n - 2])?.variance,
        };
        let means = values(&estimate.x0()?)?;
        let variances: Vec<f64> = match (self.decoder_variance, self.variance) {
            (Some(variance), _) => vec![variance],
            (None, Variance::FixedSmall | Variance::FixedLarge) => vec![before],
            (None, Variance::Learned) => values(&estimate.variance()?)?,
            (None, Variance::LearnedRange) => {
                let (small, large) =
                    (libm::log(before.max(VARIANCE_FLOOR)), libm::log(last.forward.max(VARIANCE_FLOOR)));
                let share = values(&estimate.variance()?)?.into_iter().map(|raw| 0.5 * (raw + 1.0));
                share.map(|share| libm::exp(share * large + (1.0 - share) * small)).collect()
            }
        };
        let numel = data.len() / nats.len();
        for (index, (mean, x)) in means.iter().zip(data).enumerate() {
            let std = variances[if variances.len() == 1 { 0 } else { index }].sqrt();
            nats[index / numel] -= self.decoder.log_likelihood(*x, levels.map(|levels| levels[index]), *mean, std);
        }
        Ok(())
    }
}

/// Sums over half-precision samples are taken in f32.
fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}
