//! Samplers that are no plans, and the moments that follow from what they did.
//!
//! A hundred samples of ten thousand points each make the steps of a sampler that looks at norms the same for all: the norms
//! are those of the law. On Gaussian data such a run is affine, and its moments are those of a plan, written down here
//! from the equations of the sampler and the levels that it visited.

use crate::common::affine::marginal;
use crate::common::laws::{MEASURED, corrected, improved_euler, posterior_mean, restored};
use crate::common::problem::{ends, even_lambda, processes};
use crate::common::solvers::type_of;
use crate::{Moments, SAMPLES, Sums, points, predicted, scale_noise};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::exact::Gaussian;
use langevin::core::grid::End;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::{Grid, Key, Level, Levels, Load, NoiseSource, Process};
use langevin::schedulers::exponential::{Basis, DpmAdaptive, Singlestep};
use langevin::schedulers::inverse::Ddrm;
use langevin::schedulers::sde::AdaptiveSde;
use langevin::schedulers::{DormandPrince, Plan, PredictorCorrector, ReverseDiffusion, Sampler, SamplerExt, Solver};
use std::sync::Arc;

/// Points of one sample.
const POINTS: usize = 10_000;
const ROWS: usize = SAMPLES / POINTS;

/// Samplers whose laws are proven in other places.
pub const ELSEWHERE: [(&str, &str); 5] = [
    (
        "consistency::scalewise::Scalewise",
        "its samples are images that grow; tests/diffusers compares mean and variance",
    ),
    ("picard::Picard", "its samples are those of its plan, which tests/picard.rs compares"),
    ("inverse::dps::DpsSteps", "its law is not known; tests/inverse of langevin-schedulers compares its steps"),
    ("sde::simulation::Simulation", "it has no data; tests/continuous compares its laws with closed forms"),
    ("sde::adaptive_simulation::AdaptiveSimulation", "as above"),
];

pub struct Case {
    pub name: String,
    pub of: &'static str,
    pub noisy: bool,
    sampler: Box<dyn Sampler<2>>,
    /// Whether a run makes its own start of noise.
    own_start: bool,
    /// The moments that follow from the levels visited, with its noise times a factor.
    law: Law,
}

type Law = Box<dyn Fn(&Gaussian, &[Level], f64) -> Moments>;

fn case<S: Sampler<2> + 'static>(
    name: &'static str,
    sampler: S,
    law: impl Fn(&Gaussian, &[Level], f64) -> Moments + 'static,
) -> Case {
    let name = name.to_owned();
    Case { name, of: type_of::<S>(), noisy: true, sampler: Box::new(sampler), own_start: false, law: Box::new(law) }
}

/// Every sampler on every process; what draws no noise on VP alone, for tests/convergence measures its errors on all.
pub fn cases() -> Vec<Case> {
    let of = |(name, process): (&'static str, Box<dyn Process>)| {
        let process: Shared = Arc::from(process);
        let sampled = on(&process).into_iter().filter(move |case| case.noisy || name == "VP");
        sampled.map(move |case| Case { name: format!("{} on {name}", case.name), ..case })
    };
    processes().into_iter().flat_map(of).collect()
}

/// A process that several samplers and laws share.
type Shared = Arc<dyn Process>;

