//! Cases of `schedulers/`: configuration → plan → JSON → plan → the loop, open and closed.

use crate::fixture::{Array, Case};
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::noise::Injected;
use langevin::core::{DenoiseError, Denoiser, DenoiserExt, Estimate, Grid, Key, Levels, Prediction, Process, Query};
use langevin::schedulers::diffusers::{self, Configured};
use langevin::schedulers::plan::Draw;
use langevin::schedulers::{Plan, SamplerExt};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a case answers queries.
enum Answers {
    /// The recorded outputs, in order.
    Recorded(Array),
    /// The formulas, from the state.
    Formulas { model: Value, alpha: Vec<f64>, sigma: Vec<f64>, times: Vec<f64>, direct_variance: bool },
}

/// A denoiser over a case's answers.
struct Model {
    answers: Answers,
    prediction: Prediction,
    with_variance: bool,
    calls: AtomicUsize,
}

/// The variance channels of the reference's models.
const VARIANCE: [f64; 4] = [0.9, 1.3, 0.7, 0.0];

impl Model {
    /// Output and variance of call `call` for the state `x`, each as long as `x`.
    fn answer(&self, call: usize, x: &[f64], rows: usize) -> (Vec<f64>, Option<Vec<f64>>) {
        match &self.answers {
            Answers::Recorded(outputs) if !self.with_variance => (outputs.row(call).to_vec(), None),
            Answers::Recorded(outputs) => {
                // [batch, 2·channels, ..]: the halves alternate sample by sample.
                let size = x.len() / rows;
                let halves: Vec<_> = outputs.row(call).chunks(size).collect();
                let pick = |odd: usize| halves.iter().skip(odd).step_by(2).flat_map(|h| h.to_vec()).collect();
                (pick(0), Some(pick(1)))
            }
            Answers::Formulas { model, alpha, sigma, times, direct_variance } => {
                let t = times[call];
                let output = match model["kind"].as_str() {
                    Some("sin") => models::sine(models::sine_parameters(model), x, t),
                    _ => models::mixture(x, alpha[call], sigma[call], self.prediction),
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
        let (output, variance) = self.answer(call, &values(&query.x), shape[0]);
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

/// The noise of a case, keyed as the plan will ask for it.
pub fn injected(case: &Case<'_>, plan: &Plan, batch: usize) -> Injected {
    let mut noise = Injected::new();
    let (Some(draws), Some(steps)) = (case.tensor("noise"), case.tensor("noise_step")) else { return noise };
    let mut used = vec![0; plan.steps()];
    for k in 0..draws.rows() {
        let step = steps.data[k] as usize;
        let keys: Vec<Key> = plan
            .rows()
            .iter()
            .enumerate()
            .filter(|(_, row)| row.step == Some(step as u32))
            .flat_map(|(index, row)| {
                row.draws.iter().filter_map(move |draw| match draw {
                    Draw::White { lane, .. } => Some(Key::step(index as u64, u32::from(*lane))),
                    Draw::Path { .. } => None,
                })
            })
            .collect();
        // A step that draws nothing has a noise coefficient of zero: the recorded draw had no effect.
        if let Some(key) = keys.get(used[step]) {
            noise = noise.with(*key, 0..batch as u64, draws.row(k).to_vec()).expect("a recorded draw");
            used[step] += 1;
        }
    }
    noise
}

fn configured(case: &Case<'_>) -> Result<Configured, Unsupported> {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let scheduler = diffusers::from_config(&config.to_string()).map_err(|error| Unsupported(error.to_string()))?;
    let eta = case.value["step_kwargs"]["eta"].as_f64().unwrap_or(0.0);
    scheduler.eta(eta).map_err(|error| Unsupported(error.to_string()))
}

pub fn run(case: &Case<'_>) -> Outcome {
    let scheduler = configured(case)?;
    let known = ["eta", "use_clipped_model_output"];
    if let Some(other) =
        case.value["step_kwargs"].as_object().into_iter().flatten().find(|(key, _)| !known.contains(&key.as_str()))
    {
        return Err(Unsupported(format!("step argument {}", other.0)));
    }
    let set = &case.value["set_timesteps"];
    let mut grid = match (&set["timesteps"], set["num_inference_steps"].as_u64()) {
        (Value::Array(times), _) => Grid::times(times.iter().filter_map(Value::as_f64).collect())
            .map_err(|error| Unsupported(error.to_string()))?,
        (_, Some(steps)) => scheduler.grid(steps as usize),
        _ => return Err(Unsupported("neither timesteps nor a number of steps".into())),
    };
    if let Some(begin) = case.value["begin_index"].as_u64() {
        grid = grid.starting_at(begin as usize);
    }
    let plan = scheduler.plan_on(&grid).map_err(|error| Unsupported(error.to_string()))?;
    let text = serde_json::to_string(&plan).expect("a plan serializes");
    let plan: Plan = serde_json::from_str(&text).expect("a plan deserializes");

    let x_init = case.need("x_init");
    let shape = four(&x_init.shape);
    let times: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time)).collect();
    let begin = case.value["begin_index"].as_u64().unwrap_or(0) as usize;
    let recorded_times = &case.need("timesteps").data;
    case.compare_within("timesteps", &times, &recorded_times[begin..], 0.0, 0.0);
    compare_chain(case, &scheduler);

    let model_level = |field| case.tensor(field).map_or_else(|| vec![f64::NAN; times.len()], |a| a.data.clone());
    let formulas = Answers::Formulas {
        model: case.value["model"].clone(),
        alpha: model_level("model_alpha"),
        sigma: model_level("model_sigma"),
        times: times.clone(),
        direct_variance: case.value["config"]["variance_type"] == "learned",
    };
    let recorded = Answers::Recorded(case.need("model_output").clone());
    for (loop_name, answers) in [("open", recorded), ("closed", formulas)] {
        let model = Model {
            answers,
            prediction: scheduler.prediction(),
            with_variance: scheduler.learns_variance(),
            calls: AtomicUsize::new(0),
        };
        walk(case, loop_name, &scheduler, &plan, &model, tensor(x_init.data.clone(), shape));
    }
    Ok(())
}

fn walk(case: &Case<'_>, name: &str, scheduler: &Configured, plan: &Plan, model: &Model, x: Tensor<4>) {
    let noise = injected(case, plan, x.dims()[0]);
    let rederive = case.value["step_kwargs"]["use_clipped_model_output"].as_bool().unwrap_or(false);
    let denoiser: Box<dyn Denoiser<4>> = match scheduler.threshold() {
        None => Box::new(model),
        Some(threshold) => {
            let clipped = DenoiserExt::<4>::thresholded(model, threshold).expect("a checked threshold");
            if rederive { Box::new(clipped.rederive_eps()) } else { Box::new(clipped) }
        }
    };
    let run = plan.start_from(0, x, &denoiser, &noise).expect("a run");
    let (expected, originals) = (case.need("prev_sample"), case.tensor("pred_original_sample"));
    let mut steps = 0;
    for (i, step) in run.enumerate() {
        let step = match step {
            Ok(step) => step,
            Err(error) => return case.fail(format!("{name} loop, step {i}: {error}")),
        };
        case.compare(&format!("{name} loop, x after step {i}"), Some(i), &values(&step.x), expected.row(i));
        if let (Some(originals), Some(x0)) = (originals, &step.x0) {
            case.compare(&format!("{name} loop, x0 of step {i}"), Some(i), &values(x0), originals.row(i));
        }
        steps += 1;
    }
    if steps != expected.rows() {
        case.fail(format!("{name} loop: {steps} steps, expected {}", expected.rows()));
    }
    if let Err(error) = noise.finish() {
        case.fail(format!("{name} loop: {error}"));
    }
}

/// ᾱ, forward noising and velocities.
fn compare_chain(case: &Case<'_>, scheduler: &Configured) {
    let chain = scheduler.process();
    if let Some(expected) = case.value["alphas_cumprod"].as_str().and_then(|key| case.fixture.shared(key)) {
        // Summed in f32 by the original: a relative 1e-5, and an absolute 1e-7 where it is almost zero.
        case.compare_within("alphas_cumprod", chain.alphas_cumprod(), &expected.data, 1e-7, 1e-5);
    }
    let (Some(x0), Some(eps), Some(t)) =
        (case.tensor("add_noise_x0"), case.tensor("add_noise_eps"), case.tensor("add_noise_t"))
    else {
        return;
    };
    let shape = four(&x0.shape);
    let levels = Levels::Each(t.data.iter().map(|t| chain.level(*t)).collect());
    let (x0, eps) = (tensor(x0.data.clone(), shape), tensor(eps.data.clone(), shape));
    if let Some(expected) = case.tensor("add_noise_out") {
        let noisy = levels.map(|l| l.alpha).times(x0.clone()).add(levels.map(|l| l.sigma).times(eps.clone()));
        case.compare_within("add_noise", &values(&noisy), &expected.data, 1e-5, 1e-5);
    }
    if let Some(expected) = case.tensor("velocity_out") {
        let v = levels.map(|l| l.alpha).times(eps).sub(levels.map(|l| l.sigma).times(x0));
        case.compare_within("velocity", &values(&v), &expected.data, 1e-5, 1e-5);
    }
}
