//! Prints the table of a solver on a process and a grid: every coefficient of every step.
//!
//! `cargo run --release --example inspect_plan -- --solver ddim --process chain-cosine --grid trailing --steps 5`
//!
//! `--list` prints all names.

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser};
use langevin::core::grid::{AysTable, End};
use langevin::prelude::*;
use langevin::schedulers::ode::Tableau;
use langevin::schedulers::{Variance, sigma};
use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A name, what it means, and what it makes.
struct Choice<A, T: ?Sized>(&'static str, &'static str, fn(A) -> Result<Box<T>>);

/// From eta.
const SOLVERS: &[Choice<f64, dyn Solver>] = &[
    Choice("ddim", "DDIM, deterministic unless --eta is given", |eta| Ok(Box::new(Ddim::new().eta(eta)?))),
    Choice("ddpm", "DDPM with the posterior's own variance", |_| Ok(Box::new(Ddpm::new()))),
    Choice("ddpm-large", "DDPM with the forward variance", |_| {
        Ok(Box::new(Ddpm::new().variance(Variance::FixedLarge)))
    }),
    Choice("ddpm-learned", "DDPM, learned variance", |_| Ok(Box::new(Ddpm::new().variance(Variance::LearnedRange)))),
    Choice("euler-maruyama", "the reverse SDE, white noise in every step", |_| Ok(Box::new(EulerMaruyama::new()))),
    Choice("euler-maruyama-path", "the same along one path", |_| Ok(Box::new(EulerMaruyama::new().path()))),
    Choice("reverse-diffusion", "the reverse SDE in its discrete form", |_| Ok(Box::new(ReverseDiffusion::new()))),
    Choice("pf-euler", "probability flow, order 1", |_| Ok(Box::new(ProbabilityFlow::euler()))),
    Choice("pf-heun", "probability flow, order 2", |_| Ok(Box::new(ProbabilityFlow::heun()))),
    Choice("pf-rk4", "probability flow, order 4", |_| Ok(Box::new(ProbabilityFlow::rk4()))),
    Choice("pf-dopri5", "probability flow, order 5", |_| Ok(Box::new(ProbabilityFlow::new(Tableau::dormand_prince())))),
    Choice("euler", "Euler in σ/α, which is DDIM", |_| Ok(Box::new(sigma::Euler::new()))),
    Choice("euler-ancestral", "the same with noise", |_| Ok(Box::new(sigma::EulerAncestral::new()))),
    Choice("heun", "Heun in σ/α, order 2", |_| Ok(Box::new(sigma::Heun::new()))),
    Choice("heun-churn", "the same with churn 40", |_| {
        Ok(Box::new(sigma::Heun::new().churn(sigma::Churn::new(40.0)?)))
    }),
    Choice("dpm2", "midpoints in ln(σ/α), order 2", |_| Ok(Box::new(sigma::Dpm2::new()))),
    Choice("dpm2-ancestral", "the same with noise", |_| Ok(Box::new(sigma::Dpm2Ancestral::new()))),
    Choice("lms", "linear multistep in σ/α, four slopes", |_| Ok(Box::new(sigma::Lms::new(4)?))),
    Choice("pndm", "PNDM, first step taken twice", |_| Ok(Box::new(sigma::Pndm::new()))),
    Choice("pndm-rk", "PNDM, Runge-Kutta start", |_| Ok(Box::new(sigma::Pndm::runge_kutta()))),
    Choice("ipndm", "iPNDM", |_| Ok(Box::new(sigma::Ipndm::new()))),
];

const PROCESSES: &[Choice<(), dyn Process>] = &[
    Choice("chain-linear", "DDPM's chain, 1000 steps, β from 1e-4 to 0.02", |()| chain(Betas::DDPM)),
    Choice("chain-cosine", "the squared-cosine chain of 1000 steps", |()| chain(Betas::SquaredCosine)),
    Choice("vp", "the variance-preserving SDE, β from 0.1 to 20", |()| Ok(Box::new(VpSde::default()))),
    Choice("sub-vp", "the sub-VP SDE, β from 0.1 to 20", |()| Ok(Box::new(SubVpSde::default()))),
    Choice("ve", "the variance-exploding SDE, σ from 0.01 to 50", |()| Ok(Box::new(VeSde::default()))),
    Choice("edm", "α = 1, σ = t from 0.002 to 80", |()| Ok(Box::new(Edm::default()))),
    Choice("flow", "rectified flow, α = 1 − t, σ = t", |()| Ok(Box::new(RectifiedFlow::new()))),
];

const GRIDS: &[Choice<usize, Grid>] = &[
    Choice("leading", "every (T div n)-th step of a chain, from step 0 on", |n| Ok(Box::new(Grid::leading(n)))),
    Choice("trailing", "every (T/n)-th step of a chain, back from the last", |n| Ok(Box::new(Grid::trailing(n)))),
    Choice("linspace", "equally spaced steps of a chain, both ends included", |n| Ok(Box::new(Grid::linspace(n)))),
    Choice("uniform", "equal steps in t", |n| Ok(Box::new(Grid::uniform(n)))),
    Choice("quadratic", "equal steps in √t", |n| Ok(Box::new(Grid::quadratic(n)))),
    Choice("lambda", "equal steps in λ = ln(α/σ)", |n| Ok(Box::new(Grid::uniform_lambda(n)))),
    Choice("karras", "equal steps in (σ/α)^(1/7)", |n| Ok(Box::new(Grid::karras(n, 7.0)?))),
    Choice("exponential", "equal steps in ln(σ/α), then clean", |n| Ok(Box::new(Grid::exponential(n)))),
    Choice("beta", "quantiles of Beta(0.6, 0.6) in t", |n| Ok(Box::new(Grid::beta(n, 0.6, 0.6)?))),
    Choice("ays", "Stable Diffusion 1.5's table", |n| Ok(Box::new(Grid::ays(AysTable::StableDiffusion15, n)))),
];

fn chain(betas: Betas) -> Result<Box<dyn Process>> {
    Ok(Box::new(DiscreteChain::new(betas, 1000)?))
}

fn names<A, T: ?Sized>(choices: &[Choice<A, T>]) -> PossibleValuesParser {
    choices.iter().map(|choice| PossibleValue::new(choice.0).help(choice.1)).collect::<Vec<_>>().into()
}

fn make<A, T: ?Sized>(choices: &[Choice<A, T>], name: &str, from: A) -> Result<Box<T>> {
    choices.iter().find(|choice| choice.0 == name).ok_or("a name that is not in the list")?.2(from)
}

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
