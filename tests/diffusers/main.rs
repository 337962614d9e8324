//! What diffusers has beyond the fixtures, against runs that `make.py` and its relatives recorded, and what it is here.

mod churn;
mod cogvideox;
mod flows;
mod helios;
mod piflow;
mod rfd4_proteina;
mod scalewise;
mod score_sde;
mod tokens;

use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::denoiser::from_fn;
use langevin::core::{Denoiser, Levels, Prediction};
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
