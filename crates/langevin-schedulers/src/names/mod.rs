//! Samplers by the names that programs give them.
//!
//! [`from_name`] takes the names of AUTOMATIC1111's web UI ("DPM++ 2M Karras"), of ComfyUI (`dpmpp_2m_sde`, alone or
//! followed by one of its schedules), of k-diffusion's functions (`sample_dpmpp_2m`) and of diffusers' classes. Case and
//! separators do not count. The result plans on every process:
//!
//! ```
//! use langevin_core::{Grid, process::{Betas, DiscreteChain, Edm}};
//! use langevin_schedulers::{DpmSolver, Solver, names};
//!
//! let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
//! let plan = names::from_name("DPM++ 2M Karras")?.plan(&chain, 20)?;
//! assert_eq!(plan, DpmSolver::multistep(2)?.plan(&chain, &Grid::karras(20, 7.0)?)?);
//! assert_eq!(plan, names::from_name("dpmpp_2m_karras")?.plan(&chain, 20)?);
//! assert_eq!(names::from_name("sample_euler_ancestral")?.eta(0.7)?.plan(&Edm::default(), 30)?.steps(), 30);
//!
//! let error = names::from_name("dpmpp_2n").unwrap_err();
//! assert!(error.to_string().contains("the nearest name is 'dpmpp_2m'"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where programs differ
//!
//! * A name without a schedule is spaced evenly in time ("normal"), as ComfyUI and A1111 before its version 1.9 do. Since
//!   then A1111's "Automatic" takes Karras's or the exponential schedule for some samplers: "DPM++ 2M Automatic" does so here.
//! * `align_your_steps`, `kl_optimal` and `beta` are ComfyUI's. A1111 asks at the cleanest level of the first as well, does not go on
//!   from the last level of the second to clean data, and takes its quantiles in σ, the cleanest included.
//! * The range of Karras's and of other schedules in σ/α is that of the process, as in A1111 and ComfyUI;
//!   k-diffusion's functions are told theirs: [`Grid::between`](langevin_core::Grid::between). On a flow the programs
//!   space σ = t, and so does [`Spacing`] on all processes that end in pure noise.
//! * `dpm_2`, `dpm_2_ancestral` and `uni_pc` are laid on one level more, and the cleanest but the end is left out. A1111 does so
//!   for "DPM2" and "DPM2 a" (and for "DPM++ 3M SDE", where ComfyUI does not and this table follows it), ComfyUI for
//!   these three. The classes of diffusers, which have rows of their own, do not.
//! * `euler_ancestral`, `dpm_2_ancestral` and `dpmpp_2s_ancestral` split their steps in σ/α, and on a flow (α + σ = 1) in σ, as ComfyUI
//!   does; there the midpoints of the second are in σ, too, and the third leaves pure noise by a step of order 1, where ComfyUI
//!   has a stage at σ = 0.9999. With `_rf` behind them, as ComfyUI's functions are called, they do so in σ/(α + σ) on every process.
//! * Steps of `simple` and `ddim_uniform` are whole ones on a chain. `ddim_uniform` has as many steps as asked for, where ComfyUI has
//!   more if the number does not divide the chain's.
//! * `sgm_uniform` is spaced in real time; "trailing", which does almost the same, in whole steps.
//! * The noise of `dpmpp_2m_sde` and `dpmpp_3m_sde` comes from one Brownian path per sample, as from A1111's and ComfyUI's
//!   Brownian trees; that of ancestral samplers is drawn anew in each step. `_gpu` only says where programs draw it.
//! * `dpm_fast` takes as many evaluations as steps are asked for, without noise unless it is given an η; A1111 gives it
//!   η = 1. `dpm_adaptive` takes no number of steps; A1111's "DPM adaptive" has η = 1, too.
//! * `deis` has its polynomial in λ (diffusers' "logrho"); ComfyUI's is in the time of a VP process.
//! * `uni_pc` is A1111's and ComfyUI's: order 3, B(h) = h; `UniPCMultistepScheduler` has order 2 and e^h − 1.
//! * Names with `_cfg_pp` are ComfyUI's but `ddim_cfg_pp`, for A1111's "DDIM CFG++": [`PlusPlus`](crate::PlusPlus) around the solver, which wants a
//!   denoiser `.guided(..).plus_plus()`; runs say so if it is not one. Formulas in σ are those of x/α on every process. Scales are
//!   ComfyUI's; A1111 divides its own by 12.5 for this sampler.
//! * `ddim` in ComfyUI is Euler on a schedule, which are the same numbers; without a schedule it takes DDIM's own spacing here.
//! * Names of diffusers' classes have their default settings, and work on any process. For what a `scheduler_config.json` says,
//!   number by number, use [`diffusers::from_config`](crate::diffusers::from_config).

mod elsewhere;
mod error;
mod resolve;
mod spacing;
mod table;
#[cfg(test)]
mod tests;

pub use error::NameError;
pub(crate) use resolve::nearest;
pub use spacing::Spacing;

use crate::plan::Plan;
use crate::sampler::Sampler;
use crate::solver::{PlanError, Solver};
use langevin_core::{Grid, Process};
use std::fmt;
use std::sync::Arc;
use table::{Entry, Made, SOLVERS, Settings};

