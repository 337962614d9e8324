//! Exact problems as denoisers on tensors.

use super::error::{ExactError, check_len};
use super::{ElementwiseMixture, Gaussian, GaussianMixture};
use crate::denoiser::{DenoiseError, Denoiser, Estimate, Query};
use crate::level::{Level, Levels};
use crate::prediction::Prediction;
use burn::tensor::Tensor;
use burn::tensor::TensorData;

/// A Jacobian of one sample's answer with respect to its state.
#[derive(Clone, Debug, PartialEq)]
pub enum Jacobian {
    /// All entries, `[numel, numel]` row-major: row i belongs to element i of the answer.
    Full(Vec<f64>),
    /// The diagonal, `[numel]`, of answers whose elements depend on their own element of the state only.
    Diagonal(Vec<f64>),
}

impl Jacobian {
    /// `a·first + b·second`, if they are of one kind.
    fn combine(first: &Self, a: f64, second: &Self, b: f64) -> Option<Self> {
        let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| a * x + b * y).collect();
        match (first, second) {
            (Jacobian::Full(x), Jacobian::Full(y)) => Some(Jacobian::Full(sum(x, y))),
            (Jacobian::Diagonal(x), Jacobian::Diagonal(y)) => Some(Jacobian::Diagonal(sum(x, y))),
            _ => None,
        }
    }
}

/// A problem whose posterior means are known.
pub trait Posterior: Send + Sync {
    /// Values in one sample; `None` if any number will do.
    fn numel(&self) -> Option<usize>;

    /// Writes `E[x_0|x]` and `E[ε|x]` at one level for rows `x` of [`numel`](Self::numel) values behind one another.
    ///
    /// # Errors
    /// [`ExactError`] if the problem has no answer at this level, or the rows do not fit.
    fn posterior(&self, x: &[f64], level: &Level, x0: &mut [f64], eps: &mut [f64]) -> Result<(), ExactError>;

    /// The Jacobians of `E[x_0|x]` and of `E[ε|x]` for one sample's values `x`, both of the same kind.
    ///
    /// # Errors
    /// As [`posterior`](Self::posterior).
    fn jacobians(&self, x: &[f64], level: &Level) -> Result<[Jacobian; 2], ExactError>;

    /// The problem as a denoiser that answers in `prediction`.
    ///
    /// # Errors
    /// [`DenoiseError::Prediction`] if the prediction's settings are bad.
    fn denoiser(self, prediction: Prediction) -> Result<ExactDenoiser<Self>, DenoiseError>
    where
        Self: Sized,
    {
        Ok(ExactDenoiser { problem: self, prediction: prediction.validate()? })
    }
}

impl Posterior for GaussianMixture {
    fn numel(&self) -> Option<usize> {
        Some(self.dimension())
    }

    fn posterior(&self, x: &[f64], level: &Level, x0: &mut [f64], eps: &mut [f64]) -> Result<(), ExactError> {
        let (d, at) = (self.dimension(), self.at(level)?);
        for ((x, x0), eps) in x.chunks(d).zip(x0.chunks_mut(d)).zip(eps.chunks_mut(d)) {
            x0.copy_from_slice(&at.x0(x)?);
            eps.copy_from_slice(&at.eps(x)?);
        }
        Ok(())
    }

    fn jacobians(&self, x: &[f64], level: &Level) -> Result<[Jacobian; 2], ExactError> {
        let at = self.at(level)?;
        Ok([Jacobian::Full(at.x0_jacobian(x)?), Jacobian::Full(at.eps_jacobian(x)?)])
    }
}

impl Posterior for Gaussian {
    fn numel(&self) -> Option<usize> {
        Some(self.dimension())
    }

