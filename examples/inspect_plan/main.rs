//! Prints the table of a solver on a process and a grid: every coefficient of every step.
//!
//! `cargo run --release --example inspect_plan -- --solver ddim --process chain-cosine --grid trailing --steps 5`
//!
//! `--list` prints all names.

mod names;

use clap::Parser;
use langevin::core::grid::End;
use langevin::prelude::*;
use names::{Choice, GRIDS, PROCESSES, Result, SOLVERS, make, names};
use std::process::ExitCode;

/// Prints the table of a solver on a process and a grid: every coefficient of every step.
#[derive(Parser)]
struct Options {
    #[arg(long, default_value = "ddim", value_parser = names(SOLVERS))]
    solver: String,
    #[arg(long, default_value = "chain-cosine", value_parser = names(PROCESSES))]
    process: String,
    /// By default trailing on chains, uniform elsewhere.
    #[arg(long, value_parser = names(GRIDS))]
    grid: Option<String>,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Noise of DDIM between 0 (none) and 1 (as DDPM).
    #[arg(long)]
    eta: Option<f64>,
    /// Process times where the grid begins and ends.
    #[arg(long, num_args = 2, value_names = ["NOISY", "CLEAN"], allow_negative_numbers = true)]
    between: Option<Vec<f64>>,
    /// Where it ends: at clean data or with the process's range. By default where the grid does, if the solver can.
    #[arg(long, value_parser = ["clean", "range"])]
    end: Option<String>,
    /// From data to noise.
    #[arg(long)]
    inverted: bool,
    /// Prints all names.
    #[arg(long)]
    list: bool,
}

fn print<A, T: ?Sized>(title: &str, choices: &[Choice<A, T>]) {
    println!("{title}:");
    choices.iter().for_each(|choice| println!("  {:<20} {}", choice.0, choice.1));
}

fn inspect(options: &Options) -> Result<()> {
    if options.eta.is_some() && options.solver != "ddim" {
        return Err(format!("--eta belongs to ddim; {} has none", options.solver).into());
    }
    let solver = make(SOLVERS, &options.solver, options.eta.unwrap_or(0.0))?;
    let process = make(PROCESSES, &options.process, ())?;
    let default = if process.chain().is_some() { "trailing" } else { "uniform" };
    let mut grid = *make(GRIDS, options.grid.as_deref().unwrap_or(default), options.steps)?;
    if let Some(&[noisy, clean]) = options.between.as_deref() {
        grid = grid.between(noisy, clean);
    }
    // The probability flow has no slope, and the path no clock, at clean data.
    let default = (options.solver.starts_with("pf-") || options.solver.ends_with("path")).then_some("range");
    if let Some(end) = options.end.as_deref().or(default) {
        grid = grid.ending(if end == "clean" { End::Clean } else { End::Range });
    }
    let plan = solver.plan(&process, &if options.inverted { grid.inverted() } else { grid })?;
    println!("{plan}");
    let noise = if plan.is_stochastic() { "draws noise on the way" } else { "deterministic" };
    println!("{} evaluations of the network, {noise}\n\nlevels:", plan.evaluations());
    println!("{:>10} {:>12} {:>10} {:>10} {:>10}", "t", "network time", "α", "σ", "ln(α/σ)");
    let reached = plan.rows().iter().filter(|row| row.step.is_some()).map(|row| row.after);
    for node in std::iter::once(plan.start_node()).chain(reached) {
        let Level { alpha, sigma, time } = node.level;
        println!("{:>10.4} {time:>12.4} {alpha:>10.6} {sigma:>10.6} {:>10.4}", node.t, node.level.lambda());
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        print("solvers", SOLVERS);
        println!("  (no tables, because they look at the data: adaptive Dormand-Prince, predictor-corrector)");
        print("processes", PROCESSES);
        print("grids", GRIDS);
    } else if let Err(error) = inspect(&options) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
