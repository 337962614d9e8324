//! Stochastic differential equations of one's own, against what is known of them exactly.
//!
//! `cargo run --release --example sde_zoo`
//!
//! A price (geometric Brownian motion), a spring in a heat bath (an Ornstein-Uhlenbeck process) and a decision (the drift-
//! diffusion model of reaction times): each draws a picture, and fails if it is further off than its samples allow.

use clap::Parser;
use langevin::core::noise;
use langevin::prelude::*;
use langevin::schedulers::sde;
use langevin_plot::{BLUE, Chart, GRAY, Histogram, ORANGE, RED, save};
use std::f64::consts::{PI, TAU};
use std::path::PathBuf;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
struct Options {
    /// Sample paths of each equation.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..))]
    paths: u32,
    /// Folder for the pictures.
    #[arg(long, default_value = "out/sde_zoo")]
    out: PathBuf,
}

fn main() -> Result<(), Report> {
    let (Options { paths, out }, device) = (Options::parse(), device("cpu")?);
    std::fs::create_dir_all(&out)?;
    save(&price(paths as usize, &device)?, out.join("price.png"))?;
    save(&[spring(paths as usize, &device)?], out.join("spring.png"))?;
    Ok(save(&[decision(paths as usize, &device)?], out.join("decision.png"))?)
}

/// Prints a value beside the exact one; an error if they are further apart than `within`.
fn compare(what: &str, found: f64, exact: f64, within: f64) -> Result<()> {
    println!("{what:<46} {found:>9.4}   exact {exact:>9.4} ± {within:.4}");
    let far = format!("{what} is {found}, which is further than {within} from {exact}");
    if (found - exact).abs() <= within { Ok(()) } else { Err(far.into()) }
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt())
}

/// The price of Black and Scholes, `dS = μS dt + sS dW`. Its law is log-normal.
fn price(paths: usize, device: &Device) -> Result<[Chart; 2]> {
    let (growth, s) = (0.2f64, 0.6f64);
    // Two closures are an equation.
    let price = || sde::from_fn(move |x: Tensor<2>, _t| x.mul_scalar(growth), move |x: Tensor<2>, _t| x.mul_scalar(s));
    let (noise, start, times) = (Seeded::new(1), Tensor::<2>::ones([paths, 1], device), (0.0, 1.0));
    // The solution, with the W of the very paths that the methods walk along.
    let mean_log = growth - s * s / 2.0;
    let exact = noise::path_like(&noise, &start, 0, times)?.mul_scalar(s).add_scalar(mean_log).exp();
    let (mut errors, mut prices) = ([Vec::new(), Vec::new()], Vec::new());
    for doublings in 2..8 {
        let euler = EulerMaruyama::new().path().simulate_uniform(price(), times, 1 << doublings)?;
        let milstein = Milstein::new().path().simulate_uniform(price(), times, 1 << doublings)?;
        for (method, errors) in [euler, milstein].iter().zip(&mut errors) {
            let x = method.run(0, start.clone(), &noise)?.finish()?;
            let error = (x.clone() - exact.clone()).square().mean().sqrt().try_into_scalar::<f64>()?;
            errors.push((f64::from(doublings), error.log2()));
            prices = x.try_into_vec_as::<f64>()?;
        }
    }
    let mut orders = Chart::new("strong error").axes("log2 of the steps", "log2 of the error");
    let kinds = [("Euler-Maruyama", ORANGE, 0.5), ("Milstein", BLUE, 1.0)];
    for (points, (name, color, order)) in errors.into_iter().zip(kinds) {
        compare(&format!("strong order of {name}"), (points[1].1 - points[5].1) / 4.0, order, 0.1)?;
        orders = orders.line(name, color, points.clone()).dots("", color, points);
    }
    let (mean, deviation) = moments(&prices);
    let exact_deviation = growth.exp() * ((s * s).exp() - 1.0).sqrt();
    let within = 4.0 * exact_deviation / (paths as f64).sqrt();
    compare("mean price, Milstein with 128 steps", mean, growth.exp(), within)?;
    compare("its standard deviation", deviation, exact_deviation, 3.0 * within)?;
    let density = |x: f64| (-((x.ln() - mean_log) / s).powi(2) / 2.0).exp() / (x * s * TAU.sqrt());
    let line = (1..500).map(|i| f64::from(i) * 0.01).map(|x| (x, density(x)));
    let law = Chart::new("price after a year").axes("price", "density").x(0.0..5.0);
    let bars = Histogram::density(&prices, 0.0..5.0, 60)?;
    Ok([orders, law.bars("Milstein", BLUE, &bars).line("exact", ORANGE, line)])
}

