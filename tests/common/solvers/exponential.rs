//! Exponential integrators.

use super::{Row, row};
use langevin::core::{Grid, Process};
use langevin::schedulers::exponential::{
    Basis, DpmSolverSde, SaSolver, SecondOrder, Singlestep, Tau, ThirdOrder, UniB, UniC, UniPc,
};
use langevin::schedulers::sigma::{AncestralSplit, ErSde, GradientEstimation, Heun, Ipndm, Lms, NoiseScale, Pndm};
use langevin::schedulers::{Ddim, Deis, DpmSolver, Plan, PlanError, ProbabilityFlow, Solver};

/// DPM-Solver-fast with as many evaluations as give it the steps of its grid: orders 3, 3, …, 2, 1.
struct Fast {
    eta: f64,
    tau: Option<Tau>,
}

impl Solver for Fast {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let steps = grid.stops(process)?.len();
        let solver = Singlestep::fast(3 * (steps - 1))?;
        match &self.tau {
            Some(tau) => solver.tau(tau.clone())?.plan(process, grid),
            None => solver.ancestral(self.eta)?.plan(process, grid),
        }
    }
}

fn multi(order: usize) -> DpmSolver {
    DpmSolver::multistep(order).expect("an order")
}

fn single(order: usize) -> Singlestep {
    Singlestep::new(order).expect("an order")
}

/// Both answers of a step at its ends.
fn ends() -> Singlestep {
    single(2).last_stage(SecondOrder::Heun).midpoint(1.0).expect("a share")
}

fn unipc(order: usize) -> UniPc {
    UniPc::new(order).expect("an order")
}

fn deis(order: usize) -> Deis {
    Deis::new(order).expect("an order")
}

fn lms(order: usize) -> Lms {
    Lms::new(order).expect("in range")
}

fn behind<S>(solver: S, order: usize) -> UniC<S> {
    UniC::behind(solver, order).expect("an order")
}

