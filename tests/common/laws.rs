//! Plans that do what samplers did, whose steps depend on what they see: what they saw is known of Gaussian data.

use super::affine::marginal;
use super::moments::Moments;
use burn::tensor::Tensor;
use langevin::core::denoiser::from_fn;
use langevin::core::exact::Gaussian;
use langevin::core::grid::Stop;
use langevin::core::{Denoiser, Grid, Level, Levels, Prediction, Process};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, Eval, Row, Set, Src, Term};

/// x̂_0 at a level as a matrix, row-major, and a shift.
pub fn affine(data: &Gaussian, level: &Level) -> ([f64; 4], [f64; 2]) {
    let at = data.at(level).expect("a level");
    let (slope, shift) = (at.x0_jacobian(), at.x0(&[0.0, 0.0]).expect("a plane"));
    ([slope[0], slope[1], slope[2], slope[3]], [shift[0], shift[1]])
}

/// Algorithm 2 of Song et al. 2021: before each step of a predictor two corrections `x + ε·score + √(2ε)·z`, with
/// `ε = 2·(r·|z|/|score|)²` and norms over all points, where |z|/|score| is `limit`·σ at most.
pub fn corrected(predictor: &Plan, data: &Gaussian, r: f64, limit: f64) -> Plan {
    let start = predictor.start_node();
    let (mean, factor) = marginal(data, &start.level);
    let covariance = (0..4).map(|k| factor.iter().map(|c| c[k / 2] * c[k % 2]).sum()).collect();
    let mut now = Moments { mean, covariance };
    let mut rows: Vec<Row> = Vec::new();
    let mut after = start;
    for row in predictor.rows() {
        let at = row.eval.expect("a question").at;
        for _ in 0..2 {
            let score = mean_square_of_score(data, &at, &now);
            // |z|² is 2 for each point.
            let ratio = (2.0 / score).sqrt().min(limit * at.sigma);
            let step = 2.0 * (r * ratio).powi(2);
            let sum = [
                Term::new(1.0, Src::X(0)),
                Term::new(-step / at.sigma, Src::Eps(0)),
                Term::new((2.0 * step).sqrt(), Src::Z(0)),
            ];
            rows.push(Row {
                draws: vec![Draw::White { to: 0, lane: 0 }],
                pre: vec![],
                eval: Some(Eval { at, x: 0, into: 0 }),
                post: vec![Set::new(0, sum)],
                step: None,
                after,
                report: vec![],
            });
            now = moved(now, &rows[rows.len() - 1], data);
        }
        rows.push(row.clone());
        after = row.after;
        now = moved(now, row, data);
    }
    Plan::new("predictor-corrector", start, predictor.prior_deviation(), rows).expect("a plan")
}

/// Moments after a row that asks about the state and draws once.
fn moved(before: Moments, row: &Row, data: &Gaussian) -> Moments {
    let at = row.eval.expect("a question").at;
    let (slope, shift) = affine(data, &at);
    let (mut map, mut add, mut noise) = ([0.0; 4], [0.0; 2], 0.0);
    let one = |k: usize| f64::from(u8::from(k == 0 || k == 3));
    assert!(row.pre.is_empty() && row.post.len() == 1);
    for term in &row.post[0].sum {
        let Coef::C(c) = term.c else { panic!("a number") };
        match term.of {
            Src::X(_) => (0..4).for_each(|k| map[k] += c * one(k)),
            Src::X0(_) => {
                (0..4).for_each(|k| map[k] += c * slope[k]);
                (0..2).for_each(|i| add[i] += c * shift[i]);
            }
            Src::Eps(_) => {
                (0..4).for_each(|k| map[k] += c * (one(k) - at.alpha * slope[k]) / at.sigma);
                (0..2).for_each(|i| add[i] -= c * at.alpha * shift[i] / at.sigma);
            }
            Src::Z(_) => noise += c * c,
            Src::Aux(_) => panic!("nothing is given"),
        }
    }
    let mean = (0..2).map(|i| map[2 * i] * before.mean[0] + map[2 * i + 1] * before.mean[1] + add[i]).collect();
    let pushed = |i: usize, j: usize| -> f64 {
        (0..4).map(|k| map[2 * i + k / 2] * before.covariance[k] * map[2 * j + k % 2]).sum()
    };
    let covariance = (0..4).map(|k| pushed(k / 2, k % 2) + noise * one(k)).collect();
    Moments { mean, covariance }
}

/// E|score|² of points with this law, where `score = (α·x̂_0 − x)/σ²`.
fn mean_square_of_score(data: &Gaussian, at: &Level, now: &Moments) -> f64 {
    let (mean, covariance) = (&now.mean, &now.covariance);
    let (slope, shift) = affine(data, at);
    let v = at.sigma * at.sigma;
    let of = |i: usize, j: usize| (at.alpha * slope[2 * i + j] - if i == j { 1.0 } else { 0.0 }) / v;
    (0..2)
        .map(|i| {
            let center = of(i, 0) * mean[0] + of(i, 1) * mean[1] + at.alpha * shift[i] / v;
            let spread = |j: usize, k: usize| of(i, j) * covariance[2 * j + k] * of(i, k);
            center * center + spread(0, 0) + spread(0, 1) + spread(1, 0) + spread(1, 1)
        })
        .sum()
}

