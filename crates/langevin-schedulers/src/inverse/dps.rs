//! Diffusion posterior sampling as its authors run it: a gradient step after each step of a plan.

use super::fingerprint;
use crate::plan::{Aux, Plan};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::denoiser::check_autodiff;
use langevin_core::inverse::{LinearOperator, Measurement};
use langevin_core::{DenoiseError, Denoiser, Estimate, Levels, Query};
use std::sync::{Mutex, PoisonError};

const NAME: &str = "DPS";

/// DPS (Chung et al. 2023, algorithm 1): after each step of a plan, `x − ζ·∇‖y − A·x̂_0‖`, where the gradient is that at the
/// state from which the step began and goes through the denoiser.
///
/// The paper writes ∇ of the squared norm over the norm, which is twice that: its ζ' is half the ζ here, which is that of its
/// published code (0.3 to 1 for images in [-1, 1] and 1,000 steps of DDPM). The gradient is as long for few steps as for many:
/// with 100 steps ζ is to be larger than with 1,000. Nothing ties ζ to the noise of the measurement, so samples are no
/// draws from a posterior, but they fit y; [`langevin_core::inverse::Dps`] is the form with a likelihood.
///
/// Solvers that ask several times a step are looked back through at their first question.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::inverse::{Masking, Measurement};
/// use langevin_core::{Grid, Load, Prediction, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{Ddpm, SamplerExt, Solver, inverse::DpsSteps};
/// let device = Device::flex();
/// let first = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let measurement = Measurement::new(first, Tensor::from_floats([[0.8, 0.0]], &device), 0.0)?;
/// let plan = Ddpm::new().plan(&VpSde::default(), &Grid::uniform(200))?;
/// let sampler = DpsSteps::new(plan, measurement, 0.1)?;
/// let denoiser = correlated_mixture()?.denoiser(Prediction::Epsilon)?;
/// let noise = Seeded::new(42);
/// let x = sampler.start([4, 2], &denoiser, &noise, Load::on(&device))?.finish()?;
/// assert!((x.narrow(1, 0, 1) - 0.8).abs().max().into_scalar::<f32>() < 0.3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DpsSteps<O, const D: usize> {
    plan: Plan,
    measurement: Measurement<O, D>,
    step: f64,
    fingerprint: u64,
}

impl<O: LinearOperator<D>, const D: usize> DpsSteps<O, D> {
    /// With gradient steps of length ζ.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless ζ is positive and finite.
    pub fn new(plan: Plan, measurement: Measurement<O, D>, step: f64) -> Result<Self, PlanError> {
        if !(step > 0.0 && step.is_finite()) {
            let expected = "a positive number";
            return Err(PlanError::Setting { solver: NAME, setting: "the step size", given: step, expected });
        }
        let y: Vec<f64> = measurement.y().to_data().iter::<f64>().collect();
        let fingerprint = plan.fingerprint() ^ fingerprint([step].into_iter().chain(y));
        Ok(Self { plan, measurement, step, fingerprint })
    }

    /// The plan whose steps are followed.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Answers as the denoiser does, and keeps the gradient at the first question.
struct LookingBack<'a, O, const D: usize> {
    inner: &'a dyn Denoiser<D>,
    measurement: &'a Measurement<O, D>,
    found: Mutex<Option<Tensor<D>>>,
}

impl<O: LinearOperator<D>, const D: usize> LookingBack<'_, O, D> {
    fn found(&self) -> std::sync::MutexGuard<'_, Option<Tensor<D>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: LinearOperator<D>, const D: usize> Denoiser<D> for LookingBack<'_, O, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        if self.found().is_some() {
            return self.inner.denoise(query);
        }
        let residual = self.measurement.look_back(self.inner, query)?;
        *self.found() = Some(residual.normalized());
        Ok(residual.estimate)
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_split(&self) -> bool {
        self.inner.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.inner.beyond_autodiff()
    }

    fn beyond_output(&self) -> Option<&'static str> {
        self.inner.beyond_output()
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        self.inner.beyond_eps()
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.inner.check(shape)
    }
}

impl<O: LinearOperator<D>, const D: usize> Sampler<D> for DpsSteps<O, D> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let back = LookingBack { inner: cx.denoiser, measurement: &self.measurement, found: Mutex::new(None) };
        let step = self.plan.advance(state, &Context { denoiser: &back, noise: cx.noise })?;
        let Some(mut step) = step else { return Ok(None) };
        let direction = back.found().take();
        if let Some(direction) = direction {
            step.x = step.x.add(direction.mul_scalar(self.step));
            state.set_x(step.x.clone());
        }
        Ok(Some(step))
    }

    fn start_levels(&self) -> Levels {
        Sampler::<D>::start_levels(&self.plan)
    }

    fn prior_std(&self) -> f64 {
        self.plan.prior_deviation()
    }

    fn name(&self) -> String {
        format!("{NAME} over {}", self.plan.name())
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, _: &[usize]) -> Result<(), SampleError> {
        Ok(check_autodiff(NAME, denoiser)?)
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.plan.steps())
    }

    fn takes_split(&self) -> bool {
        Sampler::<D>::takes_split(&self.plan)
    }

    fn needs_split(&self) -> bool {
        self.plan.needs_split()
    }

    fn zero_terminal_snr(&self) -> bool {
        self.plan.has_zero_terminal_snr()
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn auxiliaries(&self) -> Vec<Aux> {
        self.plan.auxiliaries()
    }
}
