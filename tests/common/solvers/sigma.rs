//! Solvers in σ/α, or in σ/(α+σ).

use super::{Row, churn, row};
use langevin::core::Prediction;
use langevin::schedulers::flow;
use langevin::schedulers::sigma::{Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Ipndm, Lms, Pndm};

pub fn rows() -> Vec<Row> {
    let lms = |order| Lms::new(order).expect("in range");
    let late = Euler::new().churn(churn()).churn_after_asking(Prediction::Velocity);
    let loud = EulerAncestral::new().eta(1.2).and_then(|solver| solver.noise(0.98)).expect("in range");
    vec![
        row("Euler in σ/α", Euler::new()).path(1.0, (64, 6)),
        row("Euler in σ/α, churn", Euler::new().churn(churn())).weak(1.0, (64, 4)),
        row("Euler in σ/α, late churn", late),
        row("Euler ancestral", EulerAncestral::new()).weak(1.0, (64, 4)).strong(1.0, (32, 4)),
        row("Euler ancestral, η = 0.5", EulerAncestral::new().eta(0.5).expect("in range")).weak(1.0, (64, 4)),
        row("Euler ancestral, η = 1.2", loud).own_law("of its noise a fiftieth is left out").on_a_chain(),
        row("Heun in σ/α", Heun::new()).path(2.0, (32, 6)).upwards(2.0, (32, 6)),
        row("Heun in σ/α, churn", Heun::new().churn(churn())).weak(2.0, (64, 4)).on_a_chain(),
        row("Heun in σ/(α+σ)", flow::Heun::new()).path(2.0, (32, 6)).upwards(2.0, (32, 6)),
        row("DPM2", Dpm2::new()).path(2.0, (32, 6)),
        row("DPM2, churn", Dpm2::new().churn(churn())).weak(2.0, (64, 4)),
        row("DPM2 ancestral", Dpm2Ancestral::new()).weak(2.0, (64, 4)).on_a_chain(),
        // From order 2 on, the first step of order 1 limits the whole to order 2.
        row("LMS of order 1", lms(1)).path(1.0, (64, 6)),
        row("LMS of order 2", lms(2)).path(2.0, (64, 6)).finely_started(2.0, (64, 5)),
        row("LMS of order 3", lms(3)).path(2.0, (256, 6)).finely_started(3.0, (64, 5)),
        row("LMS of order 4", lms(4)).path(2.0, (128, 6)).finely_started(4.0, (64, 5)),
        row("LMS of order 2, churn", lms(2).churn(churn())).weak(1.0, (64, 4)),
        row("PNDM, trapezoidal start", Pndm::new()).path(2.0, (128, 6)).on_a_chain(),
        row("PNDM, Runge-Kutta start", Pndm::runge_kutta())
            .path(2.0, (128, 6))
            .beyond_lambda("its inner stages lie half-way in the process's time"),
        row("PNDM, outputs", Pndm::new().combining_outputs(Prediction::Velocity))
            .beyond_lambda("it mixes velocities, which depend on α and σ"),
        row("PNDM, churn", Pndm::new().churn(churn())).weak(1.0, (64, 4)),
        row("iPNDM", Ipndm::new()).path(2.0, (128, 6)),
        row("iPNDM, churn", Ipndm::new().churn(churn())).weak(1.0, (64, 4)),
    ]
}
