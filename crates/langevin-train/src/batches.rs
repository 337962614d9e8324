//! The batches of a training run, on the way or ahead of it.

use crate::TrainError;
use burn::tensor::{Device, Tensor, TensorReadError};
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

impl<const D: usize> Prepared<D> {
    /// The same on another device.
    fn on(self, device: &Device) -> Result<Self, TrainError> {
        let Self { x, labels, noise } = self;
        let moved = |x: Tensor<D>| Ok::<_, TensorReadError>(Tensor::from_data(x.try_into_data()?, device));
        Ok(Self { x: moved(x)?, labels, noise: moved(noise)? })
    }
}

/// The CPU, beside a device that is another one.
fn host_beside(device: &Device) -> Option<Device> {
    #[cfg(feature = "flex")]
    return Some(Device::flex()).filter(|host| host != device);
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        None
    }
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
    fn prepare<const D: usize>(&self, step: u64, indices: &[usize], device: &Device) -> Result<Prepared<D>, TrainError>
    where
        S: DataSet<D>,
    {
        let Batch { x, labels } = self.data.batch(indices, device)?;
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
            return Box::new(steps.zip(indices).map(move |(step, indices)| self.prepare(step, &indices, self.device)));
        }
        // A GPU's backend keeps memory for every thread that has computed on it: workers leave that to the trainer's.
        let host = host_beside(self.device);
        let receivers: Vec<_> = (0..workers)
            .map(|worker| {
                let host = host.clone();
                let (sender, receiver) = sync_channel(1);
                let mine = steps.clone().zip(self.order.batches_from(start)).skip(worker).step_by(workers);
                scope.spawn(move || {
                    for (step, indices) in mine {
                        let batch = self.prepare(step, &indices, host.as_ref().unwrap_or(self.device));
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
        let received = steps.map_while(move |step| receivers[((step - start) % workers as u64) as usize].recv().ok());
        if host.is_none() {
            return Box::new(received);
        }
        Box::new(received.map(|batch| batch?.on(self.device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::noise::Seeded;
    use langevin_data::{DataError, VectorSet};

    fn collect<S: DataSet<2>>(data: &S, workers: usize, steps: Range<u64>) -> Vec<Result<[Vec<f32>; 2], TrainError>> {
        let (device, noise) = (Device::flex(), Seeded::new(3));
        let order = BatchOrder::new(10, 3, 3).unwrap();
        let source = Source { data, order, noise: &noise, device: &device };
        std::thread::scope(|scope| {
            source
                .batches(scope, steps, workers)
                .map(|batch| {
                    let Prepared { x, noise, .. } = batch?;
                    Ok([x.try_into_vec_as()?, noise.try_into_vec_as()?])
                })
                .collect()
        })
    }

    fn set() -> VectorSet {
        VectorSet::new((0..20).map(|i| i as f32).collect(), [10, 2]).unwrap()
    }

    #[test]
    fn workers_change_nothing() {
        let all: Vec<_> = collect(&set(), 0, 0..10).into_iter().map(Result::unwrap).collect();
        assert_eq!(all.len(), 10);
        assert_ne!(all[0], all[3]);
        for workers in [1, 3, 16] {
            let ahead: Vec<_> = collect(&set(), workers, 0..10).into_iter().map(Result::unwrap).collect();
            assert_eq!(all, ahead, "{workers} workers");
            // A resumed run gets what the whole run gets.
            let later: Vec<_> = collect(&set(), workers, 4..10).into_iter().map(Result::unwrap).collect();
            assert_eq!(all[4..], later, "{workers} workers");
        }
    }

    /// Fails on sample 7; has one sample too many, or a label too few, for others.
    struct Bad;

    impl DataSet<2> for Bad {
        fn len(&self) -> usize {
            10
        }
        fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<2>, DataError> {
            if indices.contains(&7) {
                return Err(DataError::IndexOutOfRange { index: 7, len: 7 });
            }
            let rows = indices.len() + usize::from(indices.contains(&1));
            Ok(Batch { x: Tensor::zeros([rows, 2], device), labels: Some(vec![0; indices.len() - 1]) })
        }
    }

    #[test]
    fn errors_come_in_their_place() {
        let order = BatchOrder::new(10, 3, 3).unwrap();
        for workers in [0, 2] {
            for (step, batch) in collect(&Bad, workers, 0..9).into_iter().enumerate() {
                let indices = order.batch(step as u64);
                let error = batch.unwrap_err();
                match error {
                    TrainError::Data(_) => assert!(indices.contains(&7)),
                    TrainError::Batch { what: "samples", given: 4, expected: 3 } => assert!(indices.contains(&1)),
                    TrainError::Batch { what: "labels", given: 2, expected: 3 } => {}
                    other => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_a_worker_is_passed_on() {
        struct Panics;
        impl DataSet<2> for Panics {
            fn len(&self) -> usize {
                10
            }
            fn batch(&self, _: &[usize], _: &Device) -> Result<Batch<2>, DataError> {
                panic!("no data today")
            }
        }
        collect(&Panics, 2, 0..9);
    }
}
