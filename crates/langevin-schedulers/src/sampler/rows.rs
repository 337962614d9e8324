//! What samplers need whose samples go their own ways: errors, choices and noise row by row.

use super::{RunState, SampleError};
use crate::plan::Memory;
use burn::tensor::{Bool, DType, Tensor, TensorData};
use langevin_core::{Denoiser, NoiseError};

/// Refuses a denoiser that remembers where samples accept and reject steps one by one.
pub(crate) fn check_company<const D: usize>(
    sampler: &'static str,
    together: bool,
    denoiser: &dyn Denoiser<D>,
    shape: &[usize],
) -> Result<(), SampleError> {
    if denoiser.memory() > 0 && !together && shape.first().is_some_and(|batch| *batch > 1) {
        let advice = "its memory belongs to the whole batch, but samples accept and reject steps one by one; use \
                      `.batch_control()`, or one sample a run";
        return Err(SampleError::Unsupported { sampler, what: "a denoiser that remembers", advice });
    }
    Ok(())
}

/// Register of the state that tolerances are relative to: the lower order's result of the last accepted step.
const BEFORE: u8 = 1;

/// An attempt at one step of every sample in which some sample moved.
pub(crate) struct Attempt<const D: usize> {
    /// The new states.
    pub x: Tensor<D>,
    /// What the next attempt's tolerances are relative to.
    pub before: Tensor<D>,
    /// x̂_0 where the step begins.
    pub x0: Option<Tensor<D>>,
}

impl<const D: usize> Attempt<D> {
    /// Commits it, with the numbers of the samples' clocks.
    pub fn commit(self, state: &mut RunState<D>, numbers: Vec<f64>) -> Option<Tensor<D>> {
        let mut memory = Memory::new(self.x);
        memory.set_state(BEFORE, self.before);
        state.numbers = numbers;
        state.commit(state.row() + 1, memory);
        self.x0
    }

    /// [`before`](Self::before) of the last one, and the clocks, if the state has one for each sample.
    ///
    /// # Errors
    /// [`SampleError::Incomplete`]: only a run that was edited, or written by another sampler, is not whole.
    pub fn last<C>(state: &RunState<D>, clocks: Vec<C>) -> Result<(Vec<C>, Tensor<D>), SampleError> {
        let dims = state.x().dims();
        match state.memory().state(BEFORE).filter(|before| before.dims() == dims) {
            Some(before) if clocks.len() == dims[0] => Ok((clocks, before.clone())),
            _ => Err(SampleError::Incomplete { row: state.row() }),
        }
    }
}

/// Half-precision states in f32, in which error norms are taken.
pub(crate) fn widen<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.clone().cast(DType::F32),
        _ => x.clone(),
    }
}

/// The root mean square of each sample's elements, read from the device.
pub(crate) fn root_mean_squares<const D: usize>(x: Tensor<D>) -> Result<Vec<f64>, SampleError> {
    let batch = x.dims()[0];
    let numel = x.dims()[1..].iter().product();
    let x: Tensor<2> = x.reshape([batch, numel]);
    let squares = x.clone().mul(x).mean_dim(1);
    let squares = squares.try_to_data().map_err(|error| SampleError::Read { message: error.to_string() })?;
    Ok(squares.iter::<f64>().map(f64::sqrt).collect())
}

/// The root mean square over a batch, for all its samples, from that of each.
pub(crate) fn pooled(mut norms: Vec<f64>) -> Vec<f64> {
    let mean = norms.iter().map(|norm| norm * norm).sum::<f64>() / norms.len() as f64;
    norms.fill(mean.sqrt());
    norms
}

/// `(low − high)/max(atol, rtol·max(|low|, |before|))`, the scaled error of Jolicoeur-Martineau et al. and of k-diffusion,
/// as a norm of each sample.
pub(crate) fn scaled_errors<const D: usize>(
    low: &Tensor<D>,
    high: &Tensor<D>,
    before: &Tensor<D>,
    (rtol, atol): (f64, f64),
) -> Result<Vec<f64>, SampleError> {
    let low = widen(low);
    let scale = low.clone().abs().max_pair(widen(before).abs()).mul_scalar(rtol).clamp_min(atol);
    root_mean_squares(low.sub(widen(high)).div(scale))
}

/// Samples of `new` where the flag is set, of `old` elsewhere.
pub(crate) fn select<const D: usize>(flags: &[bool], new: &Tensor<D>, old: &Tensor<D>) -> Tensor<D> {
    if !flags.contains(&false) {
        return new.clone();
    }
    let mut column = [1; D];
    column[0] = flags.len();
    let flags = TensorData::new(flags.to_vec(), column);
    let flags = Tensor::<D, Bool>::from_data(flags, &old.device()).expand(old.dims());
    old.clone().mask_where(flags, new.clone())
}

/// A tensor like `x` whose row i is what `fill` writes for it; rows begin as zeros.
pub(crate) fn noise_by_row<const D: usize>(
    x: &Tensor<D>,
    mut fill: impl FnMut(usize, &mut [f64]) -> Result<(), NoiseError>,
) -> Result<Tensor<D>, NoiseError> {
    let dims = x.dims();
    let numel: usize = dims[1..].iter().product();
    let mut values = vec![0.0; dims[0] * numel];
    for (i, row) in values.chunks_mut(numel.max(1)).enumerate() {
        fill(i, row)?;
    }
    Ok(Tensor::from_data(TensorData::new(values, dims), (&x.device(), x.dtype())))
}
