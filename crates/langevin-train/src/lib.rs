//! Training of diffusion models: objectives, EMA, trainer, checkpoints.
