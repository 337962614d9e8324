//! Masking, blur and super-resolution in each method: the same samples as with the operator's matrix, for which the other tests
//! have the formulas.

use super::algebra::{Matrix, transpose};
use super::{distances, largest, load, moments, tensor, values};
use langevin_core::exact::{ExactDenoiser, Gaussian, Posterior};
use langevin_core::inverse::{Dps, LinearOperator, Masking, Measurement, PiGdm, Separable};
use langevin_core::process::VpSde;
use langevin_core::{Denoiser, Grid, Prediction};
use langevin_schedulers::Ddim;
use langevin_schedulers::Solver;
use langevin_schedulers::inverse::Ddrm;

/// Values of a sample.
const SIZE: usize = 4;
const NOISE: f64 = 0.3;

fn denoiser() -> ExactDenoiser<Gaussian> {
    let covariance = vec![0.9, 0.3, -0.2, 0.0, 0.3, 0.5, 0.1, 0.1, -0.2, 0.1, 0.7, 0.2, 0.0, 0.1, 0.2, 0.6];
    let data = Gaussian::new(vec![0.3, -0.5, 0.2, 0.7], covariance).expect("a covariance");
    data.denoiser(Prediction::Epsilon).expect("a denoiser")
}

/// The columns of an operator are what unit vectors become.
fn matrix(operator: &impl LinearOperator<2>) -> Matrix {
    let units: Matrix = (0..SIZE).map(|i| (0..SIZE).map(|j| f64::from(i == j)).collect()).collect();
    let seen = operator.apply(tensor(&units)).expect("samples");
    let width = seen.dims()[1];
    transpose(&values(&seen).chunks(width).map(<[f64]>::to_vec).collect())
}

/// Mean and covariance of the samples of DPS, ΠGDM and DDRM.
fn samples<O: LinearOperator<2> + Clone + 'static>(operator: &O) -> [(Vec<f64>, Matrix); 3] {
    let count = operator.measured_shape(&[SIZE]).expect("a shape")[0];
    let y = tensor(&[[0.8, -0.4, 0.5, 1.1][..count].to_vec()]);
    let measurement = || Measurement::new(operator.clone(), y.clone(), NOISE).expect("a measurement");
    let (process, grid) = (VpSde::default(), Grid::uniform_lambda(7).between(0.9, 0.05));
    let plan = Ddim::new().eta(0.6).and_then(|ddim| ddim.plan(&process, &grid)).expect("a plan");
    let dps = Dps::with_weight(denoiser(), measurement(), 0.7).expect("a weight");
    let pigdm = PiGdm::new(denoiser(), measurement()).expect("a decomposition");
    let ddrm = Ddrm::new(&process, &grid, measurement()).expect("a sampler");
    let guided = |denoiser: &dyn Denoiser<2>| moments(&plan, denoiser, SIZE);
    [guided(&dps), guided(&pigdm), moments(&ddrm, &denoiser(), SIZE)]
}

/// Whether the methods do with an operator as with its matrix; returns what they give.
fn agree<O: LinearOperator<2> + Clone + 'static>(name: &str, operator: &O) -> [(Vec<f64>, Matrix); 3] {
    let found = samples(operator);
    let dense = Separable::matrices(&[SIZE], &[(0, matrix(operator))], &load()).expect("a matrix");
    for ((found, expected), method) in found.iter().zip(&samples(&dense)).zip(["DPS", "ΠGDM", "DDRM"]) {
        let (mean, covariance) = distances(found, expected);
        assert!(mean < 1e-9 && covariance < 1e-9, "{method} with {name}: {mean:e} {covariance:e}");
    }
    found
}

#[test]
fn methods_do_with_operators_as_with_their_matrices() {
    let blur = Separable::blur(&[SIZE], &[(0, &[0.3, 0.5, 0.2])], &load()).expect("a kernel");
    let means = Separable::block_means(&[SIZE], &[(0, 2)], &load()).expect("factors");
    let mask = Masking::new(tensor(&[vec![1.0, 0.0, 1.0, 0.0]])).expect("a mask");
    let all = [agree("blur", &blur), agree("super-resolution", &means), agree("masking", &mask)];
    // What is measured counts: no two operators, and no two methods, give the same.
    let all: Vec<_> = all.concat();
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| largest(&one.0, &other.0) > 1e-3), "{i} is no other");
    }
}
