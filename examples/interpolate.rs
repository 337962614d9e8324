//! Encodes two images by DDIM inversion, walks from noise to noise, and decodes what lies between.
//!
//! `cargo run --release --example interpolate [-- --steps 600 --evaluations 100]`
//!
//! Trains a small UNet on real handwritten digits, or takes one that is there: `--model out/interpolate/model`. Each row
//! of `out/interpolate/interpolate.png` is a pair of held-out digits (in color) and decoded images between them: first
//! pairs of one class, where the network is told the class, then pairs of two, where it is told nothing. The program also
//! measures how much is lost on the way to noise and back: less, the more steps are taken. It fails if not.

use clap::Parser;
use langevin::core::level::Scalars;
use langevin::data::{DataSet, ImageGrid, ImageSet, beside, digits, scale};
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use langevin::train::{Objective, Times, Trainer};
use std::path::PathBuf;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Held-out digits, each by its class and its number in the class, and what they go to: first of one class, then of two.
const FROM: [(usize, usize); 10] = [(1, 12), (2, 3), (4, 1), (7, 3), (9, 0), (3, 0), (4, 18), (5, 3), (0, 1), (1, 5)];
const TO: [(usize, usize); 10] = [(1, 3), (2, 22), (4, 22), (7, 9), (9, 12), (8, 5), (9, 5), (6, 9), (6, 11), (7, 13)];

#[derive(Parser)]
struct Options {
    /// Where to compute: cpu, wgpu, vulkan, cuda, … (GPUs need the feature of the same name).
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder of a network that predicts velocities of 8x8 images, to use instead of training one.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Training steps.
    #[arg(long, default_value_t = 600)]
    steps: u64,
    /// Evaluations of the network for encoding an image, and as many for decoding it.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(8..=500))]
    evaluations: u16,
    /// Folder for the results.
    #[arg(long, default_value = "out/interpolate")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let device = device(&options.device)?;
    let data = digits()?.split(0.8, 7)?;
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let network = match &options.model {
        Some(folder) => UNet2d::load(folder, Load::on(&device))?,
        None => train(&data.train, &chain, options.steps, &device)?,
    };
    network.save(options.out.join("model"))?;

    // Digits that the network has not seen. It is told the class only where that is the same all the way.
    let [left, right] = [chosen(&data.test, FROM, &device)?, chosen(&data.test, TO, &device)?];
    let labels = Vec::from_iter(FROM.iter().zip(TO).map(|(from, to)| (from.0 == to.0).then_some(from.0)));
    let steps = usize::from(options.evaluations);
    let codec = Codec::new(&network, &chain, steps)?;
    let ends = [codec.encode(left.clone(), &labels)?, codec.encode(right.clone(), &labels)?];
    let decoded = |share| codec.decode(slerp(&ends[0], &ends[1], share)?, &labels);
    let between = (0..9).map(|i| decoded(f64::from(i) / 8.0)).collect::<Result<Vec<_>>>()?;
    let real = |images: &Tensor<4>| scale::tinted(images, [1.0, 0.76, 0.3]);
    let columns = [vec![real(&left)?], between, vec![real(&right)?]].concat();
    let grid = ImageGrid::new(columns.len())?.upscale(6)?.padding(3).background([40, 44, 52]);
    grid.save(&beside(&columns)?, options.out.join("interpolate.png"))?;

    println!("to noise and back:\nsteps  error (share of a pixel's range)");
    let (images, labels) = (Tensor::cat(vec![left, right], 0), labels.repeat(2));
    let mut before = f64::INFINITY;
    for steps in [steps / 4, steps / 2, steps, steps * 2] {
        let codec = Codec::new(&network, &chain, steps)?;
        let back = codec.decode(codec.encode(images.clone(), &labels)?, &labels)?;
        let error = (back - images.clone()).square().mean().sqrt().try_into_scalar::<f64>()? / 2.0;
        println!("{steps:>5}  {error:.4}");
        if error >= before {
            return Err(format!("{steps} steps lose no less than {} do", steps / 2).into());
        }
        before = error;
    }
    Ok(())
}

/// A small UNet, trained to predict velocities. A third of the labels is withheld, so that it can be asked with a class
/// and without one.
fn train(data: &ImageSet, chain: &DiscreteChain, steps: u64, device: &Device) -> Result<UNet2d> {
    let config = UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).classes(10).scale_shift(true);
    let objective = Objective::new(chain.clone(), Prediction::Velocity)?.times(Times::Stratified)?;
    let trainer = Trainer::new(config.init(device)?, objective).steps(steps).batch_size(32);
    let trainer = trainer.learning_rate(2e-3).warmup(steps / 10).cosine().ema(0.995).condition_dropout(0.33);
    Ok(trainer.fit(data)?.for_sampling().clone())
}

/// Digits by class and number, `[n, 1, 8, 8]`.
fn chosen(data: &ImageSet, which: [(usize, usize); 10], device: &Device) -> Result<Tensor<4>> {
    let index = |(class, number)| data.of_class(class).map(|of_class| of_class[number % of_class.len()]);
    Ok(data.batch(&which.into_iter().map(index).collect::<std::result::Result<Vec<_>, _>>()?, device)?.x)
}

/// DDIM up and down the same levels. Both are deterministic, so a noise stands for an image.
struct Codec<'a> {
    network: &'a UNet2d,
    up: Plan,
    down: Plan,
}

impl<'a> Codec<'a> {
    fn new(network: &'a UNet2d, chain: &DiscreteChain, steps: usize) -> Result<Self> {
        // Even in time for any number of steps: each level up is one on the way down.
        let grid = Grid::uniform(steps);
        let up = Ddim::new().plan(chain, &grid.clone().inverted())?;
        Ok(Self { network, up, down: Ddim::new().plan(chain, &grid)? })
    }

    fn encode(&self, images: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>> {
        self.walk(&self.up, images, labels)
    }

    fn decode(&self, noise: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>> {
        self.walk(&self.down, noise, labels)
    }

    fn walk(&self, plan: &Plan, x: Tensor<4>, labels: &[Option<usize>]) -> Result<Tensor<4>> {
        let denoiser = self.network.denoiser(Prediction::Velocity, Labels::optional(labels.iter().copied()))?;
        Ok(plan.start_from(0, x, &denoiser, &Seeded::new(0))?.finish()?)
    }
}

/// The point `share` of the way along the arc from each sample of `a` to that of `b`: `[n, ..]`. Noise in many dimensions
/// lies on a sphere. A straight line leaves it, and the middle would be too quiet a noise.
fn slerp(a: &Tensor<4>, b: &Tensor<4>, share: f64) -> Result<Tensor<4>> {
    let dot = |a: &Tensor<4>, b: &Tensor<4>| (a.clone() * b.clone()).flatten::<2>(1, 3).sum_dim(1);
    let cosines = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).try_into_vec_as::<f64>()?;
    let weights = |share: f64| {
        let weight = |cosine: &f64| {
            let angle = cosine.clamp(-1.0, 1.0).acos();
            if angle.sin() < 1e-6 { share } else { (share * angle).sin() / angle.sin() }
        };
        Scalars::Each(cosines.iter().map(weight).collect())
    };
    Ok(weights(1.0 - share).times(a.clone()) + weights(share).times(b.clone()))
}
