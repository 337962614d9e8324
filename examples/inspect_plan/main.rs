//! Prints the table of a solver on a process and a grid: every coefficient of every step.
//!
//! `cargo run --release --example inspect_plan -- --solver "DPM++ 2M Karras" --process chain-cosine --steps 5`
//!
//! Solvers and schedules are named as in A1111, ComfyUI, k-diffusion or diffusers; `--list` prints all names.

mod processes;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser};
use langevin::core::grid::End;
use langevin::prelude::*;
use langevin::schedulers::names::{self, Listed, Spacing};
use processes::{PROCESSES, Result, make};
use std::process::ExitCode;

/// Prints the table of a solver on a process and a grid: every coefficient of every step.
#[derive(Parser)]
struct Options {
    /// As A1111, ComfyUI, k-diffusion or diffusers name it, with or without a schedule.
    #[arg(long, default_value = "ddim")]
    solver: String,
    #[arg(long, default_value = "chain-cosine", value_parser = processes())]
    process: String,
    /// A schedule, if the solver's name has none.
    #[arg(long)]
    grid: Option<String>,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Strength of the noise of solvers that have one; 0 is none, 1 the reverse SDE.
    #[arg(long)]
    eta: Option<f64>,
    /// Process times where the grid begins and ends.
    #[arg(long, num_args = 2, value_names = ["NOISY", "CLEAN"], allow_negative_numbers = true)]
    between: Option<Vec<f64>>,
    /// Where it ends: at clean data or with the process's range. By default where the solver's name does.
    #[arg(long, value_parser = ["clean", "range"])]
    end: Option<String>,
    /// From data to noise.
    #[arg(long)]
    inverted: bool,
    /// Prints all names.
    #[arg(long)]
    list: bool,
}

fn processes() -> PossibleValuesParser {
    PROCESSES.iter().map(|choice| PossibleValue::new(choice.0).help(choice.1)).collect::<Vec<_>>().into()
}

fn print(title: &str, names: impl Iterator<Item = Listed>) {
    println!("{title}:");
    for Listed { name, also, what } in names {
        let also = if also.is_empty() { String::new() } else { format!(" ({})", also.join(", ")) };
        println!("  {name:<34} {what}{also}");
    }
}

fn list() {
    print("solvers", names::solvers());
    print("schedules, behind a solver's name or with --grid", names::spacings());
    print("not by the name alone", names::elsewhere());
    println!("processes:");
    PROCESSES.iter().for_each(|choice| println!("  {:<34} {}", choice.0, choice.1));
}

fn inspect(options: &Options) -> Result<()> {
    let mut named = names::from_name(&options.solver)?;
    if let Some(eta) = options.eta {
        named = named.eta(eta)?;
    }
    if let Some(grid) = &options.grid {
        named = named.on(Spacing::from_name(grid)?);
    }
    let process = make(&options.process)?;
    let (solver, steps) = named.solver(&process, options.steps)?;
    let mut grid = named.grid(&process, steps)?;
    if let Some(&[noisy, clean]) = options.between.as_deref() {
        grid = grid.between(noisy, clean);
    }
    if let Some(end) = options.end.as_deref() {
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
        list();
    } else if let Err(error) = inspect(&options) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
