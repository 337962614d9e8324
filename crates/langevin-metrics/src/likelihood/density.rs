//! What an integration has found.

use super::{Probe, student};
use crate::MetricError;
use crate::quantization::Quantization;
use burn::tensor::{DType, Tensor};
use langevin_core::Node;
use langevin_core::exact::Marginal;
use langevin_schedulers::ode::DormandPrince;

const LN_2: f64 = std::f64::consts::LN_2;

/// How the equation was solved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SolverReport {
    /// Relative and absolute tolerance of an adaptive method.
    pub tolerance: Option<(f64, f64)>,
    /// Estimate of the error that the adaptive method has left in ln p of each sample, in nats: the sum over its steps of
    /// `|e_l| + |score·e_x|`, where e are the embedded error estimates of the integral and of the state: the score is the
    /// slope of the ln p that is found in the end. They are those of the method of order 4 that step sizes are chosen by,
    /// so the error is smaller at tolerances of 1e-5 and below; at 1e-3 steps are too long for orders to show, and it may be
    /// several times larger.
    ///
    /// Along a fixed grid it is the distance to the ln p that half as many steps lead to: of a method of order p about 2^p − 1 times the
    /// error, and of one of order 1 twice that distance, so that it is no less than the error wherever orders show. `None` for a single step, and where it was
    /// [left out](super::Likelihood::unestimated).
    pub error: Option<Vec<f64>>,
    /// Calls of the denoiser, each with a backward pass.
    pub evaluations: usize,
    /// Steps of each sample.
    pub accepted: Vec<usize>,
    /// Steps of each sample that were tried and given up.
    pub rejected: Vec<usize>,
}

impl SolverReport {
    pub(super) fn of(method: &DormandPrince) -> Self {
        Self { tolerance: Some(method.tolerances()), ..Self::default() }
    }
}

/// What lies between ln p as integrated and ln p of the data, for a problem whose density is known: in nats, one number
/// for each sample. `log_p = ln p_0(x) + truncation + flow − prior`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaps {
    /// `ln p_ε(x) − ln p_0(x)`: the density where the integration starts is that of data with a little noise.
    pub truncation: Vec<f64>,
    /// `ln p_T(x_T) − ln π(x_T)`: the true density where it ends, against the Gaussian π that the model begins from.
    pub prior: Vec<f64>,
    /// What is left, `ln p_T(x_T) + ∫ tr − ln p_ε(x)`: errors of the model, the solver and the probes.
    pub flow: Vec<f64>,
}

/// ln p of a batch; made by [`Likelihood::evaluate`](super::Likelihood::evaluate). All in nats unless a name says bits.
#[derive(Clone, Debug)]
pub struct LogDensity<const D: usize> {
    pub(super) latent: Tensor<D>,
    /// The states at the start and at the end, rows of `numel` values.
    pub(super) data: Vec<f64>,
    pub(super) latents: Vec<f64>,
    /// The integral of the trace, one for each probe of each sample.
    pub(super) integrals: Vec<f64>,
    /// What the probes are made of, unless the trace is exact.
    pub(super) probes: Option<Probe>,
    pub(super) numel: usize,
    pub(super) prior_std: f64,
    pub(super) start: Node,
    pub(super) end: Node,
    pub(super) clean: Node,
    pub(super) quantization: Option<Quantization>,
    pub(super) solver: SolverReport,
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len() as f64
}

/// `ln π` of each row of `numel` values, under a Gaussian of this deviation.
fn prior((numel, std): (usize, f64), latents: &[f64]) -> impl Iterator<Item = f64> {
    let variance = std * std;
    let norm = 0.5 * numel as f64 * libm::log(std::f64::consts::TAU * variance);
    let square = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    latents.chunks(numel).map(move |row| -norm - 0.5 * square(row) / variance)
}

/// That plus the mean of each sample's integrals.
pub(super) fn log_p((numel, std): (usize, f64), latents: &[f64], integrals: &[f64]) -> Vec<f64> {
    let columns = integrals.len() * numel / latents.len();
    prior((numel, std), latents).zip(integrals.chunks(columns)).map(|(prior, row)| prior + mean(row)).collect()
}

