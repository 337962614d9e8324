//! Solvers that move a sample along a diffusion process.
//!
//! Most solvers are tables: [`Solver::plan`] turns a process and a grid into a [`Plan`], and one loop runs every plan.
//! Data-dependent methods (adaptive steps) implement [`Sampler`] directly. Both are started the same way
//! ([`SamplerExt::start`]) and run as an iterator of [`Step`]s.

pub mod consistency;
pub mod ddim;
pub mod ddpm;
pub mod diffusers;
pub mod exponential;
pub mod inverse;
pub mod names;
pub mod ode;
pub mod plan;
pub mod sampler;
pub mod sde;
pub mod sigma;
pub mod solver;

pub use ddim::Ddim;
pub use ddpm::{Ddpm, Variance};
pub use exponential::{Deis, DpmSolver};
pub use ode::{DormandPrince, ProbabilityFlow};
pub use plan::Plan;
pub use sampler::{Context, Run, RunState, SampleError, Sampler, SamplerExt, SavedRun, Step};
pub use sde::{EulerMaruyama, Milstein, PredictorCorrector, ReverseDiffusion, Sde};
pub use sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
pub use solver::{PlanError, Solver};
