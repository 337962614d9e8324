//! A network that knows digits, of no class in particular.

use langevin::data::ImageSet;
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use langevin::train::{Objective, Times, Trainer};
use std::error::Error;

/// A small UNet, trained to predict velocities on the VP process.
pub fn train(data: &ImageSet, steps: u64, device: &Device) -> Result<UNet2d, Box<dyn Error>> {
    let network = UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).scale_shift(true).init(device)?;
    let objective = Objective::new(VpSde::default(), Prediction::Velocity)?.times(Times::Stratified)?;
    let trained = Trainer::new(network, objective)
        .steps(steps)
        .batch_size(32)
        .learning_rate(2e-3)
        .warmup(steps / 10)
        .cosine()
        .ema(0.99)
        .condition_dropout(1.0)
        .fit(data)?;
    Ok(trained.for_sampling().clone())
}
