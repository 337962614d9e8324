//! Solutions of reverse SDEs on Gaussian data, in closed form.

use crate::common::affine::marginal;
use crate::common::problem::{LAMBDA, ends};
use crate::common::solvers::{Sde, Strength};
use langevin::core::exact::Gaussian;
use langevin::core::{Level, Process};

/// The reverse SDE with noise of strength τ(λ), and a factor on the noise.
///
/// On Gaussian data it is linear. Along an eigenvector of the covariance with variance s, `u = (x − α·μ)/σ` obeys
/// `du = (c·s − τ²)/(1 + c·s)·u dλ + τ dW/√c` in the clock `c = e^{2λ} = α²/σ²`, so that u at the end responds to u at λ by
/// `Φ(λ) = √((1 + c_end·s)/(1 + c·s))·exp(−∫ τ²/(1 + c·s) dλ)`, the integral from λ to the end, and to `dW_c` by `τ·Φ/√c`.
pub struct Reverse<'a> {
    data: &'a Gaussian,
    eigen: Eigen,
    strength: &'a dyn Fn(f64) -> f64,
    factor: f64,
    /// The integral of each eigenvalue from nodes even in λ.
    integrals: Vec<[f64; 2]>,
    start: Level,
    end: Level,
}

/// Parts into which the way is cut.
const PARTS: usize = 512;

/// Gauss-Legendre nodes and weights on [0, 1].
const GAUSS: [(f64, f64); 3] =
    [(0.112_701_665_379_258_3, 5.0 / 18.0), (0.5, 8.0 / 18.0), (0.887_298_334_620_741_7, 5.0 / 18.0)];

pub fn clock(level: &Level) -> f64 {
    (level.alpha / level.sigma).powi(2)
}

/// τ(λ) of an SDE; that of churn depends on the process and on how the grid is spaced.
pub fn strength<'a>(sde: Sde, process: &'a dyn Process, even_in_time: bool) -> Box<dyn Fn(f64) -> f64 + 'a> {
    let (noisy, clean) = ends(process);
    match sde.tau {
        Strength::Even(tau) => Box::new(move |_| tau),
        Strength::OfLambda(tau) => Box::new(tau),
        Strength::Churn(amount) if even_in_time => Box::new(move |lambda: f64| {
            let t = process.time_at_lambda(lambda.clamp(LAMBDA.0, LAMBDA.1)).expect("in range");
            let slope = process.alpha_dot(t) / process.alpha(t) - process.sigma_dot(t) / process.sigma(t);
            (amount / (slope * (clean - noisy))).sqrt()
        }),
        Strength::Churn(amount) => Box::new(move |_| (amount / (LAMBDA.1 - LAMBDA.0)).sqrt()),
    }
}

impl<'a> Reverse<'a> {
    pub fn new(data: &'a Gaussian, process: &dyn Process, strength: &'a dyn Fn(f64) -> f64, factor: f64) -> Self {
        let (noisy, clean) = ends(process);
        let (start, end) = (process.level(noisy), process.level(clean));
        let eigen = Eigen::of(data.covariance());
        let mut solution = Self { data, eigen, strength, factor, integrals: vec![[0.0; 2]; PARTS + 1], start, end };
        for part in (0..PARTS).rev() {
            let (later, within) = (solution.integrals[part + 1], solution.within(node(part), node(part + 1)));
            solution.integrals[part] = [later[0] + within[0], later[1] + within[1]];
        }
        solution
    }

    /// The integral of `τ²/(1 + c·s)` over a short way, for each eigenvalue.
    fn within(&self, from: f64, to: f64) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (at, weight) in GAUSS {
            let lambda = from + at * (to - from);
            let (tau, c) = ((self.strength)(lambda), (2.0 * lambda).exp());
            for (sum, s) in sums.iter_mut().zip(self.eigen.values) {
                *sum += weight * (to - from) * tau * tau / (1.0 + c * s);
            }
        }
        sums
    }

    /// How x at the end responds to x/σ at a clock.
    pub fn carried(&self, c: f64) -> [f64; 4] {
        let lambda = (0.5 * c.ln()).clamp(LAMBDA.0, LAMBDA.1);
        let share = (lambda - LAMBDA.0) / (LAMBDA.1 - LAMBDA.0) * PARTS as f64;
        let next = (share.ceil() as usize).min(PARTS);
        let within = self.within(lambda, node(next));
        let last = clock(&self.end);
        let of = |k: usize, s: f64| {
            let decay = (-self.integrals[next][k] - within[k]).exp();
            self.end.sigma * ((1.0 + last * s) / (1.0 + c * s)).sqrt() * decay
        };
        self.eigen.matrix([of(0, self.eigen.values[0]), of(1, self.eigen.values[1])])
    }

    /// How x at the end responds to the path at a clock.
    fn response(&self, c: f64) -> [f64; 4] {
        let of_path = self.factor * (self.strength)(0.5 * c.ln()) / c.sqrt();
        self.carried(c).map(|value| value * of_path)
    }

    /// Responses over a stretch of the clock, with weights of their integral.
    pub fn responses(&self, from: f64, until: f64) -> [(f64, [f64; 4]); 3] {
        GAUSS.map(|(at, weight)| (weight * (until - from), self.response(from + at * (until - from))))
    }

    /// What becomes of a vector at the start.
    pub fn carried_start(&self, vector: &[f64]) -> [f64; 2] {
        let map = self.carried(clock(&self.start)).map(|value| value / self.start.sigma);
        [map[0] * vector[0] + map[1] * vector[1], map[2] * vector[0] + map[3] * vector[1]]
    }

    /// Mean and covariance, row-major, of x/α at the end.
    pub fn moments(&self) -> Vec<f64> {
        let (_, factor) = marginal(self.data, &self.start);
        let mut covariance = [0.0; 4];
        let mut add = |weight: f64, column: [f64; 2]| {
            (0..4).for_each(|k| covariance[k] += weight * column[k / 2] * column[k % 2]);
        };
        factor.iter().for_each(|column| add(1.0, self.carried_start(column)));
        for part in 0..PARTS {
            let [from, until] = [node(part), node(part + 1)].map(|lambda| (2.0 * lambda).exp());
            for (weight, map) in self.responses(from, until) {
                add(weight, [map[0], map[2]]);
                add(weight, [map[1], map[3]]);
            }
        }
        let over = self.end.alpha * self.end.alpha;
        self.data.mean().iter().copied().chain(covariance.map(|value| value / over)).collect()
    }
}

fn node(part: usize) -> f64 {
    LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * part as f64 / PARTS as f64
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

    /// The matrix with the same eigenvectors and these eigenvalues.
    fn matrix(&self, [p, q]: [f64; 2]) -> [f64; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let across = (p - q) * sin * cos;
        [p * cos * cos + q * sin * sin, across, across, p * sin * sin + q * cos * cos]
    }
}
