//! The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017).

use burn::tensor::Tensor;
use nalgebra::{DMatrix, DVector};
use std::error::Error;

/// Mean and covariance of a set of features.
pub struct Moments {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
}

impl Moments {
    /// The moments of features `[samples, width]`.
    pub fn of(features: Tensor<2>) -> Result<Self, Box<dyn Error>> {
        let [rows, width] = features.dims();
        let data = DMatrix::from_row_slice(rows, width, &features.try_into_vec_as::<f64>()?);
        let mean = data.row_mean().transpose();
        let centred = DMatrix::from_fn(rows, width, |i, j| data[(i, j)] - mean[j]);
        let covariance = centred.transpose() * &centred / (rows as f64 - 1.0);
        Ok(Self { mean, covariance })
    }

    /// `|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁½ Σ₂ Σ₁½)½)`.
    pub fn distance(&self, other: &Self) -> f64 {
        let root = square_root(&self.covariance);
        let cross = square_root(&(&root * &other.covariance * &root));
        let means = (&self.mean - &other.mean).norm_squared();
        means + self.covariance.trace() + other.covariance.trace() - 2.0 * cross.trace()
    }
}

/// The square root of a symmetric matrix; eigenvalues that rounding made negative count as zero.
fn square_root(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let symmetric = (matrix + matrix.transpose()) * 0.5;
    let eigen = symmetric.symmetric_eigen();
    let roots = DMatrix::from_diagonal(&eigen.eigenvalues.map(|value| value.max(0.0).sqrt()));
    &eigen.eigenvectors * roots * eigen.eigenvectors.transpose()
}
