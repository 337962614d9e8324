//! Solvers, guidance and thresholding as a device computes them.

use crate::Case;
use crate::common::samplers::samplers_on;
use crate::common::solvers::rows;
use crate::probe::{Measured, filled, value};
use burn::tensor::{DType, Device, Tensor};
use langevin::core::denoiser::{Conditions, Guided, Projection, Threshold};
use langevin::core::grid::End;
use langevin::core::noise::Seeded;
use langevin::core::process::{Betas, DiscreteChain, RectifiedFlow, VpSde};
use langevin::core::{
    DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, Levels, Load, Network, Prediction, Process, Query,
};
use langevin::models::{Labels, Mlp, MlpConfig};
use langevin::schedulers::consistency::{Multistep, Resize, Scalewise};
use langevin::schedulers::{Ddim, Sampler, SamplerExt, Solver};

/// A smooth denoiser made of elementwise operations.
struct Wave;

impl<const D: usize> Denoiser<D> for Wave {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let mut column = [1; D];
        column[0] = query.x.dims()[0];
        let shift = query.levels.times(&query.x).mul_scalar(1e-3).reshape(column);
        let wave = query.x.clone().mul_scalar(1.3).add(shift).sin();
        let output = query.x.clone().mul_scalar(0.3).add(wave.clone().mul_scalar(0.7));
        Ok(Estimate::new(query.x, output, query.levels.clone(), Prediction::Velocity)
            .with_variance(wave.mul_scalar(0.4).add_scalar(0.5)))
    }
}

/// The output of another, the other way round.
struct Opposite<T>(T);

impl<const D: usize, T: Denoiser<D>> Denoiser<D> for Opposite<T> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let answer = self.0.denoise(query)?;
        Ok(Estimate::new(answer.x(), answer.output().neg(), answer.levels().clone(), answer.prediction()))
    }
}

/// A sample's width.
const WIDTH: usize = 32;

fn run<const D: usize>(
    sampler: &dyn Sampler<D>,
    shape: [usize; D],
    denoiser: &dyn Denoiser<D>,
    device: &Device,
) -> Measured {
    let noise = Seeded::new(5);
    let reads = !sampler.auxiliaries().is_empty();
    // A negative of the answer, for solvers that want two.
    let twofold = DenoiserExt::<D>::autoguided(denoiser, Opposite(denoiser), 0.6).and_then(Guided::plus_plus);
    let twofold = twofold.expect("one rule");
    let denoiser: &dyn Denoiser<D> = if sampler.needs_split() { &twofold } else { denoiser };
    let mut run = (&sampler).start(shape, denoiser, &noise, Load::on(device)).expect("a run");
    if reads {
        let known = |value: f32| Tensor::full(shape.map(|_| 1), value, device);
        run = run.known(known(0.4), known(0.25)).expect("an image and a mask");
    }
    value(run.finish().expect("all steps"))
}

/// Every solver and every sampler, in a few steps, by name.
pub fn solvers(device: &Device) -> Vec<(String, Measured)> {
    let plans = rows().into_iter().map(|row| {
        let plan = row.short();
        (row.name.to_owned(), run(&plan, [3, 2, 4, 4], &Wave, device))
    });
    let samplers = samplers_on(device, WIDTH, DType::F32).into_iter();
    let samplers = samplers.map(|entry| (entry.name.to_owned(), run(&*entry.sampler, [3, WIDTH], &Wave, device)));
    plans.chain(samplers).collect()
}

fn thresholded(threshold: Threshold, device: &Device) -> Measured {
    let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("a chain");
    let plan = Ddim::new().plan(&chain, &Grid::leading(8)).expect("a plan");
    let denoiser = DenoiserExt::<4>::thresholded(Wave, threshold).expect("a threshold");
    run(&plan, [3, 2, 4, 4], &denoiser, device)
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

/// Images that grow, shrink, and grow again.
fn grown(resize: Resize, device: &Device) -> Measured {
    let plan = Multistep::new().plan(&RectifiedFlow::new(), &Grid::uniform(4).ending(End::Range)).expect("a plan");
    let sampler = Scalewise::over(plan, vec![1.5, 0.75, 2.0]).expect("factors").by(resize);
    run(&sampler, [2, 2, 5, 4], &Wave, device)
}

/// The table of what changes answers, and of samples that grow.
pub fn table() -> Vec<Case> {
    let case = |item, settings, run: fn(&Device) -> Measured| Case { item, settings, run, limit: None };
    vec![
        case("Threshold", "static", |d| thresholded(Threshold::Static { range: 0.8 }, d)),
        case("Threshold", "dynamic", |d| thresholded(Threshold::Dynamic { ratio: 0.9, max: 1.5 }, d)),
        case("Guided", "classifier-free, one call", |d| guided(d, Ok)),
        case("Guided", "rescaled", |d| guided(d, |g| g.rescaled(0.7))),
        case("Guided", "CFG-Zero*", |d| guided(d, |g| g.zero_star(0))),
        case("Guided", "CFG++", |d| guided(d, |g| g.plus_plus())),
        case("Guided", "projected, with threshold and momentum", |d| {
            guided(d, |g| g.projected(Projection::new().threshold(0.5)?.momentum(-0.5)?))
        }),
        case("Scalewise", "nearest", |d| grown(Resize::Nearest, d)),
        case("Scalewise", "area", |d| grown(Resize::Area, d)),
        case("Scalewise", "bilinear", |d| grown(Resize::Bilinear, d)),
        case("Scalewise", "bicubic", |d| grown(Resize::Bicubic, d)),
    ]
}
