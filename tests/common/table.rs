//! Every solver that plans, in one table: the exponential integrators of [`solvers`](super::solvers) and all others.

use super::solvers::{exponential, exponential_noisy};
use langevin::core::Prediction;
use langevin::schedulers::ode::Tableau;
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use langevin::schedulers::{Ddim, Ddpm, EulerMaruyama, ProbabilityFlow, ReverseDiffusion, Solver, Variance};

pub type Named = (&'static str, Box<dyn Solver>);

/// All without noise, but those for distilled networks.
pub fn deterministic() -> Vec<Named> {
    [posterior(), in_sigma(), in_time(), exponential()].into_iter().flatten().collect()
}

/// All with noise, but those for distilled networks; `churn` is the amount of those that take it.
pub fn stochastic(churn: f64) -> Vec<Named> {
    [posterior_noisy(), in_sigma_noisy(churn), in_time_noisy(), exponential_noisy()].into_iter().flatten().collect()
}

/// Posteriors without noise.
pub fn posterior() -> Vec<Named> {
    vec![("DDIM, eta 0", Box::new(Ddim::new()))]
}

/// Posteriors with noise.
pub fn posterior_noisy() -> Vec<Named> {
    let eta = |eta| Ddim::new().eta(eta).expect("in range");
    vec![
        ("DDPM, small variance", Box::new(Ddpm::new())),
        ("DDPM, large variance", Box::new(Ddpm::new().variance(Variance::FixedLarge))),
        ("DDPM, learned range", Box::new(Ddpm::new().variance(Variance::LearnedRange))),
        ("DDIM, eta 0.5", Box::new(eta(0.5))),
        ("DDIM, eta 1", Box::new(eta(1.0))),
    ]
}

/// Solvers in σ/α without noise.
pub fn in_sigma() -> Vec<Named> {
    let lms = |order| Lms::new(order).expect("in range");
    vec![
        ("Euler in σ/α", Box::new(Euler::new())),
        ("σ/α, method of Heun", Box::new(Heun::new())),
        ("DPM2", Box::new(Dpm2::new())),
        ("LMS of order 1", Box::new(lms(1))),
        ("LMS of order 2", Box::new(lms(2))),
        ("LMS of order 3", Box::new(lms(3))),
        ("LMS", Box::new(lms(4))),
        ("PNDM", Box::new(Pndm::new())),
        ("PNDM, Runge-Kutta start", Box::new(Pndm::runge_kutta())),
        ("PNDM, outputs", Box::new(Pndm::new().combining_outputs(Prediction::Velocity))),
        ("iPNDM", Box::new(Ipndm::new())),
    ]
}

/// Solvers in σ/α with noise.
pub fn in_sigma_noisy(amount: f64) -> Vec<Named> {
    let churn = || Churn::new(amount).expect("in range");
    let late = Euler::new().churn(churn()).churn_after_asking(Prediction::Velocity);
    let loud = EulerAncestral::new().eta(1.2).and_then(|solver| solver.noise(0.98)).expect("in range");
    vec![
        ("Euler in σ/α, churn", Box::new(Euler::new().churn(churn()))),
        ("Euler in σ/α, late churn", Box::new(late)),
        ("σ/α, method of Heun, churn", Box::new(Heun::new().churn(churn()))),
        ("DPM2, churn", Box::new(Dpm2::new().churn(churn()))),
        ("LMS, churn", Box::new(Lms::new(2).expect("in range").churn(churn()))),
        ("PNDM, churn", Box::new(Pndm::new().churn(churn()))),
        ("iPNDM, churn", Box::new(Ipndm::new().churn(churn()))),
        ("Euler ancestral, eta 1", Box::new(EulerAncestral::new())),
        ("Euler ancestral, eta 0.5", Box::new(EulerAncestral::new().eta(0.5).expect("in range"))),
        ("Euler ancestral", Box::new(loud)),
        ("DPM2 ancestral", Box::new(Dpm2Ancestral::new())),
    ]
}

/// Solvers in the process's own time without noise.
pub fn in_time() -> Vec<Named> {
    vec![
        ("probability flow, Euler", Box::new(ProbabilityFlow::euler())),
        ("probability flow, Heun", Box::new(ProbabilityFlow::heun())),
        ("probability flow, RK4", Box::new(ProbabilityFlow::rk4())),
        ("probability flow, Dormand-Prince", Box::new(ProbabilityFlow::new(Tableau::dormand_prince()))),
    ]
}

/// Solvers in the process's own time with noise.
pub fn in_time_noisy() -> Vec<Named> {
    vec![
        ("Euler-Maruyama", Box::new(EulerMaruyama::new())),
        ("Euler-Maruyama along a path", Box::new(EulerMaruyama::new().path())),
        ("reverse diffusion", Box::new(ReverseDiffusion::new())),
    ]
}
