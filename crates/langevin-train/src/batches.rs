//! The batches of a training run, on the way or ahead of it.

use crate::TrainError;
use burn::tensor::{Device, Tensor};
use langevin_core::noise::{self, Domain, Key, NoiseSource};
use langevin_data::{Batch, BatchOrder, DataSet};
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread::Scope;

/// What one step trains on.
pub(crate) struct Prepared<const D: usize> {
    pub(crate) x: Tensor<D>,
    pub(crate) labels: Option<Vec<usize>>,
    pub(crate) noise: Tensor<D>,
}

/// Where batches come from. All of it is a pure function of the step.
pub(crate) struct Source<'a, S: ?Sized> {
    pub(crate) data: &'a S,
    pub(crate) order: BatchOrder,
    pub(crate) noise: &'a dyn NoiseSource,
    pub(crate) device: &'a Device,
}

impl<S: ?Sized> Clone for Source<'_, S> {
    fn clone(&self) -> Self {
        Self { data: self.data, order: self.order, noise: self.noise, device: self.device }
    }
}

impl<S: ?Sized> Source<'_, S> {
    fn prepare<const D: usize>(&self, step: u64, indices: &[usize]) -> Result<Prepared<D>, TrainError>
    where
        S: DataSet<D>,
    {
        let Batch { x, labels } = self.data.batch(indices, self.device)?;
        let expected = indices.len();
        let check = |what, given| match given == expected {
            true => Ok(()),
            false => Err(TrainError::Batch { what, given, expected }),
        };
        check("samples", x.dims()[0])?;
        check("labels", labels.as_ref().map_or(expected, Vec::len))?;
        let key = Key { domain: Domain::Training, index: step, lane: 0 };
        let noise = noise::like(self.noise, &x, 0, key)?;
        Ok(Prepared { x, labels, noise })
    }

    /// The batches of `steps`, in order. Without workers each is made when it is asked for; worker `w` of `n` makes
    /// every `n`-th batch from the `w`-th on and stays at most two of its own ahead.
    pub(crate) fn batches<'scope, 'env, const D: usize>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        steps: Range<u64>,
        workers: usize,
    ) -> Box<dyn Iterator<Item = Result<Prepared<D>, TrainError>> + 'env>
    where
        S: DataSet<D>,
    {
        let start = steps.start;
        if workers == 0 {
            let indices = self.order.batches_from(start);
            return Box::new(steps.zip(indices).map(move |(step, indices)| self.prepare(step, &indices)));
        }
        let receivers: Vec<_> = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(1);
                let mine = steps.clone().zip(self.order.batches_from(start)).skip(worker).step_by(workers);
                scope.spawn(move || {
                    for (step, indices) in mine {
                        let batch = self.prepare(step, &indices);
                        // The trainer is gone after an error; so is the need for batches.
                        if sender.send(batch).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        // A worker that panicked hangs up; the scope passes its panic on when the loop has ended.
        Box::new(steps.map_while(move |step| receivers[((step - start) % workers as u64) as usize].recv().ok()))
    }
}
