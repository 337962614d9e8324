//! DPM-Solver with steps of its own choice: accuracy, independence of samples, noise, resuming, bad settings.

use super::{distance, mixture, processes, side_by_side, slope, start};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::exact::{ExactDenoiser, Gaussian, GaussianMixture, Posterior};
use langevin_core::noise::Seeded;
use langevin_core::process::{Edm, RectifiedFlow, VeSde, VpSde};
use langevin_core::{DenoiseError, Denoiser, Estimate, Levels, Load, Prediction, Process, Query};
use langevin_schedulers::exponential::{AdaptiveDpm, DpmAdaptive};
use langevin_schedulers::ode::DormandPrince;
use langevin_schedulers::{PlanError, Run, SampleError, SamplerExt, SavedRun};
use std::sync::Mutex;

fn tolerance(tolerance: f64) -> DpmAdaptive {
    DpmAdaptive::new(tolerance, tolerance).expect("positive")
}

fn numbers<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

fn tensor(rows: &[[f64; 2]], dtype: DType) -> Tensor<2> {
    let flat: Vec<f64> = rows.concat();
    Tensor::<1>::from_data(flat.as_slice(), (&Device::flex(), dtype)).reshape([rows.len(), 2])
}

#[test]
fn errors_follow_the_tolerance_on_every_process() {
    let problem = mixture();
    let denoiser = problem.clone().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(0);
    for (name, process, noisy, clean) in processes() {
        let x = start(&*process, noisy);
        let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &*process, t, x, out);
        let exact = DormandPrince::new(1e-12, 1e-12).and_then(|method| method.max_steps(1_000_000)).expect("settings");
        let exact = exact.solve_host(f, x.clone(), noisy, clean).expect("solves").x;
        for order in [2, 3] {
            let solve = |tol: f64| {
                let sampler = tolerance(tol).order(order).expect("an order").between(&*process, noisy, clean);
                let sampler = sampler.expect("a run");
                let run = sampler.start_from(0, tensor(&[[x[0], x[1]]], DType::F64), &denoiser, &noise);
                let end = run.expect("starts").finish_state().expect("runs");
                assert_eq!(end.evaluations() % order, 0);
                (distance(&numbers(&end.x()), &exact), end.evaluations())
            };
            let runs = [1e-2, 1e-4, 1e-6].map(solve);
            for ((error, _), tol) in runs.iter().zip([1e-2, 1e-4, 1e-6]) {
                assert!(*error < 30.0 * tol, "{name}, order {order}: error {error} at tolerance {tol}");
            }
            assert!(runs[2].0 < 0.02 * runs[0].0, "{name}, order {order}: {runs:?}");
            // Four decades of tolerance: 10^(4/p) times the work, as the low order p − 1 has local errors of order p.
            let (work, expected) = (runs[2].1 as f64 / runs[0].1 as f64, 10f64.powf(4.0 / order as f64));
            assert!((0.2..5.0).contains(&(work / expected)), "{name}, order {order}: {runs:?}");
        }
    }
}

#[test]
fn encoding_and_decoding_come_back() {
    let problem = Gaussian::new(vec![0.5, -0.3], vec![0.4, 0.15, 0.15, 0.3]).expect("a covariance");
    let denoiser = problem.denoiser(Prediction::Velocity).expect("binds");
    let noise = Seeded::new(0);
    let (x, vp) = (tensor(&[[0.7, -0.9], [0.1, 0.4]], DType::F64), VpSde::default());
    let up = tolerance(1e-7).between(vp, 0.05, 0.95).expect("a run");
    let down = tolerance(1e-7).between(VpSde::default(), 0.95, 0.05).expect("a run");
    let encoded = up.start_from(0, x.clone(), &denoiser, &noise).expect("starts").finish().expect("runs");
    let back = down.start_from(0, encoded, &denoiser, &noise).expect("starts").finish().expect("runs");
    assert!(distance(&numbers(&back), &numbers(&x)) < 1e-4);
}

/// States of very different difficulty: near a mode, between two, far away.
fn states(dtype: DType) -> Tensor<2> {
    tensor(&[[0.1, 0.0], [-0.02, 0.61], [30.0, -45.0], [1.3, 0.9]], dtype)
}

fn sharp() -> ExactDenoiser<GaussianMixture> {
    let round = |v: f64| vec![v, 0.3 * v, 0.3 * v, v];
    let means = vec![vec![-0.9, 0.4], vec![0.7, 0.8]];
    let mixture = GaussianMixture::new(vec![0.5, 0.5], means, vec![round(1e-3), round(1e-4)]).expect("a mixture");
    mixture.denoiser(Prediction::Epsilon).expect("binds")
}

