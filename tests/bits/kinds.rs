//! Every kind of run, by what a proof about bits asks of it.

use crate::common::leaning::leaning;
use crate::common::samplers;
use crate::common::solvers::{Row, plans, rows, type_of};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::denoiser::from_fn;
use langevin::core::discrete::MaskAndReplace;
use langevin::core::grid::End;
use langevin::core::noise::Seeded;
use langevin::core::process::{Edm, RectifiedFlow, VpSde};
use langevin::core::{DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, Level, Levels, Load, Prediction, Query};
use langevin::schedulers::consistency::{Multistep, Resize, Scalewise};
use langevin::schedulers::discrete::{BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, SavedTokens};
use langevin::schedulers::flow::{PiFlow, Policy, PolicyNetwork, answers_of};
use langevin::schedulers::{Plan, PlanError, Run, Sampler, SamplerExt, SavedRun, Solver, TokenMethod, TokenSampler};

const SEED: u64 = 41;

/// Which samples, and whether they are written down and read again after every step, the last one included.
pub struct Ask {
    pub first: u64,
    pub samples: usize,
    pub paused: bool,
}

type Bits = dyn Fn(&Ask) -> Vec<u32>;

/// A sampler of any kind with the denoiser that it takes.
pub struct Kind {
    pub name: String,
    /// The public type, where a roster has it.
    pub of: Option<&'static str>,
    /// The bits of the samples, one after the other.
    pub run: Box<Bits>,
}

/// All of them, on samples of `width` values or more.
pub fn all(width: usize) -> Vec<Kind> {
    [solvers(width), around(width), growing(width), policies(width), tokens(width)].into_iter().flatten().collect()
}

/// A denoiser that works on each value alone, so that any difference is one of the solvers.
struct Elementwise;

impl Denoiser<2> for Elementwise {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let (x, levels) = (query.x, query.levels);
        let shift = levels.times(&x).mul_scalar(0.01).add_scalar(0.2).reshape([-1, 1]);
        let wave = x.clone().mul_scalar(1.3).add(shift).sin();
        let output = x.clone().mul_scalar(0.3).add(wave.mul_scalar(0.7));
        let variance = x.clone().mul_scalar(0.7).cos().mul_scalar(0.4).add_scalar(0.5);
        Ok(Estimate::new(x, output, levels.clone(), Prediction::Velocity).with_variance(variance))
    }
}

fn load() -> Load {
    Load::on(&Device::flex())
}

fn bits<const D: usize>(x: &Tensor<D>) -> Vec<u32> {
    x.try_to_vec_as::<f32>().expect("a readable tensor").into_iter().map(f32::to_bits).collect()
}

/// The end of a run, with its pauses.
fn end<'a, const D: usize>(
    sampler: &'a impl Sampler<D>,
    (denoiser, noise): (&'a dyn Denoiser<D>, &'a Seeded),
    mut run: Run<'a, D>,
    paused: bool,
) -> Vec<u32> {
    while paused && let Some(step) = run.next() {
        drop(step.expect("a step"));
        let text = serde_json::to_string(&run.save().expect("a saved run")).expect("a saved run is data");
        let saved: SavedRun = serde_json::from_str(&text).expect("a saved run is data");
        run = sampler.resume(&saved, denoiser, noise, load()).expect("a resumed run");
    }
    bits(&run.finish().expect("samples"))
}

/// All plans that need no more than a start, and the samplers that are none.
fn solvers(width: usize) -> Vec<Kind> {
    let of_rows: Vec<(String, &str)> = rows().into_iter().map(|row| (row.name.to_owned(), row.of)).collect();
    let plans = plans().into_iter().map(|(name, plan)| {
        let of = of_rows.iter().find(|(row, _)| *row == name).map(|(_, of)| *of);
        (name, of, Box::new(plan) as Box<dyn Sampler<2>>)
    });
    let others = samplers::samplers(width, DType::F32).into_iter();
    let others = others.map(|entry| (entry.name.to_owned(), Some(entry.of), entry.sampler));
    let kind = |(name, of, sampler): (String, Option<&'static str>, Box<dyn Sampler<2>>)| {
        let run = move |ask: &Ask| {
            let noise = Seeded::new(SEED);
            let run = sampler.start_at(ask.first, [ask.samples, width], &Elementwise, &noise, load()).expect("a run");
            end(&sampler, (&Elementwise, &noise), run, ask.paused)
        };
        Kind { name, of, run: Box::new(run) }
    };
    plans.chain(others).map(kind).collect()
}