/// Without noise. Multistep solvers of order 3 and more have, as they are, a first step of order 1, and so the whole has
/// order 2. On EDM's grid even in t first steps are short, and their error is small beside the others for any number of steps that can
/// be measured: solvers of order 3 have that order there, and where errors come to the floor of `f64` while the one takes over
/// from the other the claim is for the grid that is even in λ alone.
pub fn rows() -> Vec<Row> {
    let still = ErSde::new(2).and_then(|solver| solver.noise(NoiseScale::Power(1.0))).expect("settings");
    let sa = |p, c| SaSolver::new(p, c).and_then(|solver| solver.tau(Tau::Constant(0.0))).expect("settings");
    let quiet = sa(3, 2);
    let twice = quiet.clone().evaluate_again();
    let early = single(2).midpoint(0.3).expect("a share");
    let halved = multi(3).third_order(ThirdOrder::Half);
    let lower = || single(3).on_grid().lower_order_final(true);
    vec![
        row("DPM-Solver++ 1M", multi(1)).path(1.0, (64, 6)),
        row("DPM-Solver++ 2M", multi(2)).path(2.0, (32, 6)).upwards(2.0, (32, 6)).started(1, 2.0, (32, 6)),
        row("DPM-Solver++ 2M, Heun", multi(2).second_order(SecondOrder::Heun))
            .path(2.0, (32, 6))
            .upwards(2.0, (32, 6))
            .started(1, 2.0, (64, 6)),
        row("DPM-Solver++ 2M, last step of order 1", multi(2).euler_at_final(true)).path(2.0, (32, 6)).started(
            1,
            2.0,
            (64, 6),
        ),
        row("DPM-Solver++ 3M", multi(3)).path(2.0, (32, 6)).in_time((64, 8)).even_in_sigma(3.0).started(
            2,
            3.0,
            (32, 6),
        ),
        // Its error constant is small where the first steps are.
        row("DPM-Solver++ 3M, published", halved.clone())
            .path(2.0, (32, 6))
            .in_time((512, 5))
            .started(2, 2.0, (64, 6))
            .in_time((512, 5)),
        row("DPM-Solver++ 3M, published, lower at the ends", halved.clone().lower_order_below(15))
            .path(2.0, (32, 6))
            .in_time((512, 5))
            .started(2, 2.0, (64, 6))
            .in_time((512, 5)),
        row("DPM-Solver 1M", multi(1).basis(Basis::Noise)).path(1.0, (64, 6)),
        row("DPM-Solver 2M, Heun", multi(2).basis(Basis::Noise).second_order(SecondOrder::Heun))
            .path(2.0, (32, 6))
            .started(1, 2.0, (32, 6)),
        row("DPM-Solver 2M", multi(2).basis(Basis::Noise)).path(2.0, (32, 6)).upwards(2.0, (32, 6)).started(
            1,
            2.0,
            (32, 6),
        ),
        row("DPM-Solver 3M", multi(3).basis(Basis::Noise))
            .path(2.0, (32, 6))
            .in_time((64, 8))
            .even_in_sigma(3.0)
            .started(2, 3.0, (32, 6)),
        row("DPM-Solver 3M, published", halved.basis(Basis::Noise))
            .path(2.0, (32, 6))
            .in_time((512, 5))
            .started(2, 2.0, (32, 6))
            .in_time((512, 5)),
        row("DEIS 1", deis(1)).path(1.0, (64, 6)),
        row("DEIS 2", deis(2)).path(2.0, (32, 6)).upwards(2.0, (32, 6)).started(1, 2.0, (32, 6)),
        row("DEIS 3", deis(3)).path(2.0, (32, 6)).in_time((64, 8)).even_in_sigma(3.0).started(2, 3.0, (32, 6)),
        row("DEIS 4", deis(4)).path(2.0, (32, 6)).in_lambda().started(3, 4.0, (32, 6)),
        row("DEIS 3 in x̂_0", deis(3).basis(Basis::Data))
            .path(2.0, (32, 6))
            .in_time((64, 8))
            .even_in_sigma(3.0)
            .started(2, 3.0, (32, 6)),
        row("DEIS 4 in x̂_0", deis(4).basis(Basis::Data)).path(2.0, (32, 6)).in_lambda().started(3, 4.0, (32, 6)),
        row("UniPC-1", unipc(1)).path(2.0, (64, 6)).upwards(2.0, (32, 6)).started(0, 2.0, (32, 6)),
        row("UniPC-1 in ε̂", unipc(1).basis(Basis::Noise)).path(2.0, (64, 6)).upwards(2.0, (32, 6)).started(
            0,
            2.0,
            (64, 6),
        ),
        // As it is, the first correction leaves an error of order 3.
        row("UniPC-3 in ε̂", unipc(3).basis(Basis::Noise)).path(3.0, (64, 5)).in_lambda().started(2, 4.0, (32, 7)),
        row("UniPC-2", unipc(2)).path(3.0, (32, 6)).started(1, 3.0, (32, 6)),
        row("UniPC-2, linear", unipc(2).b(UniB::Linear)).path(3.0, (32, 7)).started(1, 3.0, (32, 6)),
        row("UniPC-3", unipc(3)).started(2, 4.0, (32, 6)),
        // Three doublings of it are just what `f64` resolves above the floor.
        row("UniPC-4 in ε̂", unipc(4).basis(Basis::Noise))
            .path(3.0, (32, 6))
            .in_lambda()
            .started(3, 5.0, (16, 6))
            .in_lambda(),
        row("UniPC-3, linear", unipc(3).b(UniB::Linear).lower_order_final(true)).path(2.0, (32, 6)).started(
            2,
            2.0,
            (64, 6),
        ),
        row("UniPC-2 in ε̂", unipc(2).basis(Basis::Noise).skipping([0]))
            .path(2.0, (32, 6))
            .in_time((64, 8))
            .even_in_sigma(3.0)
            .started(1, 3.0, (32, 7)),
        row("UniPC-2 in ε̂, all steps corrected", unipc(2).basis(Basis::Noise)).path(3.0, (32, 6)).started(
            1,
            3.0,
            (32, 6),
        ),
        row("UniPC-1, linear", unipc(1).b(UniB::Linear)).path(2.0, (64, 6)).started(0, 2.0, (32, 6)),
        row("UniPC-3, linear, whole order at the end", unipc(3).b(UniB::Linear)).started(2, 4.0, (32, 6)),
        // Order 4: once started, errors fall as the power 5.3 of h still where they come to the floor of `f64`. What the first
        // correction leaves has order 3, and is the larger one upwards; with the other B(h) downwards, too.
        row("UniPC-4", unipc(4)).upwards(3.0, (16, 7)),
        row("UniPC-4, linear", unipc(4).b(UniB::Linear)).path(3.0, (16, 7)).in_lambda(),
        // As they ship: the last step has order 1, nothing corrects it, and its local error has order 2.
        row("UniPC-2, lower at the end", unipc(2).lower_order_final(true)).path(2.0, (32, 6)).started(1, 2.0, (64, 6)),
        row("UniPC-3, lower at the end", unipc(3).lower_order_final(true)).path(2.0, (32, 6)).started(2, 2.0, (64, 6)),
        row("UniPC-4, lower at the end", unipc(4).lower_order_final(true)).path(2.0, (32, 6)).started(3, 2.0, (64, 6)),
        row("UniC-1 behind DDIM", UniC::behind(Ddim::new(), 1).expect("an order")).path(2.0, (64, 6)).started(
            0,
            2.0,
            (32, 6),
        ),
        // Behind solvers with stages: of a corrector of order p and a solver of order q, order min(p, q) + 1.
        row("UniC-1 behind DPM-Solver++ 2S", behind(single(2), 1)).path(2.0, (32, 6)),
        row("UniC-2 behind DPM-Solver++ 2S", behind(single(2), 2)).path(3.0, (64, 6)).upwards(3.0, (64, 6)),
        row("UniC-2 behind DPM-Solver 2S, in ε̂", behind(single(2).basis(Basis::Noise), 2).basis(Basis::Noise))
            .path(3.0, (64, 6)),
        row("UniC-3 behind DPM-Solver++ 3S", behind(single(3), 3).skipping([0])).path(4.0, (32, 7)),
        row("UniC-2 behind Heun in σ/α", behind(Heun::new(), 2)).path(3.0, (64, 6)),
        row("UniC-2 behind probability flow, Heun", behind(ProbabilityFlow::heun(), 2))
            .path(3.0, (64, 6))
            .beyond_lambda("its stages are those of the process's own time"),
        // Behind multistep solvers: the same, once they are started. As they are, the first correction has order 1 and a local
        // error of order 3: the whole has order 3 at most. Of order 3 and more that error is too small beside the others to
        // be measured. On the other grid some come to the floor of `f64` before their errors fall evenly.
        row("UniC-1 behind gradient estimation", behind(GradientEstimation::new(), 1)).path(2.0, (32, 6)).started(
            1,
            2.0,
            (32, 6),
        ),
        row("UniC-1 behind DPM-Solver++ 2M", behind(multi(2), 1))
            .path(2.0, (32, 6))
            .in_time((512, 5))
            .started(1, 2.0, (32, 6))
            .in_time((512, 5)),
        row("UniC-2 behind DPM-Solver++ 2M", behind(multi(2), 2)).path(3.0, (32, 6)).started(1, 3.0, (32, 6)),
        row("UniC-3 behind DPM-Solver++ 3M", behind(multi(3), 3)).started(2, 4.0, (32, 6)),
        row("UniC-2 behind DPM-Solver 2M, in ε̂", behind(multi(2).basis(Basis::Noise), 2).basis(Basis::Noise))
            .path(3.0, (32, 6))
            .started(1, 3.0, (32, 6)),
        row("UniC-2 behind DEIS 2, in ε̂", behind(deis(2), 2).basis(Basis::Noise)).path(3.0, (32, 6)).started(
            1,
            3.0,
            (32, 6),
        ),
        row("UniC-3 behind DEIS 3", behind(deis(3), 3)).started(2, 4.0, (32, 6)).in_time((32, 8)),
        row("UniC-4 behind DEIS 4, in ε̂", behind(deis(4), 4).basis(Basis::Noise))
            .path(3.0, (32, 6))
            .in_lambda()
            .started(3, 5.0, (16, 6))
            .in_lambda(),
        row("UniC-2 behind LMS of order 2", behind(lms(2), 2)).path(3.0, (32, 6)).started(1, 3.0, (32, 6)),
        row("UniC-3 behind LMS of order 3", behind(lms(3), 3)).started(2, 4.0, (32, 6)).in_lambda(),
        row("UniC-4 behind LMS of order 4", behind(lms(4), 4)).started(3, 5.0, (16, 6)).in_lambda(),
        // Constant weights: order 2, whatever the polynomial behind them.
        row("UniC-3 behind iPNDM", behind(Ipndm::new(), 3))
            .path(3.0, (32, 6))
            .in_time((32, 8))
            .even_in_sigma(4.0)
            .started(3, 3.0, (32, 6))
            .in_time((32, 8))
            .even_in_sigma(4.0),
        row("UniC-2 behind PNDM, trapezoidal start", behind(Pndm::new(), 2)).path(3.0, (64, 6)),
        // As it is, its errors on a Gaussian come to the floor of `f64` before they fall evenly.
        row("UniC-2 behind ER-SDE 2 without noise", behind(still, 2)).started(1, 3.0, (32, 6)),
        row("SA-Solver without noise", quiet).path(2.0, (32, 6)).started(2, 2.0, (64, 6)),
        row("SA-Solver without noise, evaluated again", twice).path(2.0, (32, 6)),
        // Through q answers the corrected state has order q, and at most that of the predictor and one more. As they are, the first
        // step leaves an error of order 2, and corrected one of order 3, which on a Gaussian comes to the floor of `f64` before it is
        // the larger one beside others of order 3 and 4. Once started, with four answers in both, an error of order 5 and one of 4
        // cancel where they come to that floor.
        row("SA-Solver 3 without noise, no corrector", sa(3, 0))
            .path(2.0, (32, 6))
            .in_time((64, 8))
            .even_in_sigma(3.0)
            .started(2, 3.0, (32, 6)),
        row("SA-Solver 3 without noise, corrector 3", sa(3, 3)).started(2, 3.0, (32, 6)).in_lambda(),
        row("SA-Solver 3 without noise, corrector 4", sa(3, 4)).started(2, 4.0, (32, 6)),
        row("SA-Solver 4 without noise, no corrector", sa(4, 0)).path(2.0, (32, 6)).in_lambda().started(
            3,
            4.0,
            (32, 6),
        ),
        row("SA-Solver 4 without noise, corrector 4", sa(4, 4)).path(3.0, (32, 6)).in_lambda(),
        row("Heun in λ", ends()).path(2.0, (32, 6)).upwards(2.0, (32, 6)),
        row("Heun in λ, in ε̂", ends().basis(Basis::Noise)).path(2.0, (32, 6)),
        row("DPM-Solver++ 1S", single(1)).path(1.0, (64, 6)),
        row("DPM-Solver 1S", single(1).basis(Basis::Noise)).path(1.0, (64, 6)),
        row("DPM-Solver++ 2S, r = 0.3", early).path(2.0, (16, 6)),
        row("DPM-Solver++ 2S", single(2)).path(2.0, (16, 6)).upwards(2.0, (32, 6)),
        row("DPM-Solver++ 2S, Heun", single(2).last_stage(SecondOrder::Heun)).path(2.0, (16, 6)),
        row("DPM-Solver++ 3S", single(3)).path(3.0, (32, 5)).upwards(3.0, (32, 5)),
        row("DPM-Solver++ 3S, whole polynomial", single(3).last_stage(SecondOrder::Heun)).path(3.0, (32, 5)),
        row("DPM-Solver 2S", single(2).basis(Basis::Noise)).path(2.0, (16, 6)),
        row("DPM-Solver 2S, Heun", single(2).basis(Basis::Noise).last_stage(SecondOrder::Heun)).path(2.0, (16, 6)),
        row("DPM-Solver 3S", single(3).basis(Basis::Noise)).path(3.0, (32, 5)),
        row("DPM-Solver 3S, whole polynomial", single(3).basis(Basis::Noise).last_stage(SecondOrder::Heun))
            .path(3.0, (32, 5)),
        // Its last step has order 1, and its local error order 2.
        row("DPM-Solver-fast", Fast { eta: 0.0, tau: None }).of::<Singlestep>().path(2.0, (128, 6)),
        row("DPM-Solver++ 2S on the grid", single(2).on_grid()).path(2.0, (32, 6)),
        row("DPM-Solver++ 2S on the grid, Heun", single(2).on_grid().last_stage(SecondOrder::Heun)).path(2.0, (64, 6)),
        row("DPM-Solver 2S on the grid", single(2).basis(Basis::Noise).on_grid()).path(2.0, (32, 6)),
        row("DPM-Solver 2S on the grid, Heun", single(2).basis(Basis::Noise).on_grid().last_stage(SecondOrder::Heun))
            .path(2.0, (64, 6)),
        // Whole steps for every number of steps, and at the end one of order 1.
        row("DPM-Solver++ 3S on the grid", lower()).path(2.0, (48, 6)),
        row("DPM-Solver++ 3S on the grid, whole polynomial", lower().last_stage(SecondOrder::Heun)).path(2.0, (48, 6)),
        row("DPM-Solver 3S on the grid", lower().basis(Basis::Noise)).path(2.0, (96, 6)),
        row("DPM-Solver 3S on the grid, whole polynomial", lower().basis(Basis::Noise).last_stage(SecondOrder::Heun))
            .path(2.0, (96, 6)),
        // And without that one.
        row("DPM-Solver++ 3S on the grid, whole order at the end", single(3).on_grid()).path(3.0, (48, 5)),
        row("DPM-Solver 3S on the grid, whole order at the end", single(3).basis(Basis::Noise).on_grid())
            .path(3.0, (48, 5)),
    ]
}

