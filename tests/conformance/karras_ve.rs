//! The case of `schedulers/special` with a loop of its own: churn, a step of Euler, a correction.

use crate::deviations;
use crate::fixture::Case;
use crate::models;
use crate::open_loop::{Recorded, firsts};
use crate::outcome::{Outcome, Unsupported};
use crate::schedulers::{four, tensor, values};
use burn::tensor::Tensor;
use langevin::core::noise::Injected;
use langevin::core::{Key, Levels, Prediction, denoiser};
use langevin::schedulers::diffusers;
use langevin::schedulers::{Plan, SamplerExt};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Mutex;

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let scheduler = diffusers::from_config(&config.to_string()).map_err(unsupported)?;
    if scheduler.prediction() != Prediction::ScaledScore || case.value["model"]["kind"] != "gmm" {
        return Err(Unsupported("another model".into()));
    }
    let steps = case.value["set_timesteps"]["num_inference_steps"].as_u64();
    let steps = steps.ok_or_else(|| Unsupported("no number of steps".into()))? as usize;
    // Whether the first level is that of the recorded list.
    let listed = case.need("schedule").data.last().copied().unwrap_or(f64::NAN);
    let (_, planned) = deviations::switched(
        case,
        scheduler,
        |scheduler| scheduler.plan(steps).map_err(unsupported),
        |plan| (plan.start_node().level.sigma / listed - 1.0).abs() > 1e-6,
    )?;
    let text = serde_json::to_string(&planned).expect("a plan serializes");
    let plan: Plan = serde_json::from_str(&text).expect("a plan deserializes");
    if plan != planned {
        case.fail("the plan changed when it was written and read");
    }
    levels(case, &plan);
    for name in ["open", "closed"] {
        walk(case, name, &plan);
    }
    Ok(())
}

/// The list of noise levels, cleanest first and counted by `timesteps`, and those that churn raises them to.
fn levels(case: &Case<'_>, plan: &Plan) {
    let mut states = vec![plan.start_node().level.sigma];
    states.extend(plan.rows().iter().filter(|row| row.step.is_some()).map(|row| row.after.level.sigma));
    let last = states.pop();
    case.compare_within("the end", &[last.unwrap_or(f64::NAN)], &[0.0], 0.0, 0.0);
    states.reverse();
    case.compare_within("schedule", &states, &case.need("schedule").data, 0.0, 1e-6);
    let counted: Vec<f64> = (0..states.len()).rev().map(|step| step as f64).collect();
    case.compare_within("timesteps", &counted, &case.need("timesteps").data, 0.0, 0.0);
    let raised: Vec<f64> = firsts(plan).iter().filter_map(|row| plan.rows()[*row].eval).map(|e| e.at.sigma).collect();
    case.compare_within("sigma_hat", &raised, &case.need("sigma_hat").data, 0.0, 1e-6);
    let draws: Vec<f64> = (0..plan.steps()).map(|step| step as f64).collect();
    case.compare_within("noise_step", &draws, &case.need("noise_step").data, 0.0, 0.0);
}

/// `(D − x)/σ`.
fn output(x: &[f64], sigma: f64) -> Vec<f64> {
    models::mixture_x0(x, 1.0, sigma).iter().zip(x).map(|(x0, x)| (x0 - x) / sigma).collect()
}

/// The whole loop. In the open one each step starts from the recorded state, and its first answer is the recorded one.
fn walk(case: &Case<'_>, name: &str, plan: &Plan) {
    let (init, outputs, ends) = (case.need("x_init"), case.need("model_output"), case.need("prev_sample"));
    let (hats, originals) = (case.need("sample_hat"), case.need("pred_original_sample"));
    let (shape, firsts) = (four(&init.shape), firsts(plan));
    // Draws are listed by step; the plan has them in the first row of each.
    let noise = draws(case, plan, &firsts, shape[0]);
    let asked = Mutex::new(Vec::new());
    let model = denoiser::from_fn(Prediction::ScaledScore, |x: Tensor<4>, levels: &Levels| {
        let Levels::Shared(level) = levels else { unreachable!("a plan asks at shared levels") };
        let state = values(&x);
        let mut asked = asked.lock().expect("no panic");
        let step = firsts.iter().position(|row| *row == asked.len());
        asked.push(state.clone());
        Ok(match step {
            Some(step) if name == "open" => tensor(outputs.row(step).to_vec(), x.dims()),
            _ => tensor(output(&state, level.sigma), x.dims()),
        })
    });
    let open = name == "open";
    let steps = if open { 0..ends.rows() } else { 0..0 };
    let recorded = Recorded::new(steps.map(|step| ends.row(step).to_vec()).collect());
    let run = plan.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
    for (i, step) in run.constrained(&recorded).enumerate() {
        match step {
            Ok(step) => {
                let x0 = step.x0.map(|x0| values(&x0)).unwrap_or_default();
                case.compare(&format!("{name} loop, x0 of step {i}"), Some(i), &x0, originals.row(i));
            }
            Err(error) => return case.fail(format!("{name} loop, step {i}: {error}")),
        }
    }
    let found = recorded.seen();
    for (i, x) in found.iter().enumerate() {
        case.compare(&format!("{name} loop, x after step {i}"), Some(i), x, ends.row(i));
        if open {
            case.count_step();
        }
    }
    if found.len() != ends.rows() {
        case.fail(format!("{name} loop: {} steps, expected {}", found.len(), ends.rows()));
    }
    let asked = asked.into_inner().expect("no panic");
    for (i, row) in firsts.iter().enumerate() {
        case.compare(&format!("{name} loop, raised state of step {i}"), Some(i), &asked[*row], hats.row(i));
    }
    if let Err(error) = noise.finish() {
        case.fail(format!("{name} loop: {error}"));
    }
}

fn draws(case: &Case<'_>, plan: &Plan, firsts: &[usize], batch: usize) -> Injected {
    let draws = case.need("noise");
    let mut noise = Injected::new();
    for (step, row) in firsts.iter().enumerate() {
        // Where nothing is raised the draw has no effect.
        if !plan.rows()[*row].draws.is_empty() {
            let key = Key::step(*row as u64, 0);
            noise = noise.with(key, 0..batch as u64, draws.row(step).to_vec()).expect("a recorded draw");
        }
    }
    noise
}
