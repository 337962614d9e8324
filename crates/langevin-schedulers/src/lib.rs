//! Solvers that move a sample along a diffusion process.
//!
//! Most solvers are tables: [`Solver::plan`] turns a process and a grid into a [`Plan`], and one loop runs every plan.
//! Data-dependent methods (adaptive steps) implement [`Sampler`] directly. Both are started the same way
//! ([`SamplerExt::start`]) and run as an iterator of [`Step`]s.
//!
//! By the names of other programs solvers are had from [`names::from_name`], and by diffusers' `scheduler_config.json` from
//! [`diffusers::from_config`].

pub mod consistency;
pub mod ddim;
pub mod ddpm;
pub mod diffusers;
pub mod discrete;
pub mod exponential;
pub mod flow;
pub mod inverse;
pub mod jumps;
pub mod names;
pub mod ode;
pub mod picard;
pub mod plan;
pub mod plus_plus;
pub mod sampler;
pub mod sde;
pub mod sigma;
pub mod solver;

pub use ddim::Ddim;
pub use ddpm::{Ddpm, Variance};
pub use discrete::{BlockRefinement, DiscreteDdim, EntropyBound, MaskGit, TokenMethod, TokenSampler};
pub use exponential::{Deis, DpmSolver};
pub use jumps::{RePaint, Restart};
pub use ode::{DormandPrince, ProbabilityFlow};
pub use picard::Picard;
pub use plan::Plan;
pub use plus_plus::PlusPlus;
pub use sampler::{Context, Run, RunState, SampleError, Sampler, SamplerExt, SavedRun, Step};
pub use sde::{AnnealedLangevin, EulerMaruyama, Milstein, PredictorCorrector, ReverseDiffusion, Sde};
pub use sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
pub use solver::{PlanError, Solver};
