//! Bad input, one test each: a typed error whose message says what was given, what was expected and what to do.

use burn::tensor::{Device, Tensor};
use langevin::core::denoiser::{Clamp, Threshold, from_fn};
use langevin::core::noise::{DeviceNoise, Injected, Seeded};
use langevin::core::process::{Betas, DiscreteChain, RectifiedFlow, VpSde};
use langevin::core::{
    DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, GridError, Level, Levels, Load, Network, Node, NoiseError,
    Prediction, Process, ProcessError, Query,
};
use langevin::device::{DeviceError, device};
use langevin::models::{Labels, Mlp, MlpConfig, UNet2dConfig};
use langevin::schedulers::diffusers::{self, ConfigError};
use langevin::schedulers::plan::{Coef, Draw, Eval, HostAnswer, HostError, Row, Set, Src, TableError, Term};
use langevin::schedulers::{
    Ddim, Ddpm, Deis, EulerMaruyama, Plan, PlanError, ProbabilityFlow, SampleError, SamplerExt, Solver, Variance,
};

/// Checks that a message has all of these parts.
fn says(error: impl std::fmt::Display, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::DDPM, 1000).expect("a chain")
}

fn load() -> Load {
    Load::on(&Device::flex())
}

/// A denoiser of pure thought.
fn still() -> impl Denoiser<2> {
    from_fn(Prediction::Velocity, |x: Tensor<2>, _: &Levels| Ok(x))
}

fn start<'a>(
    plan: &'a Plan,
    shape: [usize; 2],
    denoiser: &'a dyn Denoiser<2>,
    noise: &'a Seeded,
) -> Result<langevin::schedulers::Run<'a, 2>, SampleError> {
    plan.start(shape, denoiser, noise, load())
}

// Grids.

#[test]
fn zero_steps() {
    let grids = [
        Grid::leading(0),
        Grid::trailing(0),
        Grid::linspace(0),
        Grid::uniform(0),
        Grid::karras(0, 7.0).expect("a grid"),
    ];
    for grid in grids {
        let error = Ddim::new().plan(&chain(), &grid).expect_err("no steps");
        assert_eq!(error, PlanError::Grid(GridError::ZeroSteps));
        says(error, &["at least one step"]);
    }
    assert!(matches!(
        Grid::times(vec![]).and_then(|grid| grid.ending(langevin::core::grid::End::Range).stops(&chain())),
        Err(GridError::ZeroSteps)
    ));
}

#[test]
fn more_steps_than_the_chain_has() {
    let error = Ddpm::new().plan(&chain(), &Grid::leading(1001)).expect_err("too many");
    assert_eq!(error, PlanError::Grid(GridError::TooManySteps { given: 1001, chain: 1000 }));
    says(error, &["1001", "1000", "take at most 1000"]);
}

#[test]
fn orders_that_deis_has_not() {
    for given in [0, 5] {
        let error = Deis::new(given).expect_err("no such order");
        assert!(matches!(error, PlanError::Setting { given: found, .. } if found == given as f64), "{error}");
        says(error, &["DEIS", "order", &given.to_string(), "1", "4"]);
    }
    assert!((1..=4).all(|order| Deis::new(order).is_ok()));
}

#[test]
fn times_beyond_the_chain() {
    let grid = Grid::times(vec![1000.0, 10.0]).expect("falling");
    let error = Ddim::new().plan(&chain(), &grid).expect_err("beyond");
    assert!(matches!(error, PlanError::Grid(GridError::TimeOutOfRange { index: 0, given: 1000.0, .. })), "{error:?}");
    says(error, &["time 1000", "[0, 999]"]);
    let error = Ddim::new().plan(&chain(), &Grid::leading(10).offset(100)).expect_err("beyond");
    says(error, &["time 1000", "smaller offset"]);
}

#[test]
fn nan_in_a_grid() {
    let error = Grid::times(vec![3.0, f64::NAN, 1.0]).expect_err("NaN");
    says(error, &["position 1", "NaN"]);
    let level = |sigma| Level { alpha: 1.0, sigma, time: 0.0 };
    says(Grid::levels(vec![level(f64::NAN), level(1.0)]).expect_err("NaN"), &["sigma", "position 0", "NaN"]);
    says(Grid::karras(5, f64::NAN).expect_err("NaN"), &["rho", "NaN"]);
}

