//! The analytic models that the reference values were made with.

use langevin::core::exact::{ElementwiseMixture, ExactError};
use langevin::core::{Level, Prediction};
use serde_json::Value;

/// `c·sin(a·x + b·t/1000) + d·x`.
pub fn sine([a, b, c, d]: [f64; 4], x: &[f64], t: f64) -> Vec<f64> {
    x.iter().map(|x| c * (a * x + b * t / 1000.0).sin() + d * x).collect()
}

/// Parameters of a `sin` model in a manifest.
pub fn sine_parameters(model: &Value) -> [f64; 4] {
    ["a", "b", "c", "d"].map(|key| model[key].as_f64().expect("a number"))
}

const WEIGHTS: [f64; 3] = [0.3, 0.5, 0.2];
const MEANS: [f64; 3] = [-0.8, 0.1, 0.9];
const DEVIATIONS: [f64; 3] = [0.15, 0.3, 0.1];

/// The elementwise mixture as an exact problem.
pub fn elementwise() -> Result<ElementwiseMixture, ExactError> {
    ElementwiseMixture::new(WEIGHTS.to_vec(), MEANS.to_vec(), DEVIATIONS.to_vec())
}

/// The exact x_0 of the elementwise mixture.
pub fn mixture_x0(x: &[f64], alpha: f64, sigma: f64) -> Vec<f64> {
    x.iter()
        .map(|x| {
            let v = DEVIATIONS.map(|s| alpha * alpha * s * s + sigma * sigma);
            let log: Vec<f64> = (0..3)
                .map(|k| WEIGHTS[k].ln() - (x - alpha * MEANS[k]).powi(2) / (2.0 * v[k]) - 0.5 * v[k].ln())
                .collect();
            let max = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = log.iter().map(|l| (l - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            (0..3)
                .map(|k| {
                    let s2 = DEVIATIONS[k] * DEVIATIONS[k];
                    weights[k] / total * (MEANS[k] + alpha * s2 / v[k] * (x - alpha * MEANS[k]))
                })
                .sum()
        })
        .collect()
}

/// The mixture's ε.
pub fn mixture_eps(x: &[f64], alpha: f64, sigma: f64) -> Vec<f64> {
    let x0 = mixture_x0(x, alpha, sigma);
    if sigma == 0.0 {
        return vec![0.0; x.len()];
    }
    x.iter().zip(x0).map(|(x, x0)| (x - alpha * x0) / sigma).collect()
}

/// The mixture's answer in a prediction.
pub fn mixture(x: &[f64], alpha: f64, sigma: f64, prediction: Prediction) -> Vec<f64> {
    let target = prediction.target(&Level { alpha, sigma, time: 0.0 }).expect("an answer at this level");
    let x0 = mixture_x0(x, alpha, sigma);
    let eps = mixture_eps(x, alpha, sigma);
    x0.iter().zip(eps).map(|(x0, eps)| target.x0 * x0 + target.eps * eps).collect()
}