/// A spring in a heat bath, `dx = −θx dt + s dW`, from a state 2 to its stationary law.
fn spring(paths: usize, device: &Device) -> Result<Chart> {
    let (theta, s, dt) = (1.5f64, 0.8f64, 0.01);
    let law = |t: f64| (2.0 * (-theta * t).exp(), s * ((1.0 - (-2.0 * theta * t).exp()) / (2.0 * theta)).sqrt());
    let spring = sde::from_fn(move |x: Tensor<2>, _t| x.mul_scalar(-theta), move |x: Tensor<2>, _t| x.full_like(s));
    let simulation = EulerMaruyama::new().simulate_uniform(spring, (0.0, 3.0), 300)?;
    let (noise, start) = (Seeded::new(1), Tensor::<2>::full([paths, 1], 2.0, device));
    let (mut shown, mut found) = (vec![vec![(0.0, 2.0)]; 12], vec![(0.0, (2.0, 0.0))]);
    for (step, t) in simulation.run(0, start, &noise)?.zip(&simulation.times()[1..]) {
        let states = step?.x.try_into_vec_as::<f64>()?;
        shown.iter_mut().zip(&states).for_each(|(path, state)| path.push((*t, *state)));
        found.push((*t, moments(&states)));
    }
    for (t, (mean, deviation)) in [found[50], found[300]] {
        // Four standard errors, and the error of the step: of order 1.
        let (exact, spread) = law(t);
        let within = 4.0 * spread / (paths as f64).sqrt() + 3.0 * theta * dt * (exact + spread);
        compare(&format!("mean at time {t:.1}"), mean, exact, within)?;
        compare(&format!("standard deviation at time {t:.1}"), deviation, spread, within)?;
    }
    let mut chart = Chart::new("Ornstein-Uhlenbeck").axes("time", "state").x(0.0..3.0).y(-1.5..2.8);
    chart = shown.into_iter().fold(chart, |chart, path| chart.line("", GRAY, path));
    for (paths, exact, sign) in [("mean ± deviation of the paths", "exact", 0.0), ("", "", 1.0), ("", "", -1.0)] {
        chart = chart.line(paths, BLUE, found.iter().map(|(t, (mean, deviation))| (*t, mean + sign * deviation)));
        chart =
            chart.dots(exact, ORANGE, (0..=10).map(|i| 0.3 * f64::from(i)).map(|t| (t, law(t).0 + sign * law(t).1)));
    }
    Ok(chart)
}

/// Decisions (Ratcliff 1978): evidence `dx = v dt + dW` until 1, the right choice, or −1. Both take equally long.
fn decision(paths: usize, device: &Device) -> Result<Chart> {
    let (v, dt, count, seeing_and_acting) = (0.8f64, 0.005f64, paths as f64, 0.3);
    let evidence = sde::from_fn(move |x: Tensor<2>, _t| x.full_like(v), |x: Tensor<2>, _t| x.ones_like());
    let simulation = EulerMaruyama::new().simulate_uniform(evidence, (0.0, 8.0), 1600)?;
    // Steps miss crossings between them: nearer bounds make up for that.
    let (bound, start) = (1.0 - 0.5826 * dt.sqrt(), Tensor::<2>::zeros([paths, 1], device));
    let exits = simulation.exits(0, start, (-bound, bound), &Seeded::new(1))?;
    let mut chart = Chart::new("reaction times of a decision").axes("reaction time, s", "density").x(0.0..3.0);
    for (name, above, color, sign) in [("right choices", true, BLUE, 1.0), ("wrong ones, down", false, ORANGE, -1.0)] {
        let chosen = exits.iter().flatten().filter(|exit| exit.above == above);
        let times: Vec<f64> = chosen.map(|exit| exit.time - dt / 2.0 + seeing_and_acting).collect();
        let (share, exact) = (times.len() as f64 / count, 1.0 / (1.0 + (-2.0 * v * sign).exp()));
        compare(&format!("share of {name}"), share, exact, 4.0 * (exact * (1.0 - exact) / count).sqrt() + 0.002)?;
        let (mean, deviation) = moments(&times);
        let within = 4.0 * deviation / (times.len() as f64).sqrt() + 0.005;
        compare("their mean time, s", mean, v.tanh() / v + seeing_and_acting, within)?;
        // The series for large times (Feller 1968, XIV.6), good from 0.05 s on.
        let term = |k: f64, t: f64| k * (-k * k * PI * PI * t / 8.0).exp() * (k * PI / 2.0).sin();
        let series = |t: f64| (1..60).map(|k| term(f64::from(k), t)).sum::<f64>();
        let density = |t: f64| sign * PI / 4.0 * (sign * v - v * v * t / 2.0).exp() * series(t);
        let line = (0..=265).map(|i| 0.05 + f64::from(i) * 0.01).map(|t| (t + seeing_and_acting, density(t)));
        chart = chart.bars(name, color, &Histogram::density(&times, 0.0..3.0, 60)?.scaled(sign * share));
        chart = chart.line(if above { "exact" } else { "" }, RED, line);
    }
    Ok(chart)
}
