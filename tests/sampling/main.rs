//! Runs: batches, resuming, failures, constraints, and values that must not change.

#[path = "../common/mod.rs"]
mod common;
mod golden;
mod quickstart;

use burn::tensor::{DType, Device, Tensor};
use common::problem::{LAMBDA, even_lambda, processes};
use common::samplers::samplers;
use common::solvers::{plans, rows};
use langevin::core::denoiser::{Clamp, EnergyGuided, constraint_fn, energy_fn, from_fn};
use langevin::core::inverse::{Dps, KnownRegion, Masking, Measurement, PiGdm};
use langevin::core::noise::Seeded;
use langevin::core::process::{VeSde, VpSde};
use langevin::core::{
    DenoiseError, Denoiser, Estimate, Grid, Level, Levels, Load, Network, Prediction, Process, Query,
};
use langevin::models::{Labels, MlpConfig, UNet2dConfig};
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::schedulers::plan::{HostAnswer, Set, Src};
use langevin::schedulers::{
    Ddim, DormandPrince, Plan, PredictorCorrector, ProbabilityFlow, ReverseDiffusion, SampleError, Sampler, SamplerExt,
    SavedRun, Solver,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A velocity and a raw variance, for each value alone.
fn formula(x: f64, time: f64) -> (f64, f64) {
    (0.3 * x + 0.7 * (1.3 * x + 0.01 * time + 0.2).sin(), 0.5 + 0.4 * (0.7 * x - 0.02 * time).cos())
}

/// The formula on tensors.
struct Elementwise;

fn elementwise(x: &Tensor<2>, levels: &Levels) -> (Tensor<2>, Tensor<2>) {
    let shift = |factor: f64, offset: f64| levels.times(x).mul_scalar(factor).add_scalar(offset).reshape([-1, 1]);
    let wave = x.clone().mul_scalar(1.3).add(shift(0.01, 0.2)).sin();
    let variance = x.clone().mul_scalar(0.7).add(shift(-0.02, 0.0)).cos().mul_scalar(0.4).add_scalar(0.5);
    (x.clone().mul_scalar(0.3).add(wave.mul_scalar(0.7)), variance)
}

impl Denoiser<2> for Elementwise {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let (output, variance) = elementwise(&query.x, query.levels);
        Ok(Estimate::new(query.x, output, query.levels.clone(), Prediction::Velocity).with_variance(variance))
    }
}

/// A denoiser that leans on what it said before: its memory is part of the run.
struct Recalling;

impl Denoiser<2> for Recalling {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let (mut output, variance) = elementwise(&query.x, query.levels);
        for past in query.past {
            output = output.add(past.x0()?.mul_scalar(0.1));
        }
        let estimate = Estimate::new(query.x, output, query.levels.clone(), Prediction::Velocity);
        Ok(estimate.with_variance(variance))
    }
    fn memory(&self) -> usize {
        2
    }
}

fn host(x: &[f64], level: &Level) -> HostAnswer {
    let (of_x0, of_eps) = (Prediction::Velocity.x0(level), Prediction::Velocity.eps(level));
    let (of_x0, of_eps) = (of_x0.expect("velocity"), of_eps.expect("velocity"));
    let pairs: Vec<_> = x.iter().map(|x| formula(*x, level.time)).collect();
    HostAnswer {
        x0: x.iter().zip(&pairs).map(|(x, (v, _))| of_x0.x * x + of_x0.output * v).collect(),
        eps: x.iter().zip(&pairs).map(|(x, (v, _))| of_eps.x * x + of_eps.output * v).collect(),
        variance: Some(pairs.iter().map(|(_, variance)| *variance).collect()),
    }
}

