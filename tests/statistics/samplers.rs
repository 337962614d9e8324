//! Samplers that are no plans, and the moments that follow from what they did.
//!
//! A hundred samples of ten thousand points each make the steps of a sampler that looks at norms the same for all: the norms
//! are those of the law. On Gaussian data such a run is affine, and its moments are those of a plan, written down here
//! from the equations of the sampler and the levels that it visited.

use crate::common::affine::{marginal, push};
use crate::common::problem::{ends, even_lambda};
use crate::common::solvers::type_of;
use crate::{Moments, SAMPLES, Sums, points, predicted, scale_noise};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::denoiser::from_fn;
use langevin::core::exact::Gaussian;
use langevin::core::grid::{End, Stop};
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{Denoiser, Grid, Key, Level, Levels, Load, NoiseSource, Prediction, Process};
use langevin::schedulers::exponential::{Basis, DpmAdaptive, Singlestep};
use langevin::schedulers::inverse::Ddrm;
use langevin::schedulers::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use langevin::schedulers::sde::AdaptiveSde;
use langevin::schedulers::{DormandPrince, PredictorCorrector, ReverseDiffusion, Sampler, SamplerExt, Solver};

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
    pub name: &'static str,
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
    Case { name, of: type_of::<S>(), noisy: true, sampler: Box::new(sampler), own_start: false, law: Box::new(law) }
}

pub fn cases() -> Vec<Case> {
    let vp = VpSde::default;
    let (noisy, clean) = ends(&vp());
    let diffusion = ReverseDiffusion::new().plan(&vp(), &even_lambda(&vp(), 6)).expect("a plan");
    let corrector = || PredictorCorrector::new(diffusion.clone(), RATIO, 2).expect("settings");
    let free = corrector().step_limit(f64::INFINITY).expect("positive");
    let corrected = |limit: f64| {
        let plan = diffusion.clone();
        move |data: &Gaussian, _: &[Level], factor: f64| moments_of(&corrected(&plan, data, limit), data, factor)
    };
    let sde = AdaptiveSde::new(5e-2, 5e-2).expect("tolerances").batch_control();
    let dpm = |eta, tolerance| {
        let method = DpmAdaptive::new(tolerance, tolerance).and_then(|method| method.eta(eta)).expect("settings");
        method.batch_control().between(vp(), noisy, clean).expect("a run")
    };
    let prince = DormandPrince::new(1e-6, 1e-6).expect("tolerances").batch_control();
    // Without noise the law is that of the data, within the tolerance.
    let exact = |data: &Gaussian, visited: &[Level], _: f64| {
        let (mean, factor) = marginal(data, &visited[visited.len() - 1]);
        let covariance = |k: usize| factor.iter().map(|column| column[k / 2] * column[k % 2]).sum();
        Moments { mean, covariance: (0..4).map(covariance).collect() }
    };
    let quiet = |case: Case| Case { noisy: false, ..case };
    let ddrm = Ddrm::new(&vp(), &even_lambda(&vp(), 6), measurement()).expect("a sampler");
    vec![
        case("predictor-corrector, limited steps", corrector(), corrected(1.0)),
        case("predictor-corrector, steps by norms", free, corrected(f64::INFINITY)),
        case("predictor-corrector, norms of the batch", corrector().batch_norms(), corrected(f64::INFINITY)),
        case("adaptive SDE steps", sde.between(vp(), noisy, clean).expect("a run"), |data, visited, factor| {
            moments_of(&improved_euler(&vp_times(visited)), data, factor)
        }),
        case("adaptive DPM-Solver, η = 0.8", dpm(0.8, 3e-2), |data, visited, factor| {
            let solver = Singlestep::new(3).and_then(|solver| solver.basis(Basis::Noise).capped().ancestral(0.8));
            let grid = Grid::times(vp_times(visited)).expect("falling").ending(End::Range);
            moments_of(&solver.expect("settings").plan(&VpSde::default(), &grid).expect("a plan"), data, factor)
        }),
        quiet(case("adaptive DPM-Solver", dpm(0.0, 1e-6), exact)),
        quiet(case("Dormand-Prince", prince.between(vp(), noisy, clean).expect("a sampler"), exact)),
        Case { own_start: true, ..case("DDRM", ddrm, |data, _, factor| restored(data, factor)) },
    ]
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

/// The Gaussian's posterior means as a denoiser of samples of many points.
fn posterior_mean(data: &Gaussian) -> impl Denoiser<2> + '_ {
    from_fn(Prediction::Sample, move |x: Tensor<2>, levels: &Levels| {
        let [rows, width] = x.dims();
        let points = x.reshape([rows, width / 2, 2]);
        let at = |i: usize| points.clone().narrow(2, i, 1);
        let row = |i: usize| {
            let slope = |j: usize| levels.map(|level| affine(data, level).0[2 * i + j]).times(at(j));
            let shift = levels.map(|level| affine(data, level).1[i]).times(at(i).ones_like());
            slope(0).add(slope(1)).add(shift)
        };
        Ok(Tensor::cat(vec![row(0), row(1)], 2).reshape([rows, width]))
    })
}

