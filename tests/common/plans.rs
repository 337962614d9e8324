//! Every planning solver, as plans of a few steps.

use super::problem::even_lambda;
use super::solvers::{distilled, exponential, exponential_noisy};
use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::core::{Grid, Prediction};
use langevin::schedulers::flow;
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use langevin::schedulers::{
    AnnealedLangevin, Ddim, Ddpm, DpmSolver, EulerMaruyama, Plan, ProbabilityFlow, Restart, ReverseDiffusion, Solver,
    Variance,
};

/// Every planning solver, in a few steps.
pub fn plans() -> Vec<(&'static str, Plan)> {
    let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain");
    let vp = VpSde::default();
    let on_chain = |solver: &dyn Solver| solver.plan(&chain, &Grid::trailing(6)).expect("a plan");
    let on_vp = |solver: &dyn Solver| solver.plan(&vp, &even_lambda(&vp, 6)).expect("a plan");
    let eta = |eta| Ddim::new().eta(eta).expect("in range");
    let exponential = exponential().into_iter().chain(exponential_noisy()).chain(distilled());
    let exponential: Vec<_> = exponential.map(|(name, solver)| (name, on_vp(solver.as_ref()))).collect();
    let known = vec![
        ("DDPM, small variance", on_chain(&Ddpm::new())),
        ("DDPM, large variance", on_chain(&Ddpm::new().variance(Variance::FixedLarge))),
        ("DDPM, learned range", on_chain(&Ddpm::new().variance(Variance::LearnedRange))),
        ("DDIM, eta 0", on_chain(&Ddim::new())),
        ("DDIM, eta 0.5", on_chain(&eta(0.5))),
        ("DDIM, inverted", Ddim::new().plan(&chain, &Grid::trailing(6).inverted()).expect("a plan")),
        ("DDIM, inverted with gaps", {
            let grid = Grid::trailing(6).strided().inverted();
            Ddim::new().with_gaps().plan(&chain, &grid).expect("a plan")
        }),
        ("Euler-Maruyama", on_vp(&EulerMaruyama::new())),
        ("Euler-Maruyama along a path", on_vp(&EulerMaruyama::new().path())),
        ("reverse diffusion", on_vp(&ReverseDiffusion::new())),
        ("reverse diffusion, probability flow", on_vp(&ReverseDiffusion::new().probability_flow())),
        ("annealed Langevin", on_vp(&annealed())),
        ("restart of Heun", on_vp(&restart(Heun::new()))),
        ("restart of DPM-Solver++ 2M", on_chain(&restart(DpmSolver::multistep(2).expect("an order")))),
        ("probability flow, Euler", on_vp(&ProbabilityFlow::euler())),
        ("probability flow, Heun", on_vp(&ProbabilityFlow::heun())),
        ("probability flow, RK4", on_vp(&ProbabilityFlow::rk4())),
        ("Euler in σ/α, churn", on_vp(&Euler::new().churn(churn()))),
        ("Euler in σ/α, late churn", on_vp(&Euler::new().churn(churn()).churn_after_asking(Prediction::Velocity))),
        ("Euler ancestral", on_chain(&EulerAncestral::new().eta(1.2).and_then(|e| e.noise(0.98)).expect("in range"))),
        ("σ/α, method of Heun", on_vp(&Heun::new())),
        ("σ/α, method of Heun, churn", on_chain(&Heun::new().churn(churn()))),
        ("Heun in σ/(α+σ)", on_vp(&flow::Heun::new())),
        ("DPM-Solver++ 2M, upwards", {
            let solver = DpmSolver::multistep(2).expect("an order");
            solver.plan(&vp, &even_lambda(&vp, 6).inverted()).expect("a plan")
        }),
        ("DPM2", on_vp(&Dpm2::new())),
        ("DPM2 ancestral", on_chain(&Dpm2Ancestral::new())),
        ("LMS", on_vp(&Lms::new(4).expect("in range"))),
        ("LMS, churn", on_vp(&Lms::new(2).expect("in range").churn(churn()))),
        ("PNDM", on_chain(&Pndm::new())),
        ("PNDM, Runge-Kutta start", on_vp(&Pndm::runge_kutta())),
        ("PNDM, outputs", on_vp(&Pndm::new().combining_outputs(Prediction::Velocity))),
        ("iPNDM", on_vp(&Ipndm::new())),
    ];
    known.into_iter().chain(exponential).collect()
}

fn annealed() -> AnnealedLangevin {
    AnnealedLangevin::new(0.2, 2).expect("settings").denoise_at_end()
}

/// One restart over the grid's own steps, one over others.
fn restart<S>(inner: S) -> Restart<S> {
    let restart = Restart::around(inner).interval(0.5, 2.0, 1).expect("an interval");
    restart.interval_of_steps(0.3, 1.0, 1, 2).expect("an interval")
}

fn churn() -> Churn {
    Churn::new(0.9).expect("in range")
}
