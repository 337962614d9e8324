//! Adaptive steps: accuracy, independence of samples, dense output, resuming.

use super::{distance, mixture, order, processes, slope, start};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::exact::{ElementwiseMixture, ExactDenoiser, Gaussian, GaussianMixture, Posterior};
use langevin_core::noise::Seeded;
use langevin_core::process::{RectifiedFlow, VpSde};
use langevin_core::{DenoiseError, Denoiser, Estimate, Levels, Load, Prediction, Process, Query, denoiser};
use langevin_schedulers::ode::{AdaptiveFlow, DormandPrince};
use langevin_schedulers::{Run, SampleError, SamplerExt, SavedRun};
use std::sync::Mutex;

fn tolerance(tolerance: f64) -> DormandPrince {
    DormandPrince::new(tolerance, tolerance).expect("positive")
}

fn numbers<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// States of very different difficulty: near a mode, between two, far away.
fn states(dtype: DType) -> Tensor<2> {
    let x = [[0.1, 0.0], [-0.02, 0.61], [30.0, -45.0], [1.3, 0.9]];
    Tensor::from_data(x, (&Device::flex(), dtype))
}

fn sharp() -> GaussianMixture {
    let round = |v: f64| vec![v, 0.3 * v, 0.3 * v, v];
    GaussianMixture::new(vec![0.5, 0.5], vec![vec![-0.9, 0.4], vec![0.7, 0.8]], vec![round(1e-3), round(1e-4)])
        .expect("a mixture")
}

#[test]
fn errors_follow_the_tolerance_on_every_process() {
    let problem = mixture();
    for (name, process, noisy, clean) in processes() {
        let x = start(&*process, noisy);
        let solve = |method: DormandPrince| {
            let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &*process, t, x, out);
            method.solve_host(f, x.clone(), noisy, clean).expect("solves")
        };
        let exact = solve(tolerance(1e-13).max_steps(1_000_000).expect("above 0")).x;
        let runs: Vec<_> = [1e-4, 1e-6, 1e-8, 1e-10].map(|tol| (tol, solve(tolerance(tol)))).into();
        for (tol, run) in &runs {
            let error = distance(&run.x, &exact);
            assert!(error < 30.0 * tol, "{name}: error {error} at tolerance {tol}");
        }
        // Six decades of tolerance: about six decades of error, for 10^(6/5) = 16 times the work.
        let decades = (distance(&runs[0].1.x, &exact) / distance(&runs[3].1.x, &exact)).log10();
        assert!((4.8..7.2).contains(&decades), "{name}: {decades} decades");
        let work = runs[3].1.evaluations as f64 / runs[0].1.evaluations as f64;
        assert!((4.0..20.0).contains(&work), "{name}: {work} times the work");
    }
}

#[test]
fn both_directions_agree_with_the_closed_form() {
    let problem = Gaussian::new(vec![0.5, -0.3], vec![0.4, 0.15, 0.15, 0.3]).expect("a covariance");
    for (name, process, noisy, clean) in processes() {
        for (from, to) in [(noisy, clean), (clean, noisy)] {
            let x = start(&*process, from);
            let exact = problem.flow(&x, &process.level(from), &process.level(to)).expect("levels");
            let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &*process, t, x, out);
            let end = tolerance(1e-10).solve_host(f, x, from, to).expect("solves").x;
            assert!(distance(&end, &exact) < 1e-8, "{name} from {from} to {to}: {end:?}, exact {exact:?}");
        }
    }
}

#[test]
fn work_on_the_arenstorf_orbit_is_known() {
    // Hairer, Nørsett & Wanner, II.0: the restricted three-body problem. Their program DOPRI5 with its defaults
    // reports 1442 evaluations in 240 steps at this tolerance.
    let mu = 0.012277471;
    let f = |_: f64, y: &[f64], out: &mut [f64]| {
        let (a, b) = (y[0] + mu, y[0] - 1.0 + mu);
        let (d1, d2) = ((a * a + y[1] * y[1]).powf(1.5), (b * b + y[1] * y[1]).powf(1.5));
        out[0] = y[2];
        out[1] = y[3];
        out[2] = y[0] + 2.0 * y[3] - (1.0 - mu) * a / d1 - mu * b / d2;
        out[3] = y[1] - 2.0 * y[2] - (1.0 - mu) * y[1] / d1 - mu * y[1] / d2;
    };
    let y = vec![0.994, 0.0, 0.0, -2.001_585_106_379_082_5];
    let period = 17.065_216_560_157_964;
    let solution = tolerance(1e-7).solve_host(f, y.clone(), 0.0, period).expect("solves");
    // The orbit multiplies errors by about 1e4 on its way around.
    assert!(distance(&solution.x, &y) < 1e-2, "{solution:?}");
    assert_eq!(solution.evaluations, 1442, "{solution:?}");
    assert_eq!(solution.accepted + solution.rejected, 240, "{solution:?}");
}