/// x̂_0 at a level as a matrix, row-major, and a shift.
fn affine(data: &Gaussian, level: &Level) -> ([f64; 4], [f64; 2]) {
    let at = data.at(level).expect("a level");
    let (slope, shift) = (at.x0_jacobian(), at.x0(&[0.0, 0.0]).expect("a plane"));
    ([slope[0], slope[1], slope[2], slope[3]], [shift[0], shift[1]])
}

fn moments_of(plan: &Plan, data: &Gaussian, factor: f64) -> Moments {
    predicted(&scale_noise(plan, factor), data)
}

/// Times of levels of VP, whose network is told them.
fn vp_times(visited: &[Level]) -> Vec<f64> {
    visited.iter().map(|level| level.time).collect()
}

const RATIO: f64 = 0.16;

/// Algorithm 2 of Song et al. 2021: before each step of a predictor two corrections `x + ε·score + √(2ε)·z`, with
/// `ε = 2·(r·|z|/|score|)²` and norms over all points, where |z|/|score| is `limit`·σ at most.
fn corrected(predictor: &Plan, data: &Gaussian, limit: f64) -> Plan {
    let start = predictor.start_node();
    let (mean, factor) = marginal(data, &start.level);
    let mut rows: Vec<Row> = Vec::new();
    let mut push_row = |mut row: Row| {
        row.step = Some(rows.len() as u32);
        rows.push(row);
        Plan::new("so far", start, predictor.prior_deviation(), rows.clone()).expect("a plan")
    };
    let mut so_far = None;
    for row in predictor.rows() {
        let at = row.eval.expect("a question").at;
        for _ in 0..2 {
            let (mean, covariance) = match &so_far {
                None => (mean.clone(), (0..4).map(|k| factor.iter().map(|c| c[k / 2] * c[k % 2]).sum()).collect()),
                Some(plan) => {
                    let affine = push(plan, data, &mean, &factor);
                    (affine.mean.clone(), affine.covariance())
                }
            };
            let score = mean_square_of_score(data, &at, &mean, &covariance);
            // |z|² is 2 for each point.
            let ratio = (2.0 / score).sqrt().min(limit * at.sigma);
            let step = 2.0 * (RATIO * ratio).powi(2);
            let sum = [
                Term::new(1.0, Src::X(0)),
                Term::new(-step / at.sigma, Src::Eps(0)),
                Term::new((2.0 * step).sqrt(), Src::Z(0)),
            ];
            so_far = Some(push_row(Row {
                draws: vec![Draw::White { to: 0, lane: 0 }],
                pre: vec![],
                eval: Some(Eval { at, x: 0, into: 0 }),
                post: vec![Set::new(0, sum)],
                step: None,
                after: row.after,
                report: vec![],
            }));
        }
        so_far = Some(push_row(row.clone()));
    }
    so_far.expect("rows")
}

/// E|score|² of points with this law, where `score = (α·x̂_0 − x)/σ²`.
fn mean_square_of_score(data: &Gaussian, at: &Level, mean: &[f64], covariance: &[f64]) -> f64 {
    let (slope, shift) = affine(data, at);
    let v = at.sigma * at.sigma;
    let of = |i: usize, j: usize| (at.alpha * slope[2 * i + j] - if i == j { 1.0 } else { 0.0 }) / v;
    (0..2)
        .map(|i| {
            let center = of(i, 0) * mean[0] + of(i, 1) * mean[1] + at.alpha * shift[i] / v;
            let spread = |j: usize, k: usize| of(i, j) * covariance[2 * j + k] * of(i, k);
            center * center + spread(0, 0) + spread(0, 1) + spread(1, 0) + spread(1, 1)
        })
        .sum()
}