fn load() -> Load {
    Load::on(&Device::flex())
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

fn largest_distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn runs_and_their_parts_can_be_sent() {
    fn sendable<T: Send + Sync>() {}
    sendable::<Plan>();
    sendable::<SavedRun>();
    sendable::<langevin::schedulers::RunState<4>>();
    sendable::<langevin::schedulers::Step<4>>();
}

/// The last state has the samples and the counts; only adaptive samplers do not know them beforehand.
#[test]
fn a_finished_run_can_tell_what_it_took() {
    let plan = ProbabilityFlow::heun().plan(&VpSde::default(), &Grid::uniform(5)).expect("a plan");
    let noise = Seeded::new(2);
    let start = || plan.start([2, 3], &Elementwise, &noise, load()).expect("a run");
    let end = start().finish_state().expect("samples");
    assert_eq!((end.steps(), end.evaluations()), (5, 10));
    assert_eq!(values(&end.x()), values(&start().finish().expect("samples")));
}

// A batch and its samples alone.

#[test]
fn a_batch_and_its_samples_alone_have_the_same_bits() {
    let noise = Seeded::new(3);
    for (name, plan) in plans() {
        let run = |first, rows| {
            let run = plan.start_at(first, [rows, 5], &Elementwise, &noise, load()).expect("a run");
            values(&run.finish().expect("samples"))
        };
        let together = run(7, 6);
        let alone: Vec<f64> = (7..13).flat_map(|sample| run(sample, 1)).collect();
        assert_eq!(together, alone, "{name}");
        assert!(largest_distance(&together[..5], &together[5..10]) > 1e-3, "{name}: samples are one and the same");
    }
}

/// Kernels of networks may sum in another order for another batch; samples of size 1 then differ in the last bits.
const NETWORK_TOLERANCE: f64 = 2e-5;

fn batch_with_network<N: Network<D, Cond = Labels>, const D: usize>(name: &str, net: &N, sample: [usize; D]) {
    let labels = [0, 2, 1, 2];
    let noise = Seeded::new(11);
    for (solver, plan) in plans() {
        if solver.contains("learned") {
            continue;
        }
        let run = |first: usize, rows: usize| {
            let mut shape = sample;
            shape[0] = rows;
            let condition = Labels::of(labels[first..first + rows].to_vec());
            let denoiser = net.denoiser(Prediction::Velocity, condition).expect("a denoiser");
            let denoiser = denoiser.guided(Labels::none(1), 1.5).expect("guidance");
            let run = plan.start_at(first as u64, shape, &denoiser, &noise, load()).expect("a run");
            values(&run.finish().expect("samples"))
        };
        let together = run(0, 4);
        let alone: Vec<f64> = (0..4).flat_map(|i| run(i, 1)).collect();
        let scale = together.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        let error = largest_distance(&together, &alone) / scale;
        assert!(error < NETWORK_TOLERANCE, "{name}, {solver}: {error:e}");
    }
}

#[test]
fn a_batch_and_its_samples_alone_agree_with_an_mlp() {
    let device = Device::flex();
    device.seed(1);
    let net =
        MlpConfig { classes: Some(3), ..MlpConfig::new(2).hidden(32).layers(2) }.init(&device).expect("a network");
    batch_with_network("MLP", &net, [0, 2]);
}

#[test]
fn a_batch_and_its_samples_alone_agree_with_a_unet() {
    let device = Device::flex();
    device.seed(2);
    let config = UNet2dConfig::images(1, 8).channels(&[8, 16]).attention_at(&[1]).norm_groups(4).classes(3);
    let net = config.init(&device).expect("a network");
    batch_with_network("UNet", &net, [0, 1, 8, 8]);
}

// Resuming.

fn resume_everywhere(name: &str, plan: &Plan, denoiser: &dyn Denoiser<2>) {
    let noise = Seeded::new(17);
    let start = || plan.start_at(4, [3, 2], denoiser, &noise, load()).expect("a run");
    let whole: Vec<(Vec<f64>, usize)> =
        start().map(|step| step.expect("a step")).map(|step| (values(&step.x), step.evaluations)).collect();
    assert_eq!(whole.len(), plan.steps());
    for pause in 0..=plan.steps() {
        let mut run = start();
        for step in run.by_ref().take(pause) {
            step.expect("a step");
        }
        let text = serde_json::to_string(&run.save().expect("a saved run")).expect("a saved run is data");
        let saved: SavedRun = serde_json::from_str(&text).expect("a saved run is data");
        let rest = plan.resume(&saved, denoiser, &noise, load()).expect("a resumed run");
        assert_eq!(rest.state().steps(), pause);
        let rest: Vec<_> =
            rest.map(|step| step.expect("a step")).map(|step| (values(&step.x), step.evaluations)).collect();
        assert_eq!(rest, whole[pause..], "{name}, paused after {pause} steps");
    }
}

#[test]
fn a_resumed_run_has_the_same_bits_after_every_step() {
    for (name, plan) in plans() {
        resume_everywhere(&name, &plan, &Elementwise);
    }
}

#[test]
fn a_resumed_run_takes_the_memory_of_its_denoiser_along() {
    let noise = Seeded::new(17);
    for (name, plan) in plans() {
        resume_everywhere(&name, &plan, &Recalling);
        // The memory matters: without it the samples are others.
        let end = |denoiser: &dyn Denoiser<2>| {
            values(&plan.start([3, 2], denoiser, &noise, load()).expect("a run").finish().expect("samples"))
        };
        assert!(largest_distance(&end(&Recalling), &end(&Elementwise)) > 1e-3, "{name}");
    }
}

#[test]
fn predictor_corrector_resumes_to_the_same_bits() {
    let ve = VeSde::default();
    let plan = ReverseDiffusion::new().plan(&ve, &even_lambda(&ve, 6)).expect("a plan");
    let (sampler, noise) = (PredictorCorrector::new(plan.clone(), 0.16, 2).expect("settings"), Seeded::new(17));
    let start = || sampler.start_at(4, [3, 2], &Elementwise, &noise, load()).expect("a run");
    let whole: Vec<Vec<f64>> = start().map(|step| values(&step.expect("a step").x)).collect();
    for pause in 0..=6 {
        let mut run = start();
        for step in run.by_ref().take(pause) {
            step.expect("a step");
        }
        let saved = run.save().expect("a saved run");
        let rest = sampler.resume(&saved, &Elementwise, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
        let other = plan.resume(&saved, &Elementwise as &dyn Denoiser<2>, &noise, load()).map(|_| ());
        assert!(matches!(other, Err(SampleError::OtherSampler { .. })), "the predictor alone took it up");
    }
}

/// What rows after the first `done` read that was written before them; the samples are always kept.
fn needed(plan: &Plan, done: usize) -> BTreeSet<Src> {
    let (mut needed, mut written) = (BTreeSet::from([Src::X(0)]), BTreeSet::new());
    for row in &plan.rows()[done..] {
        for draw in &row.draws {
            written.insert(Src::Z(draw.register()));
        }
        let mut sets = |sets: &[Set], written: &mut BTreeSet<Src>| {
            for set in sets {
                needed.extend(set.sum.iter().map(|term| term.of).filter(|of| !written.contains(of)));
                written.insert(Src::X(set.to));
            }
        };
        sets(&row.pre, &mut written);
        if let Some(eval) = &row.eval {
            written.extend([Src::X0(eval.into), Src::Eps(eval.into)]);
        }
        sets(&row.post, &mut written);
    }
    needed
}

#[test]
fn a_saved_run_holds_only_what_is_still_needed() {
    let mut largest = 0;
    for (name, plan) in plans() {
        let noise = Seeded::new(17);
        let mut run = plan.start([3, 2], &Elementwise, &noise, load()).expect("a run");
        while let Some(step) = run.next() {
            step.expect("a step");
            let expected = needed(&plan, run.state().row());
            assert_eq!(run.state().memory().len(), expected.len(), "{name}, row {}: {expected:?}", run.state().row());
            largest = largest.max(expected.len());
        }
        assert_eq!(run.state().memory().len(), 1, "{name}: in the end only the samples count");
    }
    assert!(largest > 3, "no plan has a memory");
}

#[test]
fn a_saved_run_is_refused_by_another_plan() {
    let (all, noise) = (plans(), Seeded::new(1));
    for (name, plan) in &all {
        let saved = plan.start([1, 2], &Elementwise, &noise, load()).expect("a run").save().expect("a saved run");
        for (other_name, other) in &all {
            let resumed = other.resume(&saved, &Elementwise as &dyn Denoiser<2>, &noise, load()).map(|_| ());
            // Euler in σ/α and LMS of order 1 are one plan.
            if name == other_name || plan.rows() == other.rows() {
                assert_eq!(resumed, Ok(()));
            } else {
                let Err(error) = resumed else { panic!("{other_name} takes the run of {name}") };
                let (expected, given) = (other.fingerprint(), plan.fingerprint());
                assert_eq!(error, SampleError::OtherSampler { expected, given });
                assert!(error.to_string().contains("another plan"), "{error}");
            }
        }
    }
}

#[test]
fn a_damaged_saved_run_is_refused() {
    let noise = Seeded::new(1);
    let (_, plan) = plans().remove(0);
    let mut run = plan.start([2, 2], &Elementwise, &noise, load()).expect("a run");
    run.next().expect("a step").expect("a step");
    let saved = serde_json::to_value(run.save().expect("a saved run")).expect("data");
    let resume = |value: &Value| {
        let saved: SavedRun = serde_json::from_value(value.clone()).expect("still data");
        plan.resume(&saved, &Elementwise as &dyn Denoiser<2>, &noise, load()).map(|_| ()).expect_err("damaged")
    };
    let mut empty = saved.clone();
    empty["memory"]["states"] = Value::Object(serde_json::Map::new());
    assert_eq!(resume(&empty), SampleError::Incomplete { row: 1 });

    let mut odd = saved.clone();
    let mut flat = saved["memory"]["states"]["0"].clone();
    flat["shape"] = serde_json::json!([4, 1]);
    odd["memory"]["states"]["1"] = flat;
    let odd: SavedRun = serde_json::from_value(odd).expect("still data");
    let mut run = plan.resume(&odd, &Elementwise, &noise, load()).expect("the samples are there");
    let error = run.next().expect("an error").expect_err("an error");
    assert_eq!(error, SampleError::CarriedShape { given: vec![4, 1], expected: vec![2, 2] });
    assert!(error.to_string().contains("value of shape [4, 1] beside samples of shape [2, 2]"), "{error}");

    let saved: SavedRun = serde_json::from_value(saved).expect("data");
    let rank = SamplerExt::<3>::resume(&plan, &saved, &Flat, &noise, load()).map(|_| ()).expect_err("another rank");
    assert_eq!(rank, SampleError::Rank { expected: 3, given: 2 });
    assert!(rank.to_string().contains("2 dimensions, expected 3"), "{rank}");
}

/// Answers with its input.
struct Flat;

impl<const D: usize> Denoiser<D> for Flat {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        Ok(Estimate::new(query.x.clone(), query.x, query.levels.clone(), Prediction::Sample))
    }
}

/// A plan with a value that crosses steps does not go on without it.
#[test]
fn a_run_without_a_value_that_its_plan_needs_is_an_error() {
    let (_, heun) = plans().into_iter().find(|(name, _)| name.contains("Heun")).expect("Heun");
    // Two steps from one of Heun: the second row of a step reads what the first has asked.
    let mut table = serde_json::to_value(&heun).expect("data");
    for (index, row) in table["rows"].as_array_mut().expect("rows").iter_mut().enumerate() {
        row["step"] = Value::from(index);
    }
    let plan: Plan = serde_json::from_value(table).expect("a plan");
    let noise = Seeded::new(1);
    let mut run = plan.start([2, 2], &Elementwise, &noise, load()).expect("a run");
    run.next().expect("a step").expect("a step");
    assert!(run.state().memory().len() > 1);
    let mut saved = serde_json::to_value(run.save().expect("a saved run")).expect("data");
    saved["memory"]["x0"] = Value::Object(serde_json::Map::new());
    let saved: SavedRun = serde_json::from_value(saved).expect("data");
    let mut run = plan.resume(&saved, &Elementwise, &noise, load()).expect("a run");
    let error = run.next().expect("an error").expect_err("an error");
    assert_eq!(error, SampleError::Incomplete { row: 1 });
    assert!(error.to_string().contains("lacks values that row 1"), "{error}");
}

// Failures.

/// Fails at one call.
struct FailsAt {
    call: usize,
    calls: AtomicUsize,
}

impl Denoiser<2> for FailsAt {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.call {
            return Err(DenoiseError::Condition { problem: "fell asleep".into() });
        }
        Recalling.denoise(query)
    }
    fn memory(&self) -> usize {
        2
    }
}

