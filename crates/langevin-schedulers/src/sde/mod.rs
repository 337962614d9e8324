//! Stochastic differential equations: the reverse SDE of every process, and any SDE a user writes.
//!
//! * [`EulerMaruyama`] as a [`Solver`](crate::Solver) plans the reverse SDE of a process (Song et al. 2021, eq. 6);
//!   [`ReverseDiffusion`] plans its discrete form (eq. 46 there).
//! * [`AdaptiveSde`] runs the reverse SDE of a process, or an [`Sde`] of one's own, with steps of its own choice, sample
//!   by sample.
//! * [`AnnealedLangevin`] plans Langevin steps of fixed length at each level, [`AnnealedCorrector`] before the steps of any
//!   solver; [`PredictorCorrector`] makes steps whose length depends on the score.
//! * [`EulerMaruyama::simulate`] and [`Milstein::simulate`] run an [`Sde`] of one's own, forwards or backwards in time,
//!   on tensors or on `f64` vectors ([`HostSde`]), with white noise or along a Brownian path that agrees across step
//!   sizes; [`Simulation::exits`] tells when paths leave an interval.

mod adaptive;
mod adaptive_run;
mod adaptive_simulation;
mod annealed_corrector;
mod annealed_langevin;
mod euler_maruyama;
mod exit;
mod milstein;
mod predictor_corrector;
mod reverse_diffusion;
mod simulation;

pub use adaptive::{AdaptiveReverse, AdaptiveSde};
pub use adaptive_simulation::AdaptiveSimulation;
pub use annealed_corrector::AnnealedCorrector;
pub(crate) use annealed_corrector::{Place, corrected, idle};
pub use annealed_langevin::AnnealedLangevin;
pub use euler_maruyama::EulerMaruyama;
pub(crate) use euler_maruyama::clock;
pub use exit::Exit;
pub use milstein::Milstein;
pub use predictor_corrector::PredictorCorrector;
pub use reverse_diffusion::ReverseDiffusion;
pub use simulation::Simulation;

use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::grid::Stop;

/// What a step of a reverse SDE may multiply the state by. At the noisy end the state is nearly all noise, and a step that
/// multiplies it by c takes about `(c − 1)·2` of the noise off again: what is left is `c − 2` times the noise that the
/// denoiser expects.
const LARGEST_FACTOR: f64 = 10.0;

/// Refuses steps that multiply the state by more than can be taken off again.
fn check_factor(solver: &'static str, step: usize, stop: &Stop, factor: f64) -> Result<(), PlanError> {
    if factor.abs() <= LARGEST_FACTOR {
        return Ok(());
    }
    let (from, to, limit) = (stop.from.t, stop.to.t, LARGEST_FACTOR);
    Err(PlanError::StepTooLong { solver, step, from, to, factor, limit })
}

/// `dx = b(x, t) dt + G(x, t) dW` in the sense of Itô, with noise that is independent for each element.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::noise::Seeded;
/// use langevin_schedulers::sde::{EulerMaruyama, Sde};
///
/// /// Geometric Brownian motion, the price of Black and Scholes.
/// struct Price { growth: f64, volatility: f64 }
/// impl Sde<2> for Price {
///     fn drift(&self, x: Tensor<2>, _t: f64) -> Tensor<2> { x.mul_scalar(self.growth) }
///     fn diffusion(&self, x: Tensor<2>, _t: f64) -> Tensor<2> { x.mul_scalar(self.volatility) }
/// }
///
/// let price = Price { growth: 0.05, volatility: 0.2 };
/// let simulation = EulerMaruyama::new().simulate_uniform(price, (0.0, 1.0), 100)?;
/// let today = Tensor::<2>::full([1000, 1], 100.0, &Device::flex());
/// let noise = Seeded::new(42);
/// let in_a_year = simulation.run(0, today, &noise)?.finish()?;
/// let mean = in_a_year.mean().into_scalar::<f32>();
/// assert!((mean - 105.1).abs() < 3.0); // 100·e^0.05
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Sde<const D: usize>: Send + Sync {
    /// The drift b for states `[batch, ..]`, of the same shape.
    fn drift(&self, x: Tensor<D>, t: f64) -> Tensor<D>;

    /// The diffusion coefficient G for states `[batch, ..]`, of the same shape.
    fn diffusion(&self, x: Tensor<D>, t: f64) -> Tensor<D>;

    /// ∂Gᵢ/∂xᵢ for each element i, of the shape of the states, for [`Milstein`]; `None` (the default) lets it take a
    /// difference instead.
    fn diffusion_slope(&self, _x: Tensor<D>, _t: f64) -> Option<Tensor<D>> {
        None
    }
}

