//! One call of a network for several states of the same samples.

use super::{Condition, DenoiseError, Denoiser, Estimate, Query};
use crate::level::{Level, Levels};
use crate::noise::NoiseSource;
use burn::tensor::Tensor;

/// The answers for all states in one call, with a level for each row. Denoisers that cannot take so many rows, because
/// their condition has one for each sample, are asked one after the other.
pub(super) fn in_one_call<const D: usize, T: Denoiser<D> + ?Sized>(
    denoiser: &T,
    states: &[Tensor<D>],
    levels: &[Level],
    noise: &dyn NoiseSource,
) -> Result<Vec<Estimate<D>>, DenoiseError> {
    let Some(first) = states.first() else { return Ok(Vec::new()) };
    let ask = |x: Tensor<D>, levels: &Levels| denoiser.denoise(Query { x, levels, past: &[], noise });
    let (batch, mut shape) = (first.dims()[0], first.dims());
    shape[0] = batch * states.len();
    if denoiser.check(&shape).is_err() {
        return states.iter().zip(levels).map(|(x, level)| ask(x.clone(), &Levels::Shared(*level))).collect();
    }
    let each = levels.iter().flat_map(|level| std::iter::repeat_n(*level, batch)).collect();
    let all = ask(Tensor::cat(states.to_vec(), 0), &Levels::Each(each))?;
    let parts = all.parts();
    let part = |row: usize, all: &Tensor<D>| all.clone().narrow(0, row * batch, batch);
    let answer = |(row, (x, level)): (usize, (&Tensor<D>, &Level))| {
        let output = part(row, parts.output);
        let estimate = Estimate::new(x.clone(), output, Levels::Shared(*level), parts.prediction);
        let estimate = estimate.with_parts(parts.x0.map(|x0| part(row, x0)), parts.eps.map(|eps| part(row, eps)));
        match parts.variance {
            Some(variance) => estimate.with_variance(part(row, variance)),
            None => estimate,
        }
    };
    Ok(states.iter().zip(levels).enumerate().map(answer).collect())
}

/// The condition of a batch, once for each state.
pub(super) fn repeated<C: Condition>(cond: &C, batch: usize, states: usize) -> Result<C, DenoiseError> {
    let one = cond.expand(batch)?;
    C::cat(&vec![&one; states])
}
