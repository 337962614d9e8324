//! Solvers around solvers: jumps and CFG++.

use super::{Row, row};
use langevin::schedulers::exponential::{SecondOrder, Singlestep};
use langevin::schedulers::plus_plus::GuidedAt;
use langevin::schedulers::sigma::Heun;
use langevin::schedulers::{Ddim, Ddpm, DpmSolver, PlusPlus, RePaint, Restart};

pub fn rows() -> Vec<Row> {
    let multi = |order| DpmSolver::multistep(order).expect("an order");
    let line = multi(2).second_order(SecondOrder::Heun);
    let single = |order| Singlestep::new(order).expect("an order");
    let ancestral = PlusPlus::around(single(2).ancestral(1.0).expect("in range"));
    let repaint = RePaint::around(Ddpm::new()).jumps(2, 2).expect("settings");
    vec![
        row("Restart around DDIM", restart(Ddim::new())).weak(1.0, (64, 4)).strong_draws(1.0, (64, 4)).in_lambda(),
        row("Restart around Heun", restart(Heun::new())).weak(2.0, (64, 4)).strong_draws(2.0, (64, 4)).in_lambda(),
        row("Restart around DPM-Solver++ 2M, with steps of its own", own_steps(multi(2)))
            .own_law("the steps of its second interval are two, however many the grid has")
            .weak_itself(2.0, (64, 4))
            .in_lambda()
            .strong_draws(2.0, (64, 4))
            .in_lambda()
            .on_a_chain(),
        row("RePaint around DDPM", repaint)
            .reads_what_is_known()
            .own_law("its law is that of the known sample, which is noised anew, with all the noise of its level, in every step")
            .weak_itself(1.0, (64, 3))
            .in_lambda()
            .strong_itself(0.0, (32, 4))
            .in_lambda(),
        row("DPM-Solver++ 2M, CFG++", PlusPlus::around(multi(2)).guided_at(GuidedAt::Slope))
            .path(2.0, (32, 6))
            .of_two_answers(),
        row("DPM-Solver++ 2M, Heun, CFG++", PlusPlus::around(line).guided_at(GuidedAt::Beginning))
            .path(2.0, (32, 6))
            .of_two_answers(),
        row("DPM-Solver++ 3S, CFG++", PlusPlus::around(single(3))).path(3.0, (32, 5)).of_two_answers(),
        row("DPM-Solver++ 2S ancestral, CFG++", ancestral).weak(2.0, (64, 4)).strong(1.0, (64, 4)).of_two_answers(),
    ]
}

/// Twice up and down again, between levels that are nodes of the grids of the order tests.
fn restart<S>(inner: S) -> Restart<S> {
    Restart::around(inner).interval(1.0, 1f64.exp(), 2).expect("an interval")
}

/// One restart over the grid's own steps, one over others: between nodes of fine grids, and never in the middle between two.
fn own_steps<S>(inner: S) -> Restart<S> {
    let restart = Restart::around(inner).interval((-0.5625f64).exp(), 0.5625f64.exp(), 1).expect("an interval");
    restart.interval_of_steps((-1.4375f64).exp(), 1.0, 1, 2).expect("an interval")
}
