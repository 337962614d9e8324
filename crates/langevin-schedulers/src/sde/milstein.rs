//! Milstein steps for SDEs of one's own.

use super::simulation::{Scheme, Simulation};
use crate::solver::PlanError;

pub(super) const NAME: &str = "Milstein";

/// The Milstein method for an [`Sde`](super::Sde) whose noise depends on the state: strong order 1 where
/// [`EulerMaruyama`](super::EulerMaruyama) has ½.
///
/// A step is `x + b·Δt + G·ΔW + ½·G·∂G/∂x·(ΔW² − |Δt|)`. The slope ∂G/∂x is the one that the SDE knows
/// ([`Sde::diffusion_slope`](super::Sde::diffusion_slope)); for one that knows none, `G·∂G/∂x` is
/// `(G(x + G·√|Δt|) − G(x))/√|Δt|`, which keeps the order and costs one more call of the diffusion.
///
/// Each element has noise of its own, so the order holds where G of an element depends on that element only. Weak order
/// 1. With additive noise the two methods are the same.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::noise::Seeded;
/// use langevin_schedulers::sde::{self, Milstein};
/// // A price under Black and Scholes; the slope of its diffusion is found by a difference.
/// let price = sde::from_fn(|x: Tensor<2>, _t| x.mul_scalar(0.05), |x: Tensor<2>, _t| x.mul_scalar(0.2));
/// let simulation = Milstein::new().simulate_uniform(price, (0.0, 1.0), 100)?;
/// let noise = Seeded::new(42);
/// let in_a_year = simulation.run(0, Tensor::<2>::full([10, 1], 100.0, &Device::flex()), &noise)?.finish()?;
/// assert_eq!(in_a_year.dims(), [10, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Milstein 1974; Platen 1984 for the form without derivatives; Kloeden & Platen 1992, sections 10.3 and 11.1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Milstein {
    path: bool,
}

impl Milstein {
    /// With white noise in every step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes increments of one Brownian path per sample, so that runs with different numbers of steps see the same
    /// noise. W runs in the SDE's own time, which must not be negative.
    pub fn path(mut self) -> Self {
        self.path = true;
        self
    }

    /// Puts an [`Sde`](super::Sde) (or [`HostSde`](super::HostSde)) on a list of times, rising or falling.
    ///
    /// # Errors
    /// As [`EulerMaruyama::simulate`](super::EulerMaruyama::simulate).
    pub fn simulate<S>(&self, sde: S, times: Vec<f64>) -> Result<Simulation<S>, PlanError> {
        Simulation::new(Scheme::Milstein, self.path, sde, times)
    }

    /// As [`simulate`](Self::simulate), with `steps` equal steps.
    ///
    /// # Errors
    /// As [`simulate`](Self::simulate); [`PlanError::Setting`] for no steps.
    pub fn simulate_uniform<S>(&self, sde: S, times: (f64, f64), steps: usize) -> Result<Simulation<S>, PlanError> {
        Simulation::uniform(Scheme::Milstein, self.path, sde, times, steps)
    }
}
