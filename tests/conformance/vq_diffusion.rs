//! The case of VQ-diffusion in `schedulers/special`: tables, posteriors and draws, open and closed.

use crate::deviations::Deviation;
use crate::fixture::Case;
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin::core::Key;
use langevin::core::discrete::{Rates, tokens_fn};
use langevin::core::noise::Injected;
use langevin::schedulers::{TokenMethod, TokenSampler, diffusers};
use serde_json::Value;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let scheduler = diffusers::vq_diffusion_from_config(&config.to_string()).map_err(unsupported)?;
    let steps = case.value["set_timesteps"]["num_inference_steps"].as_u64().unwrap_or(0) as usize;
    let sampler = scheduler.sampler(steps).map_err(unsupported)?;
    let chain = scheduler.chain();
    let times: Vec<f64> = sampler.times().iter().map(|t| *t as f64).collect();
    case.compare_within("timesteps", &times, &case.need("timesteps").data, 0.0, 0.0);
    if TokenSampler::new(chain.clone()).steps(steps).map_err(unsupported)?.times() != sampler.times() {
        case.deviates(Deviation::CleanestSteps);
    }

    let table = |name: &str, rates: &[Rates], i: usize| {
        let found: Vec<f64> = rates.iter().map(|rates| rates.logs()[i]).collect();
        // Small differences of numbers near 1, in float64 in the original.
        case.compare_within(name, &found, &case.need(name).data, 1e-5, 1e-6);
    };
    let single = |t: usize| chain.between(t.checked_sub(1), t).expect("a step of the chain");
    let single: Vec<Rates> = (0..chain.steps()).map(single).collect();
    // The original keeps what is clean behind the last step.
    let at = (0..chain.steps()).map(Some).chain([None]);
    let cumulative: Vec<Rates> = at.map(|t| chain.cumulative(t).expect("a step of the chain")).collect();
    for (i, letter) in ["a", "b", "c"].into_iter().enumerate() {
        table(&format!("log_{letter}t"), &single, i);
        table(&format!("log_cumprod_{letter}t"), &cumulative, i);
    }

    let owners: Vec<f64> = (0..steps).map(|step| step as f64).collect();
    case.compare_within("noise_step", &owners, &case.need("noise_step").data, 0.0, 0.0);
    let device = Device::flex();
    let init = case.need("x_init");
    let (batch, positions) = (init.shape[0], init.shape[1]);
    let mut noise = Injected::new();
    for step in 0..steps {
        let draw = case.need(&format!("noise_{step}")).data.clone();
        noise = noise.with(Key::step(step as u64, 0), 0..batch as u64, draw).expect("a recorded draw");
    }
    let tokens = |values: &[f64]| {
        let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, [batch, positions]), &device)
    };
    let tensor = |values: Vec<f64>| {
        let data = TensorData::new(values, [batch, chain.classes(), positions]);
        Tensor::<3>::from_data(data, (&device, DType::F32))
    };
    let model = &case.value["model"];
    let (outputs, expected) = (case.need("model_output"), case.need("prev_sample"));

    // Open: every posterior and draw from the recorded tokens and answers.
    let mut x = init.data.clone();
    for step in 0..steps {
        let reached = sampler.times().get(step + 1).copied();
        let answer = tensor(outputs.row(step).to_vec());
        let log_p = chain.posterior(answer, &tokens(&x), reached, sampler.times()[step]).map_err(unsupported)?;
        let found = log_p.try_to_vec_as::<f64>().expect("readable");
        case.compare(&format!("posterior {step}"), Some(step), &found, &case.need(&format!("q_posterior_{step}")).data);
        x = expected.row(step).to_vec();
    }

    // Open and closed runs.
    for name in ["open", "closed"] {
        let calls = AtomicUsize::new(0);
        let denoiser = tokens_fn(|tokens: Tensor<2, Int>, step: usize| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            Ok(tensor(match name {
                "open" => outputs.row(call).to_vec(),
                _ => formula(model, &tokens, step, chain.classes()),
            }))
        });
        let run = sampler.start_from(0, tokens(&init.data), &denoiser, &noise).expect("a run");
        for (i, step) in run.enumerate() {
            match step {
                Ok(step) => {
                    let found: Vec<f64> = step.tokens.into_data().iter::<i64>().map(|token| token as f64).collect();
                    // The recorded tokens or none: each step begins with the recorded ones.
                    case.compare_within(&format!("{name} run, tokens {i}"), &found, expected.row(i), 0.0, 0.0);
                    if name == "open" {
                        case.count_step();
                    }
                }
                Err(error) => case.fail(format!("{name} run, step {i}: {error}")),
            }
        }
    }
    if let Err(error) = noise.finish() {
        case.fail(error.to_string());
    }
    Ok(())
}

/// Log-probabilities from the reference's formula, `2·sin_model(0.7·k + 1.3·x + 0.37·l, t)`.
fn formula(model: &Value, tokens: &Tensor<2, Int>, step: usize, classes: usize) -> Vec<f64> {
    let [batch, positions] = tokens.dims();
    let x: Vec<f64> = tokens.to_data().iter::<i64>().map(|token| token as f64).collect();
    let parameters = models::sine_parameters(model);
    let mut out = vec![0.0; batch * classes * positions];
    for b in 0..batch {
        for l in 0..positions {
            let input: Vec<f64> =
                (0..classes).map(|k| 0.7 * k as f64 + 1.3 * x[b * positions + l] + 0.37 * l as f64).collect();
            let logits: Vec<f64> = models::sine(parameters, &input, step as f64).iter().map(|v| 2.0 * v).collect();
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = most + logits.iter().map(|v| (v - most).exp()).sum::<f64>().ln();
            for (k, logit) in logits.iter().enumerate() {
                out[(b * classes + k) * positions + l] = logit - total;
            }
        }
    }
    out
}
