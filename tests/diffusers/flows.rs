//! Schedulers of single models on flows, against `reference_flows.json`.

use crate::{assert_run, network, numbers, read};
use burn::tensor::Tensor;
use langevin::core::denoiser::from_fn;
use langevin::core::{Grid, Level, Levels, Prediction};
use langevin::schedulers::consistency::{Along, map_fn};
use langevin::schedulers::diffusers::{Configured, from_config};
use serde_json::Value;

pub fn cases(of: &str) -> Vec<Value> {
    let cases = read("reference_flows.json")[of].as_array().expect("cases").clone();
    assert!(!cases.is_empty());
    cases
}

fn configured(case: &Value) -> Configured {
    let scheduler = from_config(&case["config"].to_string()).expect("a configuration");
    match case["given"]["mu"].as_f64() {
        Some(mu) => scheduler.mu(mu).expect("a shift"),
        None => scheduler,
    }
}

/// The grid of what `set_timesteps` was given.
fn grid(scheduler: &Configured, given: &Value) -> Grid {
    let grid = match (&given["num_inference_steps"], &given["sigmas"], &given["timesteps"]) {
        (Value::Number(steps), _, _) => scheduler.grid(steps.as_u64().expect("a number") as usize),
        (_, sigmas @ Value::Array(_), _) => scheduler.grid_of_sigmas(&numbers(sigmas)),
        (_, _, times) => scheduler.grid_at(&numbers(times)),
    };
    grid.expect("a grid")
}

#[test]
fn ancestral_runs_are_those_of_diffusers() {
    let mut noisy = 0;
    for case in cases("ancestral") {
        let scheduler = configured(&case);
        let plan = scheduler.plan_on(&grid(&scheduler, &case["given"])).expect("a plan");
        noisy += usize::from(plan.is_stochastic());
        assert_run(&case, &plan, 1.0, &network(scheduler.prediction()));
    }
    assert_eq!(noisy, 6);
}

/// The network of recorded runs at a time.
pub fn told<const D: usize>(x: Tensor<D>, time: f64) -> Tensor<D> {
    let turned = x.clone().mul_scalar(1.3).add_scalar(2.0 * time + 0.2).sin();
    x.mul_scalar(0.3).add(turned.mul_scalar(0.7))
}

#[test]
fn runs_that_count_from_noise_are_those_of_diffusers() {
    for case in cases("from_noise") {
        let scheduler = configured(&case);
        assert_eq!(scheduler.prediction(), Prediction::FlowToData);
        let plan = scheduler.plan_on(&grid(&scheduler, &case["given"])).expect("a plan");
        let denoiser = from_fn(scheduler.prediction(), |x: Tensor<2>, levels: &Levels| {
            let Levels::Shared(level) = levels else { panic!("one level") };
            Ok(told(x, level.time))
        });
        assert_run(&case, &plan, 1.0, &denoiser);
    }
}

#[test]
fn the_consistency_decoder_is_that_of_diffusers() {
    for case in cases("decoded") {
        let scheduler = configured(&case);
        let plan = scheduler.plan(2).expect("a plan");
        let scale = case["init_noise_sigma"].as_f64().expect("a number");
        assert!((plan.prior_deviation() - scale).abs() < 1e-6, "{} and {scale}", plan.prior_deviation());
        let steps = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1024.0);
        let prediction = scheduler.prediction();
        // As a bound network is shown it.
        let denoiser = from_fn(prediction, move |x: Tensor<2>, levels: &Levels| {
            let Levels::Shared(level) = levels else { panic!("one level") };
            Ok(told(x.mul_scalar(prediction.input_scale(level)?), level.time / steps))
        });
        assert_run(&case, &plan, scale, &denoiser);
    }
}

#[test]
fn flow_maps_are_told_where_steps_end_as_in_diffusers() {
    for case in cases("mapped") {
        let scheduler = configured(&case);
        let steps = case["config"]["num_train_timesteps"].as_f64().unwrap_or(1000.0);
        let map = map_fn(scheduler.prediction(), move |x: Tensor<2>, from: &Level, to: &Level| {
            Ok(told(x.add_scalar(0.4 * to.time / steps), from.time / steps))
        });
        let plan = scheduler.plan_on(&grid(&scheduler, &case["given"])).expect("a plan");
        let denoiser = Along::new(map, scheduler.process(), &plan).expect("a plan of Euler");
        assert_run(&case, &plan, 1.0, &denoiser);
    }
}
