//! Trains an MLP on a two-dimensional spiral and samples it four ways; plots the points and the score field.
//!
//! `cargo run --release --example swiss_roll`
//!
//! Writes `out/swiss_roll/samples.png` and `score.png`.

use clap::Parser;
use langevin::data::toys;
use langevin::models::{Mlp, MlpConfig};
use langevin::prelude::*;
use langevin::train::{Objective, Times, Trainer};
use langevin_plot::{BLUE, Chart, ORANGE, save};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

/// The network's raw output under EDM preconditioning; the data have unit deviation.
const PREDICTION: Prediction = Prediction::Edm { sigma_data: 1.0 };

/// From one place to another.
type Arrow = ((f64, f64), (f64, f64));

#[derive(Parser)]
struct Options {
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Training steps.
    #[arg(long, default_value_t = 1200)]
    steps: u64,
    /// Folder for the pictures.
    #[arg(long, default_value = "out/swiss_roll")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let device = device(&options.device)?;
    std::fs::create_dir_all(&options.out)?;
    let started = Instant::now();

    let data = toys::swiss_roll(8192, 0.3, 7)?;
    // Karras et al. 2022: σ is the time, the network sees scaled states and ln σ, and trains where it matters.
    let process = Edm::new(0.01, 20.0)?;
    let objective = Objective::new(process.clone(), PREDICTION)?.times(Times::LogNormal { mean: -1.2, std: 1.4 })?;
    let network = MlpConfig::new(2).hidden(96).layers(3).time_scale(250.0).init(&device)?;
    let trained = Trainer::new(network, objective)
        .steps(options.steps)
        .batch_size(256)
        .learning_rate(4e-3)
        .warmup(50)
        .cosine()
        .ema(0.99)
        .condition_dropout(1.0)
        .fit(&data)?;
    let network = trained.for_sampling();

    let plans = [
        ("DDPM", Ddpm::new().plan(&process, &Grid::karras(100, 7.0)?)?),
        ("DDIM", Ddim::new().plan(&process, &Grid::karras(50, 7.0)?)?),
        ("Euler-Maruyama", EulerMaruyama::new().denoise_at_end().plan(&process, &Grid::karras(200, 7.0)?)?),
        ("probability flow", ProbabilityFlow::heun().plan(&process, &Grid::karras(25, 7.0)?.ending(End::Range))?),
    ];
    let denoiser = network.denoiser(PREDICTION, Labels::none(1))?;
    let (real, square) = (points(data.values()), |title: &str| Chart::new(title).x(-2.5..2.5).y(-2.5..2.5));
    let mut charts = vec![square("data").dots("", BLUE, real.clone())];
    for (name, plan) in &plans {
        let x = plan.start([2000, 2], &denoiser, &Seeded::new(1), Load::on(&device))?.finish()?;
        let sampled = points(&x.try_to_vec_as::<f32>()?);
        println!(
            "{name:<17} {:>4} evaluations, mean distance to the data {:.3}",
            plan.evaluations(),
            gap(&sampled, &real)
        );
        charts.push(square(name).dots("", BLUE, sampled));
    }
    save(&charts, options.out.join("samples.png"))?;
    let mut charts = Vec::new();
    for t in [1.0, 0.3, 0.1] {
        let chart = square(&format!("score at σ = {t}")).dots("", ORANGE, real.clone());
        charts.push(chart.arrows("", BLUE, field(network, &process, t, &device)?));
    }
    save(&charts, options.out.join("score.png"))?;
    println!("{:.1} seconds; pictures are in {}", started.elapsed().as_secs_f64(), options.out.display());
    Ok(())
}

fn points(values: &[f32]) -> Vec<(f64, f64)> {
    values.chunks(2).take(2000).map(|p| (f64::from(p[0]), f64::from(p[1]))).collect()
}

/// Mean distance of the samples to the nearest data point.
fn gap(samples: &[(f64, f64)], data: &[(f64, f64)]) -> f64 {
    let nearest = |p: &(f64, f64)| data.iter().map(|q| (p.0 - q.0).hypot(p.1 - q.1)).fold(f64::INFINITY, f64::min);
    samples.iter().map(nearest).sum::<f64>() / samples.len() as f64
}

/// Arrows along the score on a square lattice at σ = `t`, as long as the logarithm of what they show.
fn field(network: &Mlp, process: &Edm, t: f64, device: &Device) -> Result<Vec<Arrow>, Box<dyn Error>> {
    let lattice = (0..25 * 25).flat_map(|i| [i % 25, i / 25].map(|k| -2.4 + 0.2 * k as f32));
    let places: Vec<f32> = lattice.collect();
    let x = Tensor::<1>::from_data(places.as_slice(), device).reshape([625, 2]);
    let denoiser = network.denoiser(PREDICTION, Labels::none(1))?;
    let levels = Levels::Shared(process.level(t));
    let score = denoiser.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?.score()?;
    let score = score.try_to_vec_as::<f32>()?;
    let arrow = |((x, y), (dx, dy)): Arrow| {
        let length = dx.hypot(dy);
        let scale = 0.06 * (1.0 + length).ln() / length.max(1e-9);
        ((x, y), (x + dx * scale, y + dy * scale))
    };
    Ok(points(&places).into_iter().zip(points(&score)).map(arrow).collect())
}