fn noisy_flow() -> AdaptiveDpm<VpSde> {
    tolerance(1e-3).eta(0.6).expect("in range").over(VpSde::default()).expect("a run")
}

fn run_all(flow: &AdaptiveDpm<VpSde>, x: Tensor<2>, first: u64) -> (Vec<f64>, Vec<f64>, usize) {
    let (denoiser, noise) = (sharp(), Seeded::new(0));
    let mut run = flow.start_from(first, x, &denoiser, &noise).expect("starts");
    let mut steps = 0;
    for step in run.by_ref() {
        step.expect("a step");
        steps += 1;
    }
    (numbers(&run.state().x()), run.state().numbers.clone(), steps)
}

#[test]
fn a_batch_and_its_samples_alone_have_the_same_bits() {
    let quiet = tolerance(1e-4).over(VpSde::default()).expect("a run");
    let white = tolerance(1e-3).eta(1.0).expect("in range").white_noise().over(VpSde::default()).expect("a run");
    for (flow, dtype) in [(&quiet, DType::F64), (&quiet, DType::F32), (&noisy_flow(), DType::F64), (&white, DType::F64)]
    {
        let (together, clocks, _) = run_all(flow, states(dtype), 0);
        let clocks: Vec<&[f64]> = clocks.chunks(6).collect();
        for i in 0..4 {
            let (alone, clock, _) = run_all(flow, states(dtype).narrow(0, i, 1), i as u64);
            assert_eq!(alone, together[2 * i..2 * i + 2], "sample {i} in {dtype:?}");
            assert_eq!(&clock[..], clocks[i], "clock of sample {i} in {dtype:?}");
        }
        // They did not do so by all taking the same steps.
        let attempts: Vec<f64> = clocks.iter().map(|clock| clock[4]).collect();
        assert!(attempts.iter().any(|a| *a != attempts[0]), "{attempts:?}");
    }
}

#[test]
fn batch_control_gives_all_samples_one_clock() {
    for flow in [tolerance(1e-4), tolerance(1e-3).eta(0.5).expect("in range")] {
        let flow = flow.batch_control().over(VpSde::default()).expect("a run");
        let (_, clocks, steps) = run_all(&flow, states(DType::F64), 0);
        let clocks: Vec<&[f64]> = clocks.chunks(6).collect();
        assert!(clocks.iter().all(|clock| *clock == clocks[0]));
        assert_eq!(
            (clocks[0][5] as usize, clocks[0][4] > clocks[0][5]),
            (steps, true),
            "accepted steps, and rejections"
        );
    }
}

#[test]
fn arrived_samples_are_frozen() {
    let (denoiser, noise) = (sharp(), Seeded::new(0));
    let flow = noisy_flow();
    let end = VpSde::default().level(1e-3);
    let mut arrived: Vec<Option<Vec<f64>>> = vec![None; 4];
    let mut waited = 0;
    for step in flow.start_from(0, states(DType::F32), &denoiser, &noise).expect("starts") {
        let step = step.expect("steps");
        assert!(step.x0.is_some());
        let Levels::Each(levels) = &step.levels else { panic!("one level for all") };
        for (i, row) in numbers(&step.x).chunks(2).enumerate() {
            match &arrived[i] {
                Some(x) => {
                    assert_eq!(x, row);
                    waited += 1;
                }
                None if levels[i] == end => arrived[i] = Some(row.to_vec()),
                None => {}
            }
        }
    }
    assert!(arrived.iter().all(Option::is_some) && waited > 0);
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let (denoiser, noise) = (sharp(), Seeded::new(0));
    let all = |run: Run<'_, 2>| run.map(|step| numbers(&step.expect("steps").x)).collect::<Vec<_>>();
    for flow in [tolerance(1e-3).over(VpSde::default()).expect("a run"), noisy_flow()] {
        let begin = || flow.start_from(0, states(DType::F32), &denoiser, &noise).expect("starts");
        let whole = all(begin());
        assert!(whole.len() > 10);
        for stop in [0, 1, 4, 9] {
            let mut run = begin();
            let mut parts: Vec<_> = run.by_ref().take(stop).map(|step| numbers(&step.expect("steps").x)).collect();
            let saved = serde_json::to_string(&run.save().expect("saves")).expect("is data");
            let saved: SavedRun = serde_json::from_str(&saved).expect("is a run");
            parts.extend(all(flow.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("resumes")));
            assert_eq!(whole, parts, "paused after {stop} steps");
        }
        // Another one does not take it up, and an edited one is refused.
        let mut run = begin();
        run.next().expect("a step").expect("steps");
        let saved = run.save().expect("saves");
        let other = tolerance(2e-3).over(VpSde::default()).expect("a run");
        let refused = other.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).map(|_: Run<'_, 2>| ());
        assert!(matches!(refused, Err(SampleError::OtherSampler { .. })));
        for lost in ["numbers", "memory"] {
            let mut saved = serde_json::to_value(&saved).expect("is data");
            match lost {
                "numbers" => saved["numbers"].as_array_mut().expect("numbers").truncate(3),
                _ => saved["memory"]["states"].as_object_mut().expect("states").retain(|register, _| register == "0"),
            }
            let saved: SavedRun = serde_json::from_value(saved).expect("deserializes");
            let mut run: Run<'_, 2> =
                flow.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("resumes");
            let error = run.next().expect("an error").expect_err("an error");
            assert!(matches!(error, SampleError::Incomplete { .. }), "{lost}: {error}");
        }
    }
}