impl<const D: usize> LogDensity<D> {
    /// `ln p(x)` of each sample: [`prior`](Self::prior) plus [`change`](Self::change). The density at the start time of
    /// the integration, with respect to the values the model works in.
    pub fn log_p(&self) -> Vec<f64> {
        log_p((self.numel, self.prior_std), &self.latents, &self.integrals)
    }

    /// `ln π(x_T)` under the Gaussian that the model begins from.
    pub fn prior(&self) -> Vec<f64> {
        prior((self.numel, self.prior_std), &self.latents).collect()
    }

    /// `∫ tr(∂f/∂x) dt` from start to end, the mean over the probes.
    pub fn change(&self) -> Vec<f64> {
        self.by_sample().map(mean).collect()
    }

    /// `∫ vᵀ(∂f/∂x)v dt` for each probe v of each sample; one number, the exact trace, without probes.
    pub fn change_by_probe(&self) -> Vec<Vec<f64>> {
        self.by_sample().map(<[f64]>::to_vec).collect()
    }

    fn by_sample(&self) -> impl Iterator<Item = &[f64]> {
        let rows = self.data.len() / self.numel;
        self.integrals.chunks(self.integrals.len() / rows)
    }

    /// The states at the end of the integration, `[batch, ..]`.
    pub fn latent(&self) -> Tensor<D> {
        self.latent.clone()
    }

    /// Deviation of the Gaussian that the model begins from.
    pub fn prior_std(&self) -> f64 {
        self.prior_std
    }

    /// Where data was taken to be, and where the prior is.
    pub fn nodes(&self) -> (Node, Node) {
        (self.start, self.end)
    }

    /// How the equation was solved, and how well.
    pub fn solver(&self) -> &SolverReport {
        &self.solver
    }

    /// For each sample an interval that contains the ln p of the exact trace with the given confidence: Student's t over
    /// the probes. It says nothing of the other errors. With the exact trace it is a point.
    ///
    /// The estimates of the probes must be nearly normal, as those of many dimensions are. Of ±1 there are few in few
    /// dimensions, up to their sign two in the plane, and all that were drawn may agree although none is right. Where they
    /// agree to rounding, in two dimensions or more, the interval is therefore infinite unless that is less likely than
    /// `1 − confidence`: n probes that could differ agree with a probability of at most (3/4)ⁿ + (1/4)ⁿ, so 11 are enough
    /// at 95%. Normal probes have skewed integrals: intervals at 95% of 10 in ten dimensions contained the exact value in 92.4% of 2000
    /// repeats, those of 30 in 94.0%. Below about 10 values a sample [`Trace::Exact`](super::Trace::Exact) is cheaper than probes, and leaves
    /// nothing open.
    ///
    /// # Errors
    /// [`MetricError::Setting`] for a confidence outside (0, 1), [`MetricError::Unsupported`] for one probe.
    pub fn interval(&self, confidence: f64) -> Result<Vec<(f64, f64)>, MetricError> {
        if !(confidence > 0.0 && confidence < 1.0) {
            let expected = "a number between 0 and 1";
            return Err(MetricError::Setting { setting: "confidence", given: confidence, expected });
        }
        let errors = self.errors_unless(1.0 - confidence)?;
        if self.probes.is_none() {
            return Ok(self.log_p().into_iter().map(|value| (value, value)).collect());
        }
        let probes = self.by_sample().next().map_or(0, <[f64]>::len);
        let factor = student::quantile(0.5 + 0.5 * confidence, (probes - 1) as f64);
        Ok(self
            .log_p()
            .iter()
            .zip(errors)
            .map(|(mean, error)| (mean - factor * error, mean + factor * error))
            .collect())
    }

    /// Standard error of ln p over the probes; zero with the exact trace. Infinite where probes of ±1 agree and are too
    /// few to tell whether by chance, as in the 95% [`interval`](Self::interval): 10 or fewer.
    ///
    /// # Errors
    /// [`MetricError::Unsupported`] for one probe.
    pub fn standard_error(&self) -> Result<Vec<f64>, MetricError> {
        self.errors_unless(0.05)
    }