/// A sampler and a schedule, found by name.
#[derive(Clone, Copy)]
pub struct Named {
    entry: &'static Entry,
    spacing: Spacing,
    eta: Option<f64>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Named");
        debug.field("name", &self.name()).field("spacing", &self.spacing).field("eta", &self.eta).finish()
    }
}

/// Finds a sampler by name, with or without a schedule behind it: what `Sampler::from_name` would be if a trait could be called
/// by its own name.
///
/// # Errors
/// [`NameError::Elsewhere`] for names that say too little for a plan, [`NameError::ScheduleAlone`], [`NameError::TwoSchedules`] and
/// [`NameError::Pipeline`] for those of other things, [`NameError::Unknown`] for all others, with the nearest name if one is near.
pub fn from_name(name: &str) -> Result<Named, NameError> {
    let (entry, spacing) = resolve::resolve(name)?;
    Ok(Named { entry, spacing: entry.settled(spacing), eta: None })
}

/// What a list of names shows of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name in the table.
    pub name: &'static str,
    /// Other spellings, but for case and separators.
    pub also: &'static [&'static str],
    /// What it is, in words.
    pub what: &'static str,
}

/// All samplers that have names.
pub fn solvers() -> impl Iterator<Item = Listed> {
    SOLVERS.iter().map(|entry| Listed { name: entry.name, also: entry.also, what: entry.what })
}

/// All schedules that may follow the name of a sampler.
pub fn spacings() -> impl Iterator<Item = Listed> {
    spacing::SPACINGS.iter().map(|row| Listed { name: row.name, also: row.also, what: row.what })
}

/// Names of samplers that are not had by their names alone, with what to take instead.
pub fn elsewhere() -> impl Iterator<Item = Listed> {
    elsewhere::ELSEWHERE.iter().map(|row| Listed { name: row.name, also: &[], what: row.advice })
}

impl Named {
    /// The sampler's name in the table.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// The schedule.
    pub fn spacing(&self) -> Spacing {
        self.spacing
    }

    /// With another schedule.
    pub fn on(mut self, spacing: Spacing) -> Self {
        self.spacing = self.entry.settled(spacing);
        self
    }

    /// With another strength of its noise; 1 is the reverse SDE and the default of most.
    ///
    /// # Errors
    /// [`NameError::NoEta`] for samplers that take none. Each sampler has a range of its own (γ of `tcd` is at most 1), which is checked when
    /// the solver is made: NaN, infinities and numbers below 0 are [`NameError::Plan`] of every name, by [`plan`](Self::plan),
    /// [`solver`](Self::solver) and [`sampler`](Self::sampler).
    pub fn eta(mut self, eta: f64) -> Result<Self, NameError> {
        if self.entry.eta.is_none() {
            return Err(NameError::NoEta { name: self.entry.name, eta });
        }
        self.eta = Some(eta);
        Ok(self)
    }

    fn make(&self, process: &dyn Process, steps: usize) -> Result<Made, PlanError> {
        let eta = self.eta.or(self.entry.eta).unwrap_or(0.0);
        (self.entry.make)(&Settings { process, steps, eta })
    }

    /// The solver alone, and the number of steps that its grid has where `steps` are asked for: as many, but for those that
    /// count evaluations.
    ///
    /// # Errors
    /// [`NameError::Plan`] for an eta out of range, [`NameError::NoPlan`] if it is adaptive.
    pub fn solver(&self, process: &dyn Process, steps: usize) -> Result<(Box<dyn Solver>, usize), NameError> {
        match self.make(process, steps)? {
            Made::Planned(solver, steps) => Ok((solver, steps)),
            Made::AdaptiveDpm(_) | Made::Adaptive(_) => Err(NameError::NoPlan { name: self.entry.name }),
        }
    }

    /// The grid of `steps` steps on a process.
    ///
    /// # Errors
    /// [`NameError::Grid`] for no steps, more than a chain has, or levels that the process has not.
    pub fn grid(&self, process: &dyn Process, steps: usize) -> Result<Grid, NameError> {
        Ok(self.spacing.grid(process, steps, self.entry.reach)?)
    }

    /// The plan of `steps` steps on a process.
    ///
    /// # Errors
    /// As [`solver`](Self::solver) and [`grid`](Self::grid), and [`NameError::Plan`] if the two do not go together.
    pub fn plan(&self, process: &dyn Process, steps: usize) -> Result<Plan, NameError> {
        if steps == 0 {
            return Err(langevin_core::GridError::ZeroSteps.into());
        }
        let (solver, steps) = self.solver(process, steps)?;
        Ok(solver.plan(process, &self.grid(process, steps)?)?)
    }

    /// The sampler, planned or adaptive. An adaptive one goes over the whole range and takes no number of steps.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn sampler<const D: usize>(
        &self,
        process: Arc<dyn Process>,
        steps: usize,
    ) -> Result<Box<dyn Sampler<D>>, NameError> {
        match self.make(&process, steps)? {
            Made::Planned(..) => Ok(Box::new(self.plan(&process, steps)?)),
            Made::AdaptiveDpm(method) => {
                let (noisy, clean) = spacing::ends(&process, self.entry.reach);
                Ok(Box::new(method.between(process, noisy, clean)?))
            }
            Made::Adaptive(method) => Ok(Box::new(method.over(process)?)),
        }
    }
}
