//! Solvers, processes and grids by name.

use clap::builder::{PossibleValue, PossibleValuesParser};
use langevin::core::grid::AysTable;
use langevin::prelude::*;
use langevin::schedulers::ode::Tableau;
use langevin::schedulers::{Deis, DpmSolver, Variance, consistency, exponential, sigma};
use std::error::Error;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A name, what it means, and what it makes.
pub struct Choice<A, T: ?Sized>(pub &'static str, pub &'static str, fn(A) -> Result<Box<T>>);

/// From eta.
pub const SOLVERS: &[Choice<f64, dyn Solver>] = &[
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
    Choice("dpm++-2m", "DPM-Solver++, multistep, order 2", |_| Ok(Box::new(DpmSolver::multistep(2)?))),
    Choice("dpm++-3m", "the same, order 3", |_| Ok(Box::new(DpmSolver::multistep(3)?))),
    Choice("dpm++-2m-sde", "DPM-Solver++ of the reverse SDE, noise of strength --eta (1)", |eta| {
        Ok(Box::new(DpmSolver::multistep(2)?.sde(if eta > 0.0 { eta } else { 1.0 })?))
    }),
    Choice("dpm-2m", "DPM-Solver, multistep, order 2", |_| {
        Ok(Box::new(DpmSolver::multistep(2)?.basis(exponential::Basis::Noise)))
    }),
    Choice("dpm++-2s", "DPM-Solver++, singlestep, order 2", |_| Ok(Box::new(exponential::Singlestep::new(2)?))),
    Choice("dpm++-3s", "the same, order 3", |_| Ok(Box::new(exponential::Singlestep::new(3)?))),
    Choice("deis", "DEIS, order 3", |_| Ok(Box::new(Deis::new(3)?))),
    Choice("unipc", "UniPC, order 2", |_| Ok(Box::new(exponential::UniPc::new(2)?))),
    Choice("sa-solver", "SA-Solver, two answers, corrected by two", |_| {
        Ok(Box::new(exponential::SaSolver::new(2, 2)?))
    }),
    Choice("lcm", "latent consistency models", |_| Ok(Box::new(consistency::Lcm::new()))),
    Choice("tcd", "trajectory consistency, γ = 0.3", |_| Ok(Box::new(consistency::Tcd::new(0.3)?))),
];

pub const PROCESSES: &[Choice<(), dyn Process>] = &[
    Choice("chain-linear", "DDPM's chain, 1000 steps, β from 1e-4 to 0.02", |()| chain(Betas::DDPM)),
    Choice("chain-cosine", "the squared-cosine chain of 1000 steps", |()| chain(Betas::SquaredCosine)),
    Choice("vp", "the variance-preserving SDE, β from 0.1 to 20", |()| Ok(Box::new(VpSde::default()))),
    Choice("sub-vp", "the sub-VP SDE, β from 0.1 to 20", |()| Ok(Box::new(SubVpSde::default()))),
    Choice("ve", "the variance-exploding SDE, σ from 0.01 to 50", |()| Ok(Box::new(VeSde::default()))),
    Choice("edm", "α = 1, σ = t from 0.002 to 80", |()| Ok(Box::new(Edm::default()))),
    Choice("flow", "rectified flow, α = 1 − t, σ = t", |()| Ok(Box::new(RectifiedFlow::new()))),
];

pub const GRIDS: &[Choice<usize, Grid>] = &[
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

pub fn names<A, T: ?Sized>(choices: &[Choice<A, T>]) -> PossibleValuesParser {
    choices.iter().map(|choice| PossibleValue::new(choice.0).help(choice.1)).collect::<Vec<_>>().into()
}

pub fn make<A, T: ?Sized>(choices: &[Choice<A, T>], name: &str, from: A) -> Result<Box<T>> {
    choices.iter().find(|choice| choice.0 == name).ok_or("a name that is not in the list")?.2(from)
}
