//! Trains a class-conditional UNet on 1,797 real handwritten digits and samples it four ways.
//!
//! `cargo run --release --example quickstart [-- --device wgpu --steps 800 --seed 1]`
//!
//! Writes PNG grids, the loss curve and `report.json` to `out/quickstart/`.

mod classifier;
mod frechet;
mod report;
mod sampling;

use clap::Parser;
use langevin::data::{DataSet, ImageGrid, ImageSet, digits};
use langevin::prelude::*;
use langevin::train::{Objective, Times, Trainer};
use report::{Report, Row};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Options {
    /// Where to compute: cpu, wgpu, vulkan, cuda, … (GPUs need the feature of the same name).
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Training steps of the diffusion model.
    #[arg(long, default_value_t = 550)]
    steps: u64,
    /// Training steps of the classifier that judges the samples.
    #[arg(long, default_value_t = 700)]
    classifier_steps: u64,
    /// Samples for each class and scheduler.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=100))]
    per_class: u16,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fail unless the results are as good as they should be with the default settings.
    #[arg(long)]
    check: bool,
    /// Folder for the results.
    #[arg(long, default_value = "out/quickstart")]
    out: PathBuf,
}

fn main() -> Result<(), langevin::Report> {
    let options = Options::parse();
    let per_class = usize::from(options.per_class);
    let device = device(&options.device)?;
    std::fs::create_dir_all(&options.out)?;
    let started = Instant::now();

    // Real data: four fifths to train on, the rest held out.
    let data = digits()?.split(0.8, 7)?;
    let grid = ImageGrid::new(per_class.min(16))?.upscale(4)?.padding(2);
    let shown = by_class(&data.train, per_class.min(16), &device)?;
    grid.save(&shown, options.out.join("real.png"))?;

    // The judge.
    let judge = classifier::Classifier::train(&data.train, options.classifier_steps, options.seed, &device)?;
    let all: Vec<_> = (0..data.test.len()).collect();
    let (held_out, labels) = (data.test.batch(&all, &device)?.x, data.test.labels());
    let classifier_accuracy = judge.recognised(held_out.clone(), labels)?;
    let reference = frechet::Moments::of(judge.features(held_out))?;
    let real = by_class(&data.train, per_class, &device)?;
    let real_vs_real_fd = frechet::Moments::of(judge.features(real))?.distance(&reference);

    // The diffusion model: a UNet that predicts velocities on the squared-cosine chain.
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let network = sampling::network().init(&device)?;
    let objective = Objective::new(chain.clone(), Prediction::Velocity)?.times(Times::Stratified)?;
    let trained = Trainer::new(network, objective)
        .steps(options.steps)
        .batch_size(32)
        .seed(options.seed)
        .learning_rate(2e-3)
        .warmup(options.steps / 10)
        .cosine()
        .ema(0.995)
        .fit(&data.train)?;
    let history: Vec<_> = trained.history.iter().map(|(step, loss)| (*step, f64::from(*loss))).collect();
    report::plot_losses(&history, &options.out.join("loss.png"))?;

    // One network, four ways to sample.
    let train = data.train.pixels();
    let parts = if matches!(options.device.as_str(), "cpu" | "flex") { 2 } else { 1 };
    let mut schedulers = Vec::new();
    for method in sampling::methods(&chain)? {
        let sampled = sampling::sample(trained.for_sampling(), &method, per_class, options.seed, parts, &device)?;
        let columns = per_class.min(16);
        grid.save(
            &first_columns(sampled.images.clone(), per_class, columns),
            options.out.join(format!("{}.png", method.file)),
        )?;
        if let Some(path) = sampled.path {
            let strip = ImageGrid::new(path.dims()[0] / 10)?.upscale(4)?.padding(2);
            strip.save(&path, options.out.join("denoising.png"))?;
        }
        schedulers.push(Row {
            scheduler: method.name.to_owned(),
            evaluations: sampled.evaluations,
            seconds: sampled.seconds,
            recognised: judge.recognised(sampled.images.clone(), &sampled.labels)?,
            fd: frechet::Moments::of(judge.features(sampled.images.clone()))?.distance(&reference),
            nearest_training_distance: sampling::nearest(&sampled.images, train)?,
        });
    }
    let report = Report { classifier_accuracy, real_vs_real_fd, schedulers };
    report.save(&options.out.join("report.json"))?;
    report.print();
    if options.check {
        report.check()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("\n{seconds:.0} seconds in all; pictures and report.json are in {}", options.out.display());
    Ok(())
}

/// `count` images of each class, spread over all that there are (and so over the writers), class by class.
fn by_class(data: &ImageSet, count: usize, device: &Device) -> Result<Tensor<4>, Box<dyn Error>> {
    let mut indices = Vec::new();
    for class in 0..data.classes().unwrap_or(1) {
        let of_class = data.of_class(class)?;
        indices.extend((0..count).map(|i| of_class[i * of_class.len() / count]));
    }
    Ok(data.batch(&indices, device)?.x)
}

/// Of rows of `of` images the first `columns` each.
fn first_columns(images: Tensor<4>, of: usize, columns: usize) -> Tensor<4> {
    let rows = images.dims()[0] / of;
    Tensor::cat((0..rows).map(|row| images.clone().narrow(0, row * of, columns)).collect(), 0)
}
