//! Adaptive steps of reverse SDEs: the limit along a path, moments, independence of samples, resuming, bad settings.

use super::dpm_adaptive::moments;
use super::{distance, side_by_side};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::denoiser::from_fn;
use langevin_core::exact::{Gaussian, Posterior};
use langevin_core::grid::End;
use langevin_core::noise::Seeded;
use langevin_core::process::{Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
use langevin_core::{Grid, Levels, Load, Prediction, Process};
use langevin_schedulers::sde::{AdaptiveReverse, AdaptiveSde};
use langevin_schedulers::{DpmSolver, PlanError, Run, SampleError, SamplerExt, SavedRun, Solver};
use std::sync::atomic::{AtomicUsize, Ordering};

const MEAN: [f64; 2] = [0.4, -0.7];
const COVARIANCE: [f64; 4] = [0.8, 0.3, 0.3, 0.5];

fn gaussian() -> Gaussian {
    Gaussian::new(MEAN.to_vec(), COVARIANCE.to_vec()).expect("a covariance")
}

fn tolerance(tolerance: f64) -> AdaptiveSde {
    AdaptiveSde::new(tolerance, tolerance).expect("positive")
}

fn numbers<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// Every process, with a stretch of its time that begins where there is data left and first steps that are too long.
fn stretches() -> Vec<(&'static str, Box<dyn Process>, f64, f64)> {
    vec![
        ("VP", Box::new(VpSde::default()), 0.6, 0.05),
        ("sub-VP", Box::new(SubVpSde::default()), 0.6, 0.15),
        ("VE", Box::new(VeSde::default()), 0.7, 0.3),
        ("EDM", Box::new(Edm::default()), 5.0, 0.1),
        ("flow", Box::new(RectifiedFlow::default()), 0.8, 0.1),
    ]
}

/// The samples go to the solution of the SDE along their own paths, whatever was rejected on the way: noise that was
/// thrown away, or chosen, would lead elsewhere.
#[test]
fn the_limit_is_the_solution_along_the_same_path() {
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(5);
    for (name, process, from, to) in stretches() {
        let start = Tensor::<2>::ones([24, 2], (&Device::flex(), DType::F64)).mul_scalar(process.sigma(from));
        let fine = DpmSolver::multistep(1).and_then(|solver| solver.sde(1.0)).expect("settings").path();
        let grid = Grid::uniform_lambda(1500).between(from, to).ending(End::Range);
        let plan = fine.plan(&*process, &grid).expect("a plan");
        let exact = plan.start_from(0, start.clone(), &denoiser, &noise).expect("starts").finish().expect("runs");
        let exact = numbers(&exact);
        let errors = [3e-1, 3e-2, 3e-3].map(|tol| {
            let sampler = tolerance(tol).first_step(0.5 * (from - to)).expect("positive");
            let sampler = sampler.between(&*process, from, to).expect("a run");
            let run = sampler.start_from(0, start.clone(), &denoiser, &noise).expect("starts");
            let end = run.finish_state().expect("runs");
            let attempts: f64 = end.numbers[1..].chunks(5).map(|clock| clock[4]).fold(0.0, f64::max);
            assert!(tol > 0.1 || attempts as usize > 4, "{name}: {attempts} attempts at {tol}");
            distance(&numbers(&end.x()), &exact) / (24f64 * 2.0).sqrt()
        });
        // Local errors go as h^1.5: ten times the tolerance is 4.6 times the step, and strong order 1 as much error.
        assert!(errors[1] < 0.5 * errors[0] && errors[2] < 0.5 * errors[1], "{name}: {errors:?}");
        // Two samples of the data are about 1.1 apart.
        assert!(errors[2] < 0.05, "{name}: {errors:?}");
    }
}

/// With many rejections samples have the data's mean and covariance, within four standard errors.
#[test]
fn rejected_steps_do_not_bias() {
    let (count, noise) = (4_000, Seeded::new(11));
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("binds");
    let runs: [(&str, Box<dyn Process>, f64); 2] =
        [("VP", Box::new(VpSde::default()), 0.3), ("VE", Box::new(VeSde::default()), 0.3)];
    for (name, process, first) in runs {
        let sampler = tolerance(2e-2).first_step(first).and_then(|s| s.step_rule(0.99, 0.9)).expect("settings");
        let start = process.level(process.time_range().1).time;
        let sampler = sampler.over(process).expect("a run");
        let parts = side_by_side(count, |first, rows| {
            let load = Load::on(&Device::flex()).dtype(DType::F64);
            let mut run = sampler.start_at(first, [rows, 2], &denoiser, &noise, load).expect("starts");
            let mut accepted = 0;
            let mut before = vec![start; rows];
            for step in run.by_ref() {
                let Levels::Each(levels) = step.expect("steps").levels else { panic!("one level for all") };
                for (before, level) in before.iter_mut().zip(levels) {
                    accepted += usize::from(*before != level.time);
                    *before = level.time;
                }
            }
            let attempts: f64 = run.state().numbers[1..].chunks(5).map(|clock| clock[4]).sum();
            (numbers(&run.state().x()), attempts as usize - accepted)
        });
        let rejected: usize = parts.iter().map(|(_, rejected)| rejected).sum();
        assert!(rejected > count, "{name}: {rejected} rejections of {count} samples");
        moments(name, &parts.into_iter().flat_map(|(x, _)| x).collect::<Vec<_>>(), &MEAN, &COVARIANCE);
    }
}

/// Tighter tolerances take more work, and their moments are nearer to the data's.
#[test]
fn the_tolerance_controls_the_work() {
    let denoiser = gaussian().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(3);
    let work = [1e-1, 1e-2, 1e-3].map(|tol| {
        let sampler = tolerance(tol).between(VpSde::default(), 0.9, 0.05).expect("a run");
        let x = Tensor::<2>::ones([4, 2], (&Device::flex(), DType::F64));
        sampler.start_from(0, x, &denoiser, &noise).expect("starts").finish_state().expect("runs").evaluations()
    });
    assert!(work[1] > 2 * work[0] && work[2] > 2 * work[1], "{work:?}");
}

fn sampler() -> AdaptiveReverse<VpSde> {
    tolerance(3e-2).first_step(0.3).expect("positive").between(VpSde::default(), 0.9, 0.02).expect("a run")
}

fn states(dtype: DType) -> Tensor<2> {
    Tensor::from_data([[0.1, 0.0], [-0.02, 0.61], [30.0, -45.0], [1.3, 0.9]], (&Device::flex(), dtype))
}

fn run_all(sampler: &AdaptiveReverse<VpSde>, x: Tensor<2>, first: u64) -> (Vec<f64>, Vec<f64>) {
    let (denoiser, noise) = (gaussian().denoiser(Prediction::Velocity).expect("binds"), Seeded::new(0));
    let end = sampler.start_from(first, x, &denoiser, &noise).expect("starts").finish_state().expect("runs");
    (numbers(&end.x()), end.numbers)
}

#[test]
fn a_batch_and_its_samples_alone_have_the_same_bits() {
    for dtype in [DType::F64, DType::F32] {
        let (together, clocks) = run_all(&sampler(), states(dtype), 7);
        let clocks: Vec<&[f64]> = clocks[1..].chunks(5).collect();
        for i in 0..4 {
            let (alone, clock) = run_all(&sampler(), states(dtype).narrow(0, i, 1), 7 + i as u64);
            assert_eq!(alone, together[2 * i..2 * i + 2], "sample {i} in {dtype:?}");
            assert_eq!(&clock[1..], clocks[i], "clock of sample {i} in {dtype:?}");
        }
        let attempts: Vec<f64> = clocks.iter().map(|clock| clock[4]).collect();
        assert!(attempts.iter().any(|a| *a != attempts[0]), "{attempts:?}");
    }
    let one = tolerance(3e-2).batch_control().between(VpSde::default(), 0.9, 0.02).expect("a run");
    let (_, clocks) = run_all(&one, states(DType::F64), 0);
    assert!(clocks[1..].chunks(5).all(|clock| clock == &clocks[1..6]));
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let (denoiser, noise) = (gaussian().denoiser(Prediction::Velocity).expect("binds"), Seeded::new(0));
    let all = |run: Run<'_, 2>| run.map(|step| numbers(&step.expect("steps").x)).collect::<Vec<_>>();
    let denoising = tolerance(3e-2).denoise_at_end().between(VpSde::default(), 0.9, 0.02).expect("a run");
    for sampler in [sampler(), denoising] {
        let begin = || sampler.start_from(0, states(DType::F32), &denoiser, &noise).expect("starts");
        let whole = all(begin());
        assert!(whole.len() > 10);
        for stop in [0, 1, 5, whole.len() - 1, whole.len()] {
            let mut run = begin();
            let mut parts: Vec<_> = run.by_ref().take(stop).map(|step| numbers(&step.expect("steps").x)).collect();
            let saved = serde_json::to_string(&run.save().expect("saves")).expect("is data");
            let saved: SavedRun = serde_json::from_str(&saved).expect("is a run");
            parts.extend(all(sampler.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("resumes")));
            assert_eq!(whole, parts, "paused after {stop} steps");
        }
        let mut run = begin();
        run.next().expect("a step").expect("steps");
        let mut saved = serde_json::to_value(run.save().expect("saves")).expect("is data");
        saved["numbers"].as_array_mut().expect("numbers").truncate(3);
        let saved: SavedRun = serde_json::from_value(saved).expect("deserializes");
        let mut run: Run<'_, 2> =
            sampler.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("resumes");
        assert!(matches!(run.next(), Some(Err(SampleError::Incomplete { .. }))));
    }
}

/// The last step of `denoise_at_end` is what the denoiser expects there.
#[test]
fn the_end_is_what_the_denoiser_expects() {
    let calls = AtomicUsize::new(0);
    let denoiser = from_fn(Prediction::Sample, |x: Tensor<2>, _levels: &Levels| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok(x.mul_scalar(0.25))
    });
    let noise = Seeded::new(0);
    let plain = tolerance(3e-2).between(VpSde::default(), 0.9, 0.1).expect("a run");
    let denoising = tolerance(3e-2).denoise_at_end().between(VpSde::default(), 0.9, 0.1).expect("a run");
    let x = plain.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts").finish_state().expect("runs");
    let y = denoising.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts");
    let y = y.finish_state().expect("runs");
    assert_eq!((y.steps(), y.evaluations()), (x.steps() + 1, x.evaluations() + 1));
    assert_eq!(calls.load(Ordering::SeqCst), x.evaluations() + y.evaluations());
    let expected: Vec<f64> = numbers(&x.x()).iter().map(|x| 0.25 * x).collect();
    assert!(distance(&numbers(&y.x()), &expected) < 1e-12);
}

