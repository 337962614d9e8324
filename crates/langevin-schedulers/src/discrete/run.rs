//! Runs over tokens.

use super::{TokenSampler, check};
use crate::sampler::SampleError;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use langevin_core::discrete::{TokenDenoiser, gumbel_max};
use langevin_core::{Key, NoiseSource};
use serde::{Deserialize, Serialize};

/// One step over tokens.
#[derive(Clone, Debug)]
pub struct TokenStep {
    /// Its number, from 0.
    pub index: usize,
    /// The step of the chain that the denoiser was asked at.
    pub asked: usize,
    /// Where the tokens are now: a step of the chain, or clean.
    pub reached: Option<usize>,
    /// The tokens, `[batch, positions]`; the mask is the number after the last class.
    pub tokens: Tensor<2, Int>,
    /// The log-probabilities that they were drawn from, `[batch, classes + 1, positions]`, in the last step
    /// `[batch, classes, positions]`.
    pub log_p: Tensor<3>,
}

/// A run over tokens: an iterator of steps. After an error or the end it yields nothing more.
pub struct TokenRun<'a> {
    sampler: &'a TokenSampler,
    denoiser: &'a dyn TokenDenoiser,
    noise: &'a dyn NoiseSource,
    first: u64,
    done: usize,
    tokens: Tensor<2, Int>,
    /// Whether any log-probability was NaN so far.
    broken: Option<Tensor<1, Bool>>,
    failed: bool,
}

/// A run over tokens as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedTokens {
    fingerprint: u64,
    first: u64,
    done: usize,
    tokens: TensorData,
}

fn read(error: impl std::fmt::Display) -> SampleError {
    SampleError::Read { message: error.to_string() }
}

impl<'a> TokenRun<'a> {
    pub(super) fn new(
        sampler: &'a TokenSampler,
        first: u64,
        tokens: Tensor<2, Int>,
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
    ) -> Self {
        Self { sampler, denoiser, noise, first, done: 0, tokens, broken: None, failed: false }
    }

    pub(super) fn resumed(
        sampler: &'a TokenSampler,
        saved: &SavedTokens,
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
        device: &Device,
    ) -> Result<Self, SampleError> {
        let (expected, given) = (sampler.fingerprint(), saved.fingerprint);
        if expected != given {
            return Err(SampleError::OtherSampler { expected, given });
        }
        let rank = saved.tokens.shape().num_dims();
        if rank != 2 {
            return Err(SampleError::Rank { expected: 2, given: rank });
        }
        if saved.done > sampler.times().len() {
            return Err(SampleError::Incomplete { row: saved.done });
        }
        let tokens = Tensor::<2, Int>::from_data(saved.tokens.clone(), device);
        check(saved.first, tokens.dims())?;
        sampler.check_tokens(&tokens)?;
        Ok(Self { done: saved.done, ..Self::new(sampler, saved.first, tokens, denoiser, noise) })
    }

    /// The tokens as they are, `[batch, positions]`.
    pub fn tokens(&self) -> Tensor<2, Int> {
        self.tokens.clone()
    }

    /// Steps done, each of which has asked the denoiser once.
    pub fn steps(&self) -> usize {
        self.done
    }

    /// The run as plain data, which [`TokenSampler::resume`] takes up again.
    ///
    /// # Errors
    /// [`SampleError::NotFinite`] if the denoiser has answered with NaN, [`SampleError::Read`] if the device cannot be read.
    pub fn save(&self) -> Result<SavedTokens, SampleError> {
        self.check_numbers()?;
        let tokens = self.tokens.try_to_data().map_err(read)?;
        Ok(SavedTokens { fingerprint: self.sampler.fingerprint(), first: self.first, done: self.done, tokens })
    }

    /// Runs to the end and returns the clean tokens, `[batch, positions]` in `0..classes`.
    ///
    /// # Errors
    /// The first error of a step, [`SampleError::NotFinite`] if the denoiser has answered with NaN, or
    /// [`SampleError::Unfinished`] if the run has yielded an error before.
    pub fn finish(mut self) -> Result<Tensor<2, Int>, SampleError> {
        if self.failed {
            return Err(SampleError::Unfinished { step: self.done });
        }
        for step in &mut self {
            step?;
        }
        self.check_numbers()?;
        Ok(self.tokens)
    }

    fn check_numbers(&self) -> Result<(), SampleError> {
        let Some(broken) = &self.broken else { return Ok(()) };
        match broken.clone().try_into_scalar::<bool>() {
            Ok(false) => Ok(()),
            Ok(true) => Err(SampleError::NotFinite { step: self.done }),
            Err(error) => Err(read(error)),
        }
    }

    fn step(&mut self, asked: usize) -> Result<TokenStep, SampleError> {
        let reached = self.sampler.times().get(self.done + 1).copied();
        let answer = self.denoiser.log_clean(self.tokens.clone(), asked)?;
        let log_p = self.sampler.chain().posterior(answer, &self.tokens, reached, asked)?;
        let tokens = gumbel_max(log_p.clone(), self.noise, self.first, Key::step(self.done as u64, 0))?;
        let broken = log_p.clone().is_nan().any();
        self.broken = Some(match self.broken.take() {
            Some(before) => before.bool_or(broken),
            None => broken,
        });
        let index = self.done;
        self.done += 1;
        self.tokens = tokens.clone();
        Ok(TokenStep { index, asked, reached, tokens, log_p })
    }
}

impl Iterator for TokenRun<'_> {
    type Item = Result<TokenStep, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let asked = *self.sampler.times().get(self.done)?;
        let step = self.step(asked);
        self.failed = step.is_err();
        Some(step)
    }
}

impl std::iter::FusedIterator for TokenRun<'_> {}
