//! Solvers in the process's own time.

use super::{Row, row};
use langevin::schedulers::flow::{Tempered, TemperedNoise};
use langevin::schedulers::ode::Tableau;
use langevin::schedulers::sde::AnnealedCorrector;
use langevin::schedulers::{AnnealedLangevin, EulerMaruyama, ProbabilityFlow, ReverseDiffusion};

const TIME: &str = "its steps are those of the process's own time";

pub fn rows() -> Vec<Row> {
    let annealed = AnnealedLangevin::new(0.2, 2).expect("settings").denoise_at_end();
    let corrected = AnnealedCorrector::around(ReverseDiffusion::new(), 0.3, 2).expect("settings");
    let plain = Tempered::new(1.0, 0.8).expect("settings");
    let cold = Tempered::new(2.5, 0.8).expect("settings");
    let flow = |name, solver| row(name, solver).beyond_lambda(TIME);
    vec![
        flow("probability flow, Euler", ProbabilityFlow::euler()).path(1.0, (64, 6)),
        flow("probability flow, Heun", ProbabilityFlow::heun()).path(2.0, (32, 6)),
        flow("probability flow, RK4", ProbabilityFlow::rk4()).path(4.0, (16, 6)),
        flow("probability flow, Dormand-Prince", ProbabilityFlow::new(Tableau::dormand_prince())).no_order(
            "its errors are those of rounding before they fall evenly; its tableau has the conditions of order 5 tested",
        ),
        row("reverse diffusion, probability flow", ReverseDiffusion::new().probability_flow())
            .path(1.0, (64, 6))
            .beyond_lambda(TIME),
        row("Euler-Maruyama", EulerMaruyama::new()).weak(1.0, (64, 5)).strong(1.0, (32, 4)).beyond_lambda(TIME),
        row("Euler-Maruyama along a path", EulerMaruyama::new().path())
            .weak(1.0, (64, 5))
            .strong(1.0, (32, 4))
            .beyond_lambda(TIME),
        row("reverse diffusion", ReverseDiffusion::new()).weak(1.0, (64, 5)).strong(1.0, (32, 4)).beyond_lambda(TIME),
        row("annealed Langevin", annealed)
            .own_law("its steps have a fixed length, and do not shrink as levels are added")
            .beyond_lambda("its steps are as long as σ says, not σ/α"),
        row("tempered flow, at the temperature of the data", plain).weak(1.0, (64, 5)),
        row("tempered flow", cold.noise(TemperedNoise::Tangent))
            .own_law("its score is that of colder data, and its samples are theirs"),
        row("reverse diffusion, annealed corrections", corrected)
            .own_law("its corrections have a fixed length, and do not shrink as levels are added")
            .beyond_lambda(TIME),
    ]
}
