//! The mathematics of diffusion: processes, predictions, levels, grids, noise, denoisers and exact problems.
