//! Cases of `schedulers/`: configuration → plan → JSON → plan → the loop, open and closed.
//!
//! A call of the original's `step` is one question here. Its argument is what the network is asked about; what it
//! returns is what is asked about next, or the sample at a step's end. Classes that work on x/α there are divided by α.

use crate::deviations::{self, Deviation};
use crate::fixture::{Array, Case};
use crate::lists::{compare_forward, compare_prior, compare_sigmas};
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use crate::rounding::{self, Rounding};
use crate::walks;
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::noise::Injected;
use langevin::core::{DenoiseError, Denoiser, Estimate, Grid, Level, Levels, Prediction, Query};
use langevin::schedulers::Plan;
use langevin::schedulers::diffusers::{self, Configured};
use langevin::schedulers::plan::Draw;
use serde_json::Value;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a case answers queries.
enum Answers {
    /// The recorded outputs, in order.
    Recorded(Array),
    /// The formulas, from the state.
    Formulas {
        model: Value,
        prediction: Prediction,
        alpha: Vec<f64>,
        sigma: Vec<f64>,
        times: Vec<f64>,
        direct_variance: bool,
    },
}

/// A denoiser over a case's answers.
pub struct Model {
    answers: Answers,
    /// By how much the original's outputs are those of the network: on a TrigFlow it leaves the factor σ_d to its caller.
    data: f64,
    pub prediction: Prediction,
    with_variance: bool,
    /// By how much recorded outputs are off, up and down in turn.
    off: f64,
    calls: AtomicUsize,
    /// The states that were asked about.
    pub asked: Mutex<Vec<Vec<f64>>>,
}

/// The variance channels of the reference's models.
const VARIANCE: [f64; 4] = [0.9, 1.3, 0.7, 0.0];

impl Model {
    /// A recorded output, as the network says it.
    fn off(&self, call: usize, output: &[f64]) -> Vec<f64> {
        let scale = (1.0 + if call.is_multiple_of(2) { self.off } else { -self.off }) / self.data;
        output.iter().map(|output| scale * output).collect()
    }

    /// Output and variance of call `call` for the state `x`, each as long as `x`.
    fn answer(&self, call: usize, x: &[f64], level: &Level, rows: usize) -> (Vec<f64>, Option<Vec<f64>>) {
        match &self.answers {
            Answers::Recorded(outputs) if !self.with_variance => (self.off(call, outputs.row(call)), None),
            Answers::Recorded(outputs) => {
                // [batch, 2·channels, ..]: the halves alternate sample by sample.
                let size = x.len() / rows;
                let halves: Vec<_> = outputs.row(call).chunks(size).collect();
                let pick = |odd: usize| halves.iter().skip(odd).step_by(2).flat_map(|h| h.to_vec()).collect();
                let output: Vec<f64> = pick(0);
                (self.off(call, &output), Some(pick(1)))
            }
            Answers::Formulas { model, prediction, alpha, sigma, times, direct_variance } => {
                let t = times[call];
                let output = match model["kind"].as_str() {
                    Some("sin") => {
                        let scale = self.data * self.prediction.input_scale(level).expect("a level with data");
                        let input: Vec<f64> = x.iter().map(|x| scale * x).collect();
                        let output = models::sine(models::sine_parameters(model), &input, t);
                        output.iter().map(|output| output / self.data).collect()
                    }
                    _ => models::mixture(x, alpha[call], sigma[call], *prediction),
                };
                let variance = self.with_variance.then(|| {
                    let raw = models::sine(VARIANCE, x, t);
                    if *direct_variance { raw.iter().map(|v| 0.02 + 0.01 * v).collect() } else { raw }
                });
                (output, variance)
            }
        }
    }
}

pub fn tensor(values: Vec<f64>, shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F32))
}

pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

impl Denoiser<4> for Model {
    fn denoise(&self, query: Query<'_, 4>) -> Result<Estimate<4>, DenoiseError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let shape = query.x.dims();
        let Levels::Shared(level) = query.levels else { unreachable!("a plan asks at shared levels") };
        let state = values(&query.x);
        let (output, variance) = self.answer(call, &state, level, shape[0]);
        self.asked.lock().expect("no panic").push(state);
        let estimate = Estimate::new(query.x, tensor(output, shape), query.levels.clone(), self.prediction);
        Ok(match variance {
            Some(variance) => estimate.with_variance(tensor(variance, shape)),
            None => estimate,
        })
    }
}

