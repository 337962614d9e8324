//! What adaptive methods need of tensors `[batch, ..]`.

use super::control::Control;
use crate::sampler::SampleError;
use burn::tensor::{Bool, DType, Tensor, TensorData};
use langevin_core::level::Scalars;
use langevin_core::{Estimate, PredictionError, Process};

/// The slope `α̇·x̂_0 + σ̇·ε̂` of the probability-flow ODE, from what a denoiser answers for samples at the process times
/// `t`, one for each sample (or all the same, for an estimate at one shared level).
///
/// A part whose coefficient is zero is not computed: it may be one that the prediction does not determine there.
///
/// # Errors
/// [`PredictionError::Singular`] where the prediction does not determine a part that counts.
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", eq. 13.
pub fn flow_slope<const D: usize>(
    process: &(impl Process + ?Sized),
    estimate: &Estimate<D>,
    t: &[f64],
) -> Result<Tensor<D>, PredictionError> {
    let scalars = |f: &dyn Fn(f64) -> f64| match t {
        [first, rest @ ..] if rest.iter().all(|t| t == first) => Scalars::Shared(f(*first)),
        _ => Scalars::Each(t.iter().map(|t| f(*t)).collect()),
    };
    let (of_x0, of_eps) = (scalars(&|t| process.alpha_dot(t)), scalars(&|t| process.sigma_dot(t)));
    let x0 = if is_zero(&of_x0) { None } else { Some(of_x0.times(estimate.x0()?)) };
    let eps = if is_zero(&of_eps) { None } else { Some(of_eps.times(estimate.eps()?)) };
    Ok(match (x0, eps) {
        (Some(x0), Some(eps)) => x0.add(eps),
        (Some(part), None) | (None, Some(part)) => part,
        (None, None) => estimate.output().mul_scalar(0.0),
    })
}

fn is_zero(scalars: &Scalars) -> bool {
    match scalars {
        Scalars::Shared(value) => *value == 0.0,
        Scalars::Each(values) => values.iter().all(|value| *value == 0.0),
    }
}

/// `scale·Σ weight·value`, if there is a term.
pub(super) fn sum<const D: usize>(scale: &Scalars, terms: &[(Scalars, &Tensor<D>)]) -> Option<Tensor<D>> {
    let parts = terms.iter().map(|(weight, value)| weight.times((*value).clone()));
    parts.reduce(Tensor::add).map(|total| scale.times(total))
}

/// For each sample the root mean square of `value/(atol + rtol·max(|a|, |b|))`.
pub(super) fn norms<const D: usize>(
    control: &Control,
    value: &Tensor<D>,
    a: &Tensor<D>,
    b: &Tensor<D>,
) -> Result<Vec<f64>, SampleError> {
    let scale = widen(a).abs().max_pair(widen(b).abs()).mul_scalar(control.rtol).add_scalar(control.atol);
    let ratio = widen(value).div(scale);
    let batch = ratio.dims()[0];
    let numel = ratio.dims()[1..].iter().product();
    let ratio: Tensor<2> = ratio.reshape([batch, numel]);
    let squares = ratio.clone().mul(ratio).mean_dim(1);
    let squares = squares.try_to_data().map_err(|error| SampleError::Read { message: error.to_string() })?;
    Ok(squares.iter::<f64>().map(f64::sqrt).collect())
}

/// Rows of `new` where the flag is set, of `old` elsewhere.
pub(super) fn select<const D: usize>(flags: &[bool], new: &Tensor<D>, old: &Tensor<D>) -> Tensor<D> {
    let mut column = [1; D];
    column[0] = flags.len();
    let flags = TensorData::new(flags.to_vec(), column);
    let flags = Tensor::<D, Bool>::from_data(flags, &old.device()).expand(old.dims());
    old.clone().mask_where(flags, new.clone())
}

/// Error norms of half-precision states are taken in f32.
fn widen<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.clone().cast(DType::F32),
        _ => x.clone(),
    }
}