#[test]
fn dense_output_has_order_at_least_four_between_steps() {
    let problem = mixture();
    let process = VpSde::default();
    let x = start(&process, 0.9);
    let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &process, t, x, out);
    let times: Vec<f64> = (0..40).map(|i| 0.883 - 0.019 * f64::from(i)).collect();
    let exact = tolerance(1e-13).max_steps(1_000_000).expect("above 0");
    let exact: Vec<Vec<f64>> =
        times.iter().map(|t| exact.solve_host(f, x.clone(), 0.9, *t).expect("solves").x).collect();
    let errors: Vec<f64> = [10.0, 20.0, 40.0, 80.0]
        .iter()
        .map(|steps| {
            // A loose tolerance and a largest step: steps of one size.
            let h = 0.8 / steps;
            let fixed = tolerance(1e3).first_step(h).expect("positive").max_step(h).expect("positive");
            let solution = fixed.solve_host_at(f, x.clone(), 0.9, 0.1, &times).expect("solves");
            solution.at.iter().zip(&exact).map(|(a, b)| distance(a, b)).fold(0.0, f64::max)
        })
        .collect();
    assert!(order(&errors) > 3.9, "order {}, errors {errors:?}", order(&errors));
}

#[test]
fn dense_output_on_the_host_includes_both_ends() {
    let f = |_: f64, x: &[f64], out: &mut [f64]| out[0] = -x[0];
    let solution = tolerance(1e-9).solve_host_at(f, vec![1.0], 0.0, 2.0, &[2.0, 0.0, 1.0, 1.0]).expect("solves");
    assert_eq!(solution.at[0], solution.x);
    assert_eq!(solution.at[1], [1.0]);
    assert_eq!(solution.at[2], solution.at[3]);
    assert!((solution.at[2][0] - (-1f64).exp()).abs() < 1e-7);
}

fn run_all(flow: &AdaptiveFlow<VpSde>, x: Tensor<2>, first: u64) -> (Vec<f64>, Vec<f64>) {
    let denoiser = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(0);
    let mut run = flow.start_from(first, x, &denoiser, &noise).expect("starts");
    for step in &mut run {
        step.expect("steps");
    }
    (numbers(&run.state().x()), run.state().numbers.clone())
}

#[test]
fn a_batch_and_its_samples_alone_have_the_same_bits() {
    for dtype in [DType::F64, DType::F32] {
        let flow = tolerance(1e-5).over(VpSde::default()).expect("a run");
        let (together, clocks) = run_all(&flow, states(dtype), 0);
        let clocks: Vec<&[f64]> = clocks[1..].chunks(5).collect();
        for i in 0..4 {
            let (alone, clock) = run_all(&flow, states(dtype).narrow(0, i, 1), i as u64);
            assert_eq!(alone, together[2 * i..2 * i + 2], "sample {i} in {dtype:?}");
            assert_eq!(&clock[1..], clocks[i], "clock of sample {i} in {dtype:?}");
        }
        // They did not do so by all taking the same steps.
        let attempts: Vec<f64> = clocks.iter().map(|clock| clock[4]).collect();
        assert!(attempts.iter().any(|a| *a > 1.2 * attempts[0]), "{attempts:?}");
    }
}

#[test]
fn large_samples_alone_have_the_same_bits_too() {
    // Rows of 126 elements: sums must not depend on how many rows there are.
    let problem = ElementwiseMixture::new(vec![0.4, 0.6], vec![-0.8, 0.7], vec![0.05, 0.1]).expect("a mixture");
    let denoiser = problem.denoiser(Prediction::Velocity).expect("binds");
    let flow = tolerance(1e-4).over(VpSde::default()).expect("a run");
    let noise = Seeded::new(8);
    let load = Load::on(&Device::flex());
    let all = |first: u64, batch: usize| -> Vec<f64> {
        let run = flow.start_at(first, [batch, 2, 9, 7], &denoiser, &noise, load.clone()).expect("starts");
        run.finish().expect("runs").to_data().iter::<f64>().collect()
    };
    let together = all(0, 5);
    for (i, row) in together.chunks(126).enumerate() {
        assert_eq!(all(i as u64, 1), row, "sample {i}");
    }
}