    fn posterior(&self, x: &[f64], level: &Level, x0: &mut [f64], eps: &mut [f64]) -> Result<(), ExactError> {
        let (d, at) = (self.dimension(), self.at(level)?);
        for ((x, x0), eps) in x.chunks(d).zip(x0.chunks_mut(d)).zip(eps.chunks_mut(d)) {
            x0.copy_from_slice(&at.x0(x)?);
            eps.copy_from_slice(&at.eps(x)?);
        }
        Ok(())
    }

    fn jacobians(&self, x: &[f64], level: &Level) -> Result<[Jacobian; 2], ExactError> {
        let at = self.at(level)?;
        check_len("x", x.len(), self.dimension())?;
        Ok([Jacobian::Full(at.x0_jacobian()), Jacobian::Full(at.eps_jacobian())])
    }
}

impl Posterior for ElementwiseMixture {
    fn numel(&self) -> Option<usize> {
        None
    }

    fn posterior(&self, x: &[f64], level: &Level, x0: &mut [f64], eps: &mut [f64]) -> Result<(), ExactError> {
        check_len("x0", x0.len(), x.len())?;
        check_len("eps", eps.len(), x.len())?;
        for ((&x, x0), eps) in x.iter().zip(x0).zip(eps) {
            (*x0, *eps) = self.posterior_at(x, level)?;
        }
        Ok(())
    }

    fn jacobians(&self, x: &[f64], level: &Level) -> Result<[Jacobian; 2], ExactError> {
        let slopes: Vec<(f64, f64)> = x.iter().map(|&x| self.slopes_at(x, level)).collect::<Result<_, _>>()?;
        let (x0, eps) = slopes.into_iter().unzip();
        Ok([Jacobian::Diagonal(x0), Jacobian::Diagonal(eps)])
    }
}

/// An exact problem as a [`Denoiser`] of tensors `[batch, ..]` of any rank; made by [`Posterior::denoiser`].
///
/// It reads the state to the host, computes in `f64` and puts the answer back in the state's dtype: for tests and
/// demonstrations, not for speed. In an autodiff graph the answer carries the exact Jacobian with it, so that gradients
/// with respect to the state are those of the formula.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::{Denoiser, Level, Levels, Prediction, Query, noise::Seeded};
/// let denoiser = correlated_mixture()?.denoiser(Prediction::Velocity)?;
/// let levels = Levels::from(Level { alpha: 0.6, sigma: 0.8, time: 0.5 });
/// let x = Tensor::<2>::zeros([4, 2], &Device::flex());
/// let estimate = denoiser.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?;
/// assert_eq!(estimate.x0()?.dims(), [4, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExactDenoiser<P> {
    problem: P,
    prediction: Prediction,
}

impl<P> ExactDenoiser<P> {
    /// The problem.
    pub fn problem(&self) -> &P {
        &self.problem
    }

    /// What the answers are given in.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }
}

impl<P: Posterior> ExactDenoiser<P> {
    /// The output for rows at one level.
    fn output(&self, x: &[f64], level: &Level, output: &mut [f64]) -> Result<(), DenoiseError> {
        // Every target is linear in x_0 and ε, so its posterior mean follows from theirs.
        let target = self.prediction.target(level)?;
        let mut eps = vec![0.0; x.len()];
        self.problem.posterior(x, level, output, &mut eps)?;
        output.iter_mut().zip(eps).for_each(|(value, eps)| *value = target.x0 * *value + target.eps * eps);
        Ok(())
    }

    /// The Jacobian of the output for one sample.
    fn jacobian(&self, x: &[f64], level: &Level) -> Result<Jacobian, DenoiseError> {
        let target = self.prediction.target(level)?;
        let [of_x0, of_eps] = self.problem.jacobians(x, level)?;
        let mixed = ExactError::MixedJacobians;
        Ok(Jacobian::combine(&of_x0, target.x0, &of_eps, target.eps).ok_or(mixed)?)
    }

