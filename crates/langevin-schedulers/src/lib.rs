//! Solvers that move a sample along a diffusion process, as tables of coefficients.
