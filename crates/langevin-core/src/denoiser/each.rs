//! One call of a network for several states of the same samples.

use super::{Condition, DenoiseError, Estimate};
use crate::level::{Level, Levels};
use crate::prediction::Prediction;
use burn::tensor::Tensor;

/// The states behind one another, `[states·batch, ..]`, with a level for each row; `None` of no states.
pub(super) fn together<const D: usize>(states: &[Tensor<D>], levels: &[Level]) -> Option<(Tensor<D>, Levels)> {
    let batch = states.first()?.dims()[0];
    let each = levels.iter().flat_map(|level| std::iter::repeat_n(*level, batch)).collect();
    Some((Tensor::cat(states.to_vec(), 0), Levels::Each(each)))
}

/// The condition of a batch, once for each state.
pub(super) fn repeated<C: Condition>(cond: &C, batch: usize, states: usize) -> Result<C, DenoiseError> {
    let one = cond.expand(batch)?;
    C::cat(&vec![&one; states])
}

/// The estimates of the states, from outputs of all of them.
pub(super) fn apart<const D: usize>(
    states: &[Tensor<D>],
    levels: &[Level],
    (output, variance): (Tensor<D>, Option<Tensor<D>>),
    prediction: Prediction,
) -> Vec<Estimate<D>> {
    let mut row = 0;
    let mut estimates = Vec::with_capacity(states.len());
    for (x, level) in states.iter().zip(levels) {
        let batch = x.dims()[0];
        let part = |all: &Tensor<D>| all.clone().narrow(0, row, batch);
        let estimate = Estimate::new(x.clone(), part(&output), Levels::Shared(*level), prediction);
        estimates.push(match &variance {
            Some(variance) => estimate.with_variance(part(variance)),
            None => estimate,
        });
        row += batch;
    }
    estimates
}