#[test]
fn grids_against_the_direction() {
    says(Grid::times(vec![1.0, 2.0]).expect_err("rising"), &["position 1", "1 is followed by 2", "strictly falling"]);
    let rising = Grid::leading(10).inverted();
    for solver in [&Ddpm::new() as &dyn Solver, &Ddim::new().eta(0.5).expect("in range"), &EulerMaruyama::new()] {
        let error = solver.plan(&chain(), &rising).expect_err("rising");
        assert!(matches!(error, PlanError::Direction { expected: "falling", step: 0, .. }), "{error:?}");
        says(error, &["needs falling noise levels", "step 0 goes from σ/α ="]);
    }
}

#[test]
fn inversions_with_gaps() {
    let grid = Grid::trailing(7).strided().inverted();
    let error = Ddim::new().plan(&chain(), &grid).expect_err("gaps");
    assert!(matches!(error, PlanError::Gap { solver: "DDIM inversion", step: 0, .. }), "{error:?}");
    says(error, &["step 0", "ends at t = 142", "the next starts at 143", "without `.strided()`"]);
    assert!(Ddim::new().plan(&chain(), &Grid::trailing(7).inverted()).is_ok());
    assert!(Ddim::new().with_gaps().plan(&chain(), &grid).is_ok());
}

#[test]
fn starting_behind_the_last_step() {
    let error = Ddim::new().plan(&chain(), &Grid::leading(10).starting_at(10)).expect_err("nothing left");
    says(error, &["10 steps", "cannot start at step 10", "start at 9"]);
}

#[test]
fn chain_grids_on_continuous_processes() {
    let error = Ddim::new().plan(&VpSde::default(), &Grid::trailing(10)).expect_err("no chain");
    says(error, &["a trailing grid", "needs a discrete chain", "`uniform`"]);
}

// Processes.

#[test]
fn betas_outside_zero_to_one() {
    for bad in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
        let error = DiscreteChain::new(Betas::Custom(vec![0.1, bad, 0.2]), 3).expect_err("a bad beta");
        assert!(matches!(error, ProcessError::Beta { step: 1, .. }), "{error:?}");
        says(error, &["beta at step 1", &bad.to_string(), "(0, 1)"]);
    }
    says(DiscreteChain::new(Betas::Linear { start: 0.1, end: 1.2 }, 10).expect_err("a bad beta"), &["beta at step"]);
}

/// A process that a user wrote, with one number wrong.
#[derive(Debug)]
struct Broken {
    wrong: &'static str,
    value: f64,
}

impl Broken {
    fn or(&self, name: &str, value: f64, t: f64) -> f64 {
        if name == self.wrong && t > 0.5 { self.value } else { value }
    }
}

