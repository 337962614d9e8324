//! Data sets for diffusion models and their preparation.
