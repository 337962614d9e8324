//! Samples that grow from step to step: against diffusers, on every process, and what a run of any kind promises.

use crate::{begin, count, largest_distance, network, numbers, reference, shape, values, wave};
use burn::tensor::{DType, Device, Tensor};
use langevin::core::denoiser::from_fn;
use langevin::core::grid::End;
use langevin::core::noise::{Injected, Seeded};
use langevin::core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, SubVpSde, TrigFlow, VeSde, VpSde};
use langevin::core::{DenoiseError, Denoiser, Estimate, Grid, Key, Levels, Load, Prediction, Process, Query};
use langevin::schedulers::consistency::{Lcm, Multistep, Resize, Scalewise, Tcd};
use langevin::schedulers::diffusers::from_config;
use langevin::schedulers::plan::Plan;
use langevin::schedulers::{
    Ddim, Ddpm, PlanError, RePaint, SampleError, Sampler, SamplerExt, SavedRun, Solver, sigma::EulerAncestral,
};
use serde_json::Value;

fn load() -> Load {
    Load::on(&Device::flex())
}

/// The largest distance between the states of a recorded run and those here.
fn against_recorded<const D: usize>(case: &Value) -> f64 {
    let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
    let sampler = scheduler.scalewise(count(&case["steps"])).expect("a sampler");
    // As plain data it is the same sampler.
    let sampler: Scalewise = serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).expect("a sampler");
    let first: [usize; D] = shape(&case["shape"]);
    let states = case["states"].as_array().expect("states");
    let mut noise = Injected::new();
    for (step, state) in states.iter().enumerate().take(states.len() - 1) {
        let drawn = wave(shape::<D>(&state["shape"]).iter().product(), 0.37, (step + 1) as f64);
        noise = noise.with(Key::step(step as u64, 0), 0..first[0] as u64, drawn).expect("even rows");
    }
    let network = network(scheduler.prediction());
    let run = sampler.start_from(0, begin(first), &network, &noise).expect("a run");
    let mut largest = 0.0f64;
    let mut steps = 0;
    for (step, state) in run.zip(states) {
        let step = step.expect("a step");
        assert_eq!(step.x.dims(), shape::<D>(&state["shape"]), "{}", case["config"]);
        largest = largest.max(largest_distance(&values(&step.x), &numbers(&state["x"])));
        steps += 1;
    }
    assert_eq!(steps, states.len());
    noise.finish().expect("all noise is used");
    largest
}

#[test]
fn growing_runs_are_those_of_diffusers() {
    let reference = reference();
    let cases = reference["grown"].as_array().expect("cases");
    let mut seen = Vec::new();
    for case in cases {
        let dimensions = case["shape"].as_array().expect("a shape").len();
        let largest = match dimensions {
            3 => against_recorded::<3>(case),
            4 => against_recorded::<4>(case),
            5 => against_recorded::<5>(case),
            other => panic!("{other} dimensions"),
        };
        println!("{}: {largest:.1e}", case["config"]);
        assert!(largest < 1e-5, "{}: {largest}", case["config"]);
        let mode = case["config"]["upscale_mode"].as_str().unwrap_or("bicubic");
        seen.push((Resize::from_name(mode).expect("a mode"), dimensions));
    }
    for resize in Resize::ALL {
        assert!(
            resize.dimensions().all(|dimensions| seen.contains(&(resize, dimensions))),
            "{resize:?} is not recorded"
        );
    }
}

// On every process.