/// Ancestral steps keep the distribution, rejected ones included: samples have the mean and covariance of the data at the
/// level where they end, within four standard errors.
#[test]
fn noise_keeps_the_distribution() {
    let covariance = [0.8, 0.3, 0.3, 0.5];
    let problem = Gaussian::new(vec![0.4, -0.7], covariance.to_vec()).expect("a covariance");
    let noise = Seeded::new(5);
    let denoiser = problem.denoiser(Prediction::Epsilon).expect("binds");
    // With a tolerance of 1e-3 variances are 4% too small, of 2e-4 3%, of 5e-5 1%: so many samples would show it. Along paths noise
    // is what takes the time.
    let cases = [("path", 1.0, false, 8_000), ("white", 1.0, true, 20_000), ("half", 0.5, false, 8_000)];
    for (name, eta, white, count) in cases {
        let method = tolerance(1e-5).first_step(1.5).expect("positive").eta(eta).expect("in range");
        let method = if white { method.white_noise() } else { method };
        let sampler = method.over(Edm::default()).expect("a run");
        let parts = side_by_side(count, |first, rows| {
            let load = Load::on(&Device::flex()).dtype(DType::F64);
            let run = sampler.start_at(first, [rows, 2], &denoiser, &noise, load).expect("starts");
            let end = run.finish_state().expect("runs");
            let rejections: f64 = end.numbers.chunks(6).map(|clock| clock[4] - clock[5]).sum();
            (numbers(&end.x()), rejections)
        });
        let rejections: f64 = parts.iter().map(|(_, rejections)| rejections).sum();
        assert!(rejections > count as f64, "{name}: {rejections} rejections of {count} samples");
        moments(name, &parts.into_iter().flat_map(|(x, _)| x).collect::<Vec<_>>(), &[0.4, -0.7], &covariance);
    }
}

/// Mean and covariance of points in the plane, within four standard errors of those given.
pub(super) fn moments(name: &str, x: &[f64], mean: &[f64; 2], covariance: &[f64; 4]) {
    let n = (x.len() / 2) as f64;
    for i in 0..2 {
        let m = x.iter().skip(i).step_by(2).sum::<f64>() / n;
        let error = (m - mean[i]) / (covariance[3 * i] / n).sqrt();
        assert!(error.abs() < 4.0, "{name}: mean {i} is {error:.1} standard errors off");
        for j in 0..=i {
            let c = x.chunks(2).map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / n;
            let (own, cross) = (covariance[3 * i] * covariance[3 * j], covariance[2 * i + j]);
            let error = (c - cross) / ((own + cross * cross) / n).sqrt();
            assert!(error.abs() < 4.0, "{name}: covariance {i}, {j} is {error:.1} standard errors off: {c}");
        }
    }
}

/// Along one path, tighter tolerances lead to one and the same sample; independent noise leads elsewhere. The error that is
/// controlled is that of the way down, and goes as the cube of the step.
#[test]
fn the_path_does_not_depend_on_the_steps() {
    let problem = Gaussian::new(vec![0.4, -0.7], vec![0.8, 0.3, 0.3, 0.5]).expect("a covariance");
    let denoiser = problem.denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(5);
    let ends = |white: bool| {
        [1e-3, 1e-5, 1e-7].map(|tol| {
            let method = tolerance(tol).eta(1.0).expect("in range");
            let method = if white { method.white_noise() } else { method };
            let sampler = method.between(VeSde::default(), 0.8, 0.3).expect("a run");
            let x = Tensor::<2>::ones([8, 2], (&Device::flex(), DType::F64));
            numbers(&sampler.start_from(0, x, &denoiser, &noise).expect("starts").finish().expect("runs"))
        })
    };
    let ([a, b, c], [_, y, z]) = (ends(false), ends(true));
    assert!(distance(&b, &c) < 0.6 * distance(&a, &b), "{} and {}", distance(&b, &c), distance(&a, &b));
    assert!(distance(&y, &z) > 3.0 * distance(&b, &c), "{} and {}", distance(&y, &z), distance(&b, &c));
}

