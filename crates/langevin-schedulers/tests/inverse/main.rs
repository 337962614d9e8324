//! Samples that fit a measurement, against posteriors with closed forms.
//!
//! On Gaussian data with a linear operator every method here is affine in its noise. So the mean and the covariance of its
//! samples need no Monte Carlo: a batch in which sample k has the k-th noise value 1 and all others 0 is the map itself, and
//! what is wrong by a thousandth shows.

mod algebra;
mod ddrm;
mod energy;
mod errors;
mod guided;
mod operators;
mod region;
mod steps;

use algebra::{Matrix, apply, identity, inverse, product, sum, transpose};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin_core::exact::{ExactDenoiser, Gaussian, GaussianMixture, Posterior, correlated_mixture};
use langevin_core::inverse::{LinearOperator, Measurement, Separable};
use langevin_core::noise::Domain;
use langevin_core::{Denoiser, Key, Level, Load, NoiseError, NoiseSource, Prediction};
use langevin_schedulers::{Sampler, SamplerExt};

fn load() -> Load {
    Load::on(&Device::flex()).dtype(DType::F64)
}

fn tensor(rows: &[Vec<f64>]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), load().options())
}

fn values(x: &Tensor<2>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Gaussian data, what is measured of it, and how well.
#[derive(Clone)]
struct Problem {
    mean: Vec<f64>,
    covariance: Matrix,
    operator: Matrix,
    y: Vec<f64>,
    noise: f64,
}

impl Problem {
    /// Correlated data, two general measurements.
    fn correlated(noise: f64) -> Self {
        Self {
            mean: vec![0.3, -0.5, 0.2],
            covariance: vec![vec![0.9, 0.3, -0.2], vec![0.3, 0.5, 0.1], vec![-0.2, 0.1, 0.7]],
            operator: vec![vec![1.0, 0.5, -0.3], vec![0.2, -1.0, 0.7]],
            y: vec![0.8, -0.4],
            noise,
        }
    }

    /// Correlated data with the same variance in every direction that is measured.
    fn even(variance: f64, noise: f64) -> Self {
        let axes = algebra::rotation(0.4, -0.8, 1.1);
        let measured = transpose(&axes)[..2].to_vec();
        let operator = product(&vec![vec![1.0, 0.4], vec![-0.3, 0.8]], &measured);
        let covariance = algebra::spread(&axes, &[variance, variance, 0.9]);
        Self { covariance, operator, ..Self::correlated(noise) }
    }

    fn data(&self) -> Gaussian {
        Gaussian::new(self.mean.clone(), self.covariance.concat()).expect("a covariance")
    }

    fn denoiser(&self) -> ExactDenoiser<Gaussian> {
        self.data().denoiser(Prediction::Epsilon).expect("a denoiser")
    }

    fn measurement(&self) -> Measurement<Separable<2>, 2> {
        let operator = Separable::matrices(&[self.mean.len()], &[(0, self.operator.clone())], &load());
        Measurement::new(operator.expect("a matrix"), tensor(std::slice::from_ref(&self.y)), self.noise)
            .expect("a measurement")
    }

    /// Mean and covariance of x_0 given y: with `K = Σ·Aᵀ·(A·Σ·Aᵀ + s²)⁻¹`, `μ + K·(y − A·μ)` and `Σ − K·A·Σ`.
    fn posterior(&self) -> (Vec<f64>, Matrix) {
        let (a, s) = (&self.operator, &self.covariance);
        let seen = product(&product(a, s), &transpose(a));
        let gain = product(&product(s, &transpose(a)), &inverse(&sum(&seen, &identity(a.len()), self.noise.powi(2))));
        let missing: Vec<f64> = self.y.iter().zip(apply(a, &self.mean)).map(|(y, m)| y - m).collect();
        let mean = self.mean.iter().zip(apply(&gain, &missing)).map(|(m, k)| m + k).collect();
        (mean, sum(s, &product(&product(&gain, a), s), -1.0))
    }

    /// `J = α·Σ·(α²·Σ + σ²)⁻¹`, the Jacobian of x̂_0.
    fn jacobian(&self, at: &Level) -> Matrix {
        let d = self.mean.len();
        let zero = vec![vec![0.0; d]; d];
        let marginal = sum(&sum(&zero, &self.covariance, at.alpha.powi(2)), &identity(d), at.sigma.powi(2));
        sum(&zero, &product(&self.covariance, &inverse(&marginal)), at.alpha)
    }

    /// `μ + J·(x − α·μ)`.
    fn x0(&self, x: &[f64], at: &Level) -> Vec<f64> {
        let centered: Vec<f64> = x.iter().zip(&self.mean).map(|(x, m)| x - at.alpha * m).collect();
        self.mean.iter().zip(apply(&self.jacobian(at), &centered)).map(|(m, j)| m + j).collect()
    }
}

/// The mixture of the plane, whose Jacobians depend on the state.
fn mixture() -> GaussianMixture {
    correlated_mixture().expect("constants")
}

/// Noise that is 0 but for one value: sample k has a 1 where the k-th value of the run is drawn; sample 0 has none.
struct Impulses;

impl NoiseSource for Impulses {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        assert_eq!(key.lane, 0, "more than one draw in a step");
        let draw = match key.domain {
            Domain::Initial => 0,
            Domain::Step => 1 + key.index,
            other => panic!("noise for {other:?}"),
        };
        let first = 1 + draw * out.len() as u64;
        out.iter_mut().zip(first..).for_each(|(value, at)| *value = f64::from(u8::from(at == sample)));
        Ok(())
    }
}

/// Mean and covariance of the samples of an affine method.
fn moments(sampler: &dyn Sampler<2>, denoiser: &dyn Denoiser<2>, d: usize) -> (Vec<f64>, Matrix) {
    let steps = sampler.total_steps().expect("a number of steps");
    let batch = 1 + d * (1 + steps);
    let x = sampler.start([batch, d], denoiser, &Impulses, load()).expect("a run").finish().expect("samples");
    let x = values(&x);
    let (mean, rows) = x.split_at(d);
    let mut covariance = vec![vec![0.0; d]; d];
    for row in rows.chunks(d) {
        for i in 0..d {
            for j in 0..d {
                covariance[i][j] += (row[i] - mean[i]) * (row[j] - mean[j]);
            }
        }
    }
    (mean.to_vec(), covariance)
}

/// The largest distances of means and of covariances.
fn distances(a: &(Vec<f64>, Matrix), b: &(Vec<f64>, Matrix)) -> (f64, f64) {
    (largest(&a.0, &b.0), largest(&a.1.concat(), &b.1.concat()))
}

/// `−∇f` by central differences.
fn falling(f: impl Fn(&[f64]) -> f64, x: &[f64]) -> Vec<f64> {
    let h = 1e-4;
    let at = |i: usize, h: f64| {
        let mut moved = x.to_vec();
        moved[i] += h;
        f(&moved)
    };
    (0..x.len()).map(|i| -(at(i, -2.0 * h) - 8.0 * at(i, -h) + 8.0 * at(i, h) - at(i, 2.0 * h)) / (12.0 * h)).collect()
}

/// The operator of one measurement of points in the plane.
fn one_value() -> impl LinearOperator<2> + Clone {
    Separable::<2>::matrices(&[2], &[(0, vec![vec![1.0, 0.5]])], &load()).expect("a matrix")
}
