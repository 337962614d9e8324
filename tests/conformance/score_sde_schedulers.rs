//! The score-SDE cases of `schedulers/special`: predictor and corrector, open and closed.

use crate::fixture::Case;
use crate::models;
use crate::open_loop::Recorded;
use crate::outcome::{Outcome, Unsupported};
use crate::schedulers::{four, tensor, values};
use burn::tensor::Tensor;
use langevin::core::noise::Injected;
use langevin::core::{Key, Levels, Prediction, denoiser};
use langevin::schedulers::diffusers::{ScoreSde, score_sde_from_config};
use langevin::schedulers::plan::{Coef, Plan, Src};
use langevin::schedulers::{PredictorCorrector, Run, SamplerExt};
use serde_json::Value;
use std::fmt::Display;

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    let mut config = case.value["config"].clone();
    config["_class_name"] = Value::from(case.class());
    let scheduler = score_sde_from_config(&config.to_string()).map_err(unsupported)?;
    let steps = case.value["set_timesteps"]["num_inference_steps"]
        .as_u64()
        .ok_or_else(|| Unsupported("no number of steps".into()))? as usize;
    let sampler = scheduler.sampler(steps).map_err(unsupported)?;
    let text = serde_json::to_string(sampler.predictor()).expect("a plan serializes");
    let plan: Plan = serde_json::from_str(&text).expect("a plan deserializes");
    if &plan != sampler.predictor() {
        case.fail("the plan changed when it was written and read");
    }
    let times: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time)).collect();
    case.compare_within("timesteps", &times, &case.need("timesteps").data, 1e-6, 0.0);
    match &scheduler {
        ScoreSde::Vp { .. } => vp(case, &plan),
        ScoreSde::Ve { corrections, .. } => {
            levels(case, &scheduler, &plan, steps);
            ve_open(case, &sampler, &plan, *corrections as usize);
            ve_closed(case, &sampler, *corrections as usize);
        }
        _ => return Err(Unsupported("a configuration of no class".into())),
    }
    Ok(())
}

/// Coefficient of the noise in row `i`.
fn spread(plan: &Plan, i: usize) -> f64 {
    let terms = plan.rows()[i].post.iter().flat_map(|set| &set.sum);
    let of_noise = terms.filter(|term| matches!(term.of, Src::Z(_))).map(|term| match term.c {
        Coef::C(c) => c,
        _ => f64::NAN,
    });
    of_noise.sum()
}

/// Walks a run against `prev_sample` and, with the noise taken off, `prev_sample_mean`. In the open loop each step goes on
/// from the recorded state.
fn walk(case: &Case<'_>, name: &str, plan: &Plan, run: Run<'_, 4>, draw_of_step: impl Fn(usize) -> usize) {
    let (x, mean, noise) = (case.need("prev_sample"), case.need("prev_sample_mean"), case.need("noise"));
    let open = name == "open";
    let steps = if open { 0..x.rows() } else { 0..0 };
    let recorded = Recorded::new(steps.map(|step| x.row(step).to_vec()).collect());
    for (i, step) in run.constrained(&recorded).enumerate() {
        if let Err(error) = step {
            return case.fail(format!("{name} loop, step {i}: {error}"));
        }
    }
    for (i, step) in recorded.seen().iter().enumerate() {
        case.compare(&format!("{name} loop, x after step {i}"), Some(i), step, x.row(i));
        let z = noise.row(draw_of_step(i));
        let without: Vec<f64> = step.iter().zip(z).map(|(x, z)| x - spread(plan, i) * z).collect();
        case.compare(&format!("{name} loop, mean of step {i}"), Some(i), &without, mean.row(i));
        if open {
            case.count_step();
        }
    }
}

fn vp(case: &Case<'_>, plan: &Plan) {
    let init = case.need("x_init");
    let shape = four(&init.shape);
    let draws = case.need("noise");
    let in_order = case.need("noise_step").data.iter().enumerate().all(|(k, step)| k as f64 == *step);
    if !in_order {
        return case.fail("one draw a step was expected");
    }
    let outputs = case.need("model_output");
    for name in ["open", "closed"] {
        let mut noise = Injected::new();
        for i in 0..draws.rows() {
            let key = Key::step(i as u64, 0);
            noise = noise.with(key, 0..shape[0] as u64, draws.row(i).to_vec()).expect("a recorded draw");
        }
        let model = denoiser::from_fn(Prediction::Epsilon, |x: Tensor<4>, levels: &Levels| {
            let Levels::Shared(level) = levels else { unreachable!("a plan asks at shared levels") };
            let times = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time));
            let step = times.take_while(|time| *time > level.time).count();
            let output = match name {
                "open" => outputs.row(step).to_vec(),
                _ => models::mixture_eps(&values(&x), level.alpha, level.sigma),
            };
            Ok(tensor(output, x.dims()))
        });
        let run = plan.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
        walk(case, name, plan, run, |i| i);
        if let Err(error) = noise.finish() {
            case.fail(error.to_string());
        }
    }
}