/// Jumps to data on each process, in four steps.
fn plans() -> Vec<(&'static str, Plan)> {
    let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).expect("a chain");
    let jump = Multistep::new();
    let ending = Multistep::new().ending_at(0.002).expect("in range").noise(1.1).expect("in range");
    let range = || Grid::uniform(4).ending(End::Range);
    let plan = |name, solver: &dyn Solver, process: &dyn Process, grid: &Grid| {
        (name, solver.plan(process, grid).expect("a plan"))
    };
    let karras = Grid::karras(4, 7.0).expect("a grid").ending(End::Range);
    vec![
        plan("flow", &jump, &RectifiedFlow::new().shift(3.0).expect("in range"), &range()),
        plan("TrigFlow", &jump, &TrigFlow::new(0.5).expect("in range"), &range()),
        plan("EDM", &ending, &Edm::default(), &karras),
        plan("VP", &jump, &VpSde::default(), &Grid::uniform_lambda(4)),
        plan("sub-VP", &jump, &SubVpSde::default(), &Grid::uniform(4)),
        plan("VE", &jump, &VeSde::default(), &karras),
        plan("LCM on a chain", &Lcm::new(), &chain, &Grid::times(vec![999.0, 759.0, 499.0, 259.0]).expect("a grid")),
        plan(
            "LCM on a flow",
            &Lcm::new(),
            &RectifiedFlow::new().network_time_scale(1000.0).expect("in range"),
            &range(),
        ),
    ]
}

/// A network that answers about x_0, value by value.
fn elementwise<const D: usize>() -> impl Denoiser<D> {
    from_fn(Prediction::Sample, |x: Tensor<D>, levels: &Levels| {
        Ok(levels.map(|level| 1.0 / level.alpha.hypot(level.sigma)).times(x).sin())
    })
}

fn grown(plan: &Plan, factors: [f64; 3]) -> Scalewise {
    Scalewise::over(plan.clone(), factors.to_vec()).expect("a sampler")
}

#[test]
fn at_one_size_it_is_the_plan() {
    let noise = Seeded::new(4);
    for (name, plan) in plans() {
        let (still, moving) = (grown(&plan, [1.0; 3]), grown(&plan, [1.25, 1.5, 1.0]));
        let load = || load().dtype(DType::F64);
        let run = |sampler: &dyn Sampler<4>| {
            let sampler = &sampler;
            values(&sampler.start([2, 1, 4, 5], &elementwise(), &noise, load()).unwrap().finish().unwrap())
        };
        let expected = run(&plan);
        assert!(largest_distance(&run(&still), &expected) < 1e-12, "{name}");
        assert!(largest_distance(&run(&moving), &expected) > 1e-3, "{name}: resizing does nothing");
        let prints = [&still, &moving, &still.clone().by(Resize::Area)].map(Sampler::<4>::fingerprint);
        assert!(prints[0] != prints[1] && prints[0] != prints[2] && !prints.contains(&plan.fingerprint()), "{name}");
    }
}

/// Where every answer is one number c, a state is α·c and noise of the level, at each size, as it is for the plan.
#[test]
fn noise_is_added_at_the_new_size() {
    let noise = Seeded::new(9);
    let constant = from_fn(Prediction::Sample, |x: Tensor<4>, _: &Levels| Ok(x.zeros_like().add_scalar(0.7)));
    for (name, plan) in plans() {
        let sampler = grown(&plan, [2.0, 3.0, 4.0]);
        let run = sampler.start([8, 2, 16, 16], &constant, &noise, load().dtype(DType::F64)).expect("a run");
        for (step, row) in run.zip(plan.rows()) {
            let step = step.expect("a step");
            let x = values(&step.x);
            let level = row.after.level;
            let mut sigma = if row.draws.is_empty() { 0.0 } else { level.sigma };
            if name == "EDM" && sigma > 0.0 {
                sigma = 1.1 * (sigma * sigma - 0.002 * 0.002).sqrt();
            }
            // LCM ends in the jump itself.
            let alpha = if name.starts_with("LCM") && sigma == 0.0 { 1.0 } else { level.alpha };
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            // LCM's boundary keeps up to 1e-5 of the state.
            let slack = if name.starts_with("LCM") { 1e-3 } else { 1e-12 };
            let (of_mean, of_variance) = (sigma / n.sqrt(), sigma * sigma * (2.0 / n).sqrt());
            assert!((mean - 0.7 * alpha).abs() < 4.0 * of_mean + slack, "{name}, step {}: {mean}", step.index);
            let off = (variance - sigma * sigma).abs();
            assert!(off < 4.0 * of_variance + slack * slack, "{name}, step {}: {variance}", step.index);
        }
    }
}

