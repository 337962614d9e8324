//! Grids of samples.

use langevin::core::Denoiser;
use langevin::data::ImageGrid;
use langevin::models::UNet2d;
use langevin::models::unet::Classes;
use langevin::prelude::*;
use std::error::Error;
use std::path::Path;

/// How samples are made.
pub struct Samples {
    plan: Plan,
    guidance: f64,
}

impl Samples {
    /// By DDIM, with classifier-free guidance where there are classes.
    pub fn new(chain: &DiscreteChain, evaluations: usize, guidance: f64) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self { plan: Ddim::new().plan(chain, &Grid::trailing(evaluations))?, guidance })
    }

    /// Saves `count` samples as one PNG; the classes in turn, so that in a row of as many columns each has its own.
    pub fn save(
        &self,
        network: &UNet2d,
        count: usize,
        seed: u64,
        device: &Device,
        path: &Path,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let config = network.config();
        let [height, width] = config.sample_size.ok_or("the model has no image size")?;
        let (denoiser, columns): (Box<dyn Denoiser<4>>, _) = match config.classes {
            Classes::Table { count: classes, .. } => {
                let labels = Labels::of((0..count).map(|i| i % classes));
                let bound = network.denoiser(Prediction::Velocity, labels)?;
                (Box::new(bound.guided(Labels::none(1), self.guidance)?), classes.clamp(1, 16))
            }
            _ => (Box::new(network.denoiser(Prediction::Velocity, Labels::none(count))?), 10),
        };
        let noise = Seeded::new(seed);
        let run = self.plan.start([count, config.in_channels, height, width], &denoiser, &noise, Load::on(device))?;
        let images = run.finish()?;
        let upscale = (96 / height).clamp(1, 4);
        ImageGrid::new(columns)?.upscale(upscale)?.padding(2).save(&images, path)?;
        Ok(())
    }
}