/// Solvers that read a known sample and a mask, and those for denoisers of two answers.
fn around(width: usize) -> Vec<Kind> {
    let row = |value: fn(usize) -> f32| {
        let values: Vec<f32> = (0..width).map(value).collect();
        Tensor::<1>::from_data(values.as_slice(), &Device::flex()).reshape([1, width])
    };
    let (image, mask) = (row(|i| 0.4 - 0.3 * (i % 4) as f32), row(|i| 0.5 * (i % 3) as f32));
    let pull = |towards: f64| {
        from_fn(Prediction::Velocity, move |x: Tensor<2>, levels: &Levels| {
            let wave = x.clone().add_scalar(towards).sin();
            Ok(levels.map(|level| 0.5 + level.sigma).times(wave).add(x.mul_scalar(0.2 * towards)))
        })
    };
    let kind = |row: Row| {
        let (plan, image, mask) = (row.short(), image.clone(), mask.clone());
        let run = move |ask: &Ask| {
            let noise = Seeded::new(SEED);
            let guided = DenoiserExt::<2>::autoguided(pull(1.0), pull(-0.5), 0.6).expect("a scale");
            let guided = guided.plus_plus().expect("one rule");
            let denoiser: &dyn Denoiser<2> = if row.split { &guided } else { &Elementwise };
            let run = plan.start_at(ask.first, [ask.samples, width], denoiser, &noise, load()).expect("a run");
            let run = if row.known { run.known(image.clone(), mask.clone()).expect("an image") } else { run };
            end(&plan, (denoiser, &noise), run, ask.paused)
        };
        Kind { name: row.name.to_owned(), of: Some(row.of), run: Box::new(run) }
    };
    rows().into_iter().filter(|row| row.known || row.split).map(kind).collect()
}

/// Images that grow from step to step.
fn growing(width: usize) -> Vec<Kind> {
    let side = width.isqrt().next_multiple_of(4);
    let karras = Grid::karras(4, 7.0).expect("a grid").ending(End::Range);
    let flow = RectifiedFlow::new().shift(3.0).expect("in range");
    let plans: [(&str, Result<Plan, PlanError>, Resize); 3] = [
        ("Scalewise on a flow", Multistep::new().plan(&flow, &Grid::uniform(4).ending(End::Range)), Resize::Bicubic),
        ("Scalewise on EDM", Multistep::new().plan(&Edm::default(), &karras), Resize::Bilinear),
        ("Scalewise on VP", Multistep::new().plan(&VpSde::default(), &Grid::uniform_lambda(4)), Resize::Nearest),
    ];
    let kind = |(name, plan, resize): (&str, Result<Plan, PlanError>, Resize)| {
        let factors = vec![1.25, 1.5, 2.0];
        let sampler = Scalewise::over(plan.expect("a plan"), factors).expect("a sampler").by(resize);
        let run = move |ask: &Ask| {
            let noise = Seeded::new(SEED);
            let network = from_fn(Prediction::Sample, |x: Tensor<4>, levels: &Levels| {
                Ok(levels.map(|level| 1.0 / level.alpha.hypot(level.sigma)).times(x).sin())
            });
            let shape = [ask.samples, 1, side, side];
            let run = sampler.start_at(ask.first, shape, &network, &noise, load()).expect("a run");
            end(&sampler, (&network, &noise), run, ask.paused)
        };
        Kind { name: name.to_owned(), of: Some(type_of::<Scalewise>()), run: Box::new(run) }
    };
    plans.into_iter().map(kind).collect()
}

/// A network of policies, its answers one beside the other.
struct Wide;

