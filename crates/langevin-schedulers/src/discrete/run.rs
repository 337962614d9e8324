//! Runs over tokens.

use super::method::{check, check_tokens};
use super::{TokenContext, TokenMethod, TokenState, TokenStep, host};
use crate::sampler::SampleError;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// A run over tokens: an iterator of steps. After an error or the end it yields nothing more.
pub struct TokenRun<'a> {
    method: &'a dyn TokenMethod,
    cx: TokenContext<'a>,
    state: TokenState,
    /// Whether any log-probability was NaN so far.
    broken: Option<Tensor<1, Bool>>,
    ended: bool,
    failed: bool,
}

/// A run over tokens as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedTokens {
    fingerprint: u64,
    first: u64,
    done: usize,
    tokens: TensorData,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    memory: Vec<i64>,
}

impl<'a> TokenRun<'a> {
    pub(super) fn new(method: &'a dyn TokenMethod, first: u64, tokens: Tensor<2, Int>, cx: TokenContext<'a>) -> Self {
        let state = TokenState { first, done: 0, tokens, memory: Vec::new() };
        Self { method, cx, state, broken: None, ended: false, failed: false }
    }

    pub(super) fn resumed(
        method: &'a dyn TokenMethod,
        saved: &SavedTokens,
        cx: TokenContext<'a>,
        device: &Device,
    ) -> Result<Self, SampleError> {
        let (expected, given) = (method.fingerprint(), saved.fingerprint);
        if expected != given {
            return Err(SampleError::OtherSampler { expected, given });
        }
        let rank = saved.tokens.shape().num_dims();
        if rank != 2 {
            return Err(SampleError::Rank { expected: 2, given: rank });
        }
        let tokens = Tensor::<2, Int>::from_data(saved.tokens.clone(), device);
        check(method, saved.first, tokens.dims())?;
        check_tokens(method, &tokens)?;
        let mut run = Self::new(method, saved.first, tokens, cx);
        run.state.done = saved.done;
        run.state.memory.clone_from(&saved.memory);
        if !method.check_state(&run.state) {
            return Err(SampleError::Incomplete { row: saved.done });
        }
        Ok(run)
    }

    /// The tokens as they are, `[batch, positions]`.
    pub fn tokens(&self) -> Tensor<2, Int> {
        self.state.tokens.clone()
    }

    /// Steps done, each of which has asked the denoiser once.
    pub fn steps(&self) -> usize {
        self.state.done
    }

    /// The run as plain data, which [`TokenMethod::resume`] takes up again.
    ///
    /// # Errors
    /// [`SampleError::NotFinite`] if the denoiser has answered with NaN, [`SampleError::Read`] if the device cannot be read.
    pub fn save(&self) -> Result<SavedTokens, SampleError> {
        self.check_numbers()?;
        let TokenState { first, done, ref tokens, ref memory } = self.state;
        let (fingerprint, memory) = (self.method.fingerprint(), memory.clone());
        Ok(SavedTokens { fingerprint, first, done, tokens: host::data(tokens)?, memory })
    }

    /// Runs to the end and returns the tokens, `[batch, positions]`.
    ///
    /// # Errors
    /// The first error of a step, [`SampleError::NotFinite`] if the denoiser has answered with NaN, or
    /// [`SampleError::Unfinished`] if the run has yielded an error before.
    pub fn finish(mut self) -> Result<Tensor<2, Int>, SampleError> {
        if self.failed {
            return Err(SampleError::Unfinished { step: self.state.done });
        }
        for step in &mut self {
            step?;
        }
        self.check_numbers()?;
        Ok(self.state.tokens)
    }

    fn check_numbers(&self) -> Result<(), SampleError> {
        let Some(broken) = &self.broken else { return Ok(()) };
        if host::flag(broken)? { Err(SampleError::NotFinite { step: self.state.done }) } else { Ok(()) }
    }

    fn step(&mut self) -> Result<Option<TokenStep>, SampleError> {
        let mut state = self.state.clone();
        let Some(step) = self.method.advance(&mut state, &self.cx)? else { return Ok(None) };
        let broken = step.log_p.clone().is_nan().any();
        self.broken = Some(match self.broken.take() {
            Some(before) => before.bool_or(broken),
            None => broken,
        });
        state.done = self.state.done + 1;
        state.tokens = step.tokens.clone();
        self.state = state;
        Ok(Some(step))
    }
}

impl Iterator for TokenRun<'_> {
    type Item = Result<TokenStep, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.ended {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        self.ended = matches!(step, Ok(None));
        step.transpose()
    }
}

impl std::iter::FusedIterator for TokenRun<'_> {}