/// `[batch, channels, everything else, 1]`.
pub fn four(shape: &[usize]) -> [usize; 4] {
    match shape {
        [b, c, h, w] => [*b, *c, *h, *w],
        [b, c, rest @ ..] => [*b, *c, rest.iter().product(), 1],
        [b] => [*b, 1, 1, 1],
        [] => [1; 4],
    }
}

/// Adds a recorded standard normal draw as what a row of a plan asks for.
pub fn with_draw(noise: Injected, row: usize, draw: &Draw, batch: u64, values: &[f64]) -> Injected {
    let with = match (draw, draw.key(row)) {
        (_, Some(key)) => noise.with(key, 0..batch, values.to_vec()),
        (Draw::Path { from, until, .. }, None) => {
            let root = (until - from).sqrt();
            noise.with_path((*from, *until), 0..batch, values.iter().map(|z| z * root).collect())
        }
        (other, None) => panic!("{other:?} is no recorded draw"),
    };
    with.expect("a recorded draw")
}

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

fn configured(case: &Case<'_>) -> Result<Configured, Unsupported> {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let mut scheduler = diffusers::from_config(&config.to_string()).map_err(unsupported)?;
    let arguments = case.value["step_kwargs"].as_object().cloned().unwrap_or_default();
    let known = ["eta", "use_clipped_model_output", "s_churn", "s_tmin", "s_tmax", "s_noise", "order"];
    if let Some(other) = arguments.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Unsupported(format!("step argument {other}")));
    }
    let number = |key: &str, default: f64| match arguments.get(key) {
        Some(Value::String(text)) if text == "inf" => f64::INFINITY,
        value => value.and_then(Value::as_f64).unwrap_or(default),
    };
    if arguments.contains_key("eta") {
        scheduler = scheduler.eta(number("eta", 0.0)).map_err(unsupported)?;
    }
    if arguments.contains_key("s_churn") {
        let interval = (number("s_tmin", 0.0), number("s_tmax", f64::INFINITY));
        scheduler = scheduler.churn(number("s_churn", 0.0), interval, number("s_noise", 1.0)).map_err(unsupported)?;
    }
    if arguments.contains_key("s_noise") && case.class() == "DPMSolverSDEScheduler" {
        scheduler = scheduler.noise_scale(number("s_noise", 1.0)).map_err(unsupported)?;
    }
    if arguments.contains_key("order") {
        scheduler = scheduler.order(number("order", 4.0) as usize).map_err(unsupported)?;
    }
    let set = &case.value["set_timesteps"];
    let known = [
        "num_inference_steps",
        "timesteps",
        "sigmas",
        "original_inference_steps",
        "mu",
        "max_timesteps",
        "intermediate_timesteps",
    ];
    if let Some(other) = set.as_object().and_then(|set| set.keys().find(|key| !known.contains(&key.as_str()))) {
        return Err(Unsupported(format!("set_timesteps argument {other}")));
    }
    if let Some(steps) = set["original_inference_steps"].as_u64() {
        scheduler = scheduler.original_steps(steps as usize).map_err(unsupported)?;
    }
    if let Some(mu) = set["mu"].as_f64() {
        scheduler = scheduler.mu(mu).map_err(unsupported)?;
    }
    if set.get("max_timesteps").or(set.get("intermediate_timesteps")).is_some() {
        // The original's defaults; null leaves the middle out.
        let max = set["max_timesteps"].as_f64().unwrap_or(std::f64::consts::FRAC_PI_2);
        let middle = set.get("intermediate_timesteps").map_or(Some(1.3), Value::as_f64);
        scheduler = scheduler.angles(max, middle).map_err(unsupported)?;
    }
    Ok(scheduler)
}

