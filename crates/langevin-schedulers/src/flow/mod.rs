//! Solvers of the probability-flow ODE in `z = x/(α + σ)` over `u = σ/(α + σ)`, where every process has the same one,
//! `dz/du = ε̂ − x̂_0`: that of the rectified flow, whose u is its time without a shift.
//!
//! Flow matching's own samplers are these. Its Euler is not here: a step of Euler in u is `x_s = α_s·x̂_0 + σ_s·ε̂`, which
//! is [`sigma::Euler`](crate::sigma::Euler) and [`Ddim`](crate::Ddim). [`Heun`] differs from
//! [`sigma::Heun`](crate::sigma::Heun), which has its slopes in σ/α. A shift moves the grid and not the equation:
//!
//! ```
//! use langevin_core::{Grid, grid::End, process::{RectifiedFlow, ResolutionShift}};
//! use langevin_schedulers::{Solver, flow, sigma};
//! let shift = ResolutionShift::FLUX.shift(1024)?; // tokens of the image
//! let process = RectifiedFlow::new().shift(shift)?.network_time_scale(1000.0)?;
//! let grid = Grid::uniform(28).ending(End::Range);
//! let euler = sigma::Euler::new().plan(&process, &grid)?;
//! assert_eq!(euler.evaluations(), 28);
//! let heun = flow::Heun::new().plan(&process, &grid)?;
//! assert_eq!(heun.evaluations(), 55); // the last step, to clean data, is one of Euler
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Tempered`] lowers the temperature of the samples by a rescaled score, with noise along the way. [`PiFlow`] is for networks that
//! were distilled to answer with a policy for a whole step.

mod heun;
mod policy;
mod tempered;

pub use heun::Heun;
pub use policy::{PiFlow, PiFlowPlan, PiFlowRun, Policy, PolicyNetwork, Segment, answers_of};
pub use tempered::{Tempered, TemperedNoise};
