//! Looking at a training run from outside.

use std::error::Error;

/// What a training run shows of itself; see [`Trainer::fit_watched`](crate::Trainer::fit_watched).
#[derive(Debug)]
pub struct Watch<'a, N> {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Steps that were done before this call: those of the checkpoint it went on from, or 0.
    pub resumed_at: u64,
    /// The loss of every step done, from the first.
    pub losses: &'a [f32],
    /// The network to sample with: the moving average if there is one. Without autodiff.
    pub network: N,
}

impl<N> Watch<'_, N> {
    /// The mean loss of the last `count` steps, or of all if there are fewer.
    pub fn mean_loss(&self, count: usize) -> f32 {
        let last = &self.losses[self.losses.len().saturating_sub(count)..];
        last.iter().sum::<f32>() / last.len().max(1) as f32
    }
}

/// What a watcher may fail with.
pub type WatchError = Box<dyn Error + Send + Sync>;

/// Who looks, and how often.
pub(crate) struct Watcher<'a, N> {
    pub(crate) every: u64,
    pub(crate) look: &'a mut dyn FnMut(Watch<'_, N>) -> Result<(), WatchError>,
}