/// Remembers one estimate, and notes the times of it and of each query.
struct Noting {
    exact: ExactDenoiser<GaussianMixture>,
    notes: Mutex<Vec<(f64, Option<f64>)>>,
}

impl Denoiser<2> for Noting {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let time = |levels: &Levels| match levels {
            Levels::Shared(level) => level.time,
            Levels::Each(levels) => levels[0].time,
        };
        let past = query.past.last().map(|estimate| time(estimate.levels()));
        self.notes.lock().expect("no panics").push((time(query.levels), past));
        self.exact.denoise(query)
    }
    fn memory(&self) -> usize {
        1
    }
}

#[test]
fn a_rejected_step_leaves_no_trace_in_memory() {
    let noting = Noting { exact: sharp(), notes: Mutex::new(Vec::new()) };
    let flow = tolerance(1e-4).over(VpSde::default()).expect("a run");
    let noise = Seeded::new(0);
    let mut run = flow.start_from(0, states(DType::F64).narrow(0, 1, 1), &noting, &noise).expect("starts");
    let accepted = run.by_ref().filter(|step| step.is_ok()).count();
    let notes = noting.notes.lock().expect("no panics");
    assert!(notes.len() / 3 > accepted, "no rejection was tested");
    for attempt in notes.chunks(3).skip(1) {
        // The first question is where the last accepted step ended, and memory holds one from before.
        let (asked, past) = attempt[0];
        assert!(past.is_none_or(|past| past > asked), "asked at {asked}, remembers {past:?}");
    }
    // The samples of a batch accept and reject one by one; a memory cannot.
    let error = flow.start_from(0, states(DType::F64), &noting, &noise).map(drop).expect_err("an error");
    assert!(matches!(error, SampleError::Unsupported { .. }), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let setting = |result: Result<DpmAdaptive, PlanError>, expected: &str| match result {
        Err(PlanError::Setting { solver, setting, .. }) => {
            assert_eq!((solver, setting), ("adaptive DPM-Solver", expected));
        }
        other => panic!("{expected}: {other:?}"),
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        setting(DpmAdaptive::new(bad, 1.0), "relative tolerance");
        setting(DpmAdaptive::new(1.0, bad), "absolute tolerance");
        setting(tolerance(1.0).first_step(bad), "first step");
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        setting(tolerance(1.0).coefficients(bad, 1.0, 0.0), "proportional coefficient");
        setting(tolerance(1.0).coefficients(0.0, bad, 0.0), "integral coefficient");
        setting(tolerance(1.0).coefficients(0.0, 1.0, bad), "derivative coefficient");
        setting(tolerance(1.0).eta(bad), "eta");
        setting(tolerance(1.0).noise_scale(bad), "the noise factor");
    }
    for bad in [0.0, 1.1, f64::NAN] {
        setting(tolerance(1.0).accept_safety(bad), "accept safety");
    }
    for bad in [0, 1, 4] {
        setting(tolerance(1.0).order(bad), "order");
    }
    setting(tolerance(1.0).max_steps(0), "largest number of steps");
}

#[test]
fn runs_that_lead_nowhere_are_refused() {
    let vp = VpSde::default;
    assert!(matches!(tolerance(1.0).between(vp(), 1.5, 0.5), Err(PlanError::TimeRange { t: 1.5, .. })));
    assert!(matches!(tolerance(1.0).between(vp(), f64::NAN, 0.5), Err(PlanError::TimeRange { .. })));
    let same = tolerance(1.0).between(vp(), 0.5, 0.5);
    assert!(matches!(same, Err(PlanError::Setting { setting: "end of the run", .. })));
    let pure = tolerance(1.0).over(RectifiedFlow::default());
    assert!(matches!(pure, Err(PlanError::Singular { alpha: 0.0, .. })));
    let rising = tolerance(1.0).eta(0.5).expect("in range").between(vp(), 0.1, 0.9);
    assert!(matches!(rising, Err(PlanError::Combination { .. })));
    let (denoiser, noise) = (sharp(), Seeded::new(0));
    let short = tolerance(1e-5).max_steps(3).expect("above 0").over(vp()).expect("a run");
    let error =
        short.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts").finish().expect_err("tired");
    assert_eq!(error, SampleError::TooManySteps { limit: 3 });
}
