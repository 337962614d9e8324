//! Parallel-in-time sampling against the sequential run of the same plans.

mod common;

use burn::tensor::{Device, Tensor};
use common::problem::{even_lambda, mixture};
use common::solvers::plans;
use langevin::core::denoiser::{Clamp, from_fn};
use langevin::core::exact::Posterior;
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{DenoiseError, Denoiser, Estimate, Grid, Level, Levels, Load, Prediction, Query};
use langevin::schedulers::{Ddim, Ddpm, DpmSolver, Picard, Plan, RePaint, SampleError, SamplerExt, SavedRun, Solver};
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Smooth, with a variance, and the same bits in any batch; counts its calls and the rows that it is asked about.
#[derive(Default)]
struct Elementwise {
    calls: AtomicUsize,
    rows: AtomicUsize,
}

impl Elementwise {
    fn answer(&self, x: Tensor<2>, levels: &Levels) -> Estimate<2> {
        let shift = levels.times(&x).mul_scalar(0.01).reshape([-1, 1]);
        let wave = x.clone().mul_scalar(1.3).add(shift).sin().mul_scalar(0.7);
        let output = x.clone().mul_scalar(0.3).add(wave);
        let variance = x.clone().mul_scalar(0.7).cos().mul_scalar(0.4).add_scalar(0.5);
        Estimate::new(x, output, levels.clone(), Prediction::Velocity).with_variance(variance)
    }
}

impl Denoiser<2> for Elementwise {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(query.x.dims()[0], Ordering::SeqCst);
        Ok(self.answer(query.x, query.levels))
    }
    fn denoise_each(
        &self,
        states: &[Tensor<2>],
        levels: &[Level],
        _noise: &dyn langevin::core::NoiseSource,
    ) -> Result<Vec<Estimate<2>>, DenoiseError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(states.iter().map(|x| x.dims()[0]).sum(), Ordering::SeqCst);
        Ok(states.iter().zip(levels).map(|(x, level)| self.answer(x.clone(), &Levels::Shared(*level))).collect())
    }
}

fn picard(plan: &Plan, window: usize, tolerance: f64) -> Picard {
    Picard::over(plan.clone(), window).and_then(|sampler| sampler.tolerance(tolerance)).expect("settings")
}

/// Without a tolerance: every plan, deterministic, stochastic, multistep or with inner stages, ends at the same bits, in no
/// more rounds than it has questions.
#[test]
fn without_a_tolerance_the_result_is_the_sequential_one() {
    let noise = Seeded::new(3);
    let mut fewer = 0;
    for (name, plan) in plans() {
        let steps = |denoiser: &Elementwise| -> Vec<(Vec<f64>, Option<Vec<f64>>)> {
            let run = plan.start_at(2, [3, 2], denoiser, &noise, load()).expect("a run");
            run.map(|step| step.expect("a step")).map(|step| (values(&step.x), step.x0.as_ref().map(values))).collect()
        };
        let expected = steps(&Elementwise::default());
        for window in [1, 3, 100] {
            let (sampler, denoiser) = (picard(&plan, window, 0.0), Elementwise::default());
            let mut run = sampler.start_at(2, [3, 2], &denoiser, &noise, load()).expect("a run");
            let found: Vec<_> = run
                .by_ref()
                .map(|step| step.expect("a step"))
                .map(|step| (values(&step.x), step.x0.as_ref().map(values)))
                .collect();
            assert_eq!(found, expected, "{name}, window {window}");
            let (rounds, evaluations) = (Picard::rounds(run.state()), run.state().evaluations());
            assert!(rounds <= plan.evaluations(), "{name}, window {window}: {rounds} rounds");
            assert_eq!((rounds, 3 * evaluations), (denoiser.calls.into_inner(), denoiser.rows.into_inner()), "{name}");
            assert!(evaluations >= plan.evaluations() && (window > 1 || evaluations == rounds));
            fewer += usize::from(window == 100 && rounds < plan.evaluations());
        }
    }
    // Some settle to the bit before the last round.
    println!("{fewer} plans took fewer rounds");
}

/// With a tolerance: the end is as near as it says, in far fewer rounds.
#[test]
fn a_tolerance_is_kept_in_fewer_rounds() {
    let (noise, vp) = (Seeded::new(5), VpSde::default());
    let denoiser = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let solvers: [(&str, Box<dyn Solver>); 4] = [
        ("DDIM", Box::new(Ddim::new())),
        ("DDPM", Box::new(Ddpm::new())),
        ("2M", Box::new(DpmSolver::multistep(2).expect("an order"))),
        ("DDIM, eta 0.5", Box::new(Ddim::new().eta(0.5).expect("in range"))),
    ];
    for (name, solver) in solvers {
        let plan = solver.plan(&vp, &even_lambda(&vp, 80)).expect("a plan");
        let sequential = plan.start([16, 2], &denoiser, &noise, load()).expect("a run").finish().expect("samples");
        let mut rounds = Vec::new();
        for tolerance in [1e-1, 1e-2, 1e-3, 1e-4] {
            let run = picard(&plan, 80, tolerance);
            let end = run.start([16, 2], &denoiser, &noise, load()).expect("a run").finish_state().expect("samples");
            let error = largest_distance(&values(&end.x()), &values(&sequential));
            println!("{name}, tolerance {tolerance}: {} rounds, error {error:.1e}", Picard::rounds(&end));
            assert!(error <= 5.0 * tolerance + 1e-6, "{name}: {error:e} with a tolerance of {tolerance}");
            rounds.push(Picard::rounds(&end));
        }
        assert!(rounds.windows(2).all(|pair| pair[0] <= pair[1]), "{name}: {rounds:?}");
        assert!(rounds[2] < 40, "{name}: {rounds:?} rounds instead of 80");
    }
}

