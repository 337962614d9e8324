//! Solvers with the orders that they claim.

use super::Kind;
use crate::common::problem::{LAMBDA, ends};
use langevin::core::grid::End;
use langevin::core::{Grid, Process};
use langevin::schedulers::exponential::{Basis, SaSolver, SecondOrder, Singlestep, ThirdOrder, UniC, UniPc};
use langevin::schedulers::flow;
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};
use langevin::schedulers::{
    Ddim, Ddpm, Deis, DpmSolver, EulerMaruyama, ProbabilityFlow, Restart, ReverseDiffusion, Solver, Variance,
};

/// Solver, order, smallest number of steps, doublings.
pub type Entry = (&'static str, Box<dyn Solver>, f64, usize, u32);

pub fn deterministic() -> Vec<Entry> {
    vec![
        ("DDIM", Box::new(Ddim::new()), 1.0, 64, 6),
        ("probability flow, Euler", Box::new(ProbabilityFlow::euler()), 1.0, 64, 6),
        ("reverse diffusion, probability flow", Box::new(ReverseDiffusion::new().probability_flow()), 1.0, 64, 6),
        ("probability flow, Heun", Box::new(ProbabilityFlow::heun()), 2.0, 32, 6),
        ("probability flow, RK4", Box::new(ProbabilityFlow::rk4()), 4.0, 16, 6),
        ("Euler in σ/α", Box::new(Euler::new()), 1.0, 64, 6),
        ("Heun in σ/α", Box::new(Heun::new()), 2.0, 32, 6),
        ("Heun in σ/(α+σ)", Box::new(flow::Heun::new()), 2.0, 32, 6),
        ("DPM2", Box::new(Dpm2::new()), 2.0, 32, 6),
        // From order 2 on, the first step of order 1 limits the whole to order 2.
        ("LMS of order 1", lms(1), 1.0, 64, 6),
        ("LMS of order 2", lms(2), 2.0, 64, 6),
        ("LMS of order 3", lms(3), 2.0, 256, 6),
        ("LMS of order 4", lms(4), 2.0, 128, 6),
        ("PNDM, trapezoidal start", Box::new(Pndm::new()), 2.0, 128, 6),
        ("PNDM, Runge-Kutta start", Box::new(Pndm::runge_kutta()), 2.0, 128, 6),
        ("iPNDM", Box::new(Ipndm::new()), 2.0, 128, 6),
        ("DPM-Solver++ 2M", dpm(2, Basis::Data, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DPM-Solver++ 2M, Heun", dpm(2, Basis::Data, SecondOrder::Heun), 2.0, 32, 6),
        ("DPM-Solver 2M", dpm(2, Basis::Noise, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DEIS 2", Box::new(Deis::new(2).expect("an order")), 2.0, 32, 6),
        ("DPM-Solver++ 2S", single(2, Basis::Data, SecondOrder::Midpoint), 2.0, 16, 6),
        ("DPM-Solver++ 3S", single(3, Basis::Data, SecondOrder::Midpoint), 3.0, 32, 5),
        ("DPM-Solver++ 3S, whole polynomial", single(3, Basis::Data, SecondOrder::Heun), 3.0, 32, 5),
        ("DPM-Solver 2S", single(2, Basis::Noise, SecondOrder::Midpoint), 2.0, 16, 6),
        ("DPM-Solver 3S", single(3, Basis::Noise, SecondOrder::Midpoint), 3.0, 32, 5),
    ]
}

/// Solvers of the flow, to be run from data to noise.
pub fn upwards() -> Vec<Entry> {
    let data = || dpm(2, Basis::Data, SecondOrder::Midpoint);
    vec![
        ("DDIM", Box::new(Ddim::new()), 1.0, 64, 6),
        ("Heun in σ/α", Box::new(Heun::new()), 2.0, 32, 6),
        ("Heun in σ/(α+σ)", Box::new(flow::Heun::new()), 2.0, 32, 6),
        ("DPM-Solver++ 2M", data(), 2.0, 32, 6),
        ("DPM-Solver 2M", dpm(2, Basis::Noise, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DPM-Solver++ 2M, Heun", dpm(2, Basis::Data, SecondOrder::Heun), 2.0, 32, 6),
        ("DEIS 2", Box::new(Deis::new(2).expect("an order")), 2.0, 32, 6),
        ("UniPC-1", Box::new(UniPc::new(1).expect("an order")), 2.0, 32, 6),
        ("DPM-Solver++ 2S", single(2, Basis::Data, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DPM-Solver++ 3S", single(3, Basis::Data, SecondOrder::Midpoint), 3.0, 32, 5),
    ]
}

/// Multistep solvers of higher order as they are: their first step has order 1, and so the whole has order 2. On grids
/// whose first step is short the error of the start is small beside the others for any number of steps that can be
/// measured, so these stand on the grid that is even in λ alone.
pub fn limited_by_their_start() -> Vec<(Entry, Kind)> {
    let paths: Vec<Entry> = vec![
        ("DPM-Solver++ 3M", dpm(3, Basis::Data, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DPM-Solver++ 3M, published", halved(), 2.0, 32, 6),
        ("DPM-Solver 3M", dpm(3, Basis::Noise, SecondOrder::Midpoint), 2.0, 32, 6),
        ("DEIS 3", Box::new(Deis::new(3).expect("an order")), 2.0, 32, 6),
        ("DEIS 4", Box::new(Deis::new(4).expect("an order")), 2.0, 32, 6),
    ];
    let noisy: Vec<Entry> = vec![
        ("DPM-Solver++ 3M SDE", sde(3, SecondOrder::Midpoint), 2.0, 64, 4),
        ("SA-Solver 2, corrector 2", sa(2, 2), 2.0, 64, 4),
        ("SA-Solver 3, corrector 3", sa(3, 3), 2.0, 64, 4),
    ];
    let paths = paths.into_iter().map(|entry| (entry, Kind::Path));
    paths.chain(noisy.into_iter().map(|entry| (entry, Kind::Weak))).collect()
}

fn single(order: usize, basis: Basis, kind: SecondOrder) -> Box<dyn Solver> {
    Box::new(Singlestep::new(order).expect("an order").basis(basis).last_stage(kind))
}

fn sa(predictor: usize, corrector: usize) -> Box<dyn Solver> {
    Box::new(SaSolver::new(predictor, corrector).expect("orders"))
}

/// Multistep solvers with the number of steps that only start them.
pub fn multistep() -> Vec<(Entry, usize)> {
    let exact = |order: usize, basis| Box::new(Deis::new(order).expect("an order").basis(basis)) as Box<dyn Solver>;
    vec![
        (("DPM-Solver++ 2M", dpm(2, Basis::Data, SecondOrder::Midpoint), 2.0, 32, 6), 1),
        (("DPM-Solver++ 3M", dpm(3, Basis::Data, SecondOrder::Midpoint), 3.0, 32, 6), 2),
        (("DPM-Solver 3M", dpm(3, Basis::Noise, SecondOrder::Midpoint), 3.0, 32, 6), 2),
        (("DPM-Solver++ 3M, published", halved(), 2.0, 64, 6), 2),
        (("DEIS 2", exact(2, Basis::Noise), 2.0, 32, 6), 1),
        (("DEIS 3", exact(3, Basis::Noise), 3.0, 32, 6), 2),
        (("DEIS 4", exact(4, Basis::Noise), 4.0, 32, 6), 3),
        (unipc(1, 2.0), 0),
        (unipc(2, 3.0), 1),
        (unipc(3, 4.0), 2),
        (("UniC-1 behind DDIM", Box::new(UniC::behind(Ddim::new(), 1).expect("an order")), 2.0, 32, 6), 0),
        (("DEIS 3 in x̂_0", exact(3, Basis::Data), 3.0, 32, 6), 2),
        (("DEIS 4 in x̂_0", exact(4, Basis::Data), 4.0, 32, 6), 3),
    ]
}

fn unipc(order: usize, expected: f64) -> Entry {
    let name = ["UniPC-1", "UniPC-2", "UniPC-3"][order - 1];
    (name, Box::new(UniPc::new(order).expect("an order")), expected, 32, 6)
}

fn sde(order: usize, second: SecondOrder) -> Box<dyn Solver> {
    let solver = DpmSolver::multistep(order).and_then(|solver| solver.sde(1.0));
    Box::new(solver.expect("settings").second_order(second))
}

fn halved() -> Box<dyn Solver> {
    Box::new(DpmSolver::multistep(3).expect("an order").third_order(ThirdOrder::Half))
}

fn dpm(order: usize, basis: Basis, second: SecondOrder) -> Box<dyn Solver> {
    Box::new(DpmSolver::multistep(order).expect("an order").basis(basis).second_order(second))
}

pub fn stochastic() -> Vec<Entry> {
    let eta = |eta| Ddim::new().eta(eta).expect("in range");
    vec![
        ("DDPM, small variance", Box::new(Ddpm::new()), 1.0, 64, 4),
        ("DDPM, large variance", Box::new(Ddpm::new().variance(Variance::FixedLarge)), 1.0, 64, 4),
        ("DDIM, η = 0.5", Box::new(eta(0.5)), 1.0, 64, 4),
        ("Euler-Maruyama", Box::new(EulerMaruyama::new()), 1.0, 64, 5),
        ("reverse diffusion", Box::new(ReverseDiffusion::new()), 1.0, 64, 5),
        ("Restart around DDIM", Box::new(restart(Ddim::new())), 1.0, 64, 4),
        ("Restart around Heun", Box::new(restart(Heun::new())), 2.0, 64, 4),
        ("Euler ancestral", Box::new(EulerAncestral::new()), 1.0, 64, 4),
        ("Euler ancestral, η = 0.5", Box::new(EulerAncestral::new().eta(0.5).expect("in range")), 1.0, 64, 4),
        ("DPM2 ancestral", Box::new(Dpm2Ancestral::new()), 2.0, 64, 4),
        ("Euler in σ/α, churn", Box::new(Euler::new().churn(churn())), 1.0, 64, 4),
        ("Heun in σ/α, churn", Box::new(Heun::new().churn(churn())), 2.0, 64, 4),
        ("DPM2, churn", Box::new(Dpm2::new().churn(churn())), 2.0, 64, 4),
        ("DPM-Solver++ SDE, order 1", sde(1, SecondOrder::Midpoint), 1.0, 64, 4),
        ("DPM-Solver++ 2M SDE", sde(2, SecondOrder::Midpoint), 2.0, 64, 4),
        ("DPM-Solver++ 2M SDE, Heun", sde(2, SecondOrder::Heun), 2.0, 64, 4),
        ("SA-Solver 1, no corrector", sa(1, 0), 1.0, 64, 4),
    ]
}

/// Twice up and down again, between levels that are nodes of grids even in λ.
fn restart<S>(inner: S) -> Restart<S> {
    Restart::around(inner).interval(1.0, 1f64.exp(), 2).expect("an interval")
}

pub fn lms(order: usize) -> Box<dyn Solver> {
    Box::new(Lms::new(order).expect("in range"))
}

/// Multistep methods whose first steps are short enough not to limit them.
pub fn finely_started() -> Vec<Entry> {
    vec![
        ("LMS of order 2, fine start", lms(2), 2.0, 64, 5),
        ("LMS of order 3, fine start", lms(3), 3.0, 64, 5),
        ("LMS of order 4, fine start", lms(4), 4.0, 64, 5),
    ]
}

/// Even in λ, but for a start whose steps double from h²/4 to h.
pub fn fine_start(process: &dyn Process, n: usize) -> Grid {
    let h = (LAMBDA.1 - LAMBDA.0) / n as f64;
    let (mut lambdas, mut step) = (vec![LAMBDA.0], 0.25 * h * h);
    // Four equal ones first, so that the doubling begins with all slopes there.
    for k in 0.. {
        if step >= h {
            break;
        }
        lambdas.push(lambdas[k] + step);
        step *= if k < 3 { 1.0 } else { 2.0 };
    }
    let start = lambdas[lambdas.len() - 1];
    let rest = (LAMBDA.1 - start) / n as f64;
    lambdas.extend((1..=n).map(|i| start + rest * i as f64));
    let (noisy, clean) = ends(process);
    let last = lambdas.len() - 1;
    let time = |(i, lambda): (usize, &f64)| match i {
        0 => noisy,
        i if i == last => clean,
        _ => process.time_at_lambda(*lambda).expect("in range"),
    };
    Grid::times(lambdas.iter().enumerate().map(time).collect()).expect("falling").ending(End::Range)
}

/// As much churn as a step of Euler's variance takes.
pub fn churn() -> Churn {
    Churn::new(2.0).expect("in range")
}
