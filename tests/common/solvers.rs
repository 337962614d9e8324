//! Solvers by name, for the proofs that all of them owe.

use langevin::schedulers::consistency::{Lcm, Multistep, Tcd};
use langevin::schedulers::exponential::{Basis, SaSolver, SecondOrder, Singlestep, Tau, ThirdOrder, UniB, UniC, UniPc};
use langevin::schedulers::{Ddim, Deis, DpmSolver, Solver};

type Named = (&'static str, Box<dyn Solver>);

/// Exponential integrators without noise.
pub fn exponential() -> Vec<Named> {
    let multi = |order| DpmSolver::multistep(order).expect("an order");
    let single = |order| Singlestep::new(order).expect("an order");
    let unipc = |order| UniPc::new(order).expect("an order");
    let quiet = SaSolver::new(3, 2).expect("orders").tau(Tau::Constant(0.0)).expect("a strength");
    vec![
        ("DPM-Solver++ 1M", Box::new(multi(1))),
        ("DPM-Solver++ 2M", Box::new(multi(2))),
        ("DPM-Solver++ 2M Heun", Box::new(multi(2).second_order(SecondOrder::Heun))),
        ("DPM-Solver++ 3M", Box::new(multi(3))),
        ("DPM-Solver++ 3M published", Box::new(multi(3).third_order(ThirdOrder::Half).lower_order_below(15))),
        ("DPM-Solver 2M", Box::new(multi(2).basis(Basis::Noise))),
        ("DPM-Solver 3M", Box::new(multi(3).basis(Basis::Noise))),
        ("DEIS 3", Box::new(Deis::new(3).expect("an order"))),
        ("DEIS 4 data", Box::new(Deis::new(4).expect("an order").basis(Basis::Data))),
        ("UniPC-2", Box::new(unipc(2))),
        ("UniPC-3 linear", Box::new(unipc(3).b(UniB::Linear).lower_order_final(true))),
        ("UniPC-2 noise", Box::new(unipc(2).basis(Basis::Noise).skipping([0]))),
        ("UniC-1 behind DDIM", Box::new(UniC::behind(Ddim::new(), 1).expect("an order"))),
        ("SA-Solver quiet", Box::new(quiet)),
        ("DPM-Solver++ 2S", Box::new(single(2))),
        ("DPM-Solver++ 3S", Box::new(single(3))),
        ("DPM-Solver 3S Heun", Box::new(single(3).basis(Basis::Noise).last_stage(SecondOrder::Heun))),
        ("DPM-Solver++ 3S on grid", Box::new(single(3).on_grid().lower_order_final(true))),
    ]
}

/// Exponential integrators with noise.
pub fn exponential_noisy() -> Vec<Named> {
    let sde = |order, eta| DpmSolver::multistep(order).and_then(|s| s.sde(eta)).expect("settings");
    let sa = |p, c| SaSolver::new(p, c).expect("orders");
    vec![
        ("DPM-Solver++ 1M SDE", Box::new(sde(1, 1.0))),
        ("DPM-Solver++ 2M SDE", Box::new(sde(2, 1.0))),
        ("DPM-Solver++ 2M SDE eta 0.5", Box::new(sde(2, 0.5).second_order(SecondOrder::Heun))),
        ("DPM-Solver++ 3M SDE", Box::new(sde(3, 1.0))),
        ("DPM-Solver 2M SDE", Box::new(sde(2, 1.0).basis(Basis::Noise))),
        ("SA-Solver", Box::new(sa(2, 2))),
        ("SA-Solver 3, 4", Box::new(sa(3, 4))),
        ("SA-Solver noise", Box::new(sa(2, 1).basis(Basis::Noise))),
    ]
}

/// Solvers for distilled networks: on others they do not converge to anything.
pub fn distilled() -> Vec<Named> {
    let tcd = |gamma| Tcd::new(gamma).expect("in range");
    let ended = Multistep::new().ending_at(0.05).and_then(|solver| solver.noise(1.02)).expect("in range");
    vec![
        ("TCD", Box::new(tcd(0.3))),
        ("TCD without noise", Box::new(tcd(0.0))),
        ("LCM", Box::new(Lcm::new())),
        ("consistency multistep", Box::new(Multistep::new())),
        ("consistency multistep, ended", Box::new(ended)),
    ]
}