#[test]
fn batches_and_resumed_runs_have_the_same_bits() {
    let noise = Seeded::new(11);
    for (name, plan) in plans() {
        let sampler = grown(&plan, [1.25, 2.0, 1.5]).by(Resize::Bilinear);
        let network = elementwise();
        let start =
            |first: u64, rows: usize| sampler.start_at(first, [rows, 2, 4, 4], &network, &noise, load()).unwrap();
        let whole = values(&start(5, 3).finish().expect("samples"));
        let alone: Vec<f64> = (5..8).flat_map(|sample| values(&start(sample, 1).finish().expect("samples"))).collect();
        assert_eq!(whole, alone, "{name}");
        for steps in 0..=4 {
            let mut run = start(5, 3);
            run.by_ref().take(steps).for_each(|step| drop(step.expect("a step")));
            let json = serde_json::to_string(&run.save().expect("plain data")).expect("JSON");
            let saved: SavedRun = serde_json::from_str(&json).expect("a run");
            let resumed = SamplerExt::<4>::resume(&sampler, &saved, &network, &noise, load()).expect("a run");
            assert_eq!(values(&resumed.finish().expect("samples")), whole, "{name} after {steps} steps");
            // It is the run of this sampler alone.
            let other = grown(&plan, [1.25, 2.0, 1.5]);
            let error = SamplerExt::<4>::resume(&other, &saved, &network, &noise, load()).map(drop).unwrap_err();
            assert!(matches!(error, SampleError::OtherSampler { .. }), "{error}");
        }
    }
}

// What cannot be.

#[test]
fn factors_that_do_not_fit_are_refused() {
    let plan = Multistep::new().plan(&RectifiedFlow::new(), &Grid::uniform(4).ending(End::Range)).expect("a plan");
    for factors in [
        vec![],
        vec![1.5, 2.0],
        vec![1.5, 2.0, 2.5, 3.0],
        vec![1.5, 0.0, 2.0],
        vec![1.5, -2.0, 2.0],
        vec![1.5, f64::NAN, 2.0],
        vec![f64::INFINITY, 2.0, 2.0],
    ] {
        let error = Scalewise::over(plan.clone(), factors.clone()).expect_err("no sampler");
        assert!(matches!(error, PlanError::Setting { .. }) && error.to_string().contains("scale factor"), "{error}");
        // Nor is it read.
        let json = serde_json::json!({ "plan": plan, "factors": factors });
        assert!(serde_json::from_value::<Scalewise>(json).is_err());
    }
}

#[test]
fn solvers_that_keep_noise_are_refused() {
    let (vp, grid) = (VpSde::default(), Grid::uniform(4));
    let over = |solver: &dyn Solver| Scalewise::over(solver.plan(&vp, &grid).expect("a plan"), vec![1.0; 3]);
    let refused = |solver: &dyn Solver| match over(solver) {
        Err(PlanError::Combination { first, reason, .. }) if first == "scale-wise sampling" => reason,
        other => panic!("{other:?}"),
    };
    for solver in [&Ddpm::new() as &dyn Solver, &Lcm::new().boundary(1e-3, 0.5).expect("in range")] {
        assert!(refused(solver).contains("no longer white"));
    }
    let repaint = RePaint::around(Ddpm::new()).jumps(1, 1).expect("settings");
    for solver in [&Ddim::new() as &dyn Solver, &EulerAncestral::new(), &repaint] {
        assert!(refused(solver).contains("a jump to data"));
    }
    let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).expect("a chain");
    let grid = Grid::times(vec![999.0, 499.0]).expect("a grid");
    let tcd = Tcd::new(0.3).expect("in range").plan(&chain, &grid).expect("a plan");
    assert!(matches!(Scalewise::over(tcd, vec![2.0]), Err(PlanError::Combination { .. })));
}

fn failure<const D: usize>(sampler: &Scalewise, begin: [usize; D], denoiser: &dyn Denoiser<D>) -> SampleError {
    let noise = Seeded::new(1);
    let mut run = match sampler.start(begin, denoiser, &noise, load()) {
        Ok(run) => run,
        Err(error) => return error,
    };
    let error = run.next().expect("a step").map(drop).expect_err("no step");
    assert_eq!((run.state().steps(), run.state().evaluations()), (0, 0), "nothing is asked first");
    error
}

