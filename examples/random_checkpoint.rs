//! Writes a UNet of Stable Diffusion 1.5's published size, 860 million parameters, with random weights: something large
//! to measure loading with, without a download.
//!
//! `cargo run --release --example random_checkpoint -- out/random --dtype f16`
//!
//! The weights are written one tensor at a time. `--config FILE` writes another text-conditional UNet.

use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use half::f16;
use langevin::Report;
use langevin::models::UNet2dConditionalConfig;
use langevin::models::weights::parameters;
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

const SD_1_5: &str = include_str!("../crates/langevin-models/tests/published/stable-diffusion-v1-5-unet.json");

#[derive(Parser)]
struct Options {
    /// The model folder to write.
    out: PathBuf,
    /// Element type of the weights.
    #[arg(long, value_enum, default_value_t = Element::F16)]
    dtype: Element,
    /// Configuration of another text-conditional UNet.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Element {
    F32,
    F16,
}

/// A tensor of random numbers, made when it is written.
struct Random {
    shape: Vec<usize>,
    element: Element,
    seed: u64,
}

impl Random {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Uniform numbers of the size that keeps activations in range: layers divide by the root of their inputs.
    fn values(&self) -> impl Iterator<Item = f32> {
        let inputs: usize = self.shape.iter().skip(1).product();
        let scale = (inputs as f32).sqrt().recip();
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..self.count()).map(move |_| {
            // Marsaglia's xorshift: fast, and nobody looks at the numbers.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
        })
    }
}

impl View for Random {
    fn dtype(&self) -> Dtype {
        match self.element {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.element {
            Element::F32 => self.values().flat_map(f32::to_le_bytes).collect(),
            Element::F16 => self.values().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        self.count() * self.dtype().bitsize() / 8
    }
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let json = match &options.config {
        Some(path) => std::fs::read_to_string(path)?,
        None => SD_1_5.to_owned(),
    };
    let config = UNet2dConditionalConfig::from_json(&json)?;
    // Names and shapes are asked for; no parameter is made.
    let parameters = parameters(&config.init(&Device::default())?);
    let count: usize = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    let tensors = parameters.into_iter().enumerate().map(|(i, parameter)| {
        (parameter.name, Random { shape: parameter.shape, element: options.dtype, seed: i as u64 + 1 })
    });
    std::fs::create_dir_all(&options.out)?;
    std::fs::write(options.out.join("config.json"), config.to_json())?;
    let start = Instant::now();
    let path = options.out.join("diffusion_pytorch_model.safetensors");
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), &path)?;
    // The writer's temporary file is private to its user; the configuration has the rights of an ordinary file.
    let rights = std::fs::metadata(options.out.join("config.json"))?.permissions();
    std::fs::set_permissions(&path, rights)?;
    let bytes = std::fs::metadata(&path)?.len();
    println!(
        "{count} parameters, {:.1} MiB in {}, {:.1} s",
        bytes as f64 / 1048576.0,
        path.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
