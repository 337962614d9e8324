//! Encodes two images by DDIM inversion, walks from noise to noise, and decodes what lies between.
//!
//! `cargo run --release --example interpolate [-- --steps 600 --evaluations 100]`
//!
//! Trains a small UNet on real handwritten digits, or takes one that is there: `--model out/interpolate/model`. Each row
//! of `out/interpolate/interpolate.png` is a pair of held-out digits (in color) and decoded images between them: first
//! pairs of one class, where the network is told the class, then pairs of two, where it is told nothing. The program also
//! measures how much is lost on the way to noise and back: less, the more steps are taken. It fails if not.

mod codec;
mod model;
mod picture;

use clap::Parser;
use codec::{Codec, slerp};
use langevin::data::{DataSet, ImageSet, digits};
use langevin::models::UNet2d;
use langevin::prelude::*;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Pairs of held-out digits, each by its class and its number in the class: first of one class, then of two.
const PAIRS: [[(usize, usize); 2]; 10] = [
    [(1, 12), (1, 3)],
    [(2, 3), (2, 22)],
    [(4, 1), (4, 22)],
    [(7, 3), (7, 9)],
    [(9, 0), (9, 12)],
    [(3, 0), (8, 5)],
    [(4, 18), (9, 5)],
    [(5, 3), (6, 9)],
    [(0, 1), (6, 11)],
    [(1, 5), (7, 13)],
];
/// Decoded images of a row, both ends included.
const BETWEEN: usize = 9;

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

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let device = device(&options.device)?;
    let started = Instant::now();
    let data = digits()?.split(0.8, 7)?;
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
    let network = match &options.model {
        Some(folder) => UNet2d::load(folder, Load::on(&device))?,
        None => {
            let network = model::train(&data.train, &chain, options.steps, &device)?;
            network.save(options.out.join("model"))?;
            network
        }
    };

    // Digits that the network has not seen. It is told the class only where that is the same all the way.
    let left = chosen(&data.test, 0, &device)?;
    let right = chosen(&data.test, 1, &device)?;
    let labels = PAIRS.map(|[(a, _), (b, _)]| (a == b).then_some(a));

    let steps = usize::from(options.evaluations);
    let codec = Codec::new(&network, &chain, steps)?;
    println!("encoding {} digits, decoding {} images", 2 * PAIRS.len(), BETWEEN * PAIRS.len());
    let ends = (codec.encode(left.clone(), &labels)?, codec.encode(right.clone(), &labels)?);
    let mut columns = vec![left.clone()];
    for i in 0..BETWEEN {
        let noise = slerp(&ends.0, &ends.1, i as f64 / (BETWEEN - 1) as f64)?;
        columns.push(codec.decode(noise, &labels)?);
    }
    columns.push(right.clone());
    let path = options.out.join("interpolate.png");
    picture::save(&columns, &path)?;

    println!("\nto noise and back:\nsteps  error (share of a pixel's range)");
    let (images, labels) = (Tensor::cat(vec![left, right], 0), labels.repeat(2));
    let mut before = f64::INFINITY;
    for steps in [steps / 4, steps / 2, steps, steps * 2] {
        let error = Codec::new(&network, &chain, steps)?.round_trip(&images, &labels)?;
        println!("{steps:>5}  {error:.4}");
        if error >= before {
            return Err(format!("{steps} steps lose no less than {} do", steps / 2).into());
        }
        before = error;
    }
    println!("{:.0} seconds in all; the picture is {}", started.elapsed().as_secs_f64(), path.display());
    Ok(())
}

/// The digits on one side of all pairs.
fn chosen(data: &ImageSet, side: usize, device: &Device) -> Result<Tensor<4>, Box<dyn Error>> {
    let mut indices = Vec::new();
    for (class, number) in PAIRS.map(|pair| pair[side]) {
        let of_class = data.of_class(class)?;
        indices.push(of_class[number % of_class.len()]);
    }
    Ok(data.batch(&indices, device)?.x)
}