/// Algorithm 1 of Jolicoeur-Martineau et al. 2021 along given times of VP: a step of Euler-Maruyama from t to s, another with
/// the drift and the diffusion found there, and their mean.
fn improved_euler(times: &[f64]) -> Plan {
    let vp = VpSde::default();
    let mut rows = Vec::new();
    for (index, pair) in times.windows(2).enumerate() {
        let (t, s) = (pair[0], pair[1]);
        let h = t - s;
        // −h·b with b = f·x + g²/σ·ε̂, and g·√h.
        let parts = |at: f64| {
            let g = vp.diffusion_squared(at);
            (-h * vp.drift(at), -h * g / vp.sigma(at), (g * h).sqrt())
        };
        let (of_x, of_eps, of_z) = parts(t);
        let euler = [Term::new(1.0 + of_x, Src::X(0)), Term::new(of_eps, Src::Eps(0)), Term::new(of_z, Src::Z(0))];
        let row = |draws, x, into, set, step| Row {
            draws,
            pre: vec![],
            eval: Some(Eval { at: vp.level(if into == 0 { t } else { s }), x, into }),
            post: vec![set],
            step,
            after: vp.node(s),
            report: vec![],
        };
        rows.push(row(vec![Draw::White { to: 0, lane: 0 }], 0, 0, Set::new(1, euler), None));
        let (of_x, of_eps, of_z) = parts(s);
        let mean = [
            Term::new(0.5, Src::X(0)),
            Term::new(0.5 + 0.5 * of_x, Src::X(1)),
            Term::new(0.5 * of_eps, Src::Eps(1)),
            Term::new(0.5 * of_z, Src::Z(0)),
        ];
        rows.push(row(vec![], 1, 1, Set::new(0, mean), Some(index as u32)));
    }
    Plan::new("stochastic improved Euler", vp.node(times[0]), 1.0, rows).expect("a plan")
}

const MEASURED: (f64, f64) = (0.4, 0.5);

/// Of each point the first value is measured, with noise.
fn measurement() -> Measurement<Masking<2>, 2> {
    let row = |values: [f64; 2]| {
        let row = TensorData::new(values.repeat(POINTS), [1, 2 * POINTS]);
        Tensor::<2>::from_data(row, (&Device::flex(), DType::F64))
    };
    let mask = Masking::new(row([1.0, 0.0])).expect("a mask");
    Measurement::new(mask, row([MEASURED.0, 0.0]), MEASURED.1).expect("a measurement")
}

/// Equations 7 and 8 of Kawar et al. 2022 for that measurement, η = 0.85 and η_b = 1: mean and covariance of the end.
fn restored(data: &Gaussian, factor: f64) -> Moments {
    let vp = VpSde::default();
    let stops: Vec<Stop> = even_lambda(&vp, 6).stops(&vp).expect("a grid");
    let (y, k, eta) = (MEASURED.0, MEASURED.1, 0.85f64);
    let ratio = |level: &Level| level.sigma / level.alpha;
    let first = ratio(&stops[0].from.level);
    // In x/α; the first value is known as precisely as k from the start.
    let (mut mean, mut covariance) = ([y, 0.0], [first * first - k * k, 0.0, 0.0, first * first]);
    for stop in &stops {
        let (alpha, before, kappa) = (stop.from.level.alpha, ratio(&stop.from.level), ratio(&stop.to.level));
        let (slope, shift) = affine(data, &stop.from.level);
        let kept = (1.0 - eta * eta).sqrt();
        // For each value: weights of x̂_0, the state and y, and the variance of the noise.
        let measured = if kappa < k {
            (1.0 - kept * kappa / k, 0.0, kept * kappa / k, (eta * kappa).powi(2))
        } else {
            (0.0, 0.0, 1.0, kappa * kappa - k * k)
        };
        let other = (1.0 - kept * kappa / before, kept * kappa / before, 0.0, (eta * kappa).powi(2));
        let (weights, then) = ([measured, other], mean);
        let of = |i: usize, j: usize| weights[i].0 * alpha * slope[2 * i + j] + if i == j { weights[i].1 } else { 0.0 };
        mean = [0, 1].map(|i| of(i, 0) * then[0] + of(i, 1) * then[1] + weights[i].0 * shift[i] + weights[i].2 * y);
        let pushed =
            |i: usize, l: usize| -> f64 { (0..4).map(|jm| of(i, jm / 2) * covariance[jm] * of(l, jm % 2)).sum() };
        covariance = [pushed(0, 0), pushed(0, 1), pushed(1, 0), pushed(1, 1)];
        covariance[0] += weights[0].3 * factor * factor;
        covariance[3] += weights[1].3 * factor * factor;
    }
    let alpha = stops[stops.len() - 1].to.level.alpha;
    Moments { mean: mean.map(|m| alpha * m).to_vec(), covariance: covariance.map(|c| alpha * alpha * c).to_vec() }
}
