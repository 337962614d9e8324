//! What diffusers has beyond the fixtures, against runs that `make.py` and its relatives recorded, and what it is here.

mod churn;
mod cogvideox;
#[path = "../common/mod.rs"]
mod common;
mod compat;
mod flows;
mod helios;
mod options;
mod piflow;
mod published;
mod rfd4_proteina;
mod scalewise;
mod score_sde;
mod tokens;

use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::denoiser::from_fn;
use langevin::core::noise::Injected;
use langevin::core::{Denoiser, Key, Levels, Prediction};
use langevin::schedulers::SamplerExt;
use langevin::schedulers::plan::Plan;
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = format!("{}/tests/diffusers/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn reference() -> Value {
    read("reference.json")
}

/// What `make_policy.py` recorded.
fn policy() -> Value {
    read("reference_policy.json")
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn shape<const D: usize>(value: &Value) -> [usize; D] {
    let sides: Vec<usize> = value.as_array().expect("a shape").iter().map(count).collect();
    sides.try_into().expect("as many dimensions")
}

/// Values that need not be written down, rounded as there.
fn wave(count: usize, factor: f64, shift: f64) -> Vec<f64> {
    let value = |k: usize| f64::from((1.5 * (factor * (k * k) as f64 + shift).sin()) as f32);
    (1..=count).map(value).collect()
}

/// What recorded runs begin with.
fn begin<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let x = TensorData::new(wave(shape.iter().product(), 0.71, 0.0), shape);
    Tensor::from_data(x, (&Device::flex(), DType::F32))
}

/// The network of recorded runs.
fn network<const D: usize>(prediction: Prediction) -> impl Denoiser<D> {
    from_fn(prediction, |x: Tensor<D>, levels: &Levels| {
        let Levels::Shared(level) = levels else { panic!("one level") };
        let turned = x.clone().mul_scalar(1.3).add_scalar(2.0 * level.sigma + 0.2).sin();
        Ok(x.mul_scalar(0.3).add(turned.mul_scalar(0.7)))
    })
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.try_to_vec_as::<f64>().expect("a readable tensor")
}

fn largest_distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Plans as they come back from a file, the noise of each step of the original, and the states of a run.
fn assert_run(case: &Value, plan: &Plan, start: f64, denoiser: &dyn Denoiser<2>) {
    let plan: Plan = serde_json::from_str(&serde_json::to_string(plan).unwrap()).expect("a plan");
    let shape: [usize; 2] = shape(&case["shape"]);
    let mut noise = Injected::new();
    for (row, _) in plan.rows().iter().enumerate().filter(|(_, row)| !row.draws.is_empty()) {
        let drawn = wave(shape.iter().product(), 0.37, (row + 1) as f64);
        noise = noise.with(Key::step(row as u64, 0), 0..shape[0] as u64, drawn).expect("even rows");
    }
    let run = plan.start_from(0, begin(shape).mul_scalar(start), denoiser, &noise).expect("a run");
    let states = case["states"].as_array().expect("states");
    let mut steps = 0;
    for (step, state) in run.zip(states) {
        let expected = numbers(&state["x"]);
        let size = expected.iter().fold(1.0f64, |size, x| size.max(x.abs()));
        let off = largest_distance(&values(&step.expect("a step").x), &expected) / size;
        assert!(off < 1e-5, "{} with {}, step {steps}: {off}", case["config"], case["given"]);
        steps += 1;
    }
    assert_eq!((steps, plan.steps()), (states.len(), states.len()));
    noise.finish().expect("all noise is used");
}
