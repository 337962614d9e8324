//! What samples tokens: a method makes one step, and every method is started, saved and resumed the same way.

use super::{SavedTokens, TokenRun, host};
use crate::sampler::SampleError;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use langevin_core::NoiseSource;
use langevin_core::discrete::TokenDenoiser;
use std::ops::Range;

/// Which numbers are tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The classes are `0..classes`, which a denoiser answers for.
    pub classes: usize,
    /// The token that means masked, if there is one: a number behind the classes, or one of them.
    pub mask: Option<usize>,
}

impl Vocabulary {
    fn has(self, token: i64) -> bool {
        let within = |end: usize| usize::try_from(token).is_ok_and(|token| token < end);
        within(self.classes) || self.mask.is_some_and(|mask| usize::try_from(token) == Ok(mask))
    }
}

/// What a step may ask.
#[derive(Clone, Copy)]
pub struct TokenContext<'a> {
    /// Says what the clean tokens may be.
    pub denoiser: &'a dyn TokenDenoiser,
    /// Where every random draw comes from.
    pub noise: &'a dyn NoiseSource,
}

/// A run between two steps.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// The global number of the first sample.
    pub first: u64,
    /// Steps done.
    pub done: usize,
    /// The tokens, `[batch, positions]`.
    pub tokens: Tensor<2, Int>,
    /// Whole numbers that the method carries from step to step, as it likes; empty at first. They are saved with the
    /// run.
    pub memory: Vec<i64>,
}

impl TokenState {
    /// Global numbers of the samples.
    pub fn samples(&self) -> Range<u64> {
        self.first..self.first + self.tokens.dims()[0] as u64
    }
}

/// One step over tokens.
#[derive(Clone, Debug)]
pub struct TokenStep {
    /// Its number, from 0.
    pub index: usize,
    /// The step of the chain that the denoiser was asked at; 0 is the cleanest.
    pub asked: usize,
    /// Where the tokens are now: a step of the chain, or clean.
    pub reached: Option<usize>,
    /// The tokens, `[batch, positions]`.
    pub tokens: Tensor<2, Int>,
    /// The positions that the step was about; all of them, but for methods that go block by block.
    pub positions: Range<usize>,
    /// The log-probabilities that tokens were drawn from, `[batch, classes, positions]` for these positions. For
    /// [`TokenSampler`](super::TokenSampler) there is a row for the mask as well, except in the last step.
    pub log_p: Tensor<3>,
    /// What was drawn from them, `[batch, positions]`: the clean tokens as they look now. For
    /// [`TokenSampler`](super::TokenSampler) they are the tokens of the next step, masks among them.
    pub drawn: Tensor<2, Int>,
    /// Where what was drawn was taken, `[batch, positions]`; everywhere by [`TokenSampler`](super::TokenSampler).
    pub accepted: Tensor<2, Bool>,
}

/// A way to sample tokens, to be run by [`start`](Self::start) and its relatives.
pub trait TokenMethod: Send + Sync {
    /// Which numbers are tokens.
    fn vocabulary(&self) -> Vocabulary;

    /// The tokens that samples begin with if none are given, `[samples, positions]` in row-major order.
    ///
    /// # Errors
    /// [`SampleError::Discrete`] or [`SampleError::Noise`] if the noise source fails or there is no memory for so many
    /// tokens, [`SampleError::Unsupported`] if tokens must be given.
    fn prior(&self, noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError>;

    /// Makes one step from the state, or none at the end: what it returns are the tokens of the next state, whose
    /// `memory` it writes. A state that was left by an error is not used again.
    ///
    /// # Errors
    /// Whatever keeps it from making the step.
    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError>;

    /// A number that tells methods and settings apart in saved runs.
    fn fingerprint(&self) -> u64;

    /// Whether samples may have so many positions.
    ///
    /// # Errors
    /// Why they may not.
    fn check_positions(&self, positions: usize) -> Result<(), SampleError> {
        let _ = positions;
        Ok(())
    }

    /// Whether a saved state can be one of this method: `false` for more steps than there are, or a memory of another
    /// shape.
    fn check_state(&self, state: &TokenState) -> bool;

    /// Starts `[batch, positions]` tokens from noise.
    ///
    /// # Errors
    /// [`SampleError::EmptyShape`] for a dimension of zero, [`SampleError::Discrete`] if the noise source fails, and
    /// what the method says of the number of positions.
    fn start<'a>(
        &'a self,
        shape: [usize; 2],
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
        device: &Device,
    ) -> Result<TokenRun<'a>, SampleError>
    where
        Self: Sized,
    {
        self.start_at(0, shape, denoiser, noise, device)
    }