#[test]
fn a_failure_leaves_the_state_as_it_was_and_ends_the_run() {
    let noise = Seeded::new(23);
    for (name, plan) in plans() {
        for call in 0..plan.evaluations() {
            let denoiser = FailsAt { call, calls: AtomicUsize::new(0) };
            let mut run = plan.start([2, 2], &denoiser, &noise, load()).expect("a run");
            let mut before = serde_json::to_value(run.save().expect("a saved run")).expect("data");
            let error = loop {
                match run.next().expect("the failure comes before the end") {
                    Ok(_) => before = serde_json::to_value(run.save().expect("a saved run")).expect("data"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "the network fell asleep");
            let after = serde_json::to_value(run.save().expect("a saved run")).expect("data");
            assert_eq!(after, before, "{name}, call {call}");
            let steps = run.state().steps();
            assert!(run.next().is_none() && run.next().is_none(), "{name}: not fused");
            assert_eq!(run.finish().map(|_| ()).expect_err("no result"), SampleError::Unfinished { step: steps });
        }
    }
}

/// Also where the number of steps is not known beforehand.
#[test]
fn a_failed_adaptive_run_has_no_result() {
    let noise = Seeded::new(23);
    let sampler = DormandPrince::new(1e-3, 1e-3).expect("tolerances").over(VpSde::default()).expect("a sampler");
    let calls = AtomicUsize::new(0);
    let denoiser = from_fn(Prediction::Velocity, |x: Tensor<2>, levels: &Levels| {
        if calls.fetch_add(1, Ordering::SeqCst) == 20 {
            return Err(DenoiseError::Condition { problem: "fell asleep".into() });
        }
        Ok(elementwise(&x, levels).0)
    });
    let mut run = sampler.start([2, 2], &denoiser, &noise, load()).expect("a run");
    let steps = run.by_ref().take_while(Result::is_ok).count();
    assert!(run.next().is_none());
    assert_eq!(run.finish().map(|_| ()).expect_err("no result"), SampleError::Unfinished { step: steps });
}

#[test]
fn a_run_that_is_not_finite_says_so() {
    let noise = Seeded::new(1);
    let (_, plan) = plans().remove(0);
    let broken = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(f64::NAN)));
    let error = plan.start([2, 2], &broken, &noise, load()).expect("a run").finish().map(|_| ()).expect_err("NaN");
    assert_eq!(error, SampleError::NotFinite { step: 6 });
    let checked = plan.start([2, 2], &broken, &noise, load()).expect("a run").check_finite_every(2);
    let results: Vec<_> = checked.map(|step| step.map(|step| step.index)).collect();
    assert_eq!(results, [Ok(0), Err(SampleError::NotFinite { step: 2 })]);
}

