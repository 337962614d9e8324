//! Draws the pictures of the book's chapter on concepts: processes, grids, noise levels and predictions.
//!
//! `cargo run --release --example concepts`
//!
//! Writes `processes.png`, `grids.png`, `noising.png` and `predictions.png` to `out/concepts/`. Nothing is trained.

mod digits;
mod draw;
mod schedules;

use clap::Parser;
use langevin::Report;
use std::path::PathBuf;

#[derive(Parser)]
struct Options {
    /// Folder for the pictures.
    #[arg(long, default_value = "out/concepts")]
    out: PathBuf,
    /// Which held-out digit is shown, 0 to 9.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..10))]
    digit: u8,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    std::fs::create_dir_all(&options.out)?;
    let place = |name| options.out.join(name);

    draw::panels(&schedules::processes()?, 4, &place("processes.png"))?;
    draw::panels(&schedules::grids()?, 2, &place("grids.png"))?;
    let digits = digits::Digits::new(usize::from(options.digit), options.seed)?;
    draw::tiles(&digits.noising()?, &place("noising.png"))?;
    draw::tiles(&digits.predictions()?, &place("predictions.png"))?;

    println!("pictures are in {}", options.out.display());
    Ok(())
}