/// σ of the questions and of the states, the prior, and forward noising.
fn levels(case: &Case<'_>, scheduler: &ScoreSde, plan: &Plan, steps: usize) {
    let relative = 1e-5;
    let asked: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.sigma)).collect();
    case.compare_within("sigmas", &asked, &case.need("sigmas").data, 0.0, relative);
    let mut states = vec![plan.start_node().level.sigma];
    states.extend(plan.rows().iter().map(|row| row.after.level.sigma).take(steps - 1));
    states.reverse();
    let discrete = &case.need("discrete_sigmas").data;
    case.compare_within("discrete_sigmas", &states, discrete, 0.0, relative);
    if let Some(expected) = case.value["init_noise_sigma"].as_f64() {
        case.compare_within("init_noise_sigma", &[scheduler.process().prior_std()], &[expected], 0.0, 1e-6);
    }
    let (Some(x0), Some(eps), Some(t), Some(out)) = (
        case.tensor("add_noise_x0"),
        case.tensor("add_noise_eps"),
        case.tensor("add_noise_t"),
        case.tensor("add_noise_out"),
    ) else {
        return;
    };
    let size = x0.data.len() / x0.rows();
    let noisy: Vec<f64> =
        (0..x0.data.len()).map(|i| x0.data[i] + states[t.data[i / size] as usize] * eps.data[i]).collect();
    case.compare_within("add_noise", &noisy, &out.data, 1e-4, 1e-5);
}

/// Each correction and each prediction from the recorded state before it.
fn ve_open(case: &Case<'_>, sampler: &PredictorCorrector, plan: &Plan, corrections: usize) {
    let init = case.need("x_init");
    let shape = four(&init.shape);
    let (corrected, noise) = (case.need("corrected"), case.need("noise"));
    let (of_correction, of_prediction) = (case.need("score_corr"), case.need("score_pred"));
    let (next, mean) = (case.need("prev_sample"), case.need("prev_sample_mean"));
    let each = corrections + 1;
    let owners: Vec<f64> = (0..plan.steps()).flat_map(|step| vec![step as f64; each]).collect();
    case.compare_within("noise_step", &owners, &case.need("noise_step").data, 0.0, 0.0);
    let mut x = init.data.clone();
    for step in 0..plan.steps() {
        for k in 0..corrections {
            let i = step * corrections + k;
            let score = tensor(of_correction.row(i).to_vec(), shape);
            let z = tensor(noise.row(step * each + k).to_vec(), shape);
            let sigma = plan.rows()[step].eval.map_or(f64::NAN, |eval| eval.at.sigma);
            let got = sampler.correct(tensor(x, shape), score, z, sigma);
            case.compare(&format!("correction {k} of step {step}"), Some(step), &values(&got), corrected.row(i));
            x = corrected.row(i).to_vec();
        }
        let mut row = plan.rows()[step].clone();
        row.step = Some(0);
        let one = Plan::new("one step", plan.start_node(), 1.0, vec![row]).expect("one row of a plan is a plan");
        let z = noise.row(step * each + corrections).to_vec();
        let injected = Injected::new().with(Key::step(0, 0), 0..shape[0] as u64, z.clone()).expect("a recorded draw");
        let score = of_prediction.row(step).to_vec();
        let model =
            denoiser::from_fn(Prediction::Score, |x: Tensor<4>, _: &Levels| Ok(tensor(score.clone(), x.dims())));
        let run = one.start_from(0, tensor(x, shape), &model, &injected).expect("a run");
        match run.finish() {
            Ok(got) => {
                let got = values(&got);
                case.compare(&format!("open loop, x after step {step}"), Some(step), &got, next.row(step));
                let without: Vec<f64> = got.iter().zip(&z).map(|(x, z)| x - spread(plan, step) * z).collect();
                case.compare(&format!("open loop, mean of step {step}"), Some(step), &without, mean.row(step));
                case.count_step();
            }
            Err(error) => case.fail(format!("open loop, step {step}: {error}")),
        }
        x = next.row(step).to_vec();
    }
}

/// The whole sampler with the formula of the score.
fn ve_closed(case: &Case<'_>, sampler: &PredictorCorrector, corrections: usize) {
    let init = case.need("x_init");
    let shape = four(&init.shape);
    let draws = case.need("noise");
    let each = corrections + 1;
    let mut noise = Injected::new();
    for k in 0..draws.rows() {
        let (step, within) = ((k / each) as u64, k % each);
        let key = if within == corrections {
            Key::step(step, 0)
        } else {
            PredictorCorrector::correction_key(step, within as u32)
        };
        noise = noise.with(key, 0..shape[0] as u64, draws.row(k).to_vec()).expect("a recorded draw");
    }
    let model = denoiser::from_fn(Prediction::Score, |x: Tensor<4>, levels: &Levels| {
        let Levels::Shared(level) = levels else { unreachable!("a plan asks at shared levels") };
        let state = values(&x);
        let x0 = models::mixture_x0(&state, level.alpha, level.sigma);
        let score = x0.iter().zip(&state).map(|(x0, x)| (x0 - x) / (level.sigma * level.sigma)).collect();
        Ok(tensor(score, x.dims()))
    });
    let run = sampler.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
    walk(case, "closed", sampler.predictor(), run, |i| i * each + corrections);
    if let Err(error) = noise.finish() {
        case.fail(error.to_string());
    }
}
