//! Stochastic differential equations of one's own, against what is known of them exactly.
//!
//! `cargo run --release --example sde_zoo`
//!
//! * `price`: geometric Brownian motion, where Milstein's strong order is twice that of Euler-Maruyama;
//! * `spring`: an Ornstein-Uhlenbeck process that goes to its stationary law;
//! * `decision`: the drift-diffusion model of two-choice decisions, with its reaction times.
//!
//! Each writes a picture into `out/sde_zoo` and ends the program with an error if it is further from the exact law than
//! its samples allow.

mod decision;
mod plot;
mod price;
mod spring;

use clap::Parser;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
struct Options {
    /// Sample paths of each equation, 100 or more.
    #[arg(long, default_value_t = 20_000)]
    paths: usize,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder for the pictures.
    #[arg(long, default_value = "out/sde_zoo")]
    out: PathBuf,
}

/// Prints a value beside the exact one; an error if they are further apart than `within`.
fn compare(what: &str, found: f64, exact: f64, within: f64) -> Result<(), Box<dyn Error>> {
    println!("  {what:<46} {found:>9.4}   exact {exact:>9.4} ± {within:.4}");
    if (found - exact).abs() <= within {
        return Ok(());
    }
    Err(format!("{what} is {found}, which is further than {within} from {exact}").into())
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt())
}

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.paths < 100 {
        return Err("fewer than 100 paths show nothing: give --paths 100 or more".into());
    }
    std::fs::create_dir_all(&options.out)?;
    let device = langevin::device::device(&options.device)?;
    price::run(options.paths, options.seed, &device, &options.out.join("price.png"))?;
    spring::run(options.paths, options.seed, &device, &options.out.join("spring.png"))?;
    decision::run(options.paths, options.seed, &device, &options.out.join("decision.png"))?;
    println!("pictures: {}", options.out.display());
    Ok(())
}
