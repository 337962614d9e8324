//! Restores digits that were masked, blurred and made small, by DDRM, DPS and ΠGDM.
//!
//! `cargo run --release --example inverse_problems [-- --steps 300 --model out/inverse_problems/model]`
//!
//! Trains a small UNet on real handwritten digits, or takes one that is there. `out/inverse_problems/inverse_problems.png`
//! has a row for each held-out digit and three blocks, for a mask, a blur and block means: the truth (in color), what was
//! measured, and one sample of each method. Printed is how far samples are from the truth and how well they fit the
//! measurement; the program fails if a method does not fit it better than samples that know nothing of it.

use clap::Parser;
use langevin::core::inverse::{LinearOperator, Masking, Measurement, PiGdm, Separable, gaussian_kernel};
use langevin::data::{DataSet, ImageGrid, ImageSet, beside, digits, scale};
use langevin::models::{UNet2d, UNet2dConfig};
use langevin::prelude::*;
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::train::{Objective, Times, Trainer};
use std::path::PathBuf;
use std::time::Instant;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Standard deviation of the noise of measurements, of pixels in [-1, 1].
const NOISE: f64 = 0.05;

#[derive(Parser)]
struct Options {
    /// Where to compute: cpu, wgpu, vulkan, cuda, … (GPUs need the feature of the same name).
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder of a network that predicts velocities of 8x8 images on the VP process, to use instead of training one.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Training steps.
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Digits to restore.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    digits: u8,
    /// Folder for the results.
    #[arg(long, default_value = "out/inverse_problems")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let device = device(&options.device)?;
    let data = digits()?.split(0.8, 7)?;
    let network = match &options.model {
        Some(folder) => UNet2d::load(folder, Load::on(&device))?,
        None => train(&data.train, options.steps, &device)?,
    };
    network.save(options.out.join("model"))?;
    let indices: Vec<usize> = (0..usize::from(options.digits)).map(|i| 11 * i % DataSet::len(&data.test)).collect();
    let truth = data.test.batch(&indices, &device)?.x;
    let load = Load::on(&device);

    // The lower left of the middle is missing, a blur of 1.2 pixels, and means of 2x2 pixels.
    let mask = Tensor::<4>::ones([1, 1, 8, 8], &device).slice_fill([0..1, 0..1, 3..8, 1..5], 0.0);
    let kernel = gaussian_kernel(1.2, 7)?;
    let problems: [(&str, Box<dyn LinearOperator<4>>); 3] = [
        ("mask", Box::new(Masking::new(mask)?)),
        ("blur", Box::new(Separable::blur(&[1, 8, 8], &[(1, &kernel), (2, &kernel)], &load)?)),
        ("block means", Box::new(Separable::block_means(&[1, 8, 8], &[(1, 2), (2, 2)], &load)?)),
    ];
    println!("{:<12} {:<8} {:>8} {:>8} {:>8}", "measured", "method", "error", "residual", "seconds");
    let mut columns = Vec::new();
    for (name, operator) in &problems {
        let measurement = Measurement::simulate(operator.as_ref(), truth.clone(), NOISE, &Seeded::new(1), 0)?;
        let y = measurement.y();
        columns.push(scale::tinted(&truth, [1.0, 0.76, 0.3])?);
        // As an image of the same size, by the pseudo-inverse if it is smaller.
        columns.push(if y.dims() == truth.dims() { y } else { operator.pseudo_inverse(y)? });
        let without = Method::Nothing.samples(&network, &measurement, &truth, &load)?;
        let without = rms(measurement.residual(without)?)?;
        println!("{name:<12} {:<8} {:>8} {without:>8.3}", "nothing", "");
        for method in [Method::Ddrm, Method::Dps, Method::PiGdm] {
            let start = Instant::now();
            let x = method.samples(&network, &measurement, &truth, &load)?;
            let (error, left) = (rms(x.clone() - truth.clone())?, rms(measurement.residual(x.clone())?)?);
            let seconds = start.elapsed().as_secs_f64();
            println!("{:<12} {:<8} {error:>8.3} {left:>8.3} {seconds:>8.1}", "", format!("{method:?}"));
            if !(left < 0.7 * without) {
                return Err(format!("{method:?} fits the {name} no better than samples without it").into());
            }
            columns.push(x);
        }
    }
    let grid = ImageGrid::new(columns.len())?.upscale(5)?.padding(3).background([40, 44, 52]);
    Ok(grid.save(&beside(&columns)?, options.out.join("inverse_problems.png"))?)
}

/// A small UNet of no class in particular, trained to predict velocities on the VP process.
fn train(data: &ImageSet, steps: u64, device: &Device) -> Result<UNet2d> {
    let network = UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).scale_shift(true).init(device)?;
    let objective = Objective::new(VpSde::default(), Prediction::Velocity)?.times(Times::Stratified)?;
    let trainer = Trainer::new(network, objective).steps(steps).batch_size(32).learning_rate(2e-3);
    let trainer = trainer.warmup(steps / 10).cosine().ema(0.99).condition_dropout(1.0);
    Ok(trainer.fit(data)?.for_sampling().clone())
}

/// How to sample.
#[derive(Clone, Copy, Debug)]
enum Method {
    Nothing,
    Ddrm,
    Dps,
    PiGdm,
}

impl Method {
    fn samples(
        self,
        network: &UNet2d,
        measurement: &Measurement<&dyn LinearOperator<4>, 4>,
        truth: &Tensor<4>,
        load: &Load,
    ) -> Result<Tensor<4>> {
        let denoiser = network.denoiser(Prediction::Velocity, Labels::none(1))?;
        let (vp, shape, noise, y) = (VpSde::default(), truth.dims(), Seeded::new(42), measurement.clone());
        let even = |steps| Grid::uniform(steps).ending(End::Clean);
        // Gradients are divided by α: begin where there is some signal.
        let plan =
            DpmSolver::multistep(2)?.plan(&vp, &Grid::uniform_lambda(50).between(0.8, 1e-3).ending(End::Clean))?;
        let x = match self {
            Method::Nothing => plan.start(shape, &denoiser, &noise, load.clone())?.finish()?,
            Method::Ddrm => Ddrm::new(&vp, &even(20), y)?.start(shape, &denoiser, &noise, load.clone())?.finish()?,
            Method::Dps => {
                let plan = Ddpm::new().plan(&vp, &even(100))?;
                DpsSteps::new(plan, y, 0.5)?.start(shape, &denoiser, &noise, load.clone())?.finish()?
            }
            Method::PiGdm => {
                let guided = PiGdm::new(&denoiser, y)?.data_deviation(0.6)?;
                plan.start(shape, &guided, &noise, load.clone())?.finish()?
            }
        };
        Ok(x)
    }
}

fn rms(x: Tensor<4>) -> Result<f64> {
    Ok(x.powf_scalar(2.0).mean().sqrt().try_into_scalar::<f64>()?)
}