#[test]
fn looking_after_each_step_names_the_first_that_is_not_finite() {
    let noise = Seeded::new(1);
    let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(6)).expect("a plan");
    // The answer breaks in the fourth of six steps and is well again after it; the state is not.
    let asked = AtomicUsize::new(0);
    let broken = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| {
        let question = asked.fetch_add(1, Ordering::Relaxed);
        Ok(x.mul_scalar(if question % 6 == 3 { f64::NAN } else { 0.5 }))
    });
    let run = || plan.start([2, 2], &broken, &noise, load()).expect("a run");
    assert_eq!(run().finish().map(|_| ()).expect_err("NaN"), SampleError::NotFinite { step: 6 });
    let steps: Vec<_> = run().check_finite_every(1).map(|step| step.map(|step| step.index)).collect();
    assert_eq!(steps, [Ok(0), Ok(1), Ok(2), Err(SampleError::NotFinite { step: 4 })]);
}

#[test]
fn finish_after_the_end_returns_the_samples() {
    let noise = Seeded::new(1);
    for (_, plan) in plans() {
        let mut run = plan.start([2, 2], &Elementwise, &noise, load()).expect("a run");
        let last = run.by_ref().last().expect("steps").expect("a step");
        assert_eq!(values(&run.finish().expect("samples")), values(&last.x));
    }
}

