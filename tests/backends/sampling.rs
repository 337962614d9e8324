//! Solvers, guidance and thresholding as a device computes them.

use crate::Case;
use crate::probe::{Measured, filled, value};
use burn::tensor::{Device, Tensor};
use langevin::core::denoiser::{Conditions, Guided, Projection, Threshold};
use langevin::core::noise::Seeded;
use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::core::{
    DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, Levels, Load, Network, Prediction, Process, Query,
};
use langevin::models::{Labels, Mlp, MlpConfig};
use langevin::schedulers::{
    Ddim, Ddpm, DormandPrince, EulerMaruyama, PredictorCorrector, ProbabilityFlow, ReverseDiffusion, Sampler,
    SamplerExt, Solver, Variance,
};

/// A smooth denoiser of images, made of elementwise operations.
struct Wave;

impl Denoiser<4> for Wave {
    fn denoise(&self, query: Query<'_, 4>) -> Result<Estimate<4>, DenoiseError> {
        let shift = query.levels.times(&query.x).mul_scalar(1e-3).reshape([-1, 1, 1, 1]);
        let wave = query.x.clone().mul_scalar(1.3).add(shift).sin();
        let output = query.x.clone().mul_scalar(0.3).add(wave.clone().mul_scalar(0.7));
        Ok(Estimate::new(query.x, output, query.levels.clone(), Prediction::Velocity).with_variance(wave))
    }
}

fn run(sampler: &dyn Sampler<4>, denoiser: &dyn Denoiser<4>, device: &Device) -> Measured {
    let noise = Seeded::new(5);
    let run = sampler.start([3, 2, 4, 4], denoiser, &noise, Load::on(device)).expect("a run");
    value(run.finish().expect("all steps"))
}

fn on_chain(solver: &dyn Solver, device: &Device) -> Measured {
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    run(&solver.plan(&chain, &Grid::trailing(10)).expect("a plan"), &Wave, device)
}

fn on_vp(solver: &dyn Solver, device: &Device) -> Measured {
    let vp = VpSde::default();
    run(&solver.plan(&vp, &Grid::uniform(10)).expect("a plan"), &Wave, device)
}

fn thresholded(threshold: Threshold, device: &Device) -> Measured {
    let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("a chain");
    let plan = Ddim::new().plan(&chain, &Grid::leading(8)).expect("a plan");
    run(&plan, &Wave.thresholded(threshold).expect("a threshold"), device)
}

type Guidance = Guided<Conditions<Mlp, 2>>;

/// Two answers of a guided network, the second with the first as its past.
fn guided(device: &Device, rule: fn(Guidance) -> Result<Guidance, DenoiseError>) -> Measured {
    let network = filled(MlpConfig::new(2).hidden(32).layers(2).classes(3).init(device).expect("a network"));
    let denoiser = network.denoiser(Prediction::Velocity, Labels::of([0, 1, 2, 1])).expect("a binding");
    let denoiser = denoiser.guided(Labels::none(1), 2.5).and_then(rule).expect("settings");
    let vp = VpSde::default();
    let mut past = Vec::new();
    for time in [0.4, 0.3] {
        let x = Tensor::<2>::from_data([[0.5, -1.0], [2.0, 0.1], [-0.3, 0.9], [1.5, 1.5]], device);
        let levels = Levels::Shared(vp.level(time));
        let query = Query { x, levels: &levels, past: &past, noise: &Seeded::new(1) };
        past = vec![denoiser.denoise(query).expect("an estimate")];
    }
    value(past[0].x0().expect("x_0"))
}

/// The table of what samples.
pub fn table() -> Vec<Case> {
    let case = |item, settings, run: fn(&Device) -> Measured| Case { item, settings, run, limit: None };
    vec![
        case("Ddpm", "fixed small variance", |d| on_chain(&Ddpm::new(), d)),
        case("Ddpm", "learned range", |d| on_chain(&Ddpm::new().variance(Variance::LearnedRange), d)),
        case("Ddim", "eta 0", |d| on_chain(&Ddim::new(), d)),
        case("Ddim", "eta 0.7", |d| on_chain(&Ddim::new().eta(0.7).expect("in range"), d)),
        case("EulerMaruyama", "white noise", |d| on_vp(&EulerMaruyama::new(), d)),
        case("EulerMaruyama", "a Brownian path", |d| on_vp(&EulerMaruyama::new().path(), d)),
        case("ReverseDiffusion", "", |d| on_vp(&ReverseDiffusion::new(), d)),
        case("ProbabilityFlow", "Heun", |d| on_vp(&ProbabilityFlow::heun(), d)),
        case("ProbabilityFlow", "RK4", |d| on_vp(&ProbabilityFlow::rk4(), d)),
        case("DormandPrince", "tolerances 1e-3", |d| {
            let sampler = DormandPrince::new(1e-3, 1e-3).expect("tolerances").over(VpSde::default());
            run(&sampler.expect("a sampler"), &Wave, d)
        }),
        case("PredictorCorrector", "one correction", |d| {
            let plan = ReverseDiffusion::new().plan(&VpSde::default(), &Grid::uniform(8)).expect("a plan");
            run(&PredictorCorrector::new(plan, 0.16, 1).expect("settings"), &Wave, d)
        }),
        case("Threshold", "static", |d| thresholded(Threshold::Static { range: 0.8 }, d)),
        case("Threshold", "dynamic", |d| thresholded(Threshold::Dynamic { ratio: 0.9, max: 1.5 }, d)),
        case("Guided", "classifier-free, one call", |d| guided(d, Ok)),
        case("Guided", "rescaled", |d| guided(d, |g| g.rescaled(0.7))),
        case("Guided", "CFG-Zero*", |d| guided(d, |g| g.zero_star(0))),
        case("Guided", "CFG++", |d| guided(d, |g| g.plus_plus())),
        case("Guided", "projected, with threshold and momentum", |d| {
            guided(d, |g| g.projected(Projection::new().threshold(0.5)?.momentum(-0.5)?))
        }),
    ]
}
