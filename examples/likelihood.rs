//! Trains an MLP on a two-dimensional spiral and asks how likely places are under it: by the exact trace, by probes with
//! their interval, and against the variational bound. Draws the density.
//!
//! `cargo run --release --example likelihood`
//!
//! Writes `out/likelihood/density.png`.

use clap::Parser;
use langevin::data::toys;
use langevin::metrics::{Decoder, Likelihood, LogDensity, Trace, VariationalBound};
use langevin::models::MlpConfig;
use langevin::prelude::*;
use langevin::schedulers::Variance;
use langevin::schedulers::ode::Tableau;
use langevin::train::{Objective, Trainer};
use langevin_plot::{BLUE, Chart, ORANGE, save};
use std::path::PathBuf;
use std::time::Instant;

/// Lattice points on each side of the picture, which shows the square of ±EDGE.
const SIDE: usize = 60;
const EDGE: f64 = 3.0;

#[derive(Parser)]
struct Options {
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Training steps.
    #[arg(long, default_value_t = 1000)]
    steps: u64,
    /// Held-out points to measure.
    #[arg(long, default_value_t = 100)]
    points: usize,
    /// Folder for the picture.
    #[arg(long, default_value = "out/likelihood")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let device = device(&options.device)?;
    std::fs::create_dir_all(&options.out)?;
    let started = Instant::now();

    let data = toys::swiss_roll(8192, 1.0, 7)?.split(0.9, 7)?;
    let process = VpSde::default();
    let objective = Objective::new(process.clone(), Prediction::Velocity)?;
    let network = MlpConfig::new(2).hidden(96).layers(3).time_scale(1000.0).init(&device)?;
    let trained = Trainer::new(network, objective)
        .steps(options.steps)
        .batch_size(256)
        .learning_rate(4e-3)
        .warmup(50)
        .cosine()
        .ema(0.99)
        .condition_dropout(1.0)
        .fit(&data.train)?;
    let denoiser = trained.for_sampling().denoiser(Prediction::Velocity, Labels::none(1))?;
    let noise = Seeded::new(1);

    // Two values a sample: the exact trace costs two vector-Jacobian products.
    let exact = Likelihood::new(process.clone(), Trace::Exact)?.tolerance(1e-4, 1e-4)?;
    let values: Vec<f32> = data.test.values().iter().copied().take(2 * options.points).collect();
    let held_out = tensor(&values, &device);
    let density = exact.evaluate(held_out.clone(), &denoiser, &noise)?;
    report("exact trace", &density);
    let solver = density.solver().error.clone().unwrap_or_default();
    println!("{:18} {:.1e} nats at most, by its own estimate", "solver", solver.iter().copied().fold(0.0, f64::max));
    println!("{:18} {:.1e} nats in the mean at most", "prior gap", mean(&density.prior_kl()));

    // Probes cost one product each, however many values a sample has.
    let probes = Likelihood::new(process.clone(), Trace::rademacher(8))?.tolerance(1e-4, 1e-4)?;
    let estimated = probes.evaluate(held_out.clone(), &denoiser, &noise)?;
    report("8 probes", &estimated);
    let pairs = estimated.interval(0.9)?.into_iter().zip(density.log_p());
    let inside = pairs.filter(|((low, high), exact)| low <= exact && exact <= high).count();
    println!("{:18} {inside} of {} of its 90 % intervals have the exact value", "", density.log_p().len());

    // The bound on −ln p that the steps of ancestral sampling give.
    let grid = Grid::uniform_lambda(400).ending(End::Clean);
    let bound = VariationalBound::new(&process, &grid, Decoder::Continuous)?.variance(Variance::FixedLarge);
    // In so fine a chain, the last step's best variance is that of the noise that it takes away.
    let left = process.sigma(process.time_range().0).powi(2);
    let bound = bound.decoder_variance(left)?.evaluate(held_out, &denoiser, &noise)?;
    println!("{:18} ln p at least {:.3} nats, in 400 steps", "variational bound", -mean(&bound.total()));

    // The density on a lattice, in steps fixed beforehand: it must add up to one.
    let fixed = exact.fixed(Tableau::rk4(), &Grid::uniform_lambda(20).ending(End::Range))?;
    let at = |i: usize| EDGE * (2.0 * (i as f64 + 0.5) / SIDE as f64 - 1.0);
    let places = (0..SIDE * SIDE).flat_map(|i| [at(i % SIDE) as f32, at(i / SIDE) as f32]);
    let lattice = fixed.evaluate(tensor(&places.collect::<Vec<_>>(), &device), &denoiser, &noise)?.log_p();
    let cell = (2.0 * EDGE / SIDE as f64).powi(2);
    println!("{:18} {:.3} in the picture", "mass", lattice.iter().map(|log_p| log_p.exp() * cell).sum::<f64>());
    let most = lattice.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chart = |title: &str, shade: &dyn Fn(f64) -> f64| {
        let shades = lattice.iter().map(|log_p| shade(log_p - most).max(0.0).sqrt());
        Chart::new(title).shades(BLUE, [-EDGE..EDGE, -EDGE..EDGE], SIDE, shades.collect())
    };
    let dots = values.chunks(2).map(|p| (f64::from(p[0]), f64::from(p[1])));
    let density = chart("density, and held-out points", &f64::exp).dots("", ORANGE, dots);
    let logarithm = chart("its logarithm, down to -12", &|log| 1.0 + log / 12.0);
    save(&[density, logarithm], options.out.join("density.png"))?;
    println!("{:.1} seconds; the picture is in {}", started.elapsed().as_secs_f64(), options.out.display());
    Ok(())
}

fn tensor(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::<1>::from_data(values, device).reshape([values.len() / 2, 2])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn report(name: &str, density: &LogDensity<2>) {
    let (nats, bits) = (mean(&density.log_p()), mean(&density.bits_per_dimension()));
    let calls = density.solver().evaluations;
    println!("{name:18} ln p {nats:.3} nats, {bits:.3} bits per dimension, {calls} calls of the network");
}
