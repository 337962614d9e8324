//! A chain with zero terminal SNR and a network that predicts noise contradict each other: every solver and every sampler says so,
//! wherever its grid begins.

mod common;

use burn::tensor::{Device, Tensor};
use common::roster;
use common::solvers::{rows, type_of};
use langevin::core::denoiser::{Denoiser, from_fn};
use langevin::core::grid::End;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::process::{Betas, DiscreteChain};
use langevin::core::{DenoiserExt, Grid, Levels, Load, Prediction};
use langevin::schedulers::exponential::DpmAdaptive;
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::schedulers::sde::AdaptiveSde;
use langevin::schedulers::{
    Ddim, DormandPrince, Picard, Plan, PredictorCorrector, ReverseDiffusion, SampleError, Sampler, SamplerExt, Solver,
};

/// The last step that keeps some signal, and one that keeps some noise.
const ENDS: (f64, f64) = (998.0, 1.0);

fn chain() -> DiscreteChain {
    let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).expect("a chain");
    chain.rescale_zero_terminal_snr().expect("a chain that ends in pure noise")
}

fn late(steps: usize) -> Grid {
    Grid::uniform_lambda(steps).between(ENDS.0, ENDS.1).ending(End::Range)
}

/// A network whose output is taken for this; its own answer is `0.9·x`.
fn network(prediction: Prediction) -> impl Denoiser<2> {
    from_fn(prediction, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.9)))
}

/// How a run of one sample ends whose denoiser predicts this.
fn end(sampler: &dyn Sampler<2>, prediction: Prediction, known: bool) -> Result<(), SampleError> {
    let device = Device::flex();
    let (denoiser, noise) = (network(prediction), Seeded::new(1));
    let twofold = DenoiserExt::<2>::autoguided(network(prediction), network(prediction), 0.6);
    let twofold = twofold.and_then(|guided| guided.plus_plus()).expect("a rule");
    let denoiser: &dyn Denoiser<2> = if sampler.needs_split() { &twofold } else { &denoiser };
    let mut run = sampler.start([1, 2], denoiser, &noise, Load::on(&device))?;
    if known {
        let mask = Tensor::from_data([[1.0, 0.0]], &device);
        run = run.known(Tensor::zeros([1, 2], &device), mask)?;
    }
    run.finish().map(|_| ())
}

fn assert_refused(name: &str, sampler: &dyn Sampler<2>, known: bool) {
    for prediction in [Prediction::Epsilon, Prediction::Score, Prediction::ScaledScore] {
        let found = end(sampler, prediction, known);
        assert_eq!(found, Err(SampleError::ZeroTerminalSnr { prediction }), "{name}");
    }
    let found = end(sampler, Prediction::Velocity, known);
    assert!(!matches!(found, Err(SampleError::ZeroTerminalSnr { .. })), "{name} refuses a velocity");
}

#[test]
fn every_solver_refuses_noise_for_an_answer() {
    let chain = chain();
    for row in rows() {
        // Not every solver begins in pure noise, and some take no long steps.
        let grids = [Grid::trailing(12), late(12), late(200)];
        let plans: Vec<Plan> = grids.iter().filter_map(|grid| row.solver.plan(&chain, grid).ok()).collect();
        assert!(!plans.is_empty(), "{} has no plan on the chain", row.name);
        for plan in &plans {
            assert_refused(row.name, plan, row.known);
        }
        // A plan that was saved says it, too.
        let saved = serde_json::to_string(&plans[0]).expect("data");
        let read: Plan = serde_json::from_str(&saved).expect("a plan");
        assert_eq!(end(&read, Prediction::Epsilon, row.known), end(&plans[0], Prediction::Epsilon, row.known));
    }
}

#[test]
fn every_sampler_refuses_noise_for_an_answer() {
    let chain = chain();
    let plan = |solver: &dyn Solver| solver.plan(&chain, &late(50)).expect("a plan");
    let measurement = || {
        let row = |values: [f32; 2]| Tensor::<2>::from_data([values], &Device::flex());
        let mask = Masking::new(row([1.0, 0.0])).expect("a mask");
        Measurement::new(mask, row([0.4, 0.0]), 0.1).expect("a measurement")
    };
    fn entry<S: Sampler<2> + 'static>(sampler: S) -> (&'static str, Box<dyn Sampler<2>>) {
        (type_of::<S>(), Box::new(sampler))
    }
    let (noisy, clean) = ENDS;
    let prince = DormandPrince::new(1e-3, 1e-3).expect("tolerances");
    let sde = AdaptiveSde::new(1e-2, 1e-2).expect("tolerances");
    let dpm = DpmAdaptive::new(1e-2, 1e-2).expect("tolerances");
    let corrected = PredictorCorrector::new(plan(&ReverseDiffusion::new()), 0.16, 1).expect("settings");
    let noisy_plan = plan(&Ddim::new().eta(0.5).expect("in range"));
    let samplers = [
        entry(corrected),
        entry(prince.between(chain.clone(), noisy, clean).expect("a sampler")),
        entry(sde.between(chain.clone(), noisy, clean).expect("a sampler")),
        entry(dpm.between(chain.clone(), noisy, clean).expect("a sampler")),
        entry(Ddrm::new(&chain, &late(50), measurement()).expect("a sampler")),
        entry(DpsSteps::new(noisy_plan.clone(), measurement(), 0.3).expect("a step size")),
        entry(Picard::over(noisy_plan, 4).expect("settings")),
    ];
    for (name, sampler) in &samplers {
        assert_refused(name, sampler, false);
    }
    let asks_nothing = "it simulates an equation of the user's own, and asks no network";
    let exempt = [
        ("sde::simulation::Simulation", asks_nothing),
        ("sde::adaptive_simulation::AdaptiveSimulation", asks_nothing),
        ("consistency::scalewise::Scalewise", "its samples are images: tests/diffusers refuses them"),
    ];
    roster::assert_complete(&roster::samplers(), samplers.iter().map(|(of, _)| *of), &exempt);
}