/// A run saved after any step goes on to the same bits, in as many rounds.
#[test]
fn a_resumed_run_has_the_same_bits() {
    let (noise, vp) = (Seeded::new(7), VpSde::default());
    let plan = Ddpm::new().plan(&vp, &even_lambda(&vp, 9)).expect("a plan");
    let (sampler, denoiser) = (picard(&plan, 4, 1e-2), Elementwise::default());
    let start = || sampler.start_at(4, [3, 2], &denoiser, &noise, load()).expect("a run");
    let whole: Vec<(Vec<f64>, usize)> =
        start().map(|step| step.expect("a step")).map(|step| (values(&step.x), step.evaluations)).collect();
    for pause in 0..=9 {
        let mut run = start();
        for step in run.by_ref().take(pause) {
            step.expect("a step");
        }
        let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
        let saved: SavedRun = serde_json::from_str(&text).expect("data");
        let rest = sampler.resume(&saved, &denoiser as &dyn Denoiser<2>, &noise, load()).expect("a resumed run");
        let rest: Vec<_> =
            rest.map(|step| step.expect("a step")).map(|step| (values(&step.x), step.evaluations)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
        let other = plan.resume(&saved, &denoiser as &dyn Denoiser<2>, &noise, load()).map(|_| ());
        assert!(matches!(other, Err(SampleError::OtherSampler { .. })));
    }
}

/// Constraints move the samples after every step: what was settled ahead is asked about again.
#[test]
fn constraints_are_seen_by_the_next_step() {
    let (noise, vp) = (Seeded::new(9), VpSde::default());
    let plan = DpmSolver::multistep(2).expect("an order").plan(&vp, &even_lambda(&vp, 8)).expect("a plan");
    let (clamp, denoiser) = (Clamp::new(-0.4, 0.4).expect("an interval"), Elementwise::default());
    let sequential = plan.start([3, 2], &denoiser, &noise, load()).expect("a run").constrained(&clamp);
    let sampler = picard(&plan, 5, 0.0);
    let parallel = sampler.start([3, 2], &denoiser, &noise, load()).expect("a run").constrained(&clamp);
    for (a, b) in sequential.zip(parallel) {
        assert_eq!(values(&a.expect("a step").x), values(&b.expect("a step").x));
    }
}

/// Jumps are steps without a question, and what is known goes along.
#[test]
fn plans_with_known_regions_run_in_parallel() {
    let (noise, vp) = (Seeded::new(11), VpSde::default());
    let plan =
        RePaint::around(Ddpm::new()).jumps(2, 2).expect("settings").plan(&vp, &Grid::uniform(8)).expect("a plan");
    let (sampler, denoiser) = (picard(&plan, 6, 0.0), Elementwise::default());
    let row = |values: [f64; 2]| Tensor::<2>::from_data([values], &Device::flex());
    let known = |run: langevin::schedulers::Run<'_, 2>| {
        values(&run.known(row([0.7, 0.0]), row([1.0, 0.0])).expect("an image").finish().expect("samples"))
    };
    let expected = known(plan.start([3, 2], &denoiser, &noise, load()).expect("a run"));
    assert_eq!(known(sampler.start([3, 2], &denoiser, &noise, load()).expect("a run")), expected);
}

#[test]
fn failures_and_memories_are_errors() {
    struct Recalling;
    impl Denoiser<2> for Recalling {
        fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
            Elementwise::default().denoise(query)
        }
        fn memory(&self) -> usize {
            1
        }
    }
    let (noise, vp) = (Seeded::new(1), VpSde::default());
    let plan = Ddim::new().plan(&vp, &Grid::uniform(5)).expect("a plan");
    let sampler = picard(&plan, 3, 1e-3);
    let error = sampler.start([1, 2], &Recalling, &noise, load()).map(drop).expect_err("memory");
    assert!(matches!(error, SampleError::Unsupported { what: "a denoiser with memory", .. }), "{error}");
    let failing = from_fn(Prediction::Epsilon, |_: Tensor<2>, _: &Levels| {
        Err(DenoiseError::Condition { problem: "fell asleep".into() })
    });
    let mut run = sampler.start([1, 2], &failing, &noise, load()).expect("a run");
    assert!(run.next().expect("an error").is_err() && run.next().is_none());
    assert_eq!(run.state().evaluations(), 0);
}