    /// Standard errors; infinite where the probes agree and may do so by a chance of more than `chance`.
    fn errors_unless(&self, chance: f64) -> Result<Vec<f64>, MetricError> {
        let one = |row: &[f64]| {
            let n = row.len() as f64;
            let Some(kind) = self.probes else { return Ok(0.0) };
            if row.len() < 2 {
                return Err(MetricError::Unsupported {
                    metric: "an interval",
                    what: "one probe",
                    advice: "two probes or more tell how much they differ",
                });
            }
            // Normal probes agree with probability 0, and one value has no other probe than ±1.
            let few = kind == Probe::Rademacher && self.numel > 1 && alike(row.len()) > chance;
            if few && self.agree(row) {
                return Ok(f64::INFINITY);
            }
            let mean = row.iter().sum::<f64>() / n;
            Ok((row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
        };
        self.by_sample().map(one).collect()
    }

    /// Whether numbers differ by no more than rounding may: a probe and its negative have one integral, but their rows
    /// may be summed in another order.
    fn agree(&self, row: &[f64]) -> bool {
        let unit = match self.latent.dtype() {
            DType::F64 => f64::EPSILON,
            DType::F16 => 2f64.powi(-10),
            DType::BF16 => 2f64.powi(-7),
            _ => f64::from(f32::EPSILON),
        };
        let (low, high) = row.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
        // A trace is a sum over the values, each of which adds something like a nat.
        high - low <= 64.0 * unit * (self.numel as f64).max(low.abs()).max(high.abs())
    }

    /// Bits per dimension, `−ln p/(numel·ln 2)`. For [quantized](super::Likelihood::quantized) data those of the levels,
    /// an upper bound on average: the offset [`Quantization::offset_bits`] is added.
    pub fn bits_per_dimension(&self) -> Vec<f64> {
        let offset = self.quantization.as_ref().map_or(0.0, Quantization::offset_bits);
        self.log_p().iter().map(|log_p| offset - log_p / (self.numel as f64 * LN_2)).collect()
    }

    /// `KL(q(x_T|x) ‖ π)` of each sample, where q is the forward process at the end and π the Gaussian that the model
    /// begins from. Its mean over data is at least `KL(p_T ‖ π)`, the mean prior gap, which cannot be known without the
    /// density of the data.
    pub fn prior_kl(&self) -> Vec<f64> {
        let level = self.end.level;
        self.data.chunks(self.numel).map(|row| gaussian_kl(row, level.alpha, level.sigma, self.prior_std)).collect()
    }

    /// Truncation and prior gap, each by itself, against a problem whose density is known.
    ///
    /// # Errors
    /// [`MetricError::Exact`] if the samples are none of the problem's.
    pub fn gaps(&self, problem: &dyn Marginal) -> Result<Gaps, MetricError> {
        let mut gaps = Gaps { truncation: Vec::new(), prior: Vec::new(), flow: Vec::new() };
        let (priors, changes) = (self.prior(), self.change());
        let rows = self.data.chunks(self.numel).zip(self.latents.chunks(self.numel));
        for ((x, latent), (prior, change)) in rows.zip(priors.iter().zip(changes)) {
            let start = problem.log_marginal(x, &self.start.level)?;
            let end = problem.log_marginal(latent, &self.end.level)?;
            gaps.truncation.push(start - problem.log_marginal(x, &self.clean.level)?);
            gaps.prior.push(end - prior);
            gaps.flow.push(end + change - start);
        }
        Ok(gaps)
    }
}

/// The largest probability with which n probes of ±1 have one `vᵀAv` for an A that does not give all probes the same: a
/// polynomial of degree 2 in independent signs that is no constant has no value with a probability above 3/4.
fn alike(n: usize) -> f64 {
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    0.75f64.powi(n) + 0.25f64.powi(n)
}

/// `KL(N(α·x, σ²) ‖ N(0, s²))` over the values of a sample.
pub(crate) fn gaussian_kl(x: &[f64], alpha: f64, sigma: f64, std: f64) -> f64 {
    let (ratio, n) = ((sigma / std).powi(2), x.len() as f64);
    let square: f64 = x.iter().map(|x| (alpha * x / std).powi(2)).sum();
    // ratio − 1 − ln(ratio), without cancellation near 1.
    0.5 * (square + n * ((ratio - 1.0) - libm::log1p(ratio - 1.0)))
}
