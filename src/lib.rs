//! Diffusion models in Rust, on [Burn](https://burn.dev): noise processes, solvers, networks and training.
//!
//! The same code runs on CPU (`flex`, the default) and on GPUs (`wgpu`, `vulkan`, `metal`, `webgpu`, `cuda`, `rocm`),
//! whichever of them are compiled in; [`device::device`] picks one by name.
//!
//! The parts, each a crate of its own:
//!
//! * [`core`]: the mathematics: processes, predictions, levels, grids, noise, denoisers, exact problems;
//! * [`schedulers`]: solvers as tables, adaptive methods, SDEs;
//! * [`models`] (feature `models`): layers, an MLP, the UNet, published weights;
//! * [`train`] (feature `train`): objectives, EMA, the trainer, checkpoints;
//! * [`data`] (feature `data`): data sets and their preparation;
//! * [`metrics`] (feature `metrics`): how likely data is under a model;
//! * `plot` (feature `plot`, not on by itself): charts as pictures.
//!
//! [`prelude`] has what most programs use.

#[cfg(doctest)]
mod book;
pub mod device;
mod report;

pub use report::Report;

/// The framework below, for programs that need more of it: the version and features that the library was built with.
pub use burn;
pub use langevin_core as core;
#[cfg(feature = "data")]
pub use langevin_data as data;
#[cfg(feature = "metrics")]
pub use langevin_metrics as metrics;
#[cfg(feature = "models")]
pub use langevin_models as models;
#[cfg(feature = "plot")]
pub use langevin_plot as plot;
pub use langevin_schedulers as schedulers;
#[cfg(feature = "train")]
pub use langevin_train as train;

/// What most programs use.
pub mod prelude {
    pub use crate::Report;
    pub use crate::device::device;
    pub use burn::tensor::{DType, Device, Tensor, TensorData};
    pub use langevin_core::denoiser::{self, Threshold};
    pub use langevin_core::grid::End;
    pub use langevin_core::noise::Seeded;
    pub use langevin_core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
    pub use langevin_core::{
        Condition, DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, Level, Levels, Load, Network, Prediction,
        Process, Query,
    };
    #[cfg(feature = "models")]
    pub use langevin_models::Labels;
    pub use langevin_schedulers::{
        AnnealedLangevin, Ddim, Ddpm, Deis, DormandPrince, DpmSolver, EulerMaruyama, Milstein, Picard, Plan, PlusPlus,
        PredictorCorrector, ProbabilityFlow, RePaint, Restart, ReverseDiffusion, SampleError, Sampler, SamplerExt,
        Solver,
    };
}

/// The programs of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
