//! The probability-flow ODE of the mixture to 1e-13, by a method that no solver of the library shares.
//!
//! In `y = x/α` and `κ = σ/α` the ODE of every process is `dy/dκ = ε̂`, the one of a process with α = 1; in
//! `τ = ln κ` it is smooth over many octaves. Gragg's extrapolated midpoint rule (Bulirsch & Stoer 1966) with eight
//! columns has order 16.

use langevin::core::Level;
use langevin::core::exact::GaussianMixture;

const COLUMNS: usize = 8;

/// `y = x/α` at λ = `to`, from `y` at λ = `from`.
pub fn flow(data: &GaussianMixture, y: &[f64], (from, to): (f64, f64), steps: usize) -> Vec<f64> {
    let mut y = y.to_vec();
    let h = (from - to) / steps as f64;
    for step in 0..steps {
        y = macro_step(data, &y, -from + step as f64 * h, h);
    }
    y
}

/// `dy/dτ = κ·ε̂` at `κ = e^τ`.
fn slope(data: &GaussianMixture, y: &[f64], tau: f64) -> Vec<f64> {
    let sigma = tau.exp();
    let level = Level { alpha: 1.0, sigma, time: 0.0 };
    data.eps(y, &level).expect("a plane").into_iter().map(|eps| sigma * eps).collect()
}

fn macro_step(data: &GaussianMixture, y: &[f64], tau: f64, h: f64) -> Vec<f64> {
    let mut row: Vec<Vec<f64>> = Vec::new();
    for j in 0..COLUMNS {
        let n = 2 * (j + 1);
        let mut next = vec![midpoint(data, y, tau, h, n)];
        for k in 1..=j {
            let ratio = (n as f64 / (2 * (j + 1 - k)) as f64).powi(2) - 1.0;
            let better = next[k - 1].iter().zip(&row[k - 1]).map(|(new, old)| new + (new - old) / ratio).collect();
            next.push(better);
        }
        row = next;
    }
    row.pop().expect("eight columns")
}

fn midpoint(data: &GaussianMixture, y: &[f64], tau: f64, h: f64, n: usize) -> Vec<f64> {
    let h = h / n as f64;
    let add = |a: &[f64], b: &[f64], c: f64| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + c * b).collect() };
    let (mut before, mut now) = (y.to_vec(), add(y, &slope(data, y, tau), h));
    for m in 1..n {
        let after = add(&before, &slope(data, &now, tau + m as f64 * h), 2.0 * h);
        (before, now) = (now, after);
    }
    let end = slope(data, &now, tau + n as f64 * h);
    before.iter().zip(&now).zip(&end).map(|((before, now), end)| 0.5 * (before + now + h * end)).collect()
}
