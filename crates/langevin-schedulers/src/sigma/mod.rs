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
//!
//! Their tables are in x itself, like those of all plans, so that they run on every process. [`Churn`] makes stochastic
//! samplers of the deterministic ones; on [`Edm`](langevin_core::process::Edm), with [`Euler`] or [`Heun`], these are
//! those of Karras et al. 2022.

mod ancestral;
mod churn;
mod dpm2;
mod euler;
mod frame;
mod heun;
mod ipndm;
mod lms;
mod pndm;

pub use ancestral::{EulerAncestral, ancestral_step};
pub use churn::Churn;
pub use dpm2::{Dpm2, Dpm2Ancestral};
pub use euler::Euler;
pub(crate) use frame::{ask_at_arrival, finish, first_row, inner_row, landing, still};
pub use heun::Heun;
pub use ipndm::Ipndm;
pub use lms::Lms;
pub use pndm::Pndm;