    /// As [`start`](Self::start), with global sample numbers from `first` on: batches of one large run.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`SampleError::SampleNumbers`] if the numbers do not fit into 64 bits.
    fn start_at<'a>(
        &'a self,
        first: u64,
        shape: [usize; 2],
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
        device: &Device,
    ) -> Result<TokenRun<'a>, SampleError>
    where
        Self: Sized,
    {
        let last = check(self, first, shape)?;
        let tokens = self.prior(noise, first..last, shape[1])?;
        let tokens = Tensor::from_data(TensorData::new(tokens, shape), device);
        Ok(TokenRun::new(self, first, tokens, TokenContext { denoiser, noise }))
    }

    /// Starts from given tokens `[batch, positions]`, as noisy as the first step expects them.
    ///
    /// # Errors
    /// As [`start_at`](Self::start_at), and [`SampleError::Token`] for numbers that are no tokens.
    fn start_from<'a>(
        &'a self,
        first: u64,
        tokens: Tensor<2, Int>,
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
    ) -> Result<TokenRun<'a>, SampleError>
    where
        Self: Sized,
    {
        check(self, first, tokens.dims())?;
        check_tokens(self, &tokens)?;
        Ok(TokenRun::new(self, first, tokens, TokenContext { denoiser, noise }))
    }

    /// Goes on from a saved run.
    ///
    /// # Errors
    /// [`SampleError::OtherSampler`] if another sampler made it, [`SampleError::Rank`], [`SampleError::Token`] and
    /// [`SampleError::Incomplete`] if it was edited.
    fn resume<'a>(
        &'a self,
        saved: &SavedTokens,
        denoiser: &'a dyn TokenDenoiser,
        noise: &'a dyn NoiseSource,
        device: &Device,
    ) -> Result<TokenRun<'a>, SampleError>
    where
        Self: Sized,
    {
        TokenRun::resumed(self, saved, TokenContext { denoiser, noise }, device)
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: TokenMethod + ?Sized> TokenMethod for $pointer {
            fn vocabulary(&self) -> Vocabulary {
                (**self).vocabulary()
            }

            fn prior(
                &self,
                noise: &dyn NoiseSource,
                samples: Range<u64>,
                positions: usize,
            ) -> Result<Vec<i64>, SampleError> {
                (**self).prior(noise, samples, positions)
            }

            fn advance(
                &self,
                state: &mut TokenState,
                cx: &TokenContext<'_>,
            ) -> Result<Option<TokenStep>, SampleError> {
                (**self).advance(state, cx)
            }

            fn fingerprint(&self) -> u64 {
                (**self).fingerprint()
            }

            fn check_positions(&self, positions: usize) -> Result<(), SampleError> {
                (**self).check_positions(positions)
            }

            fn check_state(&self, state: &TokenState) -> bool {
                (**self).check_state(state)
            }
        }
    )*};
}

// What is chosen when the program runs is started like any other.
forward!(&T, Box<T>);

/// The number after the last sample.
pub(super) fn check(method: &dyn TokenMethod, first: u64, shape: [usize; 2]) -> Result<u64, SampleError> {
    if shape.contains(&0) {
        return Err(SampleError::EmptyShape { shape: shape.to_vec() });
    }
    method.check_positions(shape[1])?;
    first.checked_add(shape[0] as u64).ok_or(SampleError::SampleNumbers { first, rows: shape[0] })
}

pub(super) fn check_tokens(method: &dyn TokenMethod, tokens: &Tensor<2, Int>) -> Result<(), SampleError> {
    let vocabulary = method.vocabulary();
    match host::tokens(tokens)?.into_iter().find(|token| !vocabulary.has(*token)) {
        Some(given) => Err(SampleError::Token { given, classes: vocabulary.classes, mask: vocabulary.mask }),
        None => Ok(()),
    }
}