    /// `output` with the Jacobian in its graph: `output + J·(x − x)`, where the second x is a constant.
    fn attach<const D: usize>(
        &self,
        x: &Tensor<D>,
        rows: &[f64],
        levels: &Levels,
        output: Tensor<D>,
    ) -> Result<Tensor<D>, DenoiseError> {
        let (dims, options) = (x.dims(), (x.device(), x.dtype()));
        let numel = rows.len() / dims[0].max(1);
        let nothing = x.clone().sub(Tensor::from_inner(x.clone().inner()));
        let (mut diagonal, mut full) = (Vec::new(), Vec::new());
        for (row, x) in rows.chunks(numel.max(1)).enumerate() {
            let level = match levels {
                Levels::Shared(level) => level,
                Levels::Each(each) => &each[row],
            };
            match self.jacobian(x, level)? {
                Jacobian::Diagonal(values) => diagonal.extend(values),
                Jacobian::Full(values) => full.extend(values),
            }
        }
        let (of_diagonal, of_full) = (dims[0] * numel, dims[0] * numel * numel);
        Ok(match (diagonal.len(), full.len()) {
            (given, 0) if given == of_diagonal => {
                output.add(nothing.mul(Tensor::from_data(TensorData::new(diagonal, dims), (&options.0, options.1))))
            }
            (0, given) if given == of_full => {
                let jacobian = TensorData::new(full, [dims[0], numel, numel]);
                let jacobian = Tensor::<3>::from_data(jacobian, (&options.0, options.1));
                let column: Tensor<3> = nothing.reshape([dims[0], numel, 1]);
                output.add(jacobian.matmul(column).reshape(dims))
            }
            _ => return Err(ExactError::MixedJacobians.into()),
        })
    }
}

impl<P: Posterior, const D: usize> Denoiser<D> for ExactDenoiser<P> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let dims = x.dims();
        self.check_numel(&dims)?;
        let numel: usize = dims[1..].iter().product();
        let data: Vec<f64> = x.to_data().iter::<f64>().collect();
        let mut output = vec![0.0; data.len()];
        match levels {
            Levels::Shared(level) => self.output(&data, level, &mut output)?,
            Levels::Each(each) if each.len() != dims[0] => {
                return Err(DenoiseError::LevelRows { levels: each.len(), batch: dims[0] });
            }
            Levels::Each(each) => {
                let rows = data.chunks(numel.max(1)).zip(output.chunks_mut(numel.max(1)));
                for ((x, output), level) in rows.zip(each) {
                    self.output(x, level, output)?;
                }
            }
        }
        let mut output = Tensor::from_data(TensorData::new(output, dims), (&x.device(), x.dtype()));
        if x.is_tracked() {
            output = self.attach(&x, &data, levels, output)?;
        }
        Ok(Estimate::new(x, output, levels.clone(), self.prediction))
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.check_numel(shape)
    }
}

impl<P: Posterior> ExactDenoiser<P> {
    fn check_numel(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        let numel: usize = shape.iter().skip(1).product();
        match self.problem.numel() {
            Some(expected) if expected != numel => Err(DenoiseError::Shape {
                what: "the state".into(),
                given: shape.to_vec(),
                expected: format!("{expected} values a sample, the dimension of the exact problem"),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::gradient;
    use crate::exact::correlated_mixture;
    use crate::noise::Seeded;
    use crate::prediction::PredictionError;
    use burn::tensor::{DType, Device};

    const PREDICTIONS: [Prediction; 9] = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.7 },
        Prediction::Consistency { sigma_data: 0.7, sigma_min: 0.002 },
    ];

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.0 }
    }

    fn ask<P: Posterior, const D: usize>(
        denoiser: &ExactDenoiser<P>,
        x: &Tensor<D>,
        levels: &Levels,
    ) -> Result<Estimate<D>, DenoiseError> {
        denoiser.denoise(Query { x: x.clone(), levels, past: &[], noise: &Seeded::new(0) })
    }

