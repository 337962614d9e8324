//! Churn around deterministic solvers.

use super::{Row, row};
use langevin::schedulers::consistency::Tcd;
use langevin::schedulers::exponential::{Basis, SaSolver, Singlestep, Tau, UniPc};
use langevin::schedulers::sigma::{Churn, Churned, ErSde, NoiseScale};
use langevin::schedulers::{Ddim, Deis, DpmSolver, ProbabilityFlow, ReverseDiffusion, Solver, flow};

/// In six steps less than the most that a step takes, √2 − 1 of its level: what it says is what there is.
pub fn churn() -> Churn {
    Churn::new(AMOUNT).expect("in range")
}

/// In six or seven steps more than that.
pub fn most_churn() -> Churn {
    Churn::new(3.0).expect("in range")
}

const AMOUNT: f64 = 2.0;

const TIME: &str = "its steps are those of the process's own time";

/// A solver with churn, of this weak order and strong order 1 to the SDE that this churn is a step of.
fn churned(name: &'static str, solver: impl Solver + 'static, weak: f64, steps: (usize, u32)) -> Row {
    row(name, Churned::new(solver, churn())).weak(weak, steps).strong_churn(AMOUNT, 1.0, (64, 4))
}

/// The same of weak order 2 and so many stages on the grid, before the first of which the state is raised. The numbers of steps
/// are those of the weak order, even in λ and in t.
fn on_grid(name: &'static str, solver: Singlestep, stages: usize, [steps, in_time]: [(usize, u32); 2]) -> Row {
    let row = row(name, Churned::new(solver.on_grid(), churn())).weak(2.0, steps).in_time(in_time);
    row.strong_churned_over(stages, AMOUNT, 1.0, (32 * stages, 4))
}

pub fn rows() -> Vec<Row> {
    let single = |order| Singlestep::new(order).expect("an order");
    let deis = |order| Deis::new(order).expect("an order");
    let multi = DpmSolver::multistep(2).expect("an order");
    let sa = |p, c| SaSolver::new(p, c).and_then(|solver| solver.tau(Tau::Constant(0.0))).expect("settings");
    let er = |order| ErSde::new(order).and_then(|solver| solver.noise(NoiseScale::Power(1.0))).expect("settings");
    let most = Churned::new(single(2), most_churn());
    vec![
        churned("DDIM, churn", Ddim::new(), 1.0, (64, 3)),
        // The same numbers as DDIM.
        churned("TCD without noise, churn", Tcd::new(0.0).expect("in range"), 1.0, (64, 3)),
        churned("probability flow, Heun, churn", ProbabilityFlow::heun(), 2.0, (64, 3)).beyond_lambda(TIME),
        churned("reverse diffusion, probability flow, churn", ReverseDiffusion::new().probability_flow(), 1.0, (64, 4))
            .beyond_lambda(TIME),
        churned("Heun in σ/(α+σ), churn", flow::Heun::new(), 2.0, (64, 3)),
        churned("DPM-Solver++ 2S, churn", single(2), 2.0, (64, 3)),
        // On EDM its errors on the other grid are not in their asymptotic range.
        churned("DPM-Solver++ 3S, churn", single(3), 3.0, (256, 3)),
        row("DPM-Solver++ 2S, churn up to its limit", most).weak(2.0, (64, 3)).strong_churn(3.0, 1.0, (64, 4)),
        on_grid("DPM-Solver++ 2S on the grid, churn", single(2), 2, [(128, 4), (128, 4)]),
        on_grid("DPM-Solver 2S on the grid, churn", single(2).basis(Basis::Noise), 2, [(128, 4), (128, 4)]),
        // Three stages have order 3 where they are thirds of the step, which they are not of one that is raised. On EDM's grid even in
        // t the last steps are as long as their levels for longer.
        on_grid("DPM-Solver++ 3S on the grid, churn", single(3), 3, [(192, 4), (1536, 4)]),
        // They extrapolate across the noise.
        churned("DPM-Solver++ 2M, churn", multi, 1.0, (64, 4)),
        churned("DEIS 2, churn", deis(2), 1.0, (64, 4)),
        churned("DEIS 3, churn", deis(3), 1.0, (64, 4)),
        churned("ER-SDE 1 without noise, churn", er(1), 1.0, (64, 4)),
        churned("ER-SDE 2 without noise, churn", er(2), 1.0, (64, 4)),
        churned("ER-SDE 3 without noise, churn", er(3), 1.0, (64, 4)),
        churned("SA-Solver 3 without noise, no corrector, churn", sa(3, 0), 1.0, (64, 4)).in_time((256, 4)),
        // And are corrected by answers from behind it.
        churned("UniPC-2, churn", UniPc::new(2).expect("an order"), 1.0, (64, 4)),
        churned("SA-Solver without noise, churn", sa(3, 2), 1.0, (64, 4)).in_time((256, 4)),
        churned("SA-Solver without noise, evaluated again, churn", sa(3, 2).evaluate_again(), 1.0, (64, 4))
            .in_time((256, 4)),
    ]
}