/// The case's whole grid.
fn whole_grid(case: &Case<'_>, scheduler: &Configured) -> Result<Grid, Unsupported> {
    let set = &case.value["set_timesteps"];
    let list = |value: &Value| -> Option<Vec<f64>> { value.as_array()?.iter().map(Value::as_f64).collect() };
    let grid = if let (Some(sigmas), Some(times)) = (list(&set["sigmas"]), list(&set["timesteps"])) {
        scheduler.grid_of_sigmas_at(&sigmas, &times)
    } else if let Some(times) = list(&set["timesteps"]) {
        scheduler.grid_at(&times)
    } else if let Some(sigmas) = list(&set["sigmas"]) {
        scheduler.grid_of_sigmas(&sigmas)
    } else if let Some(steps) = set["num_inference_steps"].as_u64() {
        scheduler.grid(steps as usize)
    } else {
        return Err(Unsupported("neither timesteps nor a number of steps".into()));
    };
    grid.map_err(unsupported)
}

/// Whether the original works on x/α.
pub fn is_scaled(class: &str) -> bool {
    ["Euler", "Heun", "KDPM2", "LMS", "DPMSolverSDE"].iter().any(|family| class.starts_with(family))
}

/// What a case's configuration becomes.
pub struct Walked {
    scheduler: Configured,
    whole: Grid,
    /// Steps before the case begins.
    before: usize,
    pub plan: Plan,
}

impl Walked {
    pub fn of(case: &Case<'_>) -> Result<Self, Unsupported> {
        let (_, walked) = deviations::switched(
            case,
            configured(case)?,
            |scheduler| Self::by(case, scheduler),
            |walked| walked.fails(case, &walked.plan),
        )?;
        Ok(walked)
    }

    fn by(case: &Case<'_>, scheduler: &Configured) -> Result<Self, Unsupported> {
        let whole = whole_grid(case, scheduler)?;
        let all = scheduler.plan_on(&whole).map_err(unsupported)?;
        // The index counts calls: two a step in methods of two stages.
        let calls = all.rows().iter().filter(|row| row.eval.is_some()).take(begin(case));
        let before = calls.filter(|row| row.step.is_some()).count();
        let plan = scheduler.plan_on(&whole.clone().starting_at(before)).map_err(unsupported)?;
        Ok(Self { scheduler: scheduler.clone(), whole, before, plan })
    }

    /// Whether a plan does something else than the original from the recorded states on.
    fn fails(&self, case: &Case<'_>, plan: &Plan) -> bool {
        if deviations::overlaps(plan) {
            return true;
        }
        let again = case.again();
        self.open(&again, plan);
        let fails = |what: &str| again.failures().iter().any(|failure| failure.starts_with(what));
        fails("open loop, x after") || fails("open loop, input")
    }

    /// Single steps of a plan with the recorded answers.
    pub fn open(&self, case: &Case<'_>, plan: &Plan) -> Rounding {
        let traced = |off: f64, states_off: f64| {
            let answers = Answers::Recorded(case.need("model_output").clone());
            let model = Model { off, ..self.model(case, answers) };
            walks::trace(case, Some(1.0 + states_off), &self.scheduler, plan, &model)
        };
        let found = traced(0.0, 0.0);
        let rounding = if case.fixture.is_known() {
            Rounding::default()
        } else {
            Rounding::of(case, plan, &found, &[traced(rounding::OFF, 0.0), traced(0.0, rounding::OFF)])
        };
        // A corrected state is nowhere recorded: it goes on from itself in the open loop, too.
        let corrects = ["UniPC", "SASolver"].iter().any(|family| case.class().starts_with(family));
        let carried = if corrects { rounding.carried_on() } else { Rounding::default() };
        walks::compare(case, "open", plan, &found, if corrects { &carried } else { &rounding });
        rounding
    }

    fn model(&self, case: &Case<'_>, answers: Answers) -> Model {
        Model {
            off: 0.0,
            answers,
            data: trig_data(case, &self.scheduler),
            prediction: self.scheduler.prediction(),
            with_variance: self.scheduler.learns_variance(),
            calls: AtomicUsize::new(0),
            asked: Mutex::default(),
        }
    }
}

/// Where a case begins, in calls.
pub fn begin(case: &Case<'_>) -> usize {
    case.value["begin_index"].as_u64().unwrap_or(0) as usize
}