#[test]
fn tensors_and_the_host_take_the_same_steps() {
    let flow = tolerance(1e-6).over(VpSde::default()).expect("a run");
    let (end, clocks) = run_all(&flow, states(DType::F64).narrow(0, 1, 1), 0);
    let (problem, process) = (sharp(), VpSde::default());
    let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &process, t, x, out);
    let host = tolerance(1e-6).solve_host(f, vec![-0.02, 0.61], 1.0, 1e-3).expect("solves");
    assert_eq!(clocks[5] as usize, host.accepted + host.rejected);
    assert!(host.rejected > 0, "no rejection was tested");
    assert!(distance(&end, &host.x) < 1e-9, "{end:?}, host {:?}", host.x);
}

#[test]
fn arrived_samples_are_frozen() {
    let flow = tolerance(1e-5).over(VpSde::default()).expect("a run");
    let denoiser = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(0);
    let end = VpSde::default().level(1e-3);
    let mut arrived: Vec<Option<Vec<f64>>> = vec![None; 4];
    let mut waited = 0;
    for step in flow.start_from(0, states(DType::F32), &denoiser, &noise).expect("starts") {
        let step = step.expect("steps");
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
fn batch_control_gives_all_samples_one_clock() {
    let flow = tolerance(1e-5).batch_control().over(VpSde::default()).expect("a run");
    let (end, clocks) = run_all(&flow, states(DType::F64), 0);
    let clocks: Vec<&[f64]> = clocks[1..].chunks(5).collect();
    assert!(clocks.iter().all(|clock| *clock == clocks[0]));
    let (tight, _) = run_all(&tolerance(1e-11).over(VpSde::default()).expect("a run"), states(DType::F64), 0);
    assert!(distance(&end, &tight) < 1e-3, "{end:?}, exact {tight:?}");
}

/// Steps `stop` times, saves as JSON, resumes and finishes; and the same without a pause.
fn paused(flow: &AdaptiveFlow<VpSde>, stop: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let denoiser = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(0);
    let all = |run: Run<'_, 2>| run.map(|step| numbers(&step.expect("steps").x)).collect::<Vec<_>>();
    let begin = || flow.start_from(0, states(DType::F32), &denoiser, &noise).expect("starts");
    let whole = all(begin());
    let mut run = begin();
    let mut parts: Vec<_> = (0..stop).map(|_| numbers(&run.next().expect("goes on").expect("steps").x)).collect();
    let saved = serde_json::to_string(&run.save().expect("saves")).expect("is data");
    let saved: SavedRun = serde_json::from_str(&saved).expect("is a run");
    parts.extend(all(flow.resume(&saved, &denoiser, &noise, Load::on(&Device::flex())).expect("resumes")));
    (whole, parts)
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let flow = tolerance(1e-4).over(VpSde::default()).expect("a run");
    for stop in [1, 4, 9] {
        let (whole, parts) = paused(&flow, stop);
        assert!(whole.len() > 10);
        assert_eq!(whole, parts);
    }
    let dense = flow.output_at(&[1.0, 0.8, 0.5, 0.4999, 0.3, 0.01]).expect("ordered");
    for stop in [1, 3, 6] {
        let (whole, parts) = paused(&dense, stop);
        assert_eq!(whole.len(), 7);
        assert_eq!(whole, parts);
    }
}

#[test]
fn a_saved_run_that_was_edited_is_refused() {
    let flow = tolerance(1e-4).over(VpSde::default()).expect("a run");
    let dense = flow.clone().output_at(&[0.9, 0.8, 0.5]).expect("ordered");
    let denoiser = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let (noise, load) = (Seeded::new(0), Load::on(&Device::flex()));
    for (flow, lost) in [(&flow, "numbers"), (&dense, "numbers"), (&dense, "memory")] {
        let mut run = flow.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts");
        run.next().expect("a step").expect("steps");
        let mut saved = serde_json::to_value(run.save().expect("saves")).expect("serializes");
        match lost {
            "numbers" => saved["numbers"].as_array_mut().expect("numbers").truncate(3),
            _ => saved["memory"]["states"].as_object_mut().expect("states").retain(|register, _| register == "0"),
        }
        let saved: SavedRun = serde_json::from_value(saved).expect("deserializes");
        let mut run: Run<'_, 2> = flow.resume(&saved, &denoiser, &noise, load.clone()).expect("resumes");
        let error = run.next().expect("an error").expect_err("an error");
        assert!(matches!(error, SampleError::Incomplete { .. }), "{lost}: {error}");
    }
}

#[test]
fn output_times_are_met_exactly_and_change_nothing() {
    let flow = tolerance(1e-7).over(VpSde::default()).expect("a run");
    let (end, _) = run_all(&flow, states(DType::F64), 0);
    let times = [1.0, 0.7, 0.3, 0.1, 0.0995, 1e-3];
    let dense = flow.clone().output_at(&times).expect("ordered");
    let denoiser = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let noise = Seeded::new(0);
    let run = dense.start_from(0, states(DType::F64), &denoiser, &noise).expect("starts");
    let steps: Vec<_> = run.map(|step| step.expect("steps")).collect();
    assert_eq!(steps.len(), times.len());
    for (step, t) in steps.iter().zip(times) {
        assert_eq!(step.levels, Levels::Shared(VpSde::default().level(t)));
        if t < 1.0 {
            // An integration that ends there.
            let direct = tolerance(1e-10).between(VpSde::default(), 1.0, t).expect("a run");
            let (direct, _) = run_all(&direct, states(DType::F64), 0);
            assert!(distance(&numbers(&step.x), &direct) < 2e-5, "at {t}");
        }
    }
    assert_eq!(numbers(&steps[0].x), numbers(&states(DType::F64)));
    assert_eq!(numbers(&steps[5].x), end);
    let solved = dense.solve_dense(states(DType::F64), &denoiser, &noise).expect("solves");
    assert_eq!(numbers(&solved[2]), numbers(&steps[2].x));
}

#[test]
fn a_constraint_makes_the_kept_slope_stale() {
    // One step of 0.1, a shift, one step of 0.1: the second must start from the slope at the shifted state.
    let problem = mixture();
    let shift = denoiser::constraint_fn(|x: Tensor<2>, _levels: &Levels| x.add_scalar(0.1));
    let sized = |h: f64| tolerance(1e3).first_step(h).expect("positive").max_step(h).expect("positive");
    let flow = sized(0.125).between(RectifiedFlow::default(), 0.75, 0.5).expect("a run");
    let exact = problem.clone().denoiser(Prediction::Flow).expect("binds");
    let noise = Seeded::new(0);
    let x = Tensor::<2>::from_data([[0.4, -0.2]], (&Device::flex(), DType::F64));
    let run = flow.start_from(0, x, &exact, &noise).expect("starts").constrained(&shift);
    let end = numbers(&run.finish().expect("runs"));

    let process = RectifiedFlow::default();
    let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&problem, &process, t, x, out);
    let mut x = vec![0.4, -0.2];
    for t in [0.75, 0.625] {
        x = sized(0.125).solve_host(f, x, t, t - 0.125).expect("solves").x;
        x.iter_mut().for_each(|x| *x += 0.1);
    }
    assert!(distance(&end, &x) < 1e-12, "{end:?}, by hand {x:?}");
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
    let exact = sharp().denoiser(Prediction::Epsilon).expect("binds");
    let noting = Noting { exact, notes: Mutex::new(Vec::new()) };
    let flow = tolerance(1e-6).over(VpSde::default()).expect("a run");
    let noise = Seeded::new(0);
    let mut run = flow.start_from(0, states(DType::F64).narrow(0, 1, 1), &noting, &noise).expect("starts");
    let accepted = run.by_ref().filter(|step| step.is_ok()).count();
    let notes = noting.notes.lock().expect("no panics");
    assert_eq!(run.state().evaluations(), notes.len());
    // Two evaluations choose the first step; every attempt has six.
    let attempts = (notes.len() - 2) / 6;
    assert!(attempts > accepted, "no rejection was tested");
    for attempt in 1..attempts {
        // The first new stage lies beyond the last committed state, which is what memory must hold.
        let (asked, past) = notes[2 + 6 * attempt];
        assert!(past.expect("remembers") > asked, "attempt {attempt}: asked at {asked}, remembers {past:?}");
    }
}

#[test]
fn the_end_of_a_velocity_model_may_be_pure_noise() {
    // α = 0 at t = 1 of a rectified flow: fine for a flow prediction, which is the slope itself.
    let problem = mixture();
    let flow = tolerance(1e-6).over(RectifiedFlow::default()).expect("a run");
    let exact = problem.denoiser(Prediction::Flow).expect("binds");
    let noise = Seeded::new(1);
    let x = flow.start([64, 2], &exact, &noise, Load::on(&Device::flex())).expect("starts").finish().expect("runs");
    assert!(numbers(&x).iter().all(|x| x.abs() < 4.0));
}