// Constraints.

#[test]
fn constraints_apply_after_every_step_in_their_order() {
    let noise = Seeded::new(29);
    let asked = Mutex::new(Vec::new());
    let denoiser = from_fn(Prediction::Velocity, |x: Tensor<2>, levels: &Levels| {
        asked.lock().expect("no panic").push(values(&x));
        Ok(elementwise(&x, levels).0)
    });
    let at = Mutex::new(Vec::new());
    let shift = constraint_fn(|x: Tensor<2>, levels: &Levels| {
        at.lock().expect("no panic").push(levels.clone());
        x.add_scalar(10.0)
    });
    let clamp = Clamp::new(-0.25, 0.25).expect("an interval");
    for (name, plan) in plans().into_iter().filter(|(name, _)| !name.contains("learned")) {
        asked.lock().expect("no panic").clear();
        at.lock().expect("no panic").clear();
        let run = plan.start([3, 2], &denoiser, &noise, load()).expect("a run").constrained(&clamp).constrained(&shift);
        let steps: Vec<_> = run.map(|step| step.expect("a step")).collect();
        let seen: Vec<Levels> = steps.iter().map(|step| step.levels.clone()).collect();
        assert_eq!(*at.lock().expect("no panic"), seen, "{name}");
        let asked = asked.lock().expect("no panic");
        // The first question of each step, if it has one and asks about the state as it is.
        let (mut firsts, mut call, mut step) = (vec![None; steps.len()], 0, 0);
        let mut inside = false;
        for row in plan.rows() {
            if row.eval.is_some() {
                if !inside && row.pre.is_empty() {
                    firsts[step] = Some(call);
                }
                (inside, call) = (true, call + 1);
            }
            if row.step.is_some() {
                (inside, step) = (false, step + 1);
            }
        }
        for (index, step) in steps.iter().enumerate() {
            let x = values(&step.x);
            assert!(x.iter().all(|x| (9.75..=10.25).contains(x)), "{name}: {x:?}");
            if let Some(Some(first)) = firsts.get(index + 1) {
                assert_eq!(asked[*first], x, "{name}: the next step starts elsewhere");
            }
        }
    }
}