impl<const D: usize, T: Sde<D> + ?Sized> Sde<D> for &T {
    fn drift(&self, x: Tensor<D>, t: f64) -> Tensor<D> {
        (**self).drift(x, t)
    }
    fn diffusion(&self, x: Tensor<D>, t: f64) -> Tensor<D> {
        (**self).diffusion(x, t)
    }
    fn diffusion_slope(&self, x: Tensor<D>, t: f64) -> Option<Tensor<D>> {
        (**self).diffusion_slope(x, t)
    }
}

/// As [`Sde`], on the `f64` values of one sample: no tensor, no device.
pub trait HostSde {
    /// Writes the drift b at (x, t).
    fn drift(&self, x: &[f64], t: f64, out: &mut [f64]);

    /// Writes the diffusion coefficient G at (x, t).
    fn diffusion(&self, x: &[f64], t: f64, out: &mut [f64]);

    /// Writes ∂Gᵢ/∂xᵢ for each element i and returns true, or returns false (the default): [`Milstein`] then takes a
    /// difference.
    fn diffusion_slope(&self, _x: &[f64], _t: f64, _out: &mut [f64]) -> bool {
        false
    }
}

impl<T: HostSde + ?Sized> HostSde for &T {
    fn drift(&self, x: &[f64], t: f64, out: &mut [f64]) {
        (**self).drift(x, t, out);
    }
    fn diffusion(&self, x: &[f64], t: f64, out: &mut [f64]) {
        (**self).diffusion(x, t, out);
    }
    fn diffusion_slope(&self, x: &[f64], t: f64, out: &mut [f64]) -> bool {
        (**self).diffusion_slope(x, t, out)
    }
}

/// An SDE from two functions of (states, time), the drift and the diffusion coefficient.
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_schedulers::sde;
/// // Ornstein-Uhlenbeck: a spring in a heat bath.
/// let spring = sde::from_fn(|x: Tensor<2>, _t| x.neg(), |x: Tensor<2>, _t| x.full_like(0.5));
/// ```
pub fn from_fn<const D: usize, B, G>(drift: B, diffusion: G) -> FromFn<B, G>
where
    B: Fn(Tensor<D>, f64) -> Tensor<D> + Send + Sync,
    G: Fn(Tensor<D>, f64) -> Tensor<D> + Send + Sync,
{
    FromFn { drift, diffusion }
}

/// Two closures as an [`Sde`]; made by [`from_fn`].
#[derive(Clone, Debug)]
pub struct FromFn<B, G> {
    drift: B,
    diffusion: G,
}

impl<const D: usize, B, G> Sde<D> for FromFn<B, G>
where
    B: Fn(Tensor<D>, f64) -> Tensor<D> + Send + Sync,
    G: Fn(Tensor<D>, f64) -> Tensor<D> + Send + Sync,
{
    fn drift(&self, x: Tensor<D>, t: f64) -> Tensor<D> {
        (self.drift)(x, t)
    }
    fn diffusion(&self, x: Tensor<D>, t: f64) -> Tensor<D> {
        (self.diffusion)(x, t)
    }
}