#[test]
fn settings_out_of_range_are_refused() {
    let setting = |result: Result<AdaptiveSde, PlanError>, expected: &str| match result {
        Err(PlanError::Setting { solver, setting, .. }) => {
            assert_eq!((solver, setting), ("adaptive SDE solver", expected));
        }
        other => panic!("{expected}: {other:?}"),
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        setting(AdaptiveSde::new(bad, 1.0), "relative tolerance");
        setting(AdaptiveSde::new(1.0, bad), "absolute tolerance");
        setting(tolerance(1.0).first_step(bad), "first step");
        setting(tolerance(1.0).max_step(bad), "largest step");
        setting(tolerance(1.0).step_rule(bad, 0.5), "safety factor");
        setting(tolerance(1.0).step_rule(0.5, bad), "exponent");
    }
    setting(tolerance(1.0).max_steps(0), "largest number of steps");
    assert!(matches!(tolerance(1.0).over(RectifiedFlow::default()), Err(PlanError::Singular { .. })));
    let vp = VpSde::default;
    assert!(matches!(tolerance(1.0).between(vp(), 1.5, 0.5), Err(PlanError::TimeRange { t: 1.5, .. })));
    assert!(matches!(tolerance(1.0).between(vp(), 0.5, f64::NAN), Err(PlanError::TimeRange { .. })));
    for (from, to) in [(0.1, 0.9), (0.5, 0.5)] {
        assert!(matches!(tolerance(1.0).between(vp(), from, to), Err(PlanError::Direction { .. })));
    }
    let (denoiser, noise) = (gaussian().denoiser(Prediction::Velocity).expect("binds"), Seeded::new(0));
    let short = tolerance(1e-5).max_steps(3).expect("above 0").over(vp()).expect("a run");
    let error =
        short.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts").finish().expect_err("tired");
    assert_eq!(error, SampleError::TooManySteps { limit: 3 });
}
