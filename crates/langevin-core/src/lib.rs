//! The mathematics of diffusion models, without any network.
//!
//! Everything continuous here is a Gaussian perturbation `x_t = α(t)·x_0 + σ(t)·ε` of data `x_0` by standard
//! normal noise `ε`. The crate has
//!
//! * [`process`]: what α and σ are (DDPM chains, VP, sub-VP, VE, EDM, rectified flow, or your own);
//! * [`prediction`]: what a network answers with (ε, x_0, v, score, flow, EDM's raw output) and the exact
//!   conversions between them;
//! * [`grid`]: which levels a sampler visits;
//! * [`level`]: where on the process a question is asked;
//! * [`denoiser`]: networks bound to a prediction and a condition, guidance, thresholding, constraints;
//! * [`inverse`]: what was measured of a sample, and denoisers that heed it;
//! * [`noise`]: the one explicit source of randomness;
//! * [`discrete`]: chains over tokens, which are masked or replaced, and their reverse steps;
//! * [`exact`]: problems whose solution is known, for proofs.
//!
//! Schedule arithmetic is `f64` on the host; tensors only ever meet finished coefficients.

pub mod denoiser;
pub mod discrete;
pub mod exact;
pub mod grid;
pub mod inverse;
pub mod level;
pub mod load;
pub mod noise;
pub mod prediction;
pub mod process;
mod warm_up;

pub use denoiser::{Condition, Constraint, DenoiseError, Denoiser, DenoiserExt, Estimate, Network, Query};
pub use grid::{Grid, GridError, Stop};
pub use level::{Level, Levels, Node};
pub use load::Load;
pub use noise::{Key, NoiseError, NoiseSource};
pub use prediction::{Prediction, PredictionError};
pub use process::{Process, ProcessError};
pub use warm_up::{Warmed, warm_up};
