//! Solvers in the process's own time.

use super::{Row, row};
use langevin::core::{Grid, Process};
use langevin::schedulers::flow::{Tempered, TemperedNoise};
use langevin::schedulers::ode::Tableau;
use langevin::schedulers::sde::AnnealedCorrector;
use langevin::schedulers::{
    AnnealedLangevin, EulerMaruyama, Plan, PlanError, ProbabilityFlow, ReverseDiffusion, Solver,
};

/// Langevin steps whose length falls as one over the number of levels: all of them together take the same time.
struct Shrinking {
    /// Between those of reverse diffusion.
    corrects: bool,
}

impl Solver for Shrinking {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let steps = grid.stops(process)?.len() as f64;
        if self.corrects {
            let solver = AnnealedCorrector::around(ReverseDiffusion::new(), (0.6 / steps).sqrt(), 2)?;
            return solver.plan(process, grid);
        }
        AnnealedLangevin::new(4.0 / (steps + 1.0), 2)?.plan(process, grid)
    }
}

/// τ(λ) of a flow at the temperature of its data: of `√(2g) dW` in the share of signal `a = α/(α + σ)`, `g = 1/(a + 0.01)`, it
/// is `τ² = g·a/(1 − a)`.
fn inverse(lambda: f64) -> f64 {
    let share = 1.0 / (1.0 + (-lambda).exp());
    (share / ((1.0 - share) * (share + 0.01))).sqrt()
}

const TIME: &str = "its steps are those of the process's own time";

pub fn rows() -> Vec<Row> {
    let annealed = AnnealedLangevin::new(0.8, 2).expect("settings").denoise_at_end();
    let corrected = AnnealedCorrector::around(ReverseDiffusion::new(), 0.3, 2).expect("settings");
    let plain = Tempered::new(1.0, 0.8).expect("settings");
    let cold = Tempered::new(2.5, 0.8).expect("settings");
    let flow = |name, solver| row(name, solver).beyond_lambda(TIME);
    vec![
        flow("probability flow, Euler", ProbabilityFlow::euler()).path(1.0, (64, 6)),
        flow("probability flow, Heun", ProbabilityFlow::heun()).path(2.0, (32, 6)),
        flow("probability flow, RK4", ProbabilityFlow::rk4()).path(4.0, (16, 6)),
        flow("probability flow, Dormand-Prince", ProbabilityFlow::new(Tableau::dormand_prince())).no_order(
            "no four errors for numbers of steps that double are in its asymptotic range and above 1e-11: from 32 to 64 steps, even \
             in λ, slopes are 5.0 to 5.5, as a test shows; its tableau has the conditions of order 5 tested",
        ),
        row("reverse diffusion, probability flow", ReverseDiffusion::new().probability_flow())
            .path(1.0, (64, 6))
            .beyond_lambda(TIME),
        row("Euler-Maruyama", EulerMaruyama::new()).weak(1.0, (64, 5)).strong(1.0, (64, 4)).beyond_lambda(TIME),
        row("Euler-Maruyama along a path", EulerMaruyama::new().path())
            .weak(1.0, (64, 5))
            .strong(1.0, (64, 4))
            .beyond_lambda(TIME),
        row("reverse diffusion", ReverseDiffusion::new()).weak(1.0, (64, 5)).strong(1.0, (64, 4)).beyond_lambda(TIME),
        row("annealed Langevin", annealed)
            .own_law("its steps have a fixed length, and do not shrink as levels are added")
            .weak_itself(1.0, (256, 4))
            .in_lambda()
            .strong_itself(0.0, (64, 4))
            .in_lambda()
            .beyond_lambda("its steps are as long as σ says, not σ/α"),
        row("tempered flow, at the temperature of the data", plain).weak(1.0, (64, 5)).strong_of(inverse, 1.0, (64, 4)),
        row("tempered flow", cold.noise(TemperedNoise::Tangent))
            .own_law("its score is that of colder data, and its samples are theirs")
            .weak_itself(1.0, (256, 4))
            .strong_itself(1.0, (32, 4)),
        row("reverse diffusion, annealed corrections", corrected)
            .own_law("its corrections have a fixed length, and do not shrink as levels are added")
            .weak_itself(1.0, (256, 4))
            .in_lambda()
            .strong_itself(0.0, (16, 4))
            .beyond_lambda(TIME),
        row("annealed Langevin, shrinking", Shrinking { corrects: false })
            .of::<AnnealedLangevin>()
            .own_law("it has as much time, however many its steps")
            .weak_itself(1.0, (32, 4))
            .strong_itself(1.0, (32, 4)),
        row("reverse diffusion, annealed corrections, shrinking", Shrinking { corrects: true })
            .of::<AnnealedCorrector<ReverseDiffusion>>()
            .weak(1.0, (64, 4))
            .strong_itself(1.0, (32, 4))
            .beyond_lambda(TIME),
    ]
}