/// A strength of noise that changes along the way: 0.3, 1.1 and 0.5 at λ = −2, 0 and 2, and linear between.
fn bent(lambda: f64) -> f64 {
    1.1 - if lambda < 0.0 { -0.4 * lambda } else { 0.3 * lambda }
}

/// With noise.
pub fn noisy() -> Vec<Row> {
    let sde = |order, eta| DpmSolver::multistep(order).and_then(|s| s.sde(eta)).expect("settings");
    let sa = |p, c| SaSolver::new(p, c).expect("orders");
    let seeds = |order, eta| Singlestep::new(order).and_then(|s| s.sde(eta)).expect("settings");
    let seeds_in_noise = seeds(2, 1.0).basis(Basis::Noise);
    let in_noise = |order| sde(order, 1.0).basis(Basis::Noise);
    // What `dpmpp_3m_sde` builds.
    let named = sde(3, 1.0).second_order(SecondOrder::Heun).third_order(ThirdOrder::Half).path();
    let even = || Tau::Constant(0.7);
    let ancestral = |order, eta| Singlestep::new(order).and_then(|s| s.ancestral(eta)).expect("settings");
    let less = ancestral(2, 0.5).ancestral_split(AncestralSplit::Share).noise_scale(0.98).expect("settings");
    let down = |eta| multi(2).second_order(SecondOrder::Heun).ancestral(eta).expect("in range");
    let tau = || Tau::OfLambda(vec![(-2.0, bent(-2.0)), (0.0, bent(0.0)), (2.0, bent(2.0))]);
    let on_grid = |eta| single(2).on_grid().sde(eta).expect("in range");
    let thirds = |eta| single(3).on_grid().sde(eta).expect("in range");
    let unip = unipc(2).without_corrector().tau(tau()).expect("settings");
    let third = DpmSolverSde::new().midpoint(1.0 / 3.0).and_then(|s| s.eta(0.6)).expect("settings");
    vec![
        row("DPM-Solver++ SDE", DpmSolverSde::new()).weak(2.0, (64, 4)).strong(1.0, (128, 4)),
        row("DPM-Solver++ SDE, r = 1/3, η = 0.6", third.clone()).weak(2.0, (64, 4)).strong_at(0.6, 1.0, (64, 4)),
        row("DPM-Solver++ SDE, less noise", third.noise(0.98).expect("settings"))
            .own_law("of its noise a fiftieth is left out")
            .of_less_noise(0.6, 0.98),
        row("DPM-Solver++ SDE, τ of λ", DpmSolverSde::new().tau(tau()).expect("a strength"))
            .weak(2.0, (64, 3))
            .strong_of(bent, 1.0, (64, 4)),
        // On EDM the errors of singlestep solvers with noise on the other grid are not in their asymptotic range: its last
        // steps are as long as their levels.
        row("DPM-Solver++ 2S SDE on the grid", on_grid(1.0)).weak(2.0, (1024, 4)).strong(1.0, (128, 4)),
        row("DPM-Solver++ 2S SDE on the grid, η = 0.5", on_grid(0.5)).weak(2.0, (1024, 4)).strong_at(
            0.5f64.sqrt(),
            1.0,
            (64, 4),
        ),
        // How the noise of a stage acts on the step is left out.
        row("DPM-Solver++ 2S SDE on the grid, as diffusers", on_grid(1.0).compat_diffusers())
            .weak(1.0, (1024, 4))
            .strong_apart(2, 1.0, (64, 4))
            .in_time((256, 4)),
        row("DPM-Solver 2S SDE on the grid", on_grid(1.0).basis(Basis::Noise))
            .weak(2.0, (1024, 4))
            .strong(1.0, (64, 4)),
        row("DPM-Solver 2S SDE on the grid, as diffusers", on_grid(1.0).basis(Basis::Noise).compat_diffusers())
            .weak(1.0, (1024, 4))
            .strong_apart(2, 1.0, (64, 4)),
        row("DPM-Solver++ 3S SDE on the grid", thirds(1.0)).weak(2.0, (768, 4)).strong(1.0, (96, 4)),
        row("DPM-Solver++ 3S SDE on the grid, η = 0.5", thirds(0.5))
            .weak(2.0, (768, 4))
            .strong_at(0.5f64.sqrt(), 1.0, (96, 4))
            .in_time((384, 4)),
        row("DPM-Solver++ 3S SDE on the grid, whole polynomial", thirds(1.0).last_stage(SecondOrder::Heun))
            .weak(2.0, (768, 4))
            .strong(1.0, (96, 4)),
        row("DPM-Solver++ 3S SDE on the grid, lower at the end", thirds(1.0).lower_order_final(true))
            .weak(2.0, (768, 4))
            .in_time((6144, 4))
            .strong(1.0, (96, 4)),
        row("DPM-Solver++ 3S SDE on the grid, τ of λ", single(3).on_grid().tau(tau()).expect("a strength"))
            .weak(2.0, (768, 4))
            .strong_of(bent, 1.0, (96, 4))
            .in_time((384, 4)),
        row("DPM-Solver 3S SDE on the grid", thirds(1.0).basis(Basis::Noise)).weak(2.0, (768, 4)).strong(1.0, (96, 4)),
        row("DPM-Solver++ 3S SDE on the grid, drawn anew", thirds(1.0).compat_diffusers())
            .weak(1.0, (768, 4))
            .strong_apart(3, 1.0, (96, 4))
            .in_time((384, 4)),
        row("DPM-Solver++ 2S ancestral", ancestral(2, 1.0)).weak(2.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver++ 2S ancestral, η = 0.5", ancestral(2, 0.5)).weak(2.0, (64, 4)).strong_at(0.5, 1.0, (64, 4)),
        row("DPM-Solver++ 2S ancestral, split in σ/(α+σ)", ancestral(2, 1.0).ancestral_split(AncestralSplit::Share))
            .weak(2.0, (64, 4))
            .strong(1.0, (64, 4)),
        row("DPM-Solver++ 2S ancestral, split in σ/(α+σ), less noise", less)
            .own_law("of its noise a fiftieth is left out")
            .of_less_noise(0.5f64.sqrt(), 0.98),
        // On EDM their errors on the other grid come to their asymptotic range late, as some below do.
        row("DPM-Solver++ 3S ancestral", ancestral(3, 1.0)).weak(3.0, (64, 4)).in_time((64, 8)).strong(1.0, (64, 4)),
        row("DPM-Solver++ 3S ancestral, η = 0.5", ancestral(3, 0.5)).weak(3.0, (64, 4)).in_time((64, 8)).strong_at(
            0.5,
            1.0,
            (64, 4),
        ),
        row("DPM-Solver++ 2S SDE", seeds(2, 1.0)).weak(2.0, (64, 4)).strong(1.0, (128, 4)),
        row("DPM-Solver++ 2S SDE, η = 0.5", seeds(2, 0.5)).weak(2.0, (64, 4)).strong_at(0.5f64.sqrt(), 1.0, (64, 4)),
        row("Heun in λ, SDE", ends().sde(1.0).expect("in range")).weak(2.0, (64, 4)).strong(1.0, (64, 4)),
        row("Heun in λ, SDE, η = 0.5", ends().sde(0.5).expect("in range")).weak(2.0, (64, 4)).strong_at(
            0.5f64.sqrt(),
            1.0,
            (64, 4),
        ),
        row("DPM-Solver++ 3S SDE", seeds(3, 1.0)).weak(2.0, (1024, 4)).strong(1.0, (128, 4)),
        row("DPM-Solver++ 2S SDE, τ of λ", single(2).tau(tau()).expect("a strength")).weak(2.0, (64, 4)).strong_of(
            bent,
            1.0,
            (64, 4),
        ),
        row("DPM-Solver++ 3S SDE, τ of λ", single(3).tau(tau()).expect("a strength")).weak(2.0, (1024, 4)).strong_of(
            bent,
            1.0,
            (64, 4),
        ),
        row("DPM-Solver 2S SDE, τ of λ", single(2).basis(Basis::Noise).tau(tau()).expect("a strength"))
            .weak(2.0, (64, 4))
            .strong_of(bent, 1.0, (64, 4)),
        row("DPM-Solver++ 2S SDE on the grid, τ of λ", single(2).on_grid().tau(tau()).expect("a strength"))
            .weak(2.0, (64, 4))
            .strong_of(bent, 1.0, (64, 4)),
        row("DPM-Solver 2S SDE", seeds_in_noise).weak(2.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver++ 1S SDE", seeds(1, 1.0)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver++ 1S SDE on the grid, as diffusers", seeds(1, 1.0).on_grid().compat_diffusers())
            .weak(1.0, (64, 4))
            .strong(1.0, (64, 4)),
        row("DPM-Solver 1S SDE", seeds(1, 1.0).basis(Basis::Noise)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver 3S SDE", seeds(3, 1.0).basis(Basis::Noise)).weak(2.0, (1024, 4)).strong(1.0, (64, 4)),
        // Steps end at the grid's end and no further, so that the last has no noise. The equation has, of the size of √h.
        row("DPM-Solver-fast, η = 0.5", Fast { eta: 0.5, tau: None }).of::<Singlestep>().weak(2.0, (128, 5)).strong_at(
            0.5,
            0.5,
            (128, 4),
        ),
        row("DPM-Solver-fast, τ of λ", Fast { eta: 0.0, tau: Some(tau()) })
            .of::<Singlestep>()
            .weak(2.0, (512, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("DPM-Solver++ SDE, order 1", sde(1, 1.0)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver++ SDE, order 1, path", sde(1, 1.0).path()).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver++ 2M SDE", sde(2, 1.0)).weak(2.0, (64, 4)).strong(1.0, (256, 4)),
        row("DPM-Solver++ 2M SDE, path", sde(2, 1.0).path()).weak(2.0, (64, 4)).strong(1.0, (256, 4)),
        row("DPM-Solver++ 2M SDE, Heun", sde(2, 1.0).second_order(SecondOrder::Heun))
            .weak(2.0, (64, 4))
            .strong(1.0, (64, 4))
            .in_time((256, 4)),
        row("DPM-Solver++ 2M SDE, Heun, η = 0.5", sde(2, 0.5).second_order(SecondOrder::Heun))
            .weak(2.0, (64, 4))
            .strong_at(0.5f64.sqrt(), 1.0, (256, 4)),
        row("DPM-Solver++ 2M, τ of λ", multi(2).tau(tau()).expect("a strength")).weak(2.0, (64, 3)).strong_of(
            bent,
            1.0,
            (64, 4),
        ),
        row("DPM-Solver++ 3M SDE", sde(3, 1.0)).weak(2.0, (1024, 4)).strong(1.0, (64, 4)).in_time((512, 5)),
        row("DPM-Solver++ 3M SDE, path", sde(3, 1.0).path())
            .weak(2.0, (1024, 4))
            .strong(1.0, (64, 4))
            .in_time((512, 5)),
        row("DPM-Solver++ 3M SDE, published", named).weak(2.0, (1024, 4)).strong(1.0, (64, 4)).in_time((512, 5)),
        // Of each second difference of answers α_t times too much is taken away, whatever h. Along a path the differences are of the
        // size √h; their sum is the last first difference, which is so, too, and goes with the noise of the last steps: h in the law.
        // Beside these there are errors of the next half order.
        row("DPM-Solver++ 3M SDE, as diffusers", sde(3, 1.0).third_order(ThirdOrder::HalfLess))
            .weak(1.0, (1024, 4))
            .in_time((2048, 4))
            .strong(0.5, (512, 4)),
        row("DPM-Solver++ 2M ancestral", down(1.0)).weak(2.0, (64, 4)).strong(1.0, (64, 4)).in_time((256, 4)),
        row("DPM-Solver++ 2M ancestral, η = 0.5", down(0.5)).weak(2.0, (64, 4)).strong_at(0.5, 1.0, (64, 4)),
        row("DPM-Solver++ 3M, τ of λ", multi(3).tau(tau()).expect("a strength"))
            .weak(2.0, (2048, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("DPM-Solver 2M SDE", sde(2, 1.0).basis(Basis::Noise)).weak(2.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver SDE, order 1", in_noise(1)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver 2M SDE, Heun", in_noise(2).second_order(SecondOrder::Heun))
            .weak(2.0, (64, 4))
            .strong(1.0, (64, 4)),
        row("DPM-Solver 3M SDE", in_noise(3)).weak(2.0, (2048, 4)).strong(1.0, (64, 4)),
        row("DPM-Solver 3M SDE, published", in_noise(3).third_order(ThirdOrder::Half))
            .weak(2.0, (1024, 4))
            .strong(1.0, (64, 4)),
        row("DEIS 2, τ of λ", deis(2).tau(tau()).expect("a strength")).weak(2.0, (64, 3)).strong_of(bent, 1.0, (64, 4)),
        row("DEIS 2, τ = 0.7", deis(2).tau(even()).expect("a strength")).weak(2.0, (64, 4)).strong_at(
            0.7,
            1.0,
            (64, 4),
        ),
        row("DEIS 3, τ of λ", deis(3).tau(tau()).expect("a strength")).weak(2.0, (2048, 4)).strong_of(
            bent,
            1.0,
            (64, 4),
        ),
        row("DEIS 4, τ of λ", deis(4).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("UniP-3, τ of λ", unipc(3).without_corrector().tau(tau()).expect("a strength"))
            .weak(2.0, (2048, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("UniPC-3, τ of λ", unipc(3).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("UniPC-4, τ of λ", unipc(4).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((1024, 4)),
        row("UniP-2, τ = 0.7", unipc(2).without_corrector().tau(even()).expect("a strength"))
            .weak(2.0, (64, 4))
            .strong_at(0.7, 1.0, (128, 4)),
        row("UniP-2, τ of λ", unip).weak(2.0, (64, 3)).strong_of(bent, 1.0, (64, 4)),
        // Their errors of order 3 are the larger ones for longer on the other grid.
        row("UniPC-2, τ = 0.7", unipc(2).tau(even()).expect("a strength"))
            .weak(2.0, (64, 5))
            .in_time((1024, 6))
            .strong_at(0.7, 1.0, (128, 4)),
        row("UniPC-2, τ of λ", unipc(2).tau(tau()).expect("a strength")).weak(2.0, (1024, 5)).strong_of(
            bent,
            1.0,
            (128, 4),
        ),
        row("SA-Solver 1, no corrector", sa(1, 0)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
        row("SA-Solver 2, τ of λ", sa(2, 0).tau(tau()).expect("a strength")).weak(2.0, (1024, 4)).strong_of(
            bent,
            1.0,
            (256, 4),
        ),
        row("SA-Solver 2, corrector 2", sa(2, 2)).weak(2.0, (1024, 4)).strong(1.0, (64, 4)).in_time((512, 4)),
        row("SA-Solver 2, corrector 2, τ = 0.7", sa(2, 2).tau(even()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_at(0.7, 1.0, (64, 4))
            .in_time((256, 4)),
        row("SA-Solver 2, corrector 2, τ of λ", sa(2, 2).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("SA-Solver 3, corrector 3", sa(3, 3)).weak(2.0, (1024, 4)).strong(1.0, (64, 4)).in_time((2048, 4)),
        row("SA-Solver 3, no corrector, τ of λ", sa(3, 0).tau(tau()).expect("a strength"))
            .weak(2.0, (2048, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("SA-Solver 3, corrector 3, τ of λ", sa(3, 3).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((256, 4)),
        row("SA-Solver 4, corrector 4, τ of λ", sa(4, 4).tau(tau()).expect("a strength"))
            .weak(2.0, (1024, 4))
            .strong_of(bent, 1.0, (64, 4))
            .in_time((1024, 4)),
        row("SA-Solver 3, corrector 4", sa(3, 4)).weak(2.0, (1024, 4)).strong(1.0, (64, 4)).in_time((2048, 4)),
        row("SA-Solver 3, corrector 4, evaluated again", sa(3, 4).evaluate_again())
            .weak(2.0, (1024, 4))
            .strong(1.0, (64, 4))
            .in_time((2048, 4)),
        row(
            "SA-Solver 2, corrector 2, evaluated again, τ of λ",
            sa(2, 2).tau(tau()).expect("a strength").evaluate_again(),
        )
        .weak(2.0, (1024, 4))
        .strong_of(bent, 1.0, (64, 4))
        .in_time((256, 4)),
        // A corrector through one answer has order 1.
        row("SA-Solver in ε̂", sa(2, 1).basis(Basis::Noise)).weak(1.0, (64, 4)).strong(1.0, (64, 4)),
    ]
}