fn on(process: &Shared) -> Vec<Case> {
    let grid = even_lambda(process, 6);
    let (noisy, clean) = ends(process);
    let diffusion = ReverseDiffusion::new().plan(process, &grid).expect("a plan");
    let corrector = || PredictorCorrector::new(diffusion.clone(), RATIO, 2).expect("settings");
    let free = corrector().step_limit(f64::INFINITY).expect("positive");
    let corrected = |limit: f64| {
        let plan = diffusion.clone();
        move |data: &Gaussian, _: &[Level], factor: f64| moments_of(&corrected(&plan, data, RATIO, limit), data, factor)
    };
    let sde = AdaptiveSde::new(5e-2, 5e-2).expect("tolerances").batch_control();
    let dpm = |eta, tolerance| {
        let method = DpmAdaptive::new(tolerance, tolerance).and_then(|method| method.eta(eta)).expect("settings");
        method.batch_control().between(process.clone(), noisy, clean).expect("a run")
    };
    let prince = DormandPrince::new(1e-6, 1e-6).expect("tolerances").batch_control();
    // Without noise the law is that of the data, within the tolerance.
    let exact = |data: &Gaussian, visited: &[Level], _: f64| {
        let (mean, factor) = marginal(data, &visited[visited.len() - 1]);
        let covariance = |k: usize| factor.iter().map(|column| column[k / 2] * column[k % 2]).sum();
        Moments { mean, covariance: (0..4).map(covariance).collect() }
    };
    let quiet = |case: Case| Case { noisy: false, ..case };
    let ddrm = Ddrm::new(process, &grid, measurement()).expect("a sampler");
    let (on_sde, on_dpm, on_ddrm) = (process.clone(), process.clone(), process.clone());
    vec![
        case("predictor-corrector, limited steps", corrector(), corrected(1.0)),
        case("predictor-corrector, steps by norms", free, corrected(f64::INFINITY)),
        case("predictor-corrector, norms of the batch", corrector().batch_norms(), corrected(f64::INFINITY)),
        case(
            "adaptive SDE steps",
            sde.between(process.clone(), noisy, clean).expect("a run"),
            move |data, visited, factor| moments_of(&improved_euler(&on_sde, &times(&on_sde, visited)), data, factor),
        ),
        case("adaptive DPM-Solver, η = 0.8", dpm(0.8, 3e-2), move |data, visited, factor| {
            let solver = Singlestep::new(3).and_then(|solver| solver.basis(Basis::Noise).capped().ancestral(0.8));
            let grid = Grid::times(times(&on_dpm, visited)).expect("falling").ending(End::Range);
            moments_of(&solver.expect("settings").plan(&on_dpm, &grid).expect("a plan"), data, factor)
        }),
        quiet(case("adaptive DPM-Solver", dpm(0.0, 1e-6), exact)),
        quiet(case("Dormand-Prince", prince.between(process.clone(), noisy, clean).expect("a sampler"), exact)),
        Case { own_start: true, ..case("DDRM", ddrm, move |data, _, factor| restored(&on_ddrm, &grid, data, factor)) },
    ]
}

/// The process's times of levels; a network may be told others.
fn times(process: &Shared, visited: &[Level]) -> Vec<f64> {
    let mut times: Vec<f64> =
        visited.iter().map(|level| process.time_at_lambda(level.lambda()).expect("in range")).collect();
    let last = times.len() - 1;
    (times[0], times[last]) = ends(process);
    times
}

impl Case {
    /// The moments of 10⁶ samples, those that follow from the steps, and those that would with noise off by 1%.
    pub fn measure(&self, data: &Gaussian, seed: u64) -> (Moments, Moments, Option<Moments>) {
        let (noise, denoiser, like) = (Seeded::new(seed), posterior_mean(data), (&Device::flex(), DType::F64));
        let Levels::Shared(start) = self.sampler.start_levels() else { panic!("one level") };
        let run = if self.own_start {
            self.sampler.start([ROWS, 2 * POINTS], &denoiser, &noise, Load::on(like.0).dtype(like.1))
        } else {
            let mut z = vec![0.0; 2 * SAMPLES];
            for (row, z) in (0u64..).zip(z.chunks_mut(2 * POINTS)) {
                noise.fill(row, Key::INITIAL, z).expect("seeded noise");
            }
            let x = TensorData::new(points(data, &start, &z), [ROWS, 2 * POINTS]);
            self.sampler.start_from(0, Tensor::from_data(x, like), &denoiser, &noise)
        };
        let mut run = run.expect("starts");
        let mut visited = vec![start];
        for step in run.by_ref() {
            let level = match step.expect("steps").levels {
                Levels::Shared(level) => level,
                Levels::Each(levels) => {
                    assert!(levels.iter().all(|level| *level == levels[0]), "{}: one clock for all", self.name);
                    levels[0]
                }
            };
            visited.push(level);
        }
        assert!((4..80).contains(&visited.len()), "{}: {} steps", self.name, visited.len());
        let mut sums = Sums::new(data);
        sums.add(&run.state().x().try_to_vec_as::<f64>().expect("a readable tensor"));
        let law = |factor| (self.law)(data, &visited, factor);
        (sums.moments(), law(1.0), self.noisy.then(|| law(1.01)))
    }
}

fn moments_of(plan: &Plan, data: &Gaussian, factor: f64) -> Moments {
    predicted(&scale_noise(plan, factor), data)
}

const RATIO: f64 = 0.16;

/// Of each point the first value is measured, with noise.
fn measurement() -> Measurement<Masking<2>, 2> {
    let row = |values: [f64; 2]| {
        let row = TensorData::new(values.repeat(POINTS), [1, 2 * POINTS]);
        Tensor::<2>::from_data(row, (&Device::flex(), DType::F64))
    };
    let mask = Masking::new(row([1.0, 0.0])).expect("a mask");
    Measurement::new(mask, row([MEASURED.0, 0.0]), MEASURED.1).expect("a measurement")
}
