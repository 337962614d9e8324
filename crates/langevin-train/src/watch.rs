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
        mean(last)
    }

    /// The course of the loss, to be drawn: the mean of each of at most `points` parts of the run, at the step that ends it.
    pub fn curve(&self, points: usize) -> Vec<(f64, f64)> {
        let length = self.losses.len().div_ceil(points.max(1)).max(1);
        let part = |(i, part): (usize, &[f32])| ((i * length + part.len()) as f64, f64::from(mean(part)));
        self.losses.chunks(length).enumerate().map(part).collect()
    }
}

fn mean(losses: &[f32]) -> f32 {
    losses.iter().sum::<f32>() / losses.len().max(1) as f32
}

/// What a watcher may fail with.
pub type WatchError = Box<dyn Error + Send + Sync>;

/// Who looks, and how often.
pub(crate) struct Watcher<'a, N> {
    pub(crate) every: u64,
    pub(crate) look: &'a mut dyn FnMut(Watch<'_, N>) -> Result<(), WatchError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_means_of_parts() {
        let losses = [4.0, 2.0, 1.0, 3.0, 5.0];
        let watch = |losses| Watch { step: 5, steps: 9, resumed_at: 0, losses, network: () };
        assert_eq!(watch(&losses).curve(3), [(2.0, 3.0), (4.0, 2.0), (5.0, 5.0)]);
        assert_eq!(watch(&losses).curve(100).len(), 5);
        assert_eq!(watch(&losses).curve(0), [(5.0, 3.0)]);
        assert_eq!(watch(&[]).curve(3), []);
        assert_eq!((watch(&losses).mean_loss(2), watch(&losses).mean_loss(100)), (4.0, 3.0));
    }
}
