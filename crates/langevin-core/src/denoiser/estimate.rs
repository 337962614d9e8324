//! The answer of a denoiser.

use super::DenoiseError;
use crate::level::Levels;
use crate::prediction::{Linear, Prediction, PredictionError};
use burn::tensor::{DType, Tensor};

/// What a denoiser makes of a state: its output in its own prediction, and everything that follows from it.
///
/// A combinator may replace x̂_0 and leave ε̂ (thresholding as in DDPM), or derive ε̂ again from the new x̂_0.
#[derive(Clone, Debug)]
pub struct Estimate<const D: usize> {
    x: Tensor<D>,
    output: Tensor<D>,
    levels: Levels,
    prediction: Prediction,
    x0: Option<Tensor<D>>,
    eps: Option<Tensor<D>>,
    variance: Option<Tensor<D>>,
}

/// The parts of an [`Estimate`].
#[derive(Clone, Copy, Debug)]
pub struct EstimateParts<'a, const D: usize> {
    /// The state that was asked about.
    pub x: &'a Tensor<D>,
    /// The network's output.
    pub output: &'a Tensor<D>,
    /// Where the question was asked.
    pub levels: &'a Levels,
    /// What the output is.
    pub prediction: Prediction,
    /// A replaced x̂_0.
    pub x0: Option<&'a Tensor<D>>,
    /// A replaced ε̂.
    pub eps: Option<&'a Tensor<D>>,
    /// Raw variance channels.
    pub variance: Option<&'a Tensor<D>>,
}

impl<const D: usize> Estimate<D> {
    /// An estimate from a network's output for the state `x`, both `[batch, ..]`.
    pub fn new(x: Tensor<D>, output: Tensor<D>, levels: Levels, prediction: Prediction) -> Self {
        Self { x, output, levels, prediction, x0: None, eps: None, variance: None }
    }

    /// The state that was asked about.
    pub fn x(&self) -> Tensor<D> {
        self.x.clone()
    }

    /// The output in the denoiser's own prediction, before any change of x̂_0 or ε̂.
    pub fn output(&self) -> Tensor<D> {
        self.output.clone()
    }

    /// What [`output`](Self::output) is.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Where the question was asked.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The estimated clean sample x̂_0.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] where the prediction does not determine it.
    pub fn x0(&self) -> Result<Tensor<D>, PredictionError> {
        match &self.x0 {
            Some(x0) => Ok(x0.clone()),
            None => self.linear(|level| self.prediction.x0(level)),
        }
    }

    /// The estimated noise ε̂.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] where the prediction does not determine it.
    pub fn eps(&self) -> Result<Tensor<D>, PredictionError> {
        match &self.eps {
            Some(eps) => Ok(eps.clone()),
            None => self.linear(|level| self.prediction.eps(level)),
        }
    }

    /// The estimated score `−ε̂/σ`.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] at σ = 0 unless the network predicts it.
    pub fn score(&self) -> Result<Tensor<D>, PredictionError> {
        match &self.eps {
            Some(eps) => {
                let scale = self.levels.try_map(|level| Ok(Prediction::Epsilon.score(level)?.output))?;
                Ok(in_f32(eps.clone(), |eps| scale.times(eps)))
            }
            None => self.linear(|level| self.prediction.score(level)),
        }
    }

    /// The network's raw variance channels, if it has them.
    ///
    /// # Errors
    /// [`DenoiseError::NoVariance`] if the denoiser predicts no variance.
    pub fn variance(&self) -> Result<Tensor<D>, DenoiseError> {
        self.variance.clone().ok_or(DenoiseError::NoVariance)
    }

    /// Adds the network's raw variance channels.
    pub fn with_variance(mut self, variance: Tensor<D>) -> Self {
        self.variance = Some(variance);
        self
    }

    /// Replaces x̂_0 and keeps ε̂ as it is.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] if the present ε̂ is not determined.
    pub fn with_x0(mut self, x0: Tensor<D>) -> Result<Self, PredictionError> {
        self.eps = Some(self.eps()?);
        self.x0 = Some(x0);
        Ok(self)
    }

    /// Replaces x̂_0 and derives ε̂ from it, so that `x = α·x̂_0 + σ·ε̂` again.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] at σ = 0.
    pub fn rederive(mut self, x0: Tensor<D>) -> Result<Self, PredictionError> {
        let eps = Estimate::new(self.x.clone(), x0.clone(), self.levels.clone(), Prediction::Sample).eps()?;
        self.eps = Some(eps);
        self.x0 = Some(x0);
        Ok(self)
    }

    /// What the estimate is made of: all that is needed to save it.
    pub fn parts(&self) -> EstimateParts<'_, D> {
        EstimateParts {
            x: &self.x,
            output: &self.output,
            levels: &self.levels,
            prediction: self.prediction,
            x0: self.x0.as_ref(),
            eps: self.eps.as_ref(),
            variance: self.variance.as_ref(),
        }
    }

    /// Sets what combinators had replaced, when an estimate is restored from its [`parts`](Self::parts).
    pub fn with_parts(mut self, x0: Option<Tensor<D>>, eps: Option<Tensor<D>>) -> Self {
        self.x0 = x0;
        self.eps = eps;
        self
    }

    fn linear(
        &self,
        coefficients: impl Fn(&crate::level::Level) -> Result<Linear, PredictionError>,
    ) -> Result<Tensor<D>, PredictionError> {
        let of_x = self.levels.try_map(|level| Ok(coefficients(level)?.x))?;
        let of_output = self.levels.try_map(|level| Ok(coefficients(level)?.output))?;
        if of_x == crate::level::Scalars::Shared(0.0) {
            return Ok(in_f32(self.output.clone(), |output| of_output.times(output)));
        }
        let dtype = self.output.dtype();
        let x = of_x.times(widen(self.x.clone()));
        let sum = x.add(of_output.times(widen(self.output.clone())));
        Ok(if sum.dtype() == dtype { sum } else { sum.cast(dtype) })
    }
}

/// Half-precision tensors as f32: conversions cancel, so they run in f32 or wider.
fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

fn in_f32<const D: usize>(x: Tensor<D>, f: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    let y = f(widen(x));
    if y.dtype() == dtype { y } else { y.cast(dtype) }
}