/// Algorithm 1 of Jolicoeur-Martineau et al. 2021 along given times of a process: a step of Euler-Maruyama from t to s, another with
/// the drift and the diffusion found there, and their mean.
pub fn improved_euler(process: &dyn Process, times: &[f64]) -> Plan {
    let mut rows = Vec::new();
    for (index, pair) in times.windows(2).enumerate() {
        let (t, s) = (pair[0], pair[1]);
        let h = t - s;
        // −h·b with b = f·x + g²/σ·ε̂, and g·√h.
        let parts = |at: f64| {
            let g = process.diffusion_squared(at);
            (-h * process.drift(at), -h * g / process.sigma(at), (g * h).sqrt())
        };
        let (of_x, of_eps, of_z) = parts(t);
        let euler = [Term::new(1.0 + of_x, Src::X(0)), Term::new(of_eps, Src::Eps(0)), Term::new(of_z, Src::Z(0))];
        let row = |draws, x, into, set, step| Row {
            draws,
            pre: vec![],
            eval: Some(Eval { at: process.level(if into == 0 { t } else { s }), x, into }),
            post: vec![set],
            step,
            after: process.node(s),
            report: vec![],
        };
        rows.push(row(vec![Draw::White { to: 0, lane: 0 }], 0, 0, Set::new(1, euler), None));
        let (of_x, of_eps, of_z) = parts(s);
        let mean = [
            Term::new(0.5, Src::X(0)),
            Term::new(0.5 + 0.5 * of_x, Src::X(1)),
            Term::new(0.5 * of_eps, Src::Eps(1)),
            Term::new(0.5 * of_z, Src::Z(0)),
        ];
        rows.push(row(vec![], 1, 1, Set::new(0, mean), Some(index as u32)));
    }
    Plan::new("stochastic improved Euler", process.node(times[0]), 1.0, rows).expect("a plan")
}

/// The Gaussian's posterior means as a denoiser of samples of many points.
pub fn posterior_mean(data: &Gaussian) -> impl Denoiser<2> + '_ {
    from_fn(Prediction::Sample, move |x: Tensor<2>, levels: &Levels| {
        let [rows, width] = x.dims();
        let points = x.reshape([rows, width / 2, 2]);
        let at = |i: usize| points.clone().narrow(2, i, 1);
        let row = |i: usize| {
            let slope = |j: usize| levels.map(|level| affine(data, level).0[2 * i + j]).times(at(j));
            let shift = levels.map(|level| affine(data, level).1[i]).times(at(i).ones_like());
            slope(0).add(slope(1)).add(shift)
        };
        Ok(Tensor::cat(vec![row(0), row(1)], 2).reshape([rows, width]))
    })
}

/// What DDRM is given: of each point the first value, and the deviation of its noise.
pub const MEASURED: (f64, f64) = (0.4, 0.5);

/// Equations 7 and 8 of Kawar et al. 2022 for that measurement, η = 0.85 and η_b = 1: mean and covariance of the end.
pub fn restored(process: &dyn Process, grid: &Grid, data: &Gaussian, factor: f64) -> Moments {
    let stops: Vec<Stop> = grid.stops(process).expect("a grid");
    let (y, k, eta) = (MEASURED.0, MEASURED.1, 0.85f64);
    let ratio = |level: &Level| level.sigma / level.alpha;
    let first = ratio(&stops[0].from.level);
    // In x/α; the first value is known as precisely as k from the start.
    let (mut mean, mut covariance) = ([y, 0.0], [first * first - k * k, 0.0, 0.0, first * first]);
    for stop in &stops {
        let (alpha, before, kappa) = (stop.from.level.alpha, ratio(&stop.from.level), ratio(&stop.to.level));
        let (slope, shift) = affine(data, &stop.from.level);
        let kept = (1.0 - eta * eta).sqrt();
        // For each value: weights of x̂_0, the state and y, and the variance of the noise.
        let measured = if kappa < k {
            (1.0 - kept * kappa / k, 0.0, kept * kappa / k, (eta * kappa).powi(2))
        } else {
            (0.0, 0.0, 1.0, kappa * kappa - k * k)
        };
        let other = (1.0 - kept * kappa / before, kept * kappa / before, 0.0, (eta * kappa).powi(2));
        let (weights, then) = ([measured, other], mean);
        let of = |i: usize, j: usize| weights[i].0 * alpha * slope[2 * i + j] + if i == j { weights[i].1 } else { 0.0 };
        mean = [0, 1].map(|i| of(i, 0) * then[0] + of(i, 1) * then[1] + weights[i].0 * shift[i] + weights[i].2 * y);
        let pushed =
            |i: usize, l: usize| -> f64 { (0..4).map(|jm| of(i, jm / 2) * covariance[jm] * of(l, jm % 2)).sum() };
        covariance = [pushed(0, 0), pushed(0, 1), pushed(1, 0), pushed(1, 1)];
        covariance[0] += weights[0].3 * factor * factor;
        covariance[3] += weights[1].3 * factor * factor;
    }
    let alpha = stops[stops.len() - 1].to.level.alpha;
    Moments { mean: mean.map(|m| alpha * m).to_vec(), covariance: covariance.map(|c| alpha * alpha * c).to_vec() }
}
