//! Four samplers over the same network.

use indicatif::ProgressBar;
use langevin::core::grid::End;
use langevin::core::noise::Seeded;
use langevin::core::process::DiscreteChain;
use langevin::models::{Labels, UNet2d};
use langevin::prelude::*;
use langevin::schedulers::{EulerMaruyama, ProbabilityFlow};
use std::error::Error;
use std::time::Instant;

/// A sampler with its names.
pub struct Method {
    pub name: &'static str,
    pub file: &'static str,
    plan: Plan,
}

/// DDPM, DDIM, Euler-Maruyama on the reverse SDE, and the probability-flow ODE by Heun's method.
pub fn methods(chain: &DiscreteChain) -> Result<Vec<Method>, Box<dyn Error>> {
    let continuous = |n| Grid::uniform(n).ending(End::Range);
    Ok(vec![
        Method { name: "DDPM", file: "ddpm", plan: Ddpm::new().plan(chain, &Grid::trailing(100))? },
        Method { name: "DDIM", file: "ddim", plan: Ddim::new().plan(chain, &Grid::trailing(50))? },
        Method {
            name: "Euler-Maruyama",
            file: "euler_maruyama",
            plan: EulerMaruyama::new().denoise_at_end().plan(chain, &continuous(100))?,
        },
        Method {
            name: "probability flow (Heun)",
            file: "probability_flow",
            plan: ProbabilityFlow::heun().plan(chain, &continuous(25))?,
        },
    ])
}

/// What a sampler has made.
pub struct Sampled {
    /// `[10 · per_class, 1, 8, 8]`, class by class.
    pub images: Tensor<4>,
    pub labels: Vec<usize>,
    pub evaluations: usize,
    pub seconds: f64,
    /// For DDIM: states along the way, one row for each class.
    pub path: Option<Tensor<4>>,
}

pub fn sample(
    network: &UNet2d,
    method: &Method,
    per_class: usize,
    seed: u64,
    device: &Device,
) -> Result<Sampled, Box<dyn Error>> {
    let labels: Vec<usize> = (0..10).flat_map(|class| vec![class; per_class]).collect();
    let denoiser = network
        .denoiser(Prediction::Velocity, Labels::of(labels.iter().copied()))?
        .thresholded(Threshold::Static { range: 1.0 })?;
    let noise = Seeded::new(seed);
    let started = Instant::now();
    let mut run = method.plan.start([labels.len(), 1, 8, 8], &denoiser, &noise, Load::on(device))?;
    let bar = ProgressBar::new(method.plan.steps() as u64).with_prefix(method.file);
    bar.set_style(super::bar_style());
    let mut path = vec![run.state().x()];
    for step in &mut run {
        let step = step?;
        if (step.index + 1).is_multiple_of(method.plan.steps().div_ceil(10)) {
            path.push(step.x);
        }
        bar.inc(1);
    }
    bar.finish();
    let evaluations = run.state().evaluations();
    let images = run.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let path = (method.file == "ddim").then(|| strip(&path, per_class));
    Ok(Sampled { images, labels, evaluations, seconds, path })
}

/// The first sample of each class at every state: one row a class.
fn strip(path: &[Tensor<4>], per_class: usize) -> Tensor<4> {
    let rows = (0..10).flat_map(|class| path.iter().map(move |x| x.clone().narrow(0, class * per_class, 1)));
    Tensor::cat(rows.collect(), 0)
}

/// Mean Euclidean distance of each image to the nearest training image: near zero, the model would only have copied.
pub fn nearest(images: &Tensor<4>, train: &[f32]) -> Result<f64, Box<dyn Error>> {
    let size: usize = images.dims()[1..].iter().product();
    let values = images.try_to_vec_as::<f32>()?;
    let nearest = values.chunks(size).map(|image| {
        let squared = |other: &[f32]| image.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        train.chunks(size).map(squared).fold(f64::INFINITY, f64::min).sqrt()
    });
    Ok(nearest.sum::<f64>() / images.dims()[0] as f64)
}
