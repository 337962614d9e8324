//! Networks for diffusion models: layers, MLP, UNet, and their published weights.
