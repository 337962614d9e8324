//! Errors of plans against what is known exactly.

use crate::common::affine::{marginal, marginal_covariance, push, push_on};
use crate::common::order::rms;
use crate::common::problem::{LAMBDA, STARTS, ask_mixture, ends, gaussian, mixture, wide_gaussian};
use crate::common::reference;
use langevin::core::noise::Injected;
use langevin::core::{Level, Process};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, HostAnswer, Src, Term};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Error of x/α at the end on the mixture, over several starting points.
pub fn path_error(process: &dyn Process, plan: &Plan) -> f64 {
    let (data, exact) = (mixture(), exact_paths());
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    let mut found = Vec::new();
    for y in STARTS {
        let x = y.iter().map(|y| y * start.sigma).collect();
        let x = plan.run_host(x, 0, &Injected::new(), ask_mixture(&data)).expect("a host run");
        found.extend(x.iter().map(|x| x / end.alpha));
    }
    rms(&found, exact)
}

/// Error of x/σ at the noisy end, over the same paths walked from data to noise.
pub fn upward_error(process: &dyn Process, plan: &Plan) -> f64 {
    let (data, exact) = (mixture(), exact_paths());
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(clean), process.level(noisy));
    let mut found = Vec::new();
    for y in exact.chunks(STARTS[0].len()) {
        let x = y.iter().map(|y| y * start.alpha).collect();
        let x = plan.run_host(x, 0, &Injected::new(), ask_mixture(&data)).expect("a host run");
        found.extend(x.iter().map(|x| x / end.sigma));
    }
    rms(&found, STARTS.as_flattened())
}

/// As [`path_error`], with the exact state after each of the first `before` steps.
pub fn started_error(process: &dyn Process, plan: &Plan, before: usize) -> f64 {
    let data = mixture();
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    let mut found = Vec::new();
    for y in STARTS {
        let mut ask = ask_mixture(&data);
        let mut x: Vec<f64> = y.iter().map(|y| y * start.sigma).collect();
        let y = y.map(|y| y * start.sigma / start.alpha);
        let mut answers: Vec<Option<HostAnswer>> = vec![None, None, None, None, None, None];
        let mut kept = x.clone();
        for (index, row) in plan.rows().iter().enumerate() {
            let eval = row.eval.expect("one evaluation a step");
            answers[usize::from(eval.into)] = Some(ask(&x, &eval.at));
            for (n, set) in row.post.iter().enumerate() {
                // A corrector writes the state where the row begins, which is exact here, once more.
                let corrects = set.to == 0 && n + 1 < row.post.len();
                let sum = combine(&set.sum, [&x, &kept], &answers);
                match set.to {
                    0 if corrects && index <= before => {}
                    0 => x = sum,
                    _ => kept = sum,
                }
            }
            if index < before {
                let level = row.after.level;
                let exact = reference::flow(&data, &y, (LAMBDA.0, level.lambda()), 4);
                x = exact.iter().map(|y| y * level.alpha).collect();
            }
        }
        found.extend(x.iter().map(|x| x / end.alpha));
    }
    rms(&found, exact_paths())
}

fn combine(sum: &[Term], states: [&[f64]; 2], answers: &[Option<HostAnswer>]) -> Vec<f64> {
    let mut next = vec![0.0; states[0].len()];
    for term in sum {
        let Coef::C(c) = term.c else { panic!("a number") };
        let answer = |slot: u8| answers[usize::from(slot)].as_ref().expect("asked");
        let values = match term.of {
            Src::X(reg) => states[usize::from(reg)],
            Src::X0(slot) => &answer(slot).x0,
            Src::Eps(slot) => &answer(slot).eps,
            other => panic!("no {other:?} in a multistep plan without noise"),
        };
        next.iter_mut().zip(values).for_each(|(next, value)| *next += c * value);
    }
    next
}

/// Where the starting points end, as x/α: the same for every process.
fn exact_paths() -> &'static [f64] {
    static PATHS: OnceLock<Vec<f64>> = OnceLock::new();
    PATHS.get_or_init(|| paths(96))
}

pub fn paths(steps: usize) -> Vec<f64> {
    let ratio = (-LAMBDA.0).exp();
    STARTS.iter().flat_map(|y| reference::flow(&mixture(), &y.map(|y| y * ratio), LAMBDA, steps)).collect()
}

/// Error of the mean and covariance of x/α that the plan gives to the Gaussian, started from its exact marginal.
pub fn weak_error(process: &dyn Process, plan: &Plan) -> f64 {
    let data = wide_gaussian();
    let (noisy, clean) = ends(process);
    let (mean, factor) = marginal(&data, &process.level(noisy));
    let affine = push(plan, &data, &mean, &factor);
    let end = process.level(clean);
    let mut found: Vec<f64> = affine.mean.iter().map(|m| m / end.alpha).collect();
    found.extend(affine.covariance().iter().map(|c| c / (end.alpha * end.alpha)));
    let mut exact = data.mean().to_vec();
    exact.extend(marginal_covariance(&data, &end).iter().map(|c| c / (end.alpha * end.alpha)));
    rms(&found, &exact)
}