const ANSWERS: usize = 4;

impl PolicyNetwork<2> for Wide {
    fn velocities(&self, x: Tensor<2>, at: &Level) -> Result<Vec<Tensor<2>>, DenoiseError> {
        let answer = |i: usize| {
            let wave = x.clone().mul_scalar(1.3).add_scalar(2.0 * at.time + 0.2 + 0.4 * i as f64).sin();
            x.clone().mul_scalar(0.3).add(wave.mul_scalar(0.7))
        };
        answers_of(Tensor::cat((0..ANSWERS).map(answer).collect(), 1), ANSWERS)
    }
}

/// π-Flow, whose pause is a state and the number of its step.
fn policies(width: usize) -> Vec<Kind> {
    let kind = |(name, policy): (&str, Policy)| {
        let flow = PiFlow::new(ANSWERS).and_then(|flow| flow.shift(2.0)).expect("settings");
        let plan = flow.policy(policy).plan(4).expect("steps");
        let run = move |ask: &Ask| {
            let (noise, shape) = (Seeded::new(SEED), [ask.samples, width]);
            let mut run = plan.start_at(ask.first, shape, &Wide, &noise, load()).expect("a run");
            let mut step = 0;
            while ask.paused
                && let Some(x) = run.next()
            {
                let x = x.expect("a step").try_to_vec_as::<f32>().expect("a readable tensor");
                let text = serde_json::to_string(&x).expect("numbers");
                let x: Vec<f32> = serde_json::from_str(&text).expect("numbers");
                step += 1;
                run = plan.start_from(step, Tensor::from_data(TensorData::new(x, shape), &Device::flex()), &Wide);
            }
            bits(&run.finish().expect("samples"))
        };
        Kind { name: name.to_owned(), of: None, run: Box::new(run) }
    };
    [("π-Flow, grid", Policy::Grid), ("π-Flow, polynomial", Policy::Polynomial)].map(kind).into()
}

/// Samplers of tokens.
fn tokens(width: usize) -> Vec<Kind> {
    let positions = width & !1;
    let ddim = || DiscreteDdim::new(3, 7).and_then(|sampler| sampler.temperature(1.0));
    let blocks = || BlockRefinement::new(3, positions / 2, 3).and_then(|it| it.temperature(0.9)?.editing(0.5));
    let chain = MaskAndReplace::absorbing(3, 8).expect("a chain");
    vec![
        method("tokens of VQ-diffusion", positions, Ok(TokenSampler::new(chain))),
        method("MaskGit", positions, MaskGit::new(3, 3, 5)),
        method("discrete DDIM", positions, ddim()),
        method("discrete DDIM, corrected", positions, ddim().and_then(|it| Ok(it.corrected(Corrector::new(2)?)))),
        method("entropy bound", positions, EntropyBound::new(3, 5)),
        method("entropy bound, masked", positions, EntropyBound::new(3, 8).and_then(|it| it.masked(3)?.bound(0.3))),
        method("block refinement", positions, blocks()),
        method("block refinement, masked", positions, blocks().and_then(|it| it.masked(3)?.threshold(0.6)?.until(0))),
    ]
}

fn method<M: TokenMethod + 'static>(name: &str, positions: usize, method: Result<M, PlanError>) -> Kind {
    let method = method.expect("settings");
    let run = move |ask: &Ask| {
        let (denoiser, noise, device) = (leaning(), Seeded::new(SEED), Device::flex());
        let shape = [ask.samples, positions];
        let mut run = method.start_at(ask.first, shape, &denoiser, &noise, &device).expect("a run");
        while ask.paused
            && let Some(step) = run.next()
        {
            drop(step.expect("a step"));
            let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
            let saved: SavedTokens = serde_json::from_str(&text).expect("data");
            run = method.resume(&saved, &denoiser, &noise, &device).expect("a resumed run");
        }
        run.finish().expect("tokens").into_data().iter::<i64>().map(|token| token as u32).collect()
    };
    Kind { name: name.to_owned(), of: Some(type_of::<M>()), run: Box::new(run) }
}
