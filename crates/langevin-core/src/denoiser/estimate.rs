//! The answer of a denoiser.

use super::DenoiseError;
use crate::level::{Levels, Scalars};
use crate::prediction::{Linear, Prediction, PredictionError};
use burn::tensor::{DType, Tensor};
use std::collections::BTreeMap;

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
    kept: BTreeMap<String, Tensor<D>>,
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
    /// What combinators keep for their next answer, by name.
    pub kept: &'a BTreeMap<String, Tensor<D>>,
}

impl<const D: usize> Estimate<D> {
    /// An estimate from a network's output for the state `x`, both `[batch, ..]`.
    pub fn new(x: Tensor<D>, output: Tensor<D>, levels: Levels, prediction: Prediction) -> Self {
        Self { x, output, levels, prediction, x0: None, eps: None, variance: None, kept: BTreeMap::new() }
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
    pub fn with_x0(mut self, x0: Tensor<D>) -> Self {
        self.x0 = Some(x0);
        self
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

    /// Keeps a value of the state's shape under a name, for the next answer of the combinator that made it: there it is
    /// [`kept`](Self::kept) by the last estimate of [`Query::past`](super::Query::past). It is part of the run, saved
    /// with it and taken back with a rejected step; the denoiser must ask for a [`memory`](super::Denoiser::memory).
    pub fn keeping(mut self, name: impl Into<String>, value: Tensor<D>) -> Self {
        self.kept.insert(name.into(), value);
        self
    }

    /// The same without anything kept.
    pub(super) fn without_kept(mut self) -> Self {
        self.kept.clear();
        self
    }

    /// What was kept under a name.
    pub fn kept(&self, name: &str) -> Option<Tensor<D>> {
        self.kept.get(name).cloned()
    }

    /// The same values outside any autodiff graph, on the device without autodiff.
    pub fn without_graph(self) -> Self {
        Self {
            x: self.x.inner(),
            output: self.output.inner(),
            levels: self.levels,
            prediction: self.prediction,
            x0: self.x0.map(Tensor::inner),
            eps: self.eps.map(Tensor::inner),
            variance: self.variance.map(Tensor::inner),
            kept: self.kept.into_iter().map(|(name, value)| (name, value.inner())).collect(),
        }
    }

    /// Adds Δ to the score, given as `σ²·Δ`, and lets x̂_0 and ε̂ follow, replaced ones as well: `σ²·Δ/α` is added to x̂_0,
    /// `−σ·Δ` to ε̂. With Δ a gradient of a log-probability this is guidance (Dhariwal & Nichol 2021, section 4).
    ///
    /// # Errors
    /// [`DenoiseError::PureNoise`] at α = 0 if x̂_0 would have to follow; [`DenoiseError::Prediction`] at σ = 0 if ε̂ would;
    /// [`DenoiseError::Shape`] for another shape.
    pub fn add_score(mut self, scaled: Tensor<D>) -> Result<Self, DenoiseError> {
        if scaled.dims() != self.x.dims() {
            return Err(DenoiseError::Shape {
                what: "the gradient to guide by".into(),
                given: scaled.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", self.x.dims()),
            });
        }
        let add = |to: Tensor<D>, gain: &Scalars| {
            let moved = gain.times(widen(scaled.clone()));
            in_f32(to, |to| to.add(moved))
        };
        let of_x0 = |prediction: Prediction| {
            self.levels.try_map(|level| {
                if level.alpha == 0.0 && prediction.target(level)?.x0 != 0.0 {
                    return Err(DenoiseError::PureNoise { sigma: level.sigma, time: level.time });
                }
                Ok(prediction.score_gain(level)?)
            })
        };
        let gain = of_x0(self.prediction)?;
        let x0 = self.x0.take().map(|x0| Ok::<_, DenoiseError>(add(x0, &of_x0(Prediction::Sample)?))).transpose()?;
        let of_eps = || self.levels.try_map(|level| Prediction::Epsilon.score_gain(level));
        let eps = self.eps.take().map(|eps| Ok::<_, DenoiseError>(add(eps, &of_eps()?))).transpose()?;
        self.output = add(self.output, &gain);
        (self.x0, self.eps) = (x0, eps);
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
            kept: &self.kept,
        }
    }

    /// Sets what combinators had replaced, when an estimate is restored from its [`parts`](Self::parts).
    pub fn with_parts(mut self, x0: Option<Tensor<D>>, eps: Option<Tensor<D>>) -> Self {
        self.x0 = x0;
        self.eps = eps;
        self
    }

    /// Whether a combinator has replaced x̂_0 or ε̂, so that they no longer follow from the output.
    pub fn is_replaced(&self) -> bool {
        self.x0.is_some() || self.eps.is_some()
    }

    /// The output in another prediction, before any change of x̂_0 or ε̂.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] where one does not determine the other.
    pub fn output_as(&self, prediction: Prediction) -> Result<Tensor<D>, PredictionError> {
        if prediction == self.prediction {
            return Ok(self.output());
        }
        self.linear(|level| {
            let (target, x0, eps) =
                (prediction.target(level)?, self.prediction.x0(level)?, self.prediction.eps(level)?);
            Ok(Linear {
                x: target.x0 * x0.x + target.eps * eps.x,
                output: target.x0 * x0.output + target.eps * eps.output,
            })
        })
    }

    /// x̂_0 moved by `shift` and ε̂ so that it follows. Where the output has no say in x̂_0 (σ = 0) nothing moves. Unlike
    /// [`add_score`](Self::add_score) this has a meaning in pure noise, for predictions that determine x̂_0 there.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] where the prediction does not determine x̂_0.
    pub(super) fn moved(mut self, shift: Tensor<D>) -> Result<Self, PredictionError> {
        let inverse = |c: f64| if c == 0.0 { 0.0 } else { 1.0 / c };
        let of_output = self.levels.try_map(|level| Ok(inverse(self.prediction.x0(level)?.output)))?;
        let of_eps = self.levels.map(|level| -level.alpha * inverse(level.sigma));
        let add = |to: Tensor<D>, gain: &Scalars| {
            let moved = gain.times(widen(shift.clone()));
            in_f32(to, |to| to.add(moved))
        };
        self.output = add(self.output, &of_output);
        self.x0 = self.x0.map(|x0| add(x0, &Scalars::Shared(1.0)));
        self.eps = self.eps.map(|eps| add(eps, &of_eps));
        Ok(self)
    }

    fn linear(
        &self,
        coefficients: impl Fn(&crate::level::Level) -> Result<Linear, PredictionError>,
    ) -> Result<Tensor<D>, PredictionError> {
        // Where little data is left both coefficients are large and the terms cancel: the sum is multiplied then, and not
        // what it is made of, so that rounding is not. One of the terms is then taken as it is, without memory of its own.
        let scale = |c: &Linear| match if c.x.abs() >= c.output.abs() { c.x } else { c.output } {
            0.0 => 1.0,
            larger => larger,
        };
        let part = |f: &dyn Fn(&Linear) -> f64| self.levels.try_map(|level| coefficients(level).map(|c| f(&c)));
        if part(&|c| c.x)?.is_zero() {
            let of_output = part(&|c| c.output)?;
            return Ok(in_f32(self.output.clone(), |output| of_output.times(output)));
        }
        let (of_x, of_output) = (part(&|c| c.x / scale(c))?, part(&|c| c.output / scale(c))?);
        let dtype = self.output.dtype();
        let output = of_output.times(widen(self.output.clone()));
        let sum = part(&scale)?.times(of_x.times(widen(self.x.clone())).add(output));
        Ok(if sum.dtype() == dtype { sum } else { sum.cast(dtype) })
    }
}

/// Half-precision tensors as f32: conversions cancel, so they run in f32 or wider.
pub(super) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

pub(super) fn in_f32<const D: usize>(x: Tensor<D>, f: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    let y = f(widen(x));
    if y.dtype() == dtype { y } else { y.cast(dtype) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::prediction::Quantity;
    use burn::tensor::{Device, TensorData};

    const PREDICTIONS: [Prediction; 9] = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 },
    ];
    const X0: [[f64; 2]; 3] = [[0.5, -1.0], [0.25, 0.8], [-0.3, 0.1]];
    const EPS: [[f64; 2]; 3] = [[1.5, 0.2], [-0.7, 0.4], [0.9, -2.0]];

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 3.0 }
    }

    fn tensor(values: [[f64; 2]; 3], dtype: DType) -> Tensor<2> {
        Tensor::from_data(TensorData::from(values), (&Device::flex(), dtype))
    }

    fn values(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn close(got: Tensor<2>, expected: [[f64; 2]; 3], tolerance: f64) {
        for (got, expected) in values(got).iter().zip(expected.as_flattened()) {
            assert!((got - expected).abs() <= tolerance, "{got} instead of {expected}");
        }
    }

    /// State and output of a network that knows x_0 and ε.
    fn asked(prediction: Prediction, levels: &Levels, dtype: DType) -> Estimate<2> {
        let (mut x, mut output) = ([[0.0; 2]; 3], [[0.0; 2]; 3]);
        for row in 0..3 {
            let at = match levels {
                Levels::Shared(level) => level,
                Levels::Each(each) => &each[row],
            };
            let target = prediction.target(at).unwrap();
            for i in 0..2 {
                x[row][i] = at.alpha * X0[row][i] + at.sigma * EPS[row][i];
                output[row][i] = target.x0 * X0[row][i] + target.eps * EPS[row][i];
            }
        }
        Estimate::new(tensor(x, dtype), tensor(output, dtype), levels.clone(), prediction)
    }

    #[test]
    fn conversions_on_tensors_recover_x0_eps_and_score() {
        let sigmas = [0.8, 0.3, 2.0];
        let each = Levels::Each(vec![level(0.6, sigmas[0]), level(0.9, sigmas[1]), level(1.0, sigmas[2])]);
        for prediction in PREDICTIONS {
            for (levels, sigmas) in [(each.clone(), sigmas), (Levels::Shared(level(0.6, 0.8)), [0.8; 3])] {
                let estimate = asked(prediction, &levels, DType::F64);
                close(estimate.x0().unwrap(), X0, 1e-13);
                close(estimate.eps().unwrap(), EPS, 1e-13);
                let score = std::array::from_fn(|row| EPS[row].map(|eps| -eps / sigmas[row]));
                close(estimate.score().unwrap(), score, 1e-13);
            }
        }
    }

    #[test]
    fn half_precision_is_converted_in_single() {
        // σ/α = 50: computing x − σ·ε̂ in f16 would lose two digits more than rounding the result does.
        let at = level(0.02, 0.9998);
        let levels = Levels::Shared(at);
        for dtype in [DType::F16, DType::BF16] {
            let estimate = asked(Prediction::Epsilon, &levels, dtype);
            let x0 = estimate.x0().unwrap();
            assert_eq!((x0.dtype(), estimate.score().unwrap().dtype()), (dtype, dtype));
            let (x, output) = (values(estimate.x()), values(estimate.output()));
            for ((x, output), got) in x.iter().zip(output).zip(values(x0)) {
                let expected = (x - at.sigma * output) / at.alpha;
                let bits = if dtype == DType::F16 { 11.0 } else { 8.0 };
                let rounding = expected.abs() * f64::powf(2.0, -bits) + 1e-4;
                assert!((got - expected).abs() <= rounding, "{dtype:?}: {got} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_replaced_x0_leaves_eps_or_changes_it() {
        let levels = Levels::Each(vec![level(0.6, 0.8), level(0.9, 0.3), level(1.0, 2.0)]);
        let new = X0.map(|row| row.map(|v| v + 0.5));
        let estimate = asked(Prediction::Velocity, &levels, DType::F64);
        let kept = estimate.clone().with_x0(tensor(new, DType::F64));
        close(kept.x0().unwrap(), new, 0.0);
        close(kept.eps().unwrap(), EPS, 1e-13);
        let derived = estimate.rederive(tensor(new, DType::F64)).unwrap();
        close(derived.x0().unwrap(), new, 0.0);
        // x = α·x̂_0 + σ·ε̂ again, so ε̂ moves by −0.5·α/σ, and the score with it.
        let ratio = [0.75, 3.0, 0.5];
        let eps: [[f64; 2]; 3] = std::array::from_fn(|row| EPS[row].map(|eps| eps - 0.5 * ratio[row]));
        close(derived.eps().unwrap(), eps, 1e-13);
        let sigma = [0.8, 0.3, 2.0];
        close(derived.score().unwrap(), std::array::from_fn(|row| eps[row].map(|eps| -eps / sigma[row])), 1e-12);
    }

    #[test]
    fn singular_levels_are_errors() {
        let noise = Levels::Shared(level(0.0, 1.0));
        let estimate = asked(Prediction::Epsilon, &noise, DType::F64);
        let error = estimate.x0().unwrap_err();
        assert!(matches!(error, PredictionError::Singular { wanted: Quantity::X0, .. }));
        close(estimate.eps().unwrap(), EPS, 0.0);
        let mixed = Levels::Each(vec![level(0.6, 0.8), level(1.0, 0.0), level(0.6, 0.8)]);
        let estimate = asked(Prediction::Sample, &mixed, DType::F64);
        assert!(matches!(estimate.eps(), Err(PredictionError::Singular { wanted: Quantity::Epsilon, .. })));
        // A new x̂_0 does not make ε̂ known, and does not need it.
        assert!(estimate.clone().with_x0(estimate.x()).eps().is_err());
        assert!(matches!(estimate.clone().rederive(estimate.x()), Err(PredictionError::Singular { .. })));
        assert!(matches!(estimate.score(), Err(PredictionError::Singular { .. })));
        close(estimate.x0().unwrap(), X0, 0.0);
    }

    #[test]
    fn variance_is_there_or_an_error() {
        let estimate = asked(Prediction::Epsilon, &Levels::Shared(level(0.6, 0.8)), DType::F32);
        assert_eq!(estimate.variance().unwrap_err(), DenoiseError::NoVariance);
        let with = estimate.clone().with_variance(estimate.x());
        assert_eq!(values(with.variance().unwrap()), values(estimate.x()));
    }

    #[test]
    fn a_score_that_is_added_moves_x0_and_eps_with_it() {
        let each = [level(0.6, 0.8), level(0.9, 0.3), level(1.0, 2.0)];
        let scaled = [[0.3, -0.2], [0.1, 0.5], [-0.7, 0.4]];
        for prediction in PREDICTIONS {
            let estimate = asked(prediction, &Levels::Each(each.to_vec()), DType::F64);
            // Also where x̂_0 and ε̂ were replaced: they move from there.
            let replaced = estimate.clone().with_parts(Some(tensor(EPS, DType::F64)), Some(tensor(X0, DType::F64)));
            for (estimate, x0, eps) in [(estimate, X0, EPS), (replaced, EPS, X0)] {
                let moved = estimate.add_score(tensor(scaled, DType::F64)).unwrap();
                let expected = |from: [[f64; 2]; 3], gain: fn(&Level) -> f64| -> [[f64; 2]; 3] {
                    std::array::from_fn(|row| std::array::from_fn(|i| from[row][i] + gain(&each[row]) * scaled[row][i]))
                };
                close(moved.x0().unwrap(), expected(x0, |at| 1.0 / at.alpha), 1e-12);
                close(moved.eps().unwrap(), expected(eps, |at| -1.0 / at.sigma), 1e-12);
            }
        }
        let noise = Levels::Shared(level(0.0, 1.0));
        let shift = || tensor(scaled, DType::F64);
        for prediction in [Prediction::Velocity, Prediction::Flow, Prediction::Sample] {
            let error = asked(prediction, &noise, DType::F64).add_score(shift()).unwrap_err();
            assert_eq!(error, DenoiseError::PureNoise { sigma: 1.0, time: 3.0 });
            assert!(error.to_string().contains("Grid::between"), "{error}");
        }
        let moved = asked(Prediction::Epsilon, &noise, DType::F64).add_score(shift()).unwrap();
        assert!(moved.x0().is_err() && moved.eps().is_ok());
        let short = shift().narrow(1, 0, 1);
        let error = asked(Prediction::Velocity, &Levels::Shared(each[0]), DType::F64).add_score(short).unwrap_err();
        assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [3, 1]));
        let half = asked(Prediction::Velocity, &Levels::Shared(each[0]), DType::F16);
        assert_eq!(half.add_score(tensor(scaled, DType::F16)).unwrap().x0().unwrap().dtype(), DType::F16);
    }

    #[test]
    fn parts_restore_an_estimate() {
        let levels = Levels::Shared(level(0.6, 0.8));
        let estimate = asked(Prediction::Flow, &levels, DType::F64);
        let changed = estimate.with_x0(tensor(EPS, DType::F64));
        let parts = changed.parts();
        let restored = Estimate::new(parts.x.clone(), parts.output.clone(), parts.levels.clone(), parts.prediction)
            .with_parts(parts.x0.cloned(), parts.eps.cloned());
        assert!(parts.variance.is_none());
        close(restored.x0().unwrap(), EPS, 0.0);
        assert_eq!(values(restored.eps().unwrap()), values(changed.eps().unwrap()));
    }
}
