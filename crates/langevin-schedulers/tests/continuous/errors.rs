//! Bad input, one by one.

use super::{mixture, slope};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::denoiser::After;
use langevin_core::exact::Posterior;
use langevin_core::grid::End;
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, RectifiedFlow, VeSde, VpSde};
use langevin_core::{
    Constraint, DenoiseError, Denoiser, Estimate, Grid, GridError, Levels, Prediction, Process, ProcessError, Query,
    denoiser,
};
use langevin_schedulers::ode::DormandPrince;
use langevin_schedulers::plan::Coef;
use langevin_schedulers::sde::{self, EulerMaruyama, ReverseDiffusion};
use langevin_schedulers::{
    Ddim, DpmSolver, Picard, PlanError, PredictorCorrector, ProbabilityFlow, SampleError, Sampler, SamplerExt, Solver,
};

fn setting<T: std::fmt::Debug>(result: Result<T, PlanError>) -> &'static str {
    match result {
        Err(PlanError::Setting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    }
}

/// Checks that a message has all of these parts.
fn says(error: impl std::fmt::Display, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks: {part}");
    }
}

#[test]
fn tolerances_and_settings_out_of_range() {
    for bad in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
        assert_eq!(setting(DormandPrince::new(bad, 1e-3)), "relative tolerance");
        assert_eq!(setting(DormandPrince::new(1e-3, bad)), "absolute tolerance");
        let method = || DormandPrince::new(1e-3, 1e-3).expect("positive");
        assert_eq!(setting(method().first_step(bad)), "first step");
        assert_eq!(setting(method().max_step(bad)), "largest step");
        assert_eq!(setting(method().factors(bad, 0.2, 10.0)), "safety factor");
        assert_eq!(setting(method().factors(0.9, bad, 10.0)), "smallest factor");
        assert_eq!(setting(method().factors(0.9, 0.2, bad)), "largest factor");
        assert_eq!(setting(method().max_steps(0)), "largest number of steps");
    }
}

#[test]
fn times_outside_the_process() {
    let method = || DormandPrince::new(1e-3, 1e-3).expect("positive");
    for (from, to) in [(1.5, 0.1), (1.0, 0.0), (f64::NAN, 0.5)] {
        assert!(matches!(method().between(VpSde::default(), from, to), Err(PlanError::TimeRange { .. })));
    }
    assert_eq!(setting(method().between(VpSde::default(), 0.5, 0.5)), "end of the run");
    let error = method().between(VpSde::default(), 1.0, 0.0).expect_err("outside").to_string();
    assert!(error.contains("t = 0") && error.contains("[0.001, 1]"), "{error}");
}

/// A VP process that claims to reach down to t = 0.
#[derive(Debug)]
struct Whole(VpSde);

