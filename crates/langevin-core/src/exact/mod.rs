//! Problems whose solution is known: what solvers and estimators are proven against.
//!
//! For data from a Gaussian mixture every marginal of `x = α·x_0 + σ·ε` is a Gaussian mixture again, so density,
//! score, posterior means and, for a single Gaussian, the probability-flow ODE have closed forms. All of it is
//! `f64` on the host; [`ExactDenoiser`] puts it on tensors, for tests and demonstrations.

mod denoiser;
mod eigen;
mod elementwise;
mod error;
mod gaussian;
mod marginal;
mod mixture;

pub use denoiser::{ExactDenoiser, Jacobian, Posterior};
pub use elementwise::ElementwiseMixture;
pub use error::ExactError;
pub use gaussian::{Gaussian, GaussianAt};
pub use marginal::Marginal;
pub use mixture::{GaussianMixture, MixtureAt};

/// A mixture of three overlapping correlated Gaussians in the plane: the default problem of order tests.
///
/// It is smooth, has several modes, and its covariances are neither diagonal nor simultaneously diagonalizable, so
/// Jacobians of the score are full matrices.
///
/// ```
/// use langevin_core::{Level, exact};
/// let mixture = exact::correlated_mixture()?;
/// let x0 = mixture.x0(&[0.3, -0.2], &Level { alpha: 0.0, sigma: 1.0, time: 1.0 })?;
/// assert!((x0[0] - mixture.mean()[0]).abs() < 1e-12); // pure noise tells nothing
/// # Ok::<(), langevin_core::exact::ExactError>(())
/// ```
///
/// # Errors
/// None for these constants; the type is that of [`GaussianMixture::new`].
pub fn correlated_mixture() -> Result<GaussianMixture, ExactError> {
    GaussianMixture::new(
        vec![0.45, 0.35, 0.2],
        vec![vec![-0.9, 0.4], vec![0.7, 0.8], vec![0.3, -1.1]],
        vec![vec![0.30, 0.12, 0.12, 0.20], vec![0.25, -0.15, -0.15, 0.35], vec![0.15, 0.05, 0.05, 0.40]],
    )
}
