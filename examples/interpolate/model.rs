//! A network that has learned digits.

use langevin::data::ImageSet;
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use langevin::train::{Objective, Times, Trainer};
use std::error::Error;

/// A small UNet, trained to predict velocities. A third of the labels is withheld, so that it can be asked with a class
/// and without one.
pub fn train(data: &ImageSet, chain: &DiscreteChain, steps: u64, device: &Device) -> Result<UNet2d, Box<dyn Error>> {
    let network =
        UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).classes(10).scale_shift(true).init(device)?;
    let objective = Objective::new(chain.clone(), Prediction::Velocity)?.times(Times::Stratified)?;
    let trained = Trainer::new(network, objective)
        .steps(steps)
        .batch_size(32)
        .learning_rate(2e-3)
        .warmup(steps / 10)
        .cosine()
        .ema(0.995)
        .condition_dropout(0.33)
        .fit(data)?;
    Ok(trained.for_sampling().clone())
}
