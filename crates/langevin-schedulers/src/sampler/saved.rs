//! Runs as plain data.

use super::{RunState, SampleError};
use crate::plan::Memory;
use burn::tensor::{Tensor, TensorData};
use langevin_core::{Estimate, Levels, Load};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    fingerprint: u64,
    first: u64,
    row: usize,
    steps: usize,
    evaluations: usize,
    memory: Memory<TensorData>,
    numbers: Vec<f64>,
    past: Vec<SavedEstimate>,
    replaced: bool,
}

/// The parts of an estimate that a denoiser's memory holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedEstimate {
    x: TensorData,
    output: TensorData,
    levels: Levels,
    prediction: langevin_core::Prediction,
    x0: Option<TensorData>,
    eps: Option<TensorData>,
    variance: Option<TensorData>,
    #[serde(default)]
    kept: BTreeMap<String, TensorData>,
}

fn read<const D: usize>(x: &Tensor<D>) -> Result<TensorData, SampleError> {
    x.try_to_data().map_err(|error| SampleError::Read { message: error.to_string() })
}

impl SavedRun {
    /// Fingerprint of the sampler that made it.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(super) fn of<const D: usize>(state: &RunState<D>, fingerprint: u64) -> Result<Self, SampleError> {
        let past = state.past.iter().map(|estimate| {
            let parts = estimate.parts();
            let optional = |part: Option<&Tensor<D>>| part.map(read).transpose();
            let kept = parts.kept.iter().map(|(name, value)| Ok((name.clone(), read(value)?)));
            Ok(SavedEstimate {
                x: read(parts.x)?,
                output: read(parts.output)?,
                levels: parts.levels.clone(),
                prediction: parts.prediction,
                x0: optional(parts.x0)?,
                eps: optional(parts.eps)?,
                variance: optional(parts.variance)?,
                kept: kept.collect::<Result<_, SampleError>>()?,
            })
        });
        Ok(Self {
            fingerprint,
            first: state.first,
            row: state.row,
            steps: state.steps,
            evaluations: state.evaluations,
            memory: state.memory.try_map(read)?,
            numbers: state.numbers.clone(),
            past: past.collect::<Result<_, SampleError>>()?,
            replaced: state.replaced,
        })
    }

    pub(super) fn restore<const D: usize>(&self, load: Load) -> Result<RunState<D>, SampleError> {
        let tensor = |data: &TensorData| {
            if data.shape().num_dims() != D {
                return Err(SampleError::Rank { expected: D, given: data.shape().num_dims() });
            }
            Ok(Tensor::<D>::from_data(data.clone(), (load.options().0, data.dtype())))
        };
        if self.memory.state(0).is_none() {
            return Err(SampleError::Incomplete { row: self.row });
        }
        let past = self.past.iter().map(|saved| {
            let optional = |part: &Option<TensorData>| part.as_ref().map(tensor).transpose();
            let mut estimate =
                Estimate::new(tensor(&saved.x)?, tensor(&saved.output)?, saved.levels.clone(), saved.prediction);
            if let Some(variance) = optional(&saved.variance)? {
                estimate = estimate.with_variance(variance);
            }
            estimate = estimate.with_parts(optional(&saved.x0)?, optional(&saved.eps)?);
            for (name, value) in &saved.kept {
                estimate = estimate.keeping(name.clone(), tensor(value)?);
            }
            Ok(estimate)
        });
        Ok(RunState {
            first: self.first,
            row: self.row,
            steps: self.steps,
            evaluations: self.evaluations,
            memory: self.memory.try_map(tensor)?,
            numbers: self.numbers.clone(),
            past: past.collect::<Result<_, SampleError>>()?,
            replaced: self.replaced,
            // The sampler that takes it up says so.
            zero_terminal_snr: false,
        })
    }
}