impl Process for Broken {
    fn alpha(&self, t: f64) -> f64 {
        self.or("alpha", 1.0, t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.or("sigma", t, t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        self.or("alpha_dot", 0.0, t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.or("sigma_dot", 1.0, t)
    }
    fn time_range(&self) -> (f64, f64) {
        (0.01, 1.0)
    }
    fn network_time(&self, t: f64) -> f64 {
        self.or("network_time", t, t)
    }
    fn prior_std(&self) -> f64 {
        self.or("prior_std", 1.0, 1.0)
    }
    fn lambda(&self, t: f64) -> f64 {
        self.or("lambda", -t.ln(), t)
    }
}

#[test]
fn nan_anywhere_in_a_schedule() {
    let solvers: [&dyn Solver; 4] = [&Ddim::new(), &Ddpm::new(), &EulerMaruyama::new(), &ProbabilityFlow::heun()];
    let fine = Broken { wrong: "nothing", value: f64::NAN };
    for wrong in ["alpha", "sigma", "alpha_dot", "sigma_dot", "network_time", "prior_std", "lambda"] {
        let broken = Broken { wrong, value: f64::NAN };
        for solver in solvers {
            let grid = Grid::uniform(7);
            assert!(solver.plan(&fine, &grid).is_ok());
            let error = solver.plan(&broken, &grid).expect_err("NaN");
            says(error, &[wrong, "NaN", "of the process"]);
        }
    }
    let error = Ddim::new().plan(&Broken { wrong: "sigma", value: -1.0 }, &Grid::uniform(7)).expect_err("negative");
    says(error, &["sigma of the process is -1", "0 or above"]);
}

#[test]
fn a_time_range_that_is_none() {
    says(VpSde::default().range(0.9, 0.1).expect_err("turned round"), &["[0.9, 0.1]", "clean end < noisy end"]);
}

// Solvers.

#[test]
fn eta_outside_its_range() {
    for eta in [-0.1, 1.1, f64::NAN] {
        let error = Ddim::new().eta(eta).expect_err("out of range");
        says(&error, &["eta of DDIM is", &eta.to_string(), "[0, 1]"]);
        // From a file, too: the setting is checked when it plans.
        if eta.is_finite() {
            let ddim: Ddim = serde_json::from_value(serde_json::json!({ "eta": eta })).expect("a number");
            assert_eq!(ddim.plan(&chain(), &Grid::leading(5)), Err(error));
        }
    }
}

#[test]
fn solvers_at_singular_levels() {
    let flow = RectifiedFlow::new();
    let error = EulerMaruyama::new().plan(&flow, &Grid::uniform(5)).expect_err("infinite drift");
    assert!(matches!(error, PlanError::Singular { t: 1.0, .. }), "{error:?}");
    says(error, &["Euler-Maruyama is singular at t = 1", "α = 0", "leave this time out"]);
    let error = Ddim::new().plan(&flow, &Grid::uniform_lambda(5)).expect_err("infinite λ");
    says(error, &["finite half-log-SNR", "t = 1", "restrict the range"]);
}

#[test]
fn a_prediction_that_the_process_makes_singular() {
    let zero_snr = chain().rescale_zero_terminal_snr().expect("a chain");
    let plan = Ddim::new().plan(&zero_snr, &Grid::trailing(5)).expect("a plan");
    let noise = Seeded::new(0);
    let epsilon = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x));
    let error = start(&plan, [1, 2], &epsilon, &noise).expect("a run").finish().map(|_| ()).expect_err("singular");
    assert_eq!(error, SampleError::ZeroTerminalSnr { prediction: Prediction::Epsilon });
    says(error, &["zero terminal SNR", "an epsilon prediction", "a network with velocity or sample prediction"]);
    // On other processes it is the level that does not go with it.
    let flow = Ddim::new().plan(&RectifiedFlow::new(), &Grid::uniform(5)).expect("a plan");
    let error = start(&flow, [1, 2], &epsilon, &noise).expect("a run").finish().map(|_| ()).expect_err("singular");
    assert!(matches!(error, SampleError::Prediction(_)), "{error:?}");
    says(error, &["the clean sample x_0", "from an epsilon prediction", "alpha = 0", "velocity or flow prediction"]);
    // A velocity is enough there.
    assert!(start(&plan, [1, 2], &still(), &noise).expect("a run").finish().is_ok());
    let config = r#"{"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true, "prediction_type": "epsilon"}"#;
    let error = diffusers::from_config(config).expect_err("a contradiction");
    assert!(matches!(error, ConfigError::Contradiction { .. }), "{error:?}");
    says(error, &["'rescale_betas_zero_snr' and 'prediction_type'", "use v_prediction or sample"]);
}

// Published configurations.

#[test]
fn unknown_configuration_keys() {
    let error = diffusers::from_config(r#"{"_class_name": "DDPMScheduler", "beta_strat": 0.1}"#).expect_err("a typo");
    assert!(matches!(&error, ConfigError::UnknownKey { key, .. } if key == "beta_strat"), "{error:?}");
    says(error, &["DDPMScheduler has no option 'beta_strat'", "beta_start"]);
}

#[test]
fn configuration_values_of_the_wrong_kind() {
    let read = |json: &str| diffusers::from_config(json).expect_err("a bad value");
    says(
        read(r#"{"_class_name": "DDPMScheduler", "beta_start": "small"}"#),
        &["'beta_start'", "\"small\"", "a number"],
    );
    says(read(r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 10.5}"#), &["10.5", "a whole number"]);
    says(read(r#"{"_class_name": "DDPMScheduler", "clip_sample": 1}"#), &["'clip_sample'", "true or false"]);
    says(
        read(r#"{"_class_name": "DDIMScheduler", "timestep_spacing": "even"}"#),
        &["even", "leading, trailing or linspace"],
    );
    says(
        read(r#"{"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}"#),
        &["fixed_large_log", "fixed_small"],
    );
    says(read(r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 1}"#), &["at least 2 training steps"]);
    says(
        read(r#"{"_class_name": "DDPMScheduler", "trained_betas": [0.1, "x"]}"#),
        &["'trained_betas'", "a list of numbers"],
    );
    says(read(r#"{"_class_name": "DDPMScheduler", "clip_sample_range": -1.0}"#), &["'clip_sample_range'", "positive"]);
}

#[test]
fn configurations_that_are_none() {
    let read = |json: &str| diffusers::from_config(json).expect_err("no configuration");
    says(read("{"), &["not readable"]);
    says(read("[1]"), &["expected an object"]);
    says(read("{}"), &["'_class_name'"]);
    says(
        read(r#"{"_class_name": "EulerMagicScheduler"}"#),
        &["'EulerMagicScheduler' is not supported", "DDIMScheduler"],
    );
}

#[test]
fn eta_for_a_scheduler_without_one() {
    let ddpm = diffusers::from_config(r#"{"_class_name": "DDPMScheduler"}"#).expect("defaults");
    says(ddpm.eta(0.5).expect_err("no eta"), &["'eta'", "0.5", "only DDIMScheduler and TCDScheduler take one"]);
}

// Networks and conditions.

fn mlp() -> Mlp {
    MlpConfig { classes: Some(3), ..MlpConfig::new(2).hidden(8).layers(1) }.init(&Device::flex()).expect("a network")
}

/// The error that keeps a run from starting.
fn start_error(denoiser: &dyn Denoiser<2>, shape: [usize; 2]) -> SampleError {
    let (plan, noise) = (Ddim::new().plan(&chain(), &Grid::leading(3)).expect("a plan"), Seeded::new(0));
    start(&plan, shape, denoiser, &noise).map(|_| ()).expect_err("an error before the first step")
}

fn first_error(denoiser: &dyn Denoiser<2>, shape: [usize; 2]) -> SampleError {
    let (plan, noise) = (Ddim::new().plan(&chain(), &Grid::leading(3)).expect("a plan"), Seeded::new(0));
    start(&plan, shape, denoiser, &noise).expect("a run").next().expect("an error").expect_err("an error")
}

#[test]
fn states_of_the_wrong_shape() {
    let denoiser = mlp().denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    let error = start_error(&denoiser, [4, 5]);
    assert!(matches!(error, SampleError::Denoise(DenoiseError::Shape { .. })), "{error:?}");
    says(error, &["5", "expected", "2"]);
    let unet = UNet2dConfig::images(3, 8).channels(&[8, 16]).norm_groups(4).init(&Device::flex()).expect("a network");
    let denoiser = unet.denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    let (plan, noise) = (Ddim::new().plan(&chain(), &Grid::leading(3)).expect("a plan"), Seeded::new(0));
    for shape in [[1, 1, 8, 8], [1, 3, 9, 8]] {
        let error = plan.start(shape, &denoiser, &noise, load()).map(|_| ()).expect_err("an error at the start");
        says(error, &["has shape", "[batch, 3, height, width]", "multiples of 2"]);
    }
}

#[test]
fn condition_rows_that_do_not_match_the_batch() {
    let denoiser = mlp().denoiser(Prediction::Velocity, Labels::of([0, 1])).expect("a denoiser");
    let error = start_error(&denoiser, [3, 2]);
    assert_eq!(error, SampleError::Denoise(DenoiseError::ConditionRows { condition: 2, batch: 3 }));
    says(error, &["2 rows", "batch has 3", "give one row, or one for each sample"]);
}

#[test]
fn classes_out_of_range() {
    let bind = |labels| mlp().denoiser(Prediction::Velocity, labels);
    let guided = bind(Labels::of([1])).and_then(|bound| bound.guided(Labels::of([3]), 2.0).map(|_| ()));
    for refused in [bind(Labels::of([0, 3])).map(|_| ()), guided] {
        assert_eq!(refused, Err(DenoiseError::Class { given: 3, classes: 3 }));
        says(refused.expect_err("refused"), &["class 3 is out of range", "0..3"]);
    }
}

#[test]
fn a_denoiser_that_answers_with_another_shape() {
    let narrow = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.narrow(1, 0, 1)));
    says(first_error(&narrow, [3, 2]), &["the denoiser's output has shape [3, 1]", "[3, 2]"]);
}

#[test]
fn a_learned_variance_that_is_not_there() {
    let plan = Ddpm::new().variance(Variance::LearnedRange).plan(&chain(), &Grid::leading(3)).expect("a plan");
    let (denoiser, noise) = (still(), Seeded::new(0));
    let error = start(&plan, [1, 2], &denoiser, &noise).expect("a run").finish().map(|_| ()).expect_err("no variance");
    assert_eq!(error, SampleError::Denoise(DenoiseError::NoVariance));
    says(error, &["with_learned_variance()", "fixed variance"]);
}

#[test]
fn settings_of_combinators_out_of_range() {
    let denoiser = || mlp().denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    says(denoiser().guided(Labels::none(1), f64::NAN).map(|_| ()).expect_err("NaN"), &["guidance scale is NaN"]);
    let threshold = |threshold| denoiser().thresholded(threshold).map(|_| ()).expect_err("out of range");
    says(threshold(Threshold::Static { range: 0.0 }), &["threshold range is 0", "positive"]);
    says(threshold(Threshold::Dynamic { ratio: 1.5, max: 1.0 }), &["quantile", "1.5", "[0, 1]"]);
    says(Clamp::new(1.0, f64::NAN).expect_err("NaN"), &["clamp", "at most the upper bound"]);
    says(
        mlp().denoiser(Prediction::Edm { sigma_data: 0.0 }, Labels::none(1)).map(|_| ()).expect_err("0"),
        &["sigma_data"],
    );
}

// Runs.

#[test]
fn empty_shapes() {
    let (plan, noise, denoiser) =
        (Ddim::new().plan(&chain(), &Grid::leading(3)).expect("a plan"), Seeded::new(0), still());
    for shape in [[0, 2], [2, 0]] {
        let error = start(&plan, shape, &denoiser, &noise).map(|_| ()).expect_err("empty");
        assert_eq!(error, SampleError::EmptyShape { shape: shape.to_vec() });
        says(error, &["every dimension must be at least 1"]);
    }
    let x = Tensor::<2>::zeros([0, 2], &Device::flex());
    assert!(matches!(plan.start_from(0, x, &denoiser, &noise).map(|_| ()), Err(SampleError::EmptyShape { .. })));
}

#[test]
fn sample_numbers_beyond_the_last() {
    let (plan, noise, denoiser) =
        (Ddim::new().plan(&chain(), &Grid::leading(3)).expect("a plan"), Seeded::new(0), still());
    let error = plan.start_at(u64::MAX - 1, [3, 2], &denoiser, &noise, load()).map(|_| ()).expect_err("too far");
    assert_eq!(error, SampleError::SampleNumbers { first: u64::MAX - 1, rows: 3 });
    says(error, &["18446744073709551614", "3 samples", "smaller"]);
}

#[test]
fn noise_sources_without_paths() {
    let vp = VpSde::default();
    let plan = EulerMaruyama::new().path().plan(&vp, &Grid::uniform(4)).expect("a plan");
    let (denoiser, noise) = (still(), DeviceNoise::new(0));
    let run = plan.start([1, 2], &denoiser, &noise, load()).expect("a run");
    let error = run.finish().map(|_| ()).expect_err("no path");
    assert_eq!(error, SampleError::Noise(NoiseError::PathUnsupported));
    says(error, &["no Brownian path", "use seeded noise"]);
}

#[test]
fn recorded_noise_that_lacks_a_draw() {
    let plan = Ddpm::new().plan(&chain(), &Grid::leading(4)).expect("a plan");
    let (denoiser, noise) = (still(), Injected::new());
    let x = Tensor::<2>::zeros([1, 2], &Device::flex());
    let error = plan.start_from(0, x, &denoiser, &noise).expect("a run").finish().map(|_| ()).expect_err("no noise");
    assert!(matches!(error, SampleError::Noise(NoiseError::Missing { sample: 0, .. })), "{error:?}");
    says(error, &["no draw for", "record it, or use seeded noise"]);
}

// Host runs.

#[test]
fn host_models_with_wrong_lengths() {
    let plan = Ddpm::new().variance(Variance::Learned).plan(&chain(), &Grid::leading(4)).expect("a plan");
    let run = |x0: usize, eps: usize, variance: Option<usize>| {
        let answer = |_: &[f64], _: &Level| HostAnswer {
            x0: vec![0.0; x0],
            eps: vec![0.0; eps],
            variance: variance.map(|n| vec![1.0; n]),
        };
        plan.run_host(vec![0.0; 2], 0, &Seeded::new(0), answer)
    };
    assert!(run(2, 2, Some(2)).is_ok());
    assert_eq!(run(3, 2, Some(2)), Err(HostError::Length { expected: 2, given: 3 }));
    assert_eq!(run(2, 1, Some(2)), Err(HostError::Length { expected: 2, given: 1 }));
    assert_eq!(run(2, 2, Some(4)), Err(HostError::Length { expected: 2, given: 4 }));
    assert_eq!(run(2, 2, None), Err(HostError::NoVariance));
    says(HostError::Length { expected: 2, given: 3 }, &["3 values", "state of 2"]);
    says(HostError::NoVariance, &["needs the model's variance"]);
}

// Tables.

fn node() -> Node {
    Node { t: 0.5, level: Level { alpha: 0.6, sigma: 0.8, time: 500.0 } }
}

fn row(step: Option<u32>, sum: Vec<Term>) -> Row {
    Row {
        draws: vec![],
        pre: vec![],
        eval: Some(Eval { at: node().level, x: 0, into: 0 }),
        post: vec![Set { to: 0, sum, mask: None }],
        step,
        after: node(),
        report: vec![],
    }
}

fn table(rows: Vec<Row>) -> Result<Plan, TableError> {
    Plan::new("test", node(), 1.0, rows)
}

fn good() -> Vec<Term> {
    vec![Term::new(0.5, Src::X(0)), Term::new(0.5, Src::X0(0))]
}

#[test]
fn tables_without_rows() {
    assert_eq!(table(vec![]), Err(TableError::Empty));
    says(TableError::Empty, &["at least one step"]);
    assert!(table(vec![row(Some(0), good())]).is_ok());
}

#[test]
fn tables_that_read_what_nobody_wrote() {
    for (source, name) in [(Src::X(1), "x1"), (Src::X0(1), "x̂0[1]"), (Src::Eps(2), "ε̂[2]"), (Src::Z(0), "z0")] {
        let error = table(vec![row(Some(0), vec![Term::new(1.0, source)])]).expect_err("unwritten");
        assert_eq!(error, TableError::Unwritten { row: 0, source_name: name.into() });
        says(error, &["row 0", name, "nothing before it has written"]);
    }
    // A variance of a slot, an evaluation of a register, and an answer that comes later in the row.
    let std = Term { c: Coef::PredictedStd { slot: 3 }, of: Src::X(0) };
    assert!(matches!(table(vec![row(Some(0), vec![std])]), Err(TableError::Unwritten { .. })));
    let mut ask = row(Some(0), good());
    ask.eval = Some(Eval { at: node().level, x: 1, into: 0 });
    assert!(matches!(table(vec![ask]), Err(TableError::Unwritten { .. })));
    let mut early = row(Some(0), good());
    early.pre = vec![Set::new(0, good())];
    assert!(matches!(table(vec![early]), Err(TableError::Unwritten { .. })));
}

#[test]
fn tables_with_coefficients_that_are_not_finite() {
    for value in [f64::NAN, f64::INFINITY] {
        let error = table(vec![row(Some(0), vec![Term::new(value, Src::X(0))])]).expect_err("not finite");
        assert!(matches!(error, TableError::Coefficient { row: 0, .. }));
        says(error, &["row 0", &value.to_string(), "must be finite"]);
    }
    let learned = Coef::LearnedStd { slot: 0, log_min: f64::NEG_INFINITY, log_max: 0.0 };
    let error = table(vec![row(Some(0), vec![Term { c: learned, of: Src::X(0) }])]).expect_err("not finite");
    says(error, &["-inf"]);
}

#[test]
fn tables_with_levels_that_are_not_finite() {
    let mut asked = row(Some(0), good());
    asked.eval = Some(Eval { at: Level { time: f64::NAN, ..node().level }, x: 0, into: 0 });
    says(table(vec![asked]).expect_err("NaN"), &["row 0", "NaN", "the level it asks at"]);
    let mut reached = row(Some(0), good());
    reached.after.t = f64::INFINITY;
    says(table(vec![reached]).expect_err("infinite"), &["row 0", "inf", "the level it arrives at"]);
    let mut drawn = row(Some(0), good());
    drawn.draws = vec![Draw::Path { to: 0, from: 0.0, until: f64::INFINITY }];
    says(table(vec![drawn]).expect_err("infinite"), &["an end of a path interval"]);
    let start = Node { t: f64::NAN, ..node() };
    let error = Plan::new("test", start, 1.0, vec![row(Some(0), good())]).expect_err("NaN");
    assert!(matches!(error, TableError::NotFinite { row: 0, .. }), "{error:?}");
    says(error, &["the level it starts at"]);
}

#[test]
fn tables_whose_steps_are_out_of_order() {
    let error = table(vec![row(Some(0), good()), row(Some(2), good())]).expect_err("a gap");
    assert_eq!(error, TableError::StepNumber { row: 1, given: 2, expected: 1 });
    says(error, &["row 1", "completes step 2, expected step 1"]);
}

#[test]
fn tables_that_end_inside_a_step() {
    let error = table(vec![row(Some(0), good()), row(None, good())]).expect_err("unfinished");
    assert_eq!(error, TableError::Unfinished);
    says(error, &["completes no step"]);
}

#[test]
fn tables_without_a_prior() {
    for std in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Plan::new("test", node(), std, vec![row(Some(0), good())]).expect_err("no prior");
        says(error, &["standard deviation", &std.to_string(), "a positive number"]);
    }
}

#[test]
fn tables_from_files_are_checked() {
    let plan = table(vec![row(Some(0), good())]).expect("a plan");
    let mut value = serde_json::to_value(plan).expect("data");
    value["rows"][0]["step"] = serde_json::json!(4);
    says(serde_json::from_value::<Plan>(value.clone()).expect_err("out of order"), &["expected step 0"]);
    value["rows"][0]["step"] = serde_json::json!(0);
    value["title"] = serde_json::json!("x");
    says(serde_json::from_value::<Plan>(value).expect_err("an unknown key"), &["unknown field `title`"]);
}

// Devices.

#[test]
fn unknown_devices() {
    let error = device("tpu").expect_err("unknown");
    assert!(matches!(error, DeviceError::Unknown { .. }));
    says(error, &["unknown device 'tpu'", "flex", "wgpu"]);
    says(device("cpu:1").expect_err("a number"), &["'1' is not a device number of 'cpu'"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn devices_that_are_not_compiled_in() {
    let error = device("cuda").expect_err("not compiled in");
    assert_eq!(error, DeviceError::NotCompiled { name: "cuda".into(), feature: "cuda" });
    says(error, &["--features cuda"]);
}

/// Levels of each sample must be as many as the samples.
#[test]
fn levels_for_another_batch() {
    let denoiser = mlp().denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    let levels = Levels::Each(vec![node().level; 2]);
    let x = Tensor::<2>::zeros([3, 2], &Device::flex());
    let query = Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) };
    let error = denoiser.denoise(query).map(|_: Estimate<2>| ()).expect_err("two levels for three samples");
    assert_eq!(error, DenoiseError::LevelRows { levels: 2, batch: 3 });
    says(error, &["for 2 samples", "batch has 3"]);
}
