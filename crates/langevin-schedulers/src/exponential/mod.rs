//! Exponential integrators: solvers that are exact but for a polynomial in λ.
//!
//! Between two levels the reverse equation is linear in x, so its solution is a weighted integral of the network's answer
//! over `λ = ln(α/σ)` alone (Lu et al. 2022a, proposition 3.1). The solvers here differ in the polynomial that stands for
//! the answer: [`DpmSolver`] takes differences of earlier answers, [`Singlestep`] of inner stages, [`DpmSolverSde`] of one with noise, [`Deis`] the
//! interpolation through earlier ones, [`UniPc`] corrects a step with the answer of the next, as [`UniC`] does behind other solvers, [`SaSolver`] does both with noise, and
//! [`DpmAdaptive`] chooses its steps.

mod adaptive;
mod adaptive_clock;
mod adaptive_run;
mod deis;
mod dpm_solver;
mod dpm_solver_sde;
mod leg;
mod multistep;
mod phi;
mod sa_solver;
mod singlestep;
mod tau;
mod unic;
mod unipc;

pub use adaptive::{AdaptiveDpm, DpmAdaptive};
pub use deis::Deis;
pub use dpm_solver::{DpmSolver, SecondOrder, ThirdOrder};
pub use dpm_solver_sde::DpmSolverSde;
pub use leg::Basis;
pub use sa_solver::SaSolver;
pub use singlestep::Singlestep;
pub use tau::Tau;
pub use unic::UniC;
pub use unipc::{UniB, UniPc};
