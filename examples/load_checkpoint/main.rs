//! Opens a model folder: what it is made of, and one pass through it. `classes.rs` has the classes that it knows.
//!
//! `cargo run --release --example load_checkpoint -- DIR`
//!
//! DIR has a `config.json` and weights, as diffusers and transformers write them.

mod classes;
mod conditions;
mod encoders;
mod inputs;
mod transformers;
mod videos;

use burn::tensor::DType;
use clap::Parser;
use inputs::Inputs;
use langevin::Report;
use langevin::core::Load;
use langevin::models::{Profile, Tap};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Options {
    /// The model folder.
    folder: PathBuf,
    /// Levels of modules to show.
    #[arg(long, default_value_t = 2)]
    depth: usize,
    /// Element type to compute in: f32, f16, bf16 or f64.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Variant of the weight files, such as fp16.
    #[arg(long)]
    variant: Option<String>,
    /// Device, as the library names them.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Do not run it.
    #[arg(long)]
    only_show: bool,
    /// Run it once more, and show what took the time.
    #[arg(long)]
    profile: bool,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    let dtype = match options.dtype.as_str() {
        "f64" => DType::F64,
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => return Err(format!("`--dtype {other}`: f32, f16, bf16 and f64 are known").into()),
    };
    let device = langevin::prelude::device(&options.device)?;
    let mut load = Load::on(&device).dtype(dtype);
    if let Some(variant) = options.variant {
        load = load.variant(variant);
    }
    let class = classes::class_of(&options.folder)?;
    let start = Instant::now();
    let network = classes::load(&class, &options.folder, load)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", network.tree.to_depth(options.depth));
    let bytes = network.tree.count * dtype.size() as u64;
    println!("\nloaded {:.1} MiB as {} in {seconds:.2} s", bytes as f64 / 1048576.0, options.dtype);
    if options.only_show {
        return Ok(());
    }
    let start = Instant::now();
    let inputs = Inputs::new(&device);
    let outputs = (network.run)(&inputs, &mut Tap::none())?;
    // Reading the numbers waits for them.
    let lines: Vec<String> = outputs.iter().map(inputs::statistics).collect();
    println!("one pass in {:.2} s", start.elapsed().as_secs_f64());
    for line in lines {
        println!("{line}");
    }
    if options.profile {
        // The first pass has met every shape: kernels are compiled, and memory is there.
        let (_, profile) = Profile::of(|tap| (network.run)(&inputs, tap))?;
        println!("\nby kind of module\n{profile}");
    }
    Ok(())
}
