//! Solvers in σ/α, or in σ/(α+σ).

use super::churned::{churn, most_churn};
use super::{Row, row};
use langevin::core::Prediction;
use langevin::schedulers::flow;
use langevin::schedulers::sigma::{
    AncestralSplit, Dpm2, Dpm2Ancestral, ErSde, Euler, EulerAncestral, GradientEstimation, Heun, HeunPp, Ipndm, Lms,
    NoiseScale, Pndm,
};

pub fn rows() -> Vec<Row> {
    let lms = |order| Lms::new(order).expect("in range");
    let er = |order, noise| ErSde::new(order).and_then(|solver| solver.noise(noise)).expect("settings");
    let late = Euler::new().churn(churn()).churn_after_asking(Prediction::Velocity);
    let loud = EulerAncestral::new().eta(1.2).and_then(|solver| solver.noise(0.98)).expect("in range");
    // Its η is the square of the noise's strength.
    let share = |eta| EulerAncestral::new().eta(eta).expect("in range").split(AncestralSplit::Share);
    let middle = |eta| Dpm2Ancestral::new().eta(eta).expect("in range").split(AncestralSplit::Share);
    vec![
        row("Euler in σ/α", Euler::new()).path(1.0, (64, 6)),
        row("Euler in σ/α, churn", Euler::new().churn(churn())).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("Euler in σ/α, churn up to its limit", Euler::new().churn(most_churn())).weak(1.0, (64, 4)).strong_churn(
            3.0,
            1.0,
            (64, 4),
        ),
        row("Euler in σ/α, late churn", late).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("Euler ancestral", EulerAncestral::new()).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("Euler ancestral, η = 0.5", EulerAncestral::new().eta(0.5).expect("in range"))
            .weak(1.0, (64, 4))
            .strong_at(0.5, 1.0, (64, 4)),
        row("Euler ancestral, η = 1.2", loud)
            .own_law("of its noise a fiftieth is left out")
            .of_less_noise(1.2, 0.98)
            .on_a_chain(),
        row("Euler ancestral, split in σ/(α+σ)", share(1.0)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("Euler ancestral, split in σ/(α+σ), η = 0.5", share(0.5)).weak(1.0, (64, 4)).strong_at(
            0.5f64.sqrt(),
            1.0,
            (64, 4),
        ),
        row("Heun in σ/α", Heun::new()).path(2.0, (32, 6)).upwards(2.0, (32, 6)),
        row("Heun in σ/α, churn", Heun::new().churn(churn()))
            .weak(2.0, (64, 4))
            .strong_churn(2.0, 1.0, (64, 4))
            .on_a_chain(),
        row("Heun in σ/α, churn up to its limit", Heun::new().churn(most_churn())).weak(2.0, (64, 4)).strong_churn(
            3.0,
            1.0,
            (64, 4),
        ),
        row("Heun in σ/(α+σ)", flow::Heun::new()).path(2.0, (32, 6)).upwards(2.0, (32, 6)),
        row("DPM2", Dpm2::new()).path(2.0, (32, 6)),
        row("DPM2, churn", Dpm2::new().churn(churn())).weak(2.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("DPM2 ancestral", Dpm2Ancestral::new()).weak(2.0, (64, 4)).strong(1.0, (64, 4)).on_a_chain(),
        row("DPM2 ancestral, η = 0.5", Dpm2Ancestral::new().eta(0.5).expect("in range")).weak(2.0, (64, 4)).strong_at(
            0.5,
            1.0,
            (64, 4),
        ),
        // On EDM its errors on the other grid are not in their asymptotic range.
        row("DPM2 ancestral in σ/(α+σ)", middle(1.0)).weak(2.0, (256, 4)).strong(1.0, (64, 4)),
        row("DPM2 ancestral in σ/(α+σ), η = 0.5", middle(0.5)).weak(2.0, (64, 4)).strong_at(
            0.5f64.sqrt(),
            1.0,
            (64, 4),
        ),
        row("Heun++", HeunPp::new()).path(1.0, (64, 6)),
        row("Heun++, churn", HeunPp::new().churn(churn())).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("gradient estimation", GradientEstimation::new()).path(1.0, (64, 6)).started(1, 1.0, (64, 6)),
        row("gradient estimation, γ = 1.3", GradientEstimation::new().gamma(1.3).expect("in range"))
            .path(1.0, (64, 6))
            .started(1, 1.0, (64, 6)),
        row("gradient estimation, churn", GradientEstimation::new().churn(churn())).weak(1.0, (64, 4)).strong_churn(
            2.0,
            1.0,
            (64, 4),
        ),
        row("ER-SDE 1", er(1, NoiseScale::Exponential)).weak(1.0, (64, 4)).strong_of(published, 1.0, (64, 4)),
        row("ER-SDE 2", er(2, NoiseScale::Exponential)).weak(2.0, (64, 4)).strong_of(published, 1.0, (64, 4)),
        row("ER-SDE 3", er(3, NoiseScale::Exponential)).weak(2.0, (64, 4)).strong_of(published, 1.0, (64, 4)),
        row("ER-SDE 1 of the reverse SDE", er(1, NoiseScale::Power(2.0))).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("ER-SDE 2 of the reverse SDE", er(2, NoiseScale::Power(2.0)))
            .weak(2.0, (64, 4))
            .strong(1.0, (64, 4))
            .in_time((256, 4)),
        row("ER-SDE 3 of the reverse SDE", er(3, NoiseScale::Power(2.0)))
            .weak(2.0, (64, 4))
            .strong(1.0, (64, 4))
            .in_time((256, 4)),
        row("ER-SDE 2 without noise", er(2, NoiseScale::Power(1.0))).path(2.0, (32, 6)).started(1, 2.0, (32, 6)),
        row("ER-SDE 3 without noise", er(3, NoiseScale::Power(1.0))).path(2.0, (32, 6)).started(2, 2.0, (32, 6)),
        // From order 2 on, the first step of order 1 limits the whole to order 2.
        row("LMS of order 1", lms(1)).path(1.0, (64, 6)),
        row("LMS of order 2", lms(2)).path(2.0, (64, 6)).started(1, 2.0, (32, 6)).finely_started(2.0, (64, 5)),
        row("LMS of order 3", lms(3))
            .path(2.0, (256, 6))
            .even_in_sigma(3.0)
            .started(2, 3.0, (32, 7))
            .finely_started(3.0, (64, 5)),
        row("LMS of order 4", lms(4))
            .path(2.0, (128, 6))
            .in_time((128, 7))
            .started(3, 4.0, (32, 8))
            .finely_started(4.0, (64, 5)),
        row("LMS of order 2, churn", lms(2).churn(churn())).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("PNDM, trapezoidal start", Pndm::new()).path(2.0, (128, 6)).even_in_sigma(4.0).on_a_chain(),
        row("PNDM, Runge-Kutta start", Pndm::runge_kutta())
            .path(2.0, (128, 6))
            .even_in_sigma(4.0)
            .beyond_lambda("its inner stages lie half-way in the process's time"),
        row("PNDM, outputs", Pndm::new().combining_outputs(Prediction::Velocity))
            .path(1.0, (64, 6))
            .beyond_lambda("it mixes velocities, which depend on α and σ"),
        row("PNDM, outputs, Runge-Kutta start", Pndm::runge_kutta().combining_outputs(Prediction::Velocity))
            .path(1.0, (64, 6))
            .beyond_lambda("it mixes velocities, which depend on α and σ"),
        row("PNDM, churn", Pndm::new().churn(churn())).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
        row("iPNDM", Ipndm::new()).path(2.0, (128, 6)).in_time((128, 7)).started(3, 2.0, (32, 7)).even_in_sigma(4.0),
        // In a step from pure noise α·x̂_0 is left out, which is of the size h.
        row("iPNDM, blank start", Ipndm::new().blank_start())
            .path(2.0, (128, 6))
            .in_time((128, 7))
            .begun_in_noise(1.0, (64, 6))
            .out_of_pure_noise(),
        row("iPNDM, churn", Ipndm::new().churn(churn())).weak(1.0, (64, 4)).strong_churn(2.0, 1.0, (64, 4)),
    ]
}

/// τ(λ) of ER-SDE's own noise: with `φ(s) = s·(e^(s^0.3) + 10)` it is `τ² = s·φ'/φ − 1` at `s = e^−λ`.
fn published(lambda: f64) -> f64 {
    let power = (-0.3 * lambda).exp();
    (0.3 * power * power.exp() / (power.exp() + 10.0)).sqrt()
}