#[test]
fn a_constraint_that_changes_the_shape_is_an_error() {
    let noise = Seeded::new(29);
    let (_, plan) = plans().remove(0);
    let narrow = constraint_fn(|x: Tensor<2>, _: &Levels| x.narrow(1, 0, 1));
    let mut run = plan.start([3, 2], &Elementwise, &noise, load()).expect("a run").constrained(&narrow);
    let error = run.next().expect("an error").expect_err("an error").to_string();
    assert!(error.contains("the constraint's result has shape [3, 1], expected [3, 2]"), "{error}");
    assert_eq!(run.state().steps(), 0);
}

// Tensors, the host, and values that stay.

#[test]
fn tensors_follow_the_host() {
    let noise = Seeded::new(31);
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-4)] {
        for (name, plan) in plans() {
            let load = load().dtype(dtype);
            let run = plan.start_at(2, [2, 3], &Elementwise, &noise, load).expect("a run");
            let start = values(&run.state().x());
            let tensors = values(&run.finish().expect("samples"));
            let on_host: Vec<f64> = start
                .chunks(3)
                .zip(2..)
                .flat_map(|(x, sample)| plan.run_host(x.to_vec(), sample, &noise, host).expect("a host run"))
                .collect();
            let error = largest_distance(&tensors, &on_host);
            assert!(error < tolerance, "{name} in {dtype:?}: {error:e}");
        }
    }
}

/// All predictions of one function lead to one sample through the tensor conversions, too.
#[test]
fn predictions_of_one_function_agree_on_tensors() {
    use langevin::core::exact::Posterior;
    let noise = Seeded::new(5);
    let predictions = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 },
    ];
    for (name, process) in processes() {
        let plan = Ddim::new().eta(0.5).expect("in range").plan(&process, &even_lambda(&process, 12)).expect("a plan");
        let ends: Vec<Vec<f64>> = predictions
            .iter()
            .map(|prediction| {
                let denoiser = common::problem::mixture().denoiser(*prediction).expect("a denoiser");
                let load = load().dtype(DType::F64);
                values(&plan.start([4, 2], &denoiser, &noise, load).expect("a run").finish().expect("samples"))
            })
            .collect();
        for (prediction, end) in predictions.iter().zip(&ends) {
            let error = largest_distance(end, &ends[0]);
            assert!(error < 1e-10, "{name} with {prediction:?}: {error:e}");
        }
    }
}