pub fn run(case: &Case<'_>) -> Outcome {
    let walked = Walked::of(case)?;
    let Walked { scheduler, whole, plan, .. } = &walked;
    let (all, begin) = (scheduler.plan_on(whole).map_err(unsupported)?, begin(case));
    let text = serde_json::to_string(&plan).expect("a plan serializes");
    let read: Plan = serde_json::from_str(&text).expect("a plan deserializes");
    if &read != plan {
        case.fail("the plan changed when it was written and read");
    }

    let times = times(plan);
    let mut recorded = case.need("timesteps").data.clone();
    if case.class() == "DDPMWuerstchenScheduler" {
        // The last time is where the last step arrives.
        let arrives = plan.rows().last().map_or(f64::NAN, |row| row.after.t);
        case.compare_within("the last timestep", &[arrives], &recorded.split_off(times.len()), 1e-6, 0.0);
    }
    // Recorded from the start, or from the index on.
    let recorded = if recorded.len() > times.len() { &recorded[begin..] } else { &recorded[..] };
    // Times between the steps come from logarithms in float32.
    if times.len() != recorded.len() {
        case.fail(format!("timesteps: {} values, expected {}", times.len(), recorded.len()));
    }
    let mut told = times.clone();
    for (i, (recorded, off)) in recorded.iter().zip(rounding::times(case, plan)).enumerate().take(times.len()) {
        if rounding::cut_off(case, times[i], *recorded) {
            told[i] = *recorded;
        }
        case.compare_within("timesteps", &[told[i]], &[*recorded], 1e-3 + off, 1e-6);
    }
    for (time, recorded) in told.iter().zip(recorded) {
        if recorded.fract() == 0.0 && (time - recorded).abs() > 1e-3 {
            case.fail(format!("asked at {time} instead of {recorded}"));
        }
    }
    compare_sigmas(case, &all);
    compare_prior(case, &all);
    compare_forward(case, scheduler, &all);

    let model_level = |field| match (case.tensor(field), case.tensor("model_alphas_cumprod")) {
        (Some(level), _) => level.data.clone(),
        (None, Some(bar)) if field == "model_alpha" => bar.data.iter().map(|bar| bar.sqrt()).collect(),
        (None, Some(bar)) => bar.data.iter().map(|bar| (1.0 - bar).sqrt()).collect(),
        (None, None) => vec![f64::NAN; times.len()],
    };
    let formulas = Answers::Formulas {
        model: case.value["model"].clone(),
        prediction: match scheduler.prediction() {
            // The class takes velocities; the reference has given it noises all the same.
            _ if case.class() == "IPNDMScheduler" => Prediction::Epsilon,
            // Listed sigmas are inverted, and so are the levels of the formulas.
            Prediction::FlowToData => Prediction::Flow,
            prediction => prediction,
        },
        alpha: model_level("model_alpha"),
        sigma: model_level("model_sigma"),
        times: told,
        direct_variance: case.value["config"]["variance_type"] == "learned",
    };
    let rounding = walked.open(case, plan);
    let found = walks::trace(case, None, scheduler, plan, &walked.model(case, formulas));
    walks::compare(case, "closed", plan, &found, &rounding.carried_on());
    compare_own(case, &walked);
    Ok(())
}

/// Whether the library's own solver does something else than the configuration, from the recorded states.
fn compare_own(case: &Case<'_>, walked: &Walked) {
    let Some(own) = deviations::own(case) else { return };
    let grid = walked.whole.clone().starting_at(walked.before);
    let plan = own.plan(walked.scheduler.process(), &grid);
    if plan.is_ok_and(|plan| !walked.fails(case, &plan)) {
        return;
    }
    case.deviates(Deviation::LateChurn);
}

/// σ_d of a case on a TrigFlow, otherwise 1.
fn trig_data(case: &Case<'_>, scheduler: &Configured) -> f64 {
    match scheduler.prediction() {
        Prediction::EdmVelocity { sigma_data } if case.class() == "SCMScheduler" => {
            case.deviates(Deviation::DataFactor);
            sigma_data
        }
        _ => 1.0,
    }
}

/// The times at which a plan asks, in order.
pub fn times(plan: &Plan) -> Vec<f64> {
    plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time)).collect()
}

pub fn ratio(level: &Level) -> f64 {
    level.sigma / level.alpha
}

/// Divides by α where the original does.
pub fn published(case: &Case<'_>, x: &[f64], alpha: f64) -> Vec<f64> {
    let scale = if is_scaled(case.class()) { alpha } else { 1.0 };
    x.iter().map(|x| x / scale).collect()
}