    fn tensor<const D: usize>(values: &[f64], shape: [usize; D], dtype: DType) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex(), dtype))
    }

    #[test]
    fn every_prediction_gives_the_same_posterior() {
        let mixture = correlated_mixture().unwrap();
        let rows = [[0.3, -0.2], [1.5, 0.4], [-2.0, -1.0]];
        let each = Levels::Each(vec![level(0.9, 0.3), level(0.6, 0.8), level(1.0, 2.0)]);
        for prediction in PREDICTIONS {
            let denoiser = mixture.clone().denoiser(prediction).unwrap();
            for levels in [each.clone(), Levels::Shared(level(0.6, 0.8))] {
                let estimate = ask(&denoiser, &tensor(rows.as_flattened(), [3, 2], DType::F64), &levels).unwrap();
                assert_eq!((estimate.prediction(), estimate.levels()), (prediction, &levels));
                let got = [estimate.x0().unwrap(), estimate.eps().unwrap(), estimate.score().unwrap()];
                let got = got.map(|t| t.into_data().iter::<f64>().collect::<Vec<_>>());
                for (row, x) in rows.iter().enumerate() {
                    let at = match &levels {
                        Levels::Shared(level) => *level,
                        Levels::Each(each) => each[row],
                    };
                    let expected = [mixture.x0(x, &at), mixture.eps(x, &at), mixture.score(x, &at)];
                    for (got, expected) in got.iter().zip(expected) {
                        for (got, expected) in got[2 * row..].iter().zip(expected.unwrap()) {
                            assert!((got - expected).abs() < 1e-13, "{prediction:?}: {got} {expected}");
                        }
                    }
                }
            }
        }
    }

    /// A full Jacobian and a diagonal one, in every prediction, against central differences of the answer.
    #[test]
    fn gradients_are_those_of_the_formula() {
        fn check<P: Posterior + Clone, const D: usize>(problem: &P, values: &[f64], shape: [usize; D]) {
            let levels = Levels::Each(vec![level(0.9, 0.3), level(0.6, 0.8)]);
            let weights: Vec<f64> = (0..values.len()).map(|i| 1.0 + 0.3 * i as f64).collect();
            for prediction in PREDICTIONS {
                let denoiser = problem.clone().denoiser(prediction).unwrap();
                let number = |values: &[f64]| {
                    let output = ask(&denoiser, &tensor(values, shape, DType::F64), &levels).unwrap().output();
                    output.into_data().iter::<f64>().zip(&weights).map(|(y, w)| y * w).sum::<f64>()
                };
                let x = tensor(values, shape, DType::F64);
                let query = Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) };
                let graded = gradient(&denoiser, query, |estimate| {
                    let weights = Tensor::from_inner(tensor(&weights, shape, DType::F64));
                    Ok(estimate.output().mul(weights).sum())
                });
                for (i, got) in graded.unwrap().gradient.into_data().iter::<f64>().enumerate() {
                    let at = |h: f64| {
                        let mut moved = values.to_vec();
                        moved[i] += h;
                        number(&moved)
                    };
                    let h = 1e-4;
                    let slope = (at(-2.0 * h) - 8.0 * at(-h) + 8.0 * at(h) - at(2.0 * h)) / (12.0 * h);
                    assert!((got - slope).abs() < 1e-9 * (1.0 + slope.abs()), "{prediction}: {got} {slope}");
                }
            }
        }
        check(&correlated_mixture().unwrap(), &[0.3, -0.2, 1.5, 0.4], [2, 2]);
        check(&Gaussian::new(vec![0.1, 0.2], vec![0.5, 0.2, 0.2, 0.4]).unwrap(), &[0.3, -0.2, 1.5, 0.4], [2, 1, 2]);
        let elements = ElementwiseMixture::new(vec![0.4, 0.6], vec![-0.5, 0.8], vec![0.2, 0.3]).unwrap();
        check(&elements, &[0.3, -0.2, 1.5, 0.4, 0.0, -0.7], [2, 3]);
    }

    #[test]
    fn jacobians_that_do_not_fit_are_errors() {
        #[derive(Clone, Debug)]
        struct Odd(bool);
        impl Posterior for Odd {
            fn numel(&self) -> Option<usize> {
                None
            }
            fn posterior(&self, _: &[f64], _: &Level, _: &mut [f64], _: &mut [f64]) -> Result<(), ExactError> {
                Ok(())
            }
            fn jacobians(&self, x: &[f64], _: &Level) -> Result<[Jacobian; 2], ExactError> {
                let short = Jacobian::Diagonal(vec![0.0; x.len() - 1]);
                let other = if self.0 { Jacobian::Full(vec![0.0; x.len() * x.len()]) } else { short.clone() };
                Ok([short, other])
            }
        }
        for odd in [Odd(true), Odd(false)] {
            let levels = Levels::Shared(level(0.9, 0.3));
            let query =
                Query { x: tensor(&[0.0; 4], [2, 2], DType::F64), levels: &levels, past: &[], noise: &Seeded::new(0) };
            let graded =
                gradient(&odd.denoiser(Prediction::Sample).unwrap(), query, |estimate| Ok(estimate.x0()?.sum()));
            assert_eq!(graded.unwrap_err(), DenoiseError::Exact(ExactError::MixedJacobians));
        }
    }

    #[test]
    fn elementwise_problems_take_any_shape() {
        let mixture = ElementwiseMixture::new(vec![0.4, 0.6], vec![-0.5, 0.8], vec![0.2, 0.3]).unwrap();
        let values: Vec<f64> = (0..24).map(|i| f64::from(i) * 0.2 - 2.0).collect();
        let levels = Levels::Each(vec![level(0.9, 0.3), level(0.2, 0.95)]);
        let denoiser = mixture.clone().denoiser(Prediction::Sample).unwrap();
        let estimate = ask(&denoiser, &tensor(&values, [2, 3, 2, 2], DType::F32), &levels).unwrap();
        let x0 = estimate.x0().unwrap();
        assert_eq!((x0.dims(), x0.dtype()), ([2, 3, 2, 2], DType::F32));
        let Levels::Each(each) = &levels else { unreachable!() };
        for (i, got) in x0.into_data().iter::<f32>().enumerate() {
            let expected = mixture.posterior_at(f64::from(values[i] as f32), &each[i / 12]).unwrap().0;
            assert_eq!(got, expected as f32, "element {i}");
        }
    }

    #[test]
    fn questions_that_do_not_fit_are_errors() {
        let denoiser = correlated_mixture().unwrap().denoiser(Prediction::Epsilon).unwrap();
        let shared = Levels::Shared(level(0.6, 0.8));
        let wide = ask(&denoiser, &tensor(&[0.0; 6], [2, 3], DType::F32), &shared);
        assert!(matches!(wide, Err(DenoiseError::Shape { given, .. }) if given == [2, 3]));
        let x = tensor(&[0.0; 4], [2, 2], DType::F32);
        let rows = ask(&denoiser, &x, &Levels::Each(vec![level(0.6, 0.8)]));
        assert_eq!(rows.unwrap_err(), DenoiseError::LevelRows { levels: 1, batch: 2 });
        let nowhere = ask(&denoiser, &x, &Levels::Shared(level(0.0, 0.0)));
        let expected = ExactError::Level { alpha: 0.0, sigma: 0.0 };
        assert_eq!(nowhere.unwrap_err(), DenoiseError::Exact(expected));
        let score = correlated_mixture().unwrap().denoiser(Prediction::Score).unwrap();
        let singular = ask(&score, &x, &Levels::Shared(level(1.0, 0.0)));
        assert!(matches!(singular, Err(DenoiseError::Prediction(PredictionError::Singular { .. }))));
        let bad = correlated_mixture().unwrap().denoiser(Prediction::Edm { sigma_data: -1.0 });
        assert!(matches!(bad, Err(DenoiseError::Prediction(PredictionError::SigmaData { .. }))));
    }
}