impl Process for Whole {
    fn alpha(&self, t: f64) -> f64 {
        self.0.alpha(t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.0.sigma(t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        self.0.alpha_dot(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.0.sigma_dot(t)
    }
    fn time_range(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
}

#[test]
fn slopes_that_are_infinite() {
    // σ̇ of a VP process is infinite at t = 0.
    let vp = Whole(VpSde::default());
    let run = DormandPrince::new(1e-3, 1e-3).expect("positive").over(&vp);
    assert!(matches!(run, Err(PlanError::Singular { t: 0.0, .. })), "{run:?}");
    let plan = ProbabilityFlow::heun().plan(&vp, &Grid::uniform(4));
    assert!(matches!(plan, Err(PlanError::Singular { t: 0.0, .. })), "{plan:?}");
    // Euler never looks at the end.
    assert!(ProbabilityFlow::euler().plan(&vp, &Grid::uniform(4)).is_ok());
}

#[test]
fn a_clean_end_outside_the_range() {
    let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("betas");
    for solver in [ProbabilityFlow::euler(), ProbabilityFlow::rk4()] {
        let error = solver.plan(&chain, &Grid::linspace(10)).expect_err("ends outside");
        assert!(matches!(error, PlanError::TimeRange { t: -1.0, .. }), "{error}");
        assert!(error.to_string().contains("`.ending(End::Range)`"), "{error}");
        assert!(solver.plan(&chain, &Grid::linspace(10).ending(End::Range)).is_ok());
    }
}

#[test]
fn steps_that_do_not_join() {
    let chain = DiscreteChain::new(Betas::DDPM, 1000).expect("betas");
    let grid = Grid::linspace(10).strided();
    for error in [
        ProbabilityFlow::euler().plan(&chain, &grid).expect_err("has gaps"),
        EulerMaruyama::new().plan(&chain, &grid).expect_err("has gaps"),
    ] {
        assert!(matches!(error, PlanError::Gap { step: 0, .. }), "{error}");
    }
}

#[test]
fn output_times_out_of_order_or_outside() {
    let flow = || DormandPrince::new(1e-3, 1e-3).expect("positive").over(VpSde::default()).expect("a run");
    for times in [&[0.5, 0.7][..], &[0.5, 0.5], &[1.1], &[1e-4], &[f64::NAN]] {
        assert_eq!(setting(flow().output_at(times)), "output time");
    }
    let method = DormandPrince::new(1e-3, 1e-3).expect("positive");
    let error = method.solve_host_at(|_, _, out| out[0] = 1.0, vec![0.0], 0.0, 1.0, &[1.5]);
    assert_eq!(error, Err(SampleError::OutputTime { t: 1.5, start: 0.0, end: 1.0 }));
}

#[test]
fn a_solution_that_runs_away_ends_in_a_step_size_error() {
    // x' = x² from 1 is 1/(1 − t).
    let method = DormandPrince::new(1e-6, 1e-6).expect("positive");
    let error = method.solve_host(|_, x, out| out[0] = x[0] * x[0], vec![1.0], 0.0, 2.0);
    match error {
        Err(SampleError::StepSize { t, .. }) => assert!((t - 1.0).abs() < 1e-6, "{t}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_many_steps() {
    let method = DormandPrince::new(1e-9, 1e-9).expect("positive").max_steps(20).expect("above 0");
    let f = |t: f64, x: &[f64], out: &mut [f64]| slope(&mixture(), &VpSde::default(), t, x, out);
    let error = method.solve_host(f, vec![0.3, 0.4], 1.0, 1e-3);
    assert_eq!(error, Err(SampleError::TooManySteps { limit: 20 }));
}

#[test]
fn states_and_slopes_that_are_not_finite() {
    let method = DormandPrince::new(1e-6, 1e-6).expect("positive");
    for (x, t) in [(f64::NAN, 0.0), (1.0, f64::NAN)] {
        let error = method.solve_host(|_, _, out| out[0] = 1.0, vec![x], t, 1.0);
        assert_eq!(error, Err(SampleError::NotFinite { step: 0 }));
    }
    let broken = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<2>, _| Ok(x.mul_scalar(f64::NAN)));
    let flow = method.over(VpSde::default()).expect("a run");
    let noise = Seeded::new(0);
    let x = Tensor::<2>::ones([2, 2], &Device::flex());
    let error = flow.start_from(0, x, &broken, &noise).expect("starts").finish();
    assert_eq!(error.expect_err("is not finite"), SampleError::NotFinite { step: 0 });
}

/// A denoiser of one's own, that answers with something else than its state.
struct Answering(fn(Tensor<2>) -> Tensor<2>);

impl Denoiser<2> for Answering {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let output = (self.0)(query.x.clone());
        Ok(Estimate::new(query.x, output, query.levels.clone(), Prediction::Sample))
    }
}

/// A constraint of one's own.
struct Mapped(fn(Tensor<2>) -> Tensor<2>);

impl Constraint<2> for Mapped {
    fn apply(&self, x: Tensor<2>, _: &After<'_>) -> Result<Tensor<2>, DenoiseError> {
        Ok((self.0)(x))
    }
}

/// Burn would stretch a single row over the batch, and stop the program where dtypes differ.
#[test]
fn answers_and_constrained_states_are_like_the_states() {
    let (vp, noise) = (VpSde::default(), Seeded::new(0));
    let plan = |solver: &dyn Solver| solver.plan(&vp, &Grid::uniform(4)).expect("a plan");
    let ddim = plan(&Ddim::new());
    let adaptive = || DormandPrince::new(1e-3, 1e-3).expect("positive");
    let samplers: [Box<dyn Sampler<2>>; 7] = [
        Box::new(ddim.clone()),
        Box::new(plan(&DpmSolver::multistep(2).expect("an order"))),
        Box::new(Picard::over(ddim.clone(), 3).expect("a window")),
        Box::new(PredictorCorrector::new(plan(&ReverseDiffusion::new()), 0.16, 1).expect("settings")),
        Box::new(adaptive().over(VpSde::default()).expect("a run")),
        Box::new(adaptive().batch_control().over(VpSde::default()).expect("a run")),
        Box::new(sde::AdaptiveSde::new(1e-2, 1e-2).expect("tolerances").over(VpSde::default()).expect("a run")),
    ];
    let x = || Tensor::<2>::ones([3, 2], &Device::flex());
    let fine = Answering(|x| x.mul_scalar(0.5));
    for sampler in &samplers {
        let end = |denoiser: &Answering| sampler.start_from(0, x(), denoiser, &noise).expect("starts").finish();
        assert!(end(&fine).is_ok(), "{}", sampler.name());
        let error = end(&Answering(|x| x.narrow(0, 0, 1))).expect_err("one row");
        says(&error, &["the denoiser's output has shape [1, 2]", "[3, 2], the shape of the states"]);
        let error = end(&Answering(|x| x.cast(DType::F64))).expect_err("another dtype");
        let what = "the denoiser's output";
        assert_eq!(error, DenoiseError::DType { what, given: DType::F64, states: DType::F32 }.into());
        says(&error, &["is of F64", "the states are of F32", "cast it", "`Load::dtype`"]);
    }
    let end = |map: fn(Tensor<2>) -> Tensor<2>| {
        ddim.start_from(0, x(), &fine, &noise).expect("starts").constrained(&Mapped(map)).finish().expect_err("refused")
    };
    says(end(|x| x.narrow(0, 0, 1)), &["the constrained state has shape [1, 2]", "[3, 2]"]);
    says(end(|x| x.cast(DType::F64)), &["the constrained state is of F64", "F32"]);
    let wide = denoiser::from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.cast(DType::F64)));
    says(ddim.start_from(0, x(), &wide, &noise).expect("starts").finish().expect_err("F64"), &["is of F64"]);
}

/// A denoiser that wants to see the past.
struct Remembering;

impl Denoiser<2> for Remembering {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        mixture().denoiser(Prediction::Epsilon)?.denoise(query)
    }
    fn memory(&self) -> usize {
        1
    }
}

#[test]
fn memory_needs_one_clock() {
    let noise = Seeded::new(0);
    let method = || DormandPrince::new(1e-3, 1e-3).expect("positive");
    let x = |rows| Tensor::<2>::ones([rows, 2], &Device::flex());
    let flow = method().over(VpSde::default()).expect("a run");
    let error = flow.start_from(0, x(2), &Remembering, &noise).map(drop).expect_err("refused");
    assert!(matches!(error, SampleError::Unsupported { .. }) && error.to_string().contains("batch_control"), "{error}");
    assert!(flow.start_from(0, x(1), &Remembering, &noise).expect("starts").finish().is_ok());
    let flow = method().batch_control().over(VpSde::default()).expect("a run");
    assert!(flow.start_from(0, x(2), &Remembering, &noise).expect("starts").finish().is_ok());
}

#[test]
fn constraints_and_output_times_exclude_each_other() {
    let noise = Seeded::new(0);
    let exact = mixture().denoiser(Prediction::Epsilon).expect("binds");
    let flow = DormandPrince::new(1e-3, 1e-3).expect("positive").over(VpSde::default()).expect("a run");
    let flow = flow.output_at(&[0.5]).expect("inside");
    let same = denoiser::constraint_fn(|x: Tensor<2>, _levels: &Levels| x);
    let x = Tensor::<2>::ones([2, 2], &Device::flex());
    let error = flow.start_from(0, x, &exact, &noise).expect("starts").constrained(&same).finish();
    assert!(matches!(error, Err(SampleError::Unsupported { .. })));
}

#[test]
fn a_run_is_not_resumed_with_other_settings() {
    let noise = Seeded::new(0);
    let exact = mixture().denoiser(Prediction::Epsilon).expect("binds");
    let flow = |tol: f64| DormandPrince::new(tol, 1e-3).expect("positive").over(VpSde::default()).expect("a run");
    let device = Device::flex();
    let x = Tensor::<2>::ones([2, 2], &device);
    let one = flow(1e-3);
    let mut run = one.start_from(0, x, &exact, &noise).expect("starts");
    run.next().expect("goes on").expect("steps");
    let saved = run.save().expect("saves");
    let other = flow(1e-4);
    let resumed = SamplerExt::<2>::resume(&other, &saved, &exact, &noise, langevin_core::Load::on(&device));
    assert!(matches!(resumed.map(|_| ()), Err(SampleError::OtherSampler { .. })));
}

#[test]
fn reverse_sdes_against_the_direction_or_at_singular_levels() {
    let rising = Grid::uniform(5).inverted();
    let em = EulerMaruyama::new();
    assert!(matches!(em.plan(&VpSde::default(), &rising), Err(PlanError::Direction { .. })));
    assert!(matches!(ReverseDiffusion::new().plan(&VpSde::default(), &rising), Err(PlanError::Direction { .. })));
    // α = 0 at t = 1 of a rectified flow.
    let flow = RectifiedFlow::default();
    assert!(matches!(em.plan(&flow, &Grid::uniform(5)), Err(PlanError::Singular { t: 1.0, .. })));
    // A path's clock is infinite at σ = 0.
    let clean = Grid::uniform(5).ending(End::Clean);
    let path = || EulerMaruyama::new().path();
    let error = path().plan(&VpSde::default(), &clean).expect_err("infinite clock");
    assert!(matches!(error, PlanError::Singular { sigma: 0.0, .. }), "{error}");
    assert!(path().denoise_at_end().plan(&VpSde::default(), &clean).is_ok());
    assert!(path().plan(&VpSde::default(), &Grid::uniform(5)).is_ok());
}

#[test]
fn score_sde_stops_out_of_range() {
    let ve = VeSde::default();
    assert_eq!(setting(ReverseDiffusion::score_sde_stops(&ve, 1, 1e-5)), "number of steps");
    for eps in [0.0, f64::NAN, 1.0] {
        assert_eq!(setting(ReverseDiffusion::score_sde_stops(&ve, 11, eps)), "eps");
    }
    let none = ReverseDiffusion::new().plan_stops(&[], 1.0);
    assert!(matches!(none, Err(PlanError::Table(_))));
}

#[test]
fn times_of_a_simulation() {
    let em = EulerMaruyama::new();
    let sde = || sde::from_fn(|x: Tensor<1>, _| x.neg(), |x: Tensor<1>, _| x.ones_like());
    assert_eq!(setting(em.simulate(sde(), vec![0.0]).map(|_| ())), "number of times");
    assert_eq!(setting(em.simulate_uniform(sde(), (0.0, 1.0), 0).map(|_| ())), "number of steps");
    for times in [vec![0.0, f64::NAN], vec![0.0, 1.0, 0.5], vec![0.0, 0.0], vec![1.0, 0.5, 0.7]] {
        assert_eq!(setting(em.simulate(sde(), times).map(|_| ())), "time");
    }
    assert_eq!(setting(em.path().simulate(sde(), vec![-1.0, 1.0]).map(|_| ())), "time");
    assert!(EulerMaruyama::new().simulate(sde(), vec![1.0, -1.0]).is_ok());
}

#[test]
fn a_drift_of_another_shape() {
    let sde = sde::from_fn(|x: Tensor<2>, _| x.narrow(1, 0, 1), |x: Tensor<2>, _| x.ones_like());
    let simulation = EulerMaruyama::new().simulate_uniform(sde, (0.0, 1.0), 2).expect("times");
    let noise = Seeded::new(0);
    let x = Tensor::<2>::ones([2, 2], &Device::flex());
    let error = simulation.run(0, x, &noise).expect("starts").finish().expect_err("refused");
    assert!(matches!(error, SampleError::Denoise(DenoiseError::Shape { .. })), "{error}");
}

/// A process whose derivatives have a factor that their functions have not.
#[derive(Debug)]
struct Careless(f64, f64);

impl Process for Careless {
    fn alpha(&self, t: f64) -> f64 {
        (t * std::f64::consts::FRAC_PI_2).cos()
    }
    fn sigma(&self, t: f64) -> f64 {
        (t * std::f64::consts::FRAC_PI_2).sin()
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -self.0 * std::f64::consts::FRAC_PI_2 * self.sigma(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.1 * std::f64::consts::FRAC_PI_2 * self.alpha(t)
    }
    fn time_range(&self) -> (f64, f64) {
        (1e-3, 0.999)
    }
}

#[test]
fn derivatives_that_are_not_those_of_their_functions() {
    let plan = |process: &dyn Process| ProbabilityFlow::heun().plan(process, &Grid::uniform(5));
    assert!(plan(&Careless(1.0, 1.0)).is_ok());
    for (process, quantity) in [(Careless(1.1, 1.0), "alpha_dot"), (Careless(1.0, 0.9), "sigma_dot")] {
        let error = plan(&process).expect_err("10% off");
        let PlanError::Grid(GridError::Process(ProcessError::Derivative { given, expected, .. })) = error else {
            panic!("{error:?}")
        };
        let off = (given / expected - 1.0).abs();
        assert!((off - 0.1).abs() < 1e-6, "{off}");
        let function = quantity.trim_end_matches("_dot");
        says(error, &[quantity, &given.to_string(), &format!("differences of {function} give"), "at t = 0.04"]);
    }
}

/// Where α goes to 0 the drift of the reverse SDE goes to infinity, and no step is short enough for Euler-Maruyama.
#[test]
fn steps_that_are_too_long_for_the_reverse_sde() {
    let squared_cosine = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    let flow = RectifiedFlow::new();
    let em = EulerMaruyama::new();
    for steps in [2, 20, 100] {
        let error = em.plan(&squared_cosine, &Grid::trailing(steps)).expect_err("too long");
        let PlanError::StepTooLong { step: 0, from: 999.0, factor, limit, .. } = error else { panic!("{error:?}") };
        assert!(factor > limit);
        says(error, &["multiplies the state by", "in step 0, from t = 999", "`Grid::between`", "`.starting_at`"]);
        let error = em.plan(&flow, &Grid::uniform(steps).between(0.9999, 0.0)).expect_err("too long");
        says(error, &["in step 0, from t = 0.9999", "more steps"]);
        // What the messages say helps.
        assert!(em.plan(&flow, &Grid::uniform(steps).between(0.9, 0.01)).is_ok());
    }
    assert!(em.plan(&squared_cosine, &Grid::trailing(100).starting_at(10)).is_ok());
    // A step of reverse diffusion at most doubles the state, also from pure noise.
    for process in [&squared_cosine as &dyn Process, &flow] {
        let plan = ReverseDiffusion::new().plan(process, &Grid::uniform(20)).expect("a plan");
        for row in plan.rows() {
            let Coef::C(factor) = row.post[0].sum[0].c else { panic!("a number") };
            assert!((1.0..=2.0).contains(&factor), "{factor}");
        }
    }
}
