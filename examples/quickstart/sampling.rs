//! Four samplers over the same network. `tests/sampling/quickstart.rs` samples with them.

use indicatif::{ProgressBar, ProgressStyle};
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use std::error::Error;
use std::time::Instant;

/// A sampler with its names.
pub struct Method {
    pub name: &'static str,
    pub file: &'static str,
    pub plan: Plan,
}

pub fn bar_style() -> ProgressStyle {
    let template = "{prefix:>10} {bar:40} {pos}/{len} {per_sec} {eta} left {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A UNet for images `[batch, 1, 8, 8]` of ten classes.
pub fn network() -> UNet2dConfig {
    UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).classes(10).scale_shift(true)
}

/// DDPM, DDIM, Euler-Maruyama on the reverse SDE, and the probability-flow ODE by Heun's method.
pub fn methods(chain: &DiscreteChain) -> Result<Vec<Method>, Box<dyn Error>> {
    // The chain is almost pure noise in its last steps, and the reverse SDE stiff: start the continuous methods below.
    let continuous = |n| Grid::uniform(n).between(980.0, 0.0).ending(End::Range);
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

/// Samples in `parts` batches at once, one thread each. Noise belongs to the number of a sample in the whole run, so the
/// number of parts changes nothing.
pub fn sample(
    network: &UNet2d,
    method: &Method,
    per_class: usize,
    seed: u64,
    parts: usize,
    device: &Device,
) -> Result<Sampled, Box<dyn Error>> {
    let labels: Vec<usize> = (0..10).flat_map(|class| vec![class; per_class]).collect();
    let bar = ProgressBar::new((method.plan.steps() * parts) as u64).with_prefix(method.file);
    bar.set_style(bar_style());
    let started = Instant::now();
    let size = labels.len().div_ceil(parts);
    let results: Vec<_> = std::thread::scope(|scope| {
        let start = |(i, labels)| (i * size, labels);
        let parts = labels.chunks(size).enumerate().map(start);
        let threads: Vec<_> = parts
            .map(|(first, labels)| {
                let bar = &bar;
                scope.spawn(move || batch(network, method, first as u64, labels, seed, bar, device))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a sampling thread panicked".into())))
            .collect()
    });
    bar.finish();
    let results = results.into_iter().collect::<Result<Vec<_>, String>>()?;
    let seconds = started.elapsed().as_secs_f64();
    let states = results[0].0.len();
    let at = |k: usize| Tensor::cat(results.iter().map(|(states, _)| states[k].clone()).collect(), 0);
    let path = (method.file == "ddim").then(|| strip(&(0..states).map(at).collect::<Vec<_>>(), per_class));
    Ok(Sampled { images: at(states - 1), labels, evaluations: results[0].1, seconds, path })
}

/// The network under these classes, for a plan.
pub fn denoiser<'a>(
    network: &'a UNet2d,
    plan: &Plan,
    labels: &[usize],
) -> Result<Box<dyn Denoiser<4> + 'a>, Box<dyn Error>> {
    let bound = network.denoiser(Prediction::Velocity, Labels::of(labels.iter().copied()))?;
    // Pixels are in [-1, 1]. Who reads ε̂ alone would not see it, and says so.
    Ok(if plan.reads_clean() {
        Box::new(bound.thresholded(Threshold::Static { range: 1.0 })?)
    } else {
        Box::new(bound)
    })
}

/// About ten states along the way, the last one included, and the number of evaluations.
fn batch(
    network: &UNet2d,
    method: &Method,
    first: u64,
    labels: &[usize],
    seed: u64,
    bar: &ProgressBar,
    device: &Device,
) -> Result<(Vec<Tensor<4>>, usize), String> {
    let run = || -> Result<_, Box<dyn Error>> {
        let denoiser = denoiser(network, &method.plan, labels)?;
        let noise = Seeded::new(seed);
        let mut run = method.plan.start_at(first, [labels.len(), 1, 8, 8], &denoiser, &noise, Load::on(device))?;
        let mut states = vec![run.state().x()];
        for step in &mut run {
            let step = step?;
            if (step.index + 1).is_multiple_of(method.plan.steps().div_ceil(10)) && step.index + 1 < method.plan.steps()
            {
                states.push(step.x);
            }
            bar.inc(1);
        }
        let evaluations = run.state().evaluations();
        states.push(run.finish()?);
        Ok((states, evaluations))
    };
    run().map_err(|error| error.to_string())
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
