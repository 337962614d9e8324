//! The state of a run.

use super::SampleError;
use super::run::like_states;
use crate::plan::Memory;
use burn::tensor::{DType, Tensor};
use langevin_core::prediction::Quantity;
use langevin_core::{DenoiseError, Estimate, Level, Levels, PredictionError};

/// One committed step.
#[derive(Clone, Debug)]
pub struct Step<const D: usize> {
    /// Its number, from 0.
    pub index: usize,
    /// Where the samples are now.
    pub levels: Levels,
    /// The samples, `[batch, ..]`.
    pub x: Tensor<D>,
    /// The clean sample as predicted in this step, if the sampler reports one and the prediction determines it there (an
    /// ε network at α = 0 says nothing of it), `[batch, ..]`.
    pub x0: Option<Tensor<D>>,
    /// Evaluations of the denoiser so far.
    pub evaluations: usize,
}

/// Everything a run is: clone it, save it, go on with it elsewhere.
#[derive(Clone, Debug)]
pub struct RunState<const D: usize> {
    pub(super) first: u64,
    pub(super) row: usize,
    pub(super) steps: usize,
    pub(crate) evaluations: usize,
    pub(super) memory: Memory<Tensor<D>>,
    /// Host numbers of adaptive samplers (clocks, step sizes, controllers), in a layout of their own.
    pub numbers: Vec<f64>,
    pub(crate) past: Vec<Estimate<D>>,
    pub(super) replaced: bool,
    pub(super) zero_terminal_snr: bool,
}

impl<const D: usize> RunState<D> {
    /// The state of a run that has not stepped yet, of samples `[batch, ..]`.
    pub fn new(first: u64, x: Tensor<D>) -> Self {
        Self {
            first,
            row: 0,
            steps: 0,
            evaluations: 0,
            memory: Memory::new(x),
            numbers: Vec::new(),
            past: Vec::new(),
            replaced: false,
            zero_terminal_snr: false,
        }
    }

    /// The samples, `[batch, ..]`.
    pub fn x(&self) -> Tensor<D> {
        self.memory.state(0).cloned().expect("register 0 is written when a run starts and never removed")
    }

    /// Replaces the samples.
    pub fn set_x(&mut self, x: Tensor<D>) {
        self.memory.set_state(0, x);
        self.replaced = true;
    }

    /// Whether the samples were replaced (by a constraint) since the last [`commit`](Self::commit): what a sampler has
    /// derived from them is stale.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Global number of the first sample of the batch.
    pub fn first_sample(&self) -> u64 {
        self.first
    }

    /// Rows of the plan that have run; samplers that are no plans may count their own stages here.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Committed steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Evaluations of the denoiser.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Registers, estimates and noises that live across rows.
    pub fn memory(&self) -> &Memory<Tensor<D>> {
        &self.memory
    }

    /// Writes back what a sampler has computed.
    pub fn commit(&mut self, row: usize, memory: Memory<Tensor<D>>) {
        self.row = row;
        self.memory = memory;
        self.replaced = false;
    }

    /// Whether an answer is of a kind that the process allows, and of the shape and dtype of what was asked about.
    pub(crate) fn accept(&self, estimate: &Estimate<D>, asked: ([usize; D], DType)) -> Result<(), SampleError> {
        let prediction = estimate.prediction();
        let pure_noise = Level { alpha: 0.0, sigma: 1.0, time: 0.0 };
        if self.zero_terminal_snr && matches!(prediction.x0(&pure_noise), Err(PredictionError::Singular { .. })) {
            return Err(SampleError::ZeroTerminalSnr { prediction });
        }
        Ok(like_states("the denoiser's output", estimate.parts().output, asked)?)
    }

    /// What an error of a denoiser is here: a combinator that asks a noise for x̂_0 in pure noise meets the contradiction before
    /// [`accept`](Self::accept) does.
    pub(crate) fn explain(&self, error: DenoiseError) -> SampleError {
        match error {
            DenoiseError::Prediction(PredictionError::Singular { wanted: Quantity::X0, prediction, .. })
                if self.zero_terminal_snr =>
            {
                SampleError::ZeroTerminalSnr { prediction }
            }
            error => error.into(),
        }
    }

    /// Takes back everything since `before` except the count of evaluations: a rejected step leaves no trace in
    /// what denoisers remember.
    pub fn roll_back(&mut self, before: &Self) {
        *self = Self { evaluations: self.evaluations, ..before.clone() };
    }

    /// Counts a step that has just been written, and describes it.
    pub fn step(&mut self, levels: Levels, x0: Option<Tensor<D>>) -> Step<D> {
        let index = self.steps;
        self.steps += 1;
        Step { index, levels, x: self.x(), x0, evaluations: self.evaluations }
    }
}
