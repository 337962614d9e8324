//! Solvers of the probability-flow ODE in `y = x/α` over `s = σ/α`, where every process has the same one: `dy/ds = ε̂`.
//!
//! | solver | order | evaluations a step | noise |
//! |---|---|---|---|
//! | [`Euler`] | 1 | 1 | with churn |
//! | [`EulerAncestral`] | 1, weak | 1 | yes |
//! | [`Heun`] | 2 | 2 | with churn |
//! | [`Dpm2`] | 2 | 2 | with churn |
//! | [`Dpm2Ancestral`] | 2, weak | 2 | yes |
//! | [`Lms`] | up to 2, with a fine start up to 4 | 1 | with churn |
//! | [`Pndm`] | 2 on smooth grids | 1 after the start | with churn |
//! | [`Ipndm`] | 2 on smooth grids | 1 | with churn |
//! | [`HeunPp`] | 1 | 3 | with churn |
//! | [`GradientEstimation`] | 1 | 1 | with churn |
//! | [`ErSde`] | 2, weak | 1 | yes |
//!
//! Their tables are in x itself, like those of all plans, so that they run on every process. [`Churn`] makes stochastic
//! samplers of the deterministic ones, and [`Churned`] of those of other families; on [`Edm`](langevin_core::process::Edm), with [`Euler`] or [`Heun`], these are
//! those of Karras et al. 2022.

mod ancestral;
mod churn;
mod churned;
mod dpm2;
mod er_sde;
mod euler;
mod frame;
mod gradient;
mod heun;
mod heun_pp;
mod ipndm;
mod lms;
mod pndm;

pub(crate) use ancestral::Noise as AncestralNoise;
pub use ancestral::{AncestralSplit, EulerAncestral, ancestral_step};
pub use churn::Churn;
pub(crate) use churn::{Raised, already_noisy, plan_raised, plan_raised_where, raise};
pub use churned::Churned;
pub use dpm2::{Dpm2, Dpm2Ancestral};
pub use er_sde::{ErSde, NoiseScale};
pub use euler::Euler;
pub(crate) use frame::{ask_at_arrival, finish, first_row, inner_row, landing, node_at_lambda, still};
pub use gradient::GradientEstimation;
pub use heun::Heun;
pub use heun_pp::HeunPp;
pub use ipndm::Ipndm;
pub use lms::Lms;
pub use pndm::Pndm;