/// Root mean square distance of x/α at the end from the exact solution, along the same path, of the reverse SDE with noise
/// of strength τ.
///
/// On Gaussian data the SDE is linear. Along an eigenvector of the covariance with variance s, `u = (x − α·μ)/σ` obeys
/// `du = (c·s − τ²)/(1 + c·s)·u dλ + τ dW/√c` in the clock `c = e^{2λ} = α²/σ²`, so that u at the end responds to u at c by
/// `Φ(c) = (c_end/c)^{−τ²/2}·((1 + c_end·s)/(1 + c·s))^{(1 + τ²)/2}`, and to `dW_c` by `τ·Φ(c)/√c`.
pub fn strong_error(process: &dyn Process, plan: &Plan, tau: f64) -> f64 {
    let data = gaussian();
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    let (mean, factor) = marginal(&data, &start);
    // The stretches of the path: a solver may leave the noise of one out, and ask for parts of another.
    let ends = plan.rows().iter().filter(|row| row.step.is_some()).map(|row| clock(&row.after.level));
    let asked = plan.rows().iter().flat_map(|row| &row.draws).flat_map(|draw| match *draw {
        Draw::Path { from, until, .. } => [from, until],
        _ => panic!("noise along a path"),
    });
    let mut clocks: Vec<f64> = std::iter::once(clock(&start)).chain(ends).chain(asked).collect();
    clocks.sort_unstable_by(f64::total_cmp);
    clocks.dedup();
    let affine = push_on(plan, &data, &mean, &factor, &clocks);
    let eigen = Eigen::of(data.covariance());
    let last = clock(&end);
    let carried = |c: f64| {
        eigen.of_variances(|s| {
            end.sigma
                * (last / c).powf(-0.5 * tau * tau)
                * ((1.0 + last * s) / (1.0 + c * s)).powf(0.5 + 0.5 * tau * tau)
        })
    };
    let response = |c: f64| carried(c).map(|value| value * tau / c.sqrt());
    let mut squares = 0.0;
    let from_start = carried(clock(&start)).map(|value| value / start.sigma);
    for (column, seed) in affine.columns.iter().zip(&factor) {
        let exact =
            [from_start[0] * seed[0] + from_start[1] * seed[1], from_start[2] * seed[0] + from_start[3] * seed[1]];
        squares += (column[0] - exact[0]).powi(2) + (column[1] - exact[1]).powi(2);
    }
    for (m, exact) in affine.mean.iter().zip(data.mean()) {
        squares += (m - end.alpha * exact).powi(2);
    }
    assert_eq!(affine.columns.len(), 2 * clocks.len(), "two for the start and for each stretch");
    for (k, stretch) in clocks.windows(2).enumerate() {
        let (from, width) = (stretch[0], stretch[1] - stretch[0]);
        let columns = &affine.columns[2 + 2 * k..4 + 2 * k];
        for (node, weight) in GAUSS {
            let exact = response(from + node * width);
            for (j, column) in columns.iter().enumerate() {
                for i in 0..2 {
                    squares += weight * width * (column[i] / width.sqrt() - exact[2 * i + j]).powi(2);
                }
            }
        }
    }
    (squares / 2.0).sqrt() / end.alpha
}

/// The plan with the noise of a Brownian path in the clock α²/σ² in place of white noise. A draw has that of the way since
/// the last one, or since its step began; where it is used again later, it is the same.
pub fn along_path(plan: &Plan) -> Plan {
    let mut begin = plan.start_node().level;
    let mut rows = plan.rows().to_vec();
    // What a register's noise is multiplied by.
    let mut scales = BTreeMap::new();
    for row in &mut rows {
        let (from, until) = (clock(&begin), clock(&row.after.level));
        for draw in &mut row.draws {
            match *draw {
                Draw::White { to, .. } => {
                    *draw = Draw::Path { to, from, until };
                    scales.insert(to, 1.0 / (until - from).sqrt());
                    begin = row.after.level;
                }
                _ => drop(scales.insert(draw.register(), 1.0)),
            }
        }
        for term in row.post.iter_mut().flat_map(|set| &mut set.sum) {
            let Src::Z(register) = term.of else { continue };
            let Coef::C(c) = term.c else { panic!("a number") };
            term.c = Coef::C(c * scales[&register]);
        }
        if row.step.is_some() {
            begin = row.after.level;
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}

/// The plan with independent white noise in place of each increment of a path.
pub fn independent(plan: &Plan) -> Plan {
    let mut rows = plan.rows().to_vec();
    for row in &mut rows {
        for draw in &mut row.draws {
            let Draw::Path { to, from, until } = *draw else { panic!("a path") };
            *draw = Draw::White { to, lane: to };
            let terms = row.post.iter_mut().flat_map(|set| &mut set.sum).filter(|term| term.of == Src::Z(to));
            for term in terms {
                let Coef::C(c) = term.c else { panic!("a number") };
                term.c = Coef::C(c * (until - from).sqrt());
            }
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}

/// Gauss-Legendre nodes and weights on [0, 1].
const GAUSS: [(f64, f64); 3] =
    [(0.112_701_665_379_258_3, 5.0 / 18.0), (0.5, 8.0 / 18.0), (0.887_298_334_620_741_7, 5.0 / 18.0)];

pub fn clock(level: &Level) -> f64 {
    (level.alpha / level.sigma).powi(2)
}

/// A symmetric matrix in the plane by its eigenvalues and the angle of the first eigenvector.
struct Eigen {
    values: [f64; 2],
    angle: f64,
}

impl Eigen {
    fn of(matrix: &[f64]) -> Self {
        let [a, b, _, d] = *matrix else { panic!("a matrix in the plane") };
        let (middle, spread) = (0.5 * (a + d), (0.5 * (a - d)).hypot(b));
        Self { values: [middle + spread, middle - spread], angle: 0.5 * (2.0 * b).atan2(a - d) }
    }

    /// The matrix with the same eigenvectors and functions of the eigenvalues.
    fn of_variances(&self, f: impl Fn(f64) -> f64) -> [f64; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let [p, q] = self.values.map(f);
        let across = (p - q) * sin * cos;
        [p * cos * cos + q * sin * sin, across, across, p * sin * sin + q * cos * cos]
    }
}
