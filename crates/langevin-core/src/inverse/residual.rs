//! The gradient of how badly x̂_0 explains a measurement, through the denoiser.

use super::error::InverseError;
use super::measurement::Measurement;
use super::operator::LinearOperator;
use crate::denoiser::{DenoiseError, Denoiser, Estimate, Query, pull_back};
use burn::tensor::{DType, Tensor};

/// An answer, and what it leaves unexplained.
#[derive(Clone, Debug)]
pub struct Residual<const D: usize> {
    /// What the denoiser said.
    pub estimate: Estimate<D>,
    /// `−∇½‖y − A·x̂_0‖²` with respect to the state, `[batch, ..]`: the direction in which the residual shrinks.
    pub direction: Tensor<D>,
    /// `‖y − A·x̂_0‖` of each sample, `[batch, 1, ..]`.
    pub norms: Tensor<D>,
}

impl<O: LinearOperator<D>, const D: usize> Measurement<O, D> {
    /// Asks a denoiser and looks back through it: the direction is `Jᵀ·Aᵀ·(y − A·x̂_0)` with `J = ∂x̂_0/∂x`. One forward and one
    /// backward pass.
    ///
    /// # Errors
    /// Those of the denoiser, [`DenoiseError::Inverse`] if the measurement does not fit, [`DenoiseError::NoGradient`] if the
    /// answer is not made by tensor operations.
    pub fn look_back(
        &self,
        denoiser: &(impl Denoiser<D> + ?Sized),
        query: Query<'_, D>,
    ) -> Result<Residual<D>, DenoiseError> {
        let mut norms = None;
        let graded = pull_back(denoiser, query, |estimate| {
            let residual = self.residual(estimate.x0()?.inner())?;
            norms = Some(norms_of(&residual));
            Ok(self.operator().transpose(residual)?)
        })?;
        let norms = norms.expect("the vector is asked for before it is pulled back");
        Ok(Residual { estimate: graded.estimate, direction: graded.gradient, norms })
    }
}

/// Euclidean norms of the samples, `[batch, 1, ..]`, in f32 or wider.
fn norms_of<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    let rows = x.dims()[0];
    let wide = if matches!(x.dtype(), DType::F16 | DType::BF16) { x.clone().cast(DType::F32) } else { x.clone() };
    let mut column = [1; D];
    column[0] = rows;
    wide.powf_scalar(2.0).reshape([rows as i64, -1]).sum_dim(1).sqrt().reshape(column)
}

impl<const D: usize> Residual<D> {
    /// `−∇‖y − A·x̂_0‖`, the direction of unit speed: 0 where nothing is left unexplained.
    pub fn normalized(&self) -> Tensor<D> {
        let dtype = self.direction.dtype();
        // A norm below this is rounding of any dtype.
        self.direction.clone().cast(self.norms.dtype()).div(self.norms.clone().clamp_min(1e-20)).cast(dtype)
    }
}

/// `γ > 0`, finite.
pub(super) fn check_positive(setting: &'static str, given: f64) -> Result<f64, InverseError> {
    if given > 0.0 && given.is_finite() {
        return Ok(given);
    }
    Err(InverseError::Setting { setting, given, expected: "a positive number" })
}
