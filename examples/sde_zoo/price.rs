//! Geometric Brownian motion, `dS = μS dt + sS dW`: the price of Black and Scholes.

use crate::plot::{BLUE, Mark, ORANGE, Panel, Series, draw, histogram};
use crate::{compare, moments};
use langevin::core::noise;
use langevin::prelude::*;
use langevin::schedulers::sde::Sde;
use std::error::Error;
use std::path::Path;

const GROWTH: f64 = 0.2;
const VOLATILITY: f64 = 0.6;

#[derive(Clone, Copy)]
struct Price;

impl Sde<2> for Price {
    fn drift(&self, price: Tensor<2>, _t: f64) -> Tensor<2> {
        price.mul_scalar(GROWTH)
    }
    fn diffusion(&self, price: Tensor<2>, _t: f64) -> Tensor<2> {
        price.mul_scalar(VOLATILITY)
    }
    // Milstein finds it by a difference where it is not told.
    fn diffusion_slope(&self, price: Tensor<2>, _t: f64) -> Option<Tensor<2>> {
        Some(price.full_like(VOLATILITY))
    }
}

/// The slope of a straight line through points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / points.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}

pub fn run(paths: usize, seed: u64, device: &Device, picture: &Path) -> Result<(), Box<dyn Error>> {
    println!("geometric Brownian motion, {paths} paths");
    let noise = Seeded::new(seed);
    let start = || Tensor::<2>::ones([paths, 1], device);
    // The solution, with the W of the very paths that the methods walk along.
    let mean_log = GROWTH - VOLATILITY * VOLATILITY / 2.0;
    let w = noise::path_like(&noise, &start(), 0, (0.0, 1.0))?;
    let exact = w.mul_scalar(VOLATILITY).add_scalar(mean_log).exp();

    let mut errors = [Vec::new(), Vec::new()];
    let mut last = exact.clone();
    for steps in [4, 8, 16, 32, 64, 128] {
        let euler = EulerMaruyama::new().path().simulate_uniform(Price, (0.0, 1.0), steps)?;
        let milstein = Milstein::new().path().simulate_uniform(Price, (0.0, 1.0), steps)?;
        for (simulation, errors) in [euler, milstein].into_iter().zip(&mut errors) {
            last = simulation.run(0, start(), &noise)?.finish()?;
            let error = (last.clone() - exact.clone()).powi_scalar(2).mean().try_into_scalar::<f64>()?.sqrt();
            errors.push(((steps as f64).log2(), error.log2()));
        }
    }
    let [euler, milstein] = errors;
    compare("strong order of Euler-Maruyama", -slope(&euler), 0.5, 0.1)?;
    compare("strong order of Milstein", -slope(&milstein), 1.0, 0.1)?;

    let prices = last.try_into_vec_as::<f64>()?;
    let (mean, deviation) = moments(&prices);
    // The law of the exact price is log-normal.
    let exact_mean = GROWTH.exp();
    let exact_deviation = exact_mean * ((VOLATILITY * VOLATILITY).exp() - 1.0).sqrt();
    let error = exact_deviation / (paths as f64).sqrt();
    compare("mean price, Milstein with 128 steps", mean, exact_mean, 4.0 * error)?;
    compare("its standard deviation", deviation, exact_deviation, 12.0 * error)?;

    let density = |x: f64| {
        let z = (x.ln() - mean_log) / VOLATILITY;
        (-z * z / 2.0).exp() / (x * VOLATILITY * std::f64::consts::TAU.sqrt())
    };
    let range = 0.0..5.0;
    let (width, bars) = histogram(&prices, &range, 60, prices.len());
    let line = (1..500).map(|i| f64::from(i) * 0.01).map(|x| (x, density(x))).collect();
    let series = |name, color, mark, points| Series { name, color, mark, points };
    let panels = [
        Panel {
            title: "strong error",
            axes: ["log2 of the steps", "log2 of the error"],
            x: 1.5..7.5,
            y: -11.0..0.0,
            series: vec![
                series("Euler-Maruyama: order 1/2", ORANGE, Mark::Line, euler.clone()),
                series("", ORANGE, Mark::Dots, euler),
                series("Milstein: order 1", BLUE, Mark::Line, milstein.clone()),
                series("", BLUE, Mark::Dots, milstein),
            ],
        },
        Panel {
            title: "price after a year",
            axes: ["price", "density"],
            x: range,
            y: 0.0..1.0,
            series: vec![series("Milstein", BLUE, Mark::Bars(width), bars), series("exact", ORANGE, Mark::Line, line)],
        },
    ];
    draw(&panels, picture)
}
