//! Processes by name.

use langevin::prelude::*;
use std::error::Error;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A name, what it means, and what it makes.
pub type Choice = (&'static str, &'static str, fn() -> Result<Box<dyn Process>>);

pub const PROCESSES: &[Choice] = &[
    ("chain-linear", "DDPM's chain, 1000 steps, β from 1e-4 to 0.02", || chain(Betas::DDPM)),
    ("chain-cosine", "the squared-cosine chain of 1000 steps", || chain(Betas::SquaredCosine)),
    ("vp", "the variance-preserving SDE, β from 0.1 to 20", || Ok(Box::new(VpSde::default()))),
    ("sub-vp", "the sub-VP SDE, β from 0.1 to 20", || Ok(Box::new(SubVpSde::default()))),
    ("ve", "the variance-exploding SDE, σ from 0.01 to 50", || Ok(Box::new(VeSde::default()))),
    ("edm", "α = 1, σ = t from 0.002 to 80", || Ok(Box::new(Edm::default()))),
    ("flow", "rectified flow, α = 1 − t, σ = t", || Ok(Box::new(RectifiedFlow::new()))),
];

fn chain(betas: Betas) -> Result<Box<dyn Process>> {
    Ok(Box::new(DiscreteChain::new(betas, 1000)?))
}

pub fn make(name: &str) -> Result<Box<dyn Process>> {
    PROCESSES.iter().find(|choice| choice.0 == name).ok_or("a process that is not in the list")?.2()
}
