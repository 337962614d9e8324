//! RePaint's cases of `schedulers/special`, open and closed.
//!
//! The original draws one noise a step, for the known and the unknown region alike; here they are two draws, and both are
//! given the recorded values. A step back up is T div N steps of the chain in the original; here it is one, whose noise is
//! what those of the original add up to.

use crate::deviations;
use crate::fixture::Case;
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use crate::schedulers::{four, tensor, values};
use burn::tensor::Tensor;
use langevin::core::denoiser::constraint_fn;
use langevin::core::noise::Injected;
use langevin::core::{Denoiser, DenoiserExt, Levels, denoiser};
use langevin::schedulers::diffusers::{self, Configured};
use langevin::schedulers::{Plan, SamplerExt};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let scheduler = diffusers::from_config(&config.to_string()).map_err(unsupported)?;
    let set = |key: &str, default| case.value["set_timesteps"][key].as_u64().unwrap_or(default) as usize;
    let scheduler = scheduler.jumps(set("jump_length", 10), set("jump_n_sample", 10)).map_err(unsupported)?;
    let rises = |plan: &Plan| plan.rows().iter().map(|row| f64::from(u8::from(row.eval.is_none()))).collect::<Vec<_>>();
    let read = |scheduler: &Configured| scheduler.plan(set("num_inference_steps", 0)).map_err(unsupported);
    // Other jumps are enough; those that are the same go to other levels.
    let jumps = &case.need("is_undo").data;
    let (scheduler, plan) =
        deviations::switched(case, scheduler, read, |plan| rises(plan) != *jumps || rises(plan).contains(&1.0))?;
    let text = serde_json::to_string(&plan).expect("a plan serializes");
    let read: Plan = serde_json::from_str(&text).expect("a plan deserializes");
    if read != plan {
        case.fail("the plan changed when it was written and read");
    }
    let chain = scheduler.process().chain().expect("a chain");
    case.compare_within("alphas_cumprod", chain.alphas_cumprod(), &case.need("alphas_cumprod").data, 1e-7, 1e-5);
    // A step up is listed under the time that follows the one it reaches.
    let stride = plan.start_node().t - plan.rows()[0].after.t;
    let times: Vec<f64> =
        plan.rows().iter().map(|row| row.eval.map_or(row.after.t + stride, |eval| eval.at.time)).collect();
    case.compare_within("timesteps", &times, &case.need("timesteps").data, 0.0, 0.0);
    case.compare_within("is_undo", &rises(&plan), jumps, 0.0, 0.0);
    for name in ["open", "closed"] {
        walk(case, name, &scheduler, &plan);
    }
    Ok(())
}

/// The recorded draws under the keys of the plan's.
fn injected(case: &Case<'_>, scheduler: &Configured, plan: &Plan, batch: u64) -> Injected {
    let betas = scheduler.process().chain().expect("a chain").betas();
    let (draws, owners) = (case.need("noise"), case.need("noise_step"));
    let mut noise = Injected::new();
    for (index, row) in plan.rows().iter().enumerate() {
        let mine: Vec<&[f64]> =
            (0..draws.rows()).filter(|k| owners.data[*k] as usize == index).map(|k| draws.row(k)).collect();
        let values = match (row.eval, mine.as_slice()) {
            (Some(_), [one]) => one.to_vec(),
            (None, many) => {
                // x goes to √(1 − β)·x + √β·z, once for each beta from the last listed time on.
                let first = case.need("timesteps").data[index - 1] as usize;
                let (mut sum, mut variance) = (vec![0.0; many[0].len()], 0.0);
                for (i, z) in many.iter().enumerate() {
                    let beta = betas[first + i];
                    sum.iter_mut().zip(*z).for_each(|(sum, z)| *sum = (1.0 - beta).sqrt() * *sum + beta.sqrt() * z);
                    variance = (1.0 - beta) * variance + beta;
                }
                sum.iter().map(|sum| sum / variance.sqrt()).collect()
            }
            _ => {
                case.fail(format!("row {index} draws {} times in the original", mine.len()));
                continue;
            }
        };
        for draw in &row.draws {
            let key = draw.key(index).expect("white noise has a key");
            noise = noise.with(key, 0..batch, values.clone()).expect("a recorded draw");
        }
    }
    noise
}

fn walk(case: &Case<'_>, name: &str, scheduler: &Configured, plan: &Plan) {
    let shape = four(&case.need("x_init").shape);
    let given = |field: &str| {
        let array = case.need(field);
        tensor(array.data.clone(), four(&array.shape))
    };
    let noise = injected(case, scheduler, plan, shape[0] as u64);
    let (outputs, expected) = (case.need("model_output"), case.need("prev_sample"));
    let asked: Vec<usize> = (0..plan.rows().len()).filter(|row| plan.rows()[*row].eval.is_some()).collect();
    let calls = AtomicUsize::new(0);
    let model = denoiser::from_fn(scheduler.prediction(), |x: Tensor<4>, levels: &Levels| {
        let row = asked[calls.fetch_add(1, Ordering::SeqCst)];
        let Levels::Shared(level) = levels else { unreachable!("a plan asks at shared levels") };
        let output = match name {
            "open" => outputs.row(row).to_vec(),
            _ => models::sine(models::sine_parameters(&case.value["model"]), &values(&x), level.time),
        };
        Ok(tensor(output, x.dims()))
    });
    let clipped: Box<dyn Denoiser<4>> = match scheduler.threshold() {
        None => Box::new(&model),
        Some(threshold) => Box::new(DenoiserExt::<4>::thresholded(&model, threshold).expect("a checked threshold")),
    };
    let seen = Mutex::new(Vec::new());
    // In the open loop each step goes on from the recorded state.
    let recorded = constraint_fn(|x: Tensor<4>, _: &Levels| {
        let mut seen = seen.lock().expect("no panic");
        let row = expected.row(seen.len()).to_vec();
        seen.push(values(&x));
        if name == "open" { tensor(row, x.dims()) } else { x }
    });
    let run = plan.start_from(0, given("x_init"), &clipped, &noise).expect("a run");
    let run = run.known(given("original_image"), given("mask")).expect("an image and a mask").constrained(&recorded);
    let originals = case.need("pred_original_sample");
    for (i, step) in run.enumerate() {
        match step {
            Ok(step) => {
                if let Some(x0) = step.x0 {
                    case.compare(&format!("{name} loop, x0 of step {i}"), Some(i), &values(&x0), originals.row(i));
                }
            }
            Err(error) => return case.fail(format!("{name} loop, step {i}: {error}")),
        }
    }
    let seen = seen.lock().expect("no panic");
    if seen.len() != expected.rows() {
        case.fail(format!("{name} loop: {} steps, expected {}", seen.len(), expected.rows()));
    }
    for (i, x) in seen.iter().enumerate() {
        case.compare(&format!("{name} loop, x after step {i}"), Some(i), x, expected.row(i));
        if name == "open" {
            case.count_step();
        }
    }
    if let Err(error) = noise.finish() {
        case.fail(format!("{name} loop: {error}"));
    }
}