#[test]
fn shapes_that_cannot_be_resized_are_errors() {
    let plan = Multistep::new().plan(&RectifiedFlow::new(), &Grid::uniform(4).ending(End::Range)).expect("a plan");
    for resize in Resize::ALL {
        let sampler = grown(&plan, [1.0, 1.5, 2.0]).by(resize);
        let check = |given: usize, error: Option<SampleError>| match error {
            Some(SampleError::ResizedRank { resize: name, given: found, expected }) => {
                assert!(!resize.dimensions().contains(&given) && (name, found) == (resize.name(), given));
                assert!(expected.starts_with(&resize.dimensions().start().to_string()), "{expected}");
            }
            other => assert!(other.is_none() && resize.dimensions().contains(&given), "{resize:?}: {other:?}"),
        };
        let noise = Seeded::new(1);
        fn error<const D: usize>(sampler: &Scalewise, begin: [usize; D], noise: &Seeded) -> Option<SampleError> {
            let (network, load) = (elementwise(), load());
            let run = sampler.start(begin, &network, noise, load).expect("a run");
            run.finish().err()
        }
        check(2, error(&sampler, [2, 4], &noise));
        check(3, error(&sampler, [1, 2, 4], &noise));
        check(4, error(&sampler, [1, 2, 4, 3], &noise));
        check(5, error(&sampler, [1, 1, 2, 2, 2], &noise));
        check(6, error(&sampler, [1, 1, 2, 2, 1, 1], &noise));
    }
    for (factors, side) in [([1.0, 1.0, 0.1], 5), ([1e9, 1.0, 1.0], 4), ([f64::MAX, 1.0, 1.0], 4)] {
        let error = failure(&grown(&plan, factors), [1, 1, side, 4], &elementwise());
        assert!(matches!(error, SampleError::ResizedSide { .. }), "{error}");
    }
}

/// A denoiser of images with even sides.
struct Picky {
    memory: usize,
}

impl Denoiser<4> for Picky {
    fn denoise(&self, query: Query<'_, 4>) -> Result<Estimate<4>, DenoiseError> {
        Ok(Estimate::new(query.x.clone(), query.x, query.levels.clone(), Prediction::Sample))
    }
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        if shape[3].is_multiple_of(2) {
            return Ok(());
        }
        Err(DenoiseError::Shape { what: "images".into(), given: shape.to_vec(), expected: "an even width".into() })
    }
    fn memory(&self) -> usize {
        self.memory
    }
}

#[test]
fn denoisers_that_do_not_fit_are_errors() {
    let plan = Multistep::new().plan(&RectifiedFlow::new(), &Grid::uniform(4).ending(End::Range)).expect("a plan");
    let sampler = grown(&plan, [1.0, 1.5, 2.5]);
    // The last size is odd, and that is known before the first question.
    let error = failure(&sampler, [1, 1, 2, 2], &Picky { memory: 0 });
    assert!(matches!(error, SampleError::Denoise(DenoiseError::Shape { .. })), "{error}");
    let error = failure(&sampler, [1, 1, 4, 4], &Picky { memory: 1 });
    assert!(error.to_string().contains("memory"), "{error}");
    // On a chain with zero terminal SNR noise predictions are refused, as by every sampler.
    let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).expect("a chain");
    let chain = chain.rescale_zero_terminal_snr().expect("a chain");
    let grid = Grid::times(vec![999.0, 749.0, 499.0, 249.0]).expect("a grid");
    let sampler = grown(&Multistep::new().plan(&chain, &grid).expect("a plan"), [1.0, 1.5, 2.0]);
    let noise = Seeded::new(1);
    let epsilon = from_fn(Prediction::Epsilon, |x: Tensor<4>, _: &Levels| Ok(x));
    let run = sampler.start([1, 1, 4, 4], &epsilon, &noise, load()).expect("a run");
    assert!(matches!(run.finish(), Err(SampleError::ZeroTerminalSnr { .. })));
}
