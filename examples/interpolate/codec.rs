//! From images to noise, from noise to images, and from one noise to another.

use langevin::core::level::Scalars;
use langevin::models::UNet2d;
use langevin::prelude::*;
use std::error::Error;

/// DDIM up and down the same levels. Both are deterministic, so a noise stands for an image.
pub struct Codec<'a> {
    network: &'a UNet2d,
    up: Plan,
    down: Plan,
}

impl<'a> Codec<'a> {
    /// With `steps` evaluations in each direction.
    pub fn new(network: &'a UNet2d, chain: &DiscreteChain, steps: usize) -> Result<Self, Box<dyn Error>> {
        // Even in time for any number of steps: each level up is one on the way down.
        let grid = Grid::uniform(steps);
        let up = Ddim::new().plan(chain, &grid.clone().inverted())?;
        Ok(Self { network, up, down: Ddim::new().plan(chain, &grid)? })
    }

    /// The noise of images `[n, 1, 8, 8]`, one label each.
    pub fn encode(&self, images: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>, Box<dyn Error>> {
        self.walk(&self.up, images, labels)
    }

    /// The images of noise `[n, 1, 8, 8]`, one label each.
    pub fn decode(&self, noise: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>, Box<dyn Error>> {
        self.walk(&self.down, noise, labels)
    }

    fn walk(&self, plan: &Plan, x: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>, Box<dyn Error>> {
        let denoiser = self.network.denoiser(Prediction::Velocity, Labels::optional(labels.iter().copied()))?;
        Ok(plan.start_from(0, x, &denoiser, &Seeded::new(0))?.finish()?)
    }

    /// Root mean square difference of images and what comes back of them, in units of a pixel's range.
    pub fn round_trip(&self, images: &Tensor<4>, labels: &[Option<usize>]) -> Result<f64, Box<dyn Error>> {
        let back = self.decode(self.encode(images.clone(), labels)?, labels)?;
        let error = (back - images.clone()).square().mean().sqrt();
        Ok(error.try_into_scalar::<f64>()? / 2.0)
    }
}

/// The point `share` of the way along the arc from each sample of `a` to that of `b`: `[n, ..]`.
///
/// Noise in many dimensions lies on a sphere. A straight line leaves it, and the middle would be too quiet a noise.
pub fn slerp(a: &Tensor<4>, b: &Tensor<4>, share: f64) -> Result<Tensor<4>, Box<dyn Error>> {
    let dot = |a: &Tensor<4>, b: &Tensor<4>| (a.clone() * b.clone()).flatten::<2>(1, 3).sum_dim(1);
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let weights = |share: f64| -> Result<Scalars, Box<dyn Error>> {
        let weight = |cosine: f64| {
            let angle = cosine.clamp(-1.0, 1.0).acos();
            if angle.sin() < 1e-6 { share } else { (share * angle).sin() / angle.sin() }
        };
        Ok(Scalars::Each(cosine.clone().try_into_vec_as::<f64>()?.into_iter().map(weight).collect()))
    };
    Ok(weights(1.0 - share)?.times(a.clone()) + weights(share)?.times(b.clone()))
}
