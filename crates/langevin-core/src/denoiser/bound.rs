//! Networks bound to a prediction and a condition, and classifier-free guidance.

use super::{Condition, DenoiseError, Denoiser, Estimate, Network, Query};
use crate::level::Levels;
use crate::prediction::Prediction;
use burn::tensor::Tensor;

/// A network bound to what it predicts and what it is told: the usual [`Denoiser`].
///
/// Made by [`Network::denoiser`]. It holds the sampling form of the network, so a run started from a network in
/// training grows no autodiff graph.
#[derive(Clone, Debug)]
pub struct Bound<N: Network<D>, const D: usize> {
    network: N,
    prediction: Prediction,
    cond: N::Cond,
    learned_variance: bool,
}

impl<N: Network<D>, const D: usize> Bound<N, D> {
    pub(super) fn new(network: &N, prediction: Prediction, cond: N::Cond) -> Result<Self, DenoiseError> {
        let prediction = prediction.validate()?;
        Ok(Self { network: network.for_sampling(), prediction, cond, learned_variance: false })
    }

    /// Says that the network's output has twice the channels (dimension 1): prediction, then raw variance.
    pub fn with_learned_variance(mut self) -> Self {
        self.learned_variance = true;
        self
    }

    /// Classifier-free guidance `uncond + scale·(cond − uncond)` in one network call on concatenated rows
    /// (Ho & Salimans 2022, in the scale convention where 1 is no guidance).
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless the scale is finite.
    pub fn guided(self, uncond: N::Cond, scale: f64) -> Result<Guided<N, D>, DenoiseError> {
        if !scale.is_finite() {
            return Err(DenoiseError::Setting { setting: "guidance scale", given: scale, expected: "a finite number" });
        }
        Ok(Guided { bound: self, uncond, scale })
    }

    /// Checks a batch's shape and one of the conditions it will be asked with.
    fn check_with(&self, shape: &[usize], cond: &N::Cond) -> Result<(), DenoiseError> {
        self.check_state(shape)?;
        self.network.check_condition(&cond.expand(shape[0])?)
    }

    /// Checks a batch's shape: all that can change from step to step.
    fn check_state(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        let Some((_, sample)) = shape.split_first() else {
            return Err(DenoiseError::Shape {
                what: "the states".into(),
                given: Vec::new(),
                expected: "[batch, ..]".into(),
            });
        };
        if self.learned_variance && sample.is_empty() {
            return Err(DenoiseError::Shape {
                what: "the states".into(),
                given: shape.to_vec(),
                expected: "[batch, channels, ..] for a network with learned variance".into(),
            });
        }
        self.network.check_shape(sample)
    }

    /// Output and raw variance for states, levels and conditions of the same number of rows.
    fn ask(
        &self,
        x: &Tensor<D>,
        levels: &Levels,
        cond: &N::Cond,
    ) -> Result<(Tensor<D>, Option<Tensor<D>>), DenoiseError> {
        let scale = levels.try_map(|level| self.prediction.input_scale(level))?;
        let time = levels.times(x);
        let output = self.network.forward(scale.times(x.clone()), time, cond)?;
        let mut expected = x.dims();
        if self.learned_variance {
            expected[1] *= 2;
        }
        if output.dims() != expected {
            return Err(DenoiseError::Shape {
                what: "the network's output".into(),
                given: output.dims().to_vec(),
                expected: format!(
                    "{expected:?} for states {:?} ({} learned variance)",
                    x.dims(),
                    if self.learned_variance { "with" } else { "without" }
                ),
            });
        }
        if !self.learned_variance {
            return Ok((output, None));
        }
        let channels = x.dims()[1];
        let variance = output.clone().narrow(1, channels, channels);
        Ok((output.narrow(1, 0, channels), Some(variance)))
    }
}

fn check_rows(levels: &Levels, batch: usize) -> Result<(), DenoiseError> {
    match levels.rows() {
        Some(levels) if levels != batch => Err(DenoiseError::LevelRows { levels, batch }),
        _ => Ok(()),
    }
}

impl<N: Network<D>, const D: usize> Denoiser<D> for Bound<N, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let batch = x.dims()[0];
        check_rows(levels, batch)?;
        self.check_state(&x.dims())?;
        let (output, variance) = self.ask(&x, levels, &self.cond.expand(batch)?)?;
        let estimate = Estimate::new(x, output, levels.clone(), self.prediction);
        Ok(match variance {
            Some(variance) => estimate.with_variance(variance),
            None => estimate,
        })
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.check_with(shape, &self.cond)
    }
}

/// Classifier-free guidance over a [`Bound`] network; made by [`Bound::guided`].
#[derive(Clone, Debug)]
pub struct Guided<N: Network<D>, const D: usize> {
    bound: Bound<N, D>,
    uncond: N::Cond,
    scale: f64,
}

impl<N: Network<D>, const D: usize> Denoiser<D> for Guided<N, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let batch = x.dims()[0];
        check_rows(levels, batch)?;
        self.bound.check_state(&x.dims())?;
        let (uncond, cond) = (self.uncond.expand(batch)?, self.bound.cond.expand(batch)?);
        let both = N::Cond::cat(&[&uncond, &cond])?;
        let (output, variance) =
            self.bound.ask(&Tensor::cat(vec![x.clone(), x.clone()], 0), &levels.repeat(2), &both)?;
        let without = output.clone().narrow(0, 0, batch);
        let with = output.narrow(0, batch, batch);
        let guided = without.clone().add(with.sub(without).mul_scalar(self.scale));
        let estimate = Estimate::new(x, guided, levels.clone(), self.bound.prediction);
        Ok(match variance {
            // The variance is the conditional one: extrapolating it has no meaning.
            Some(variance) => estimate.with_variance(variance.narrow(0, batch, batch)),
            None => estimate,
        })
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.bound.check_with(shape, &self.uncond)?;
        self.bound.check(shape)
    }
}

/// A denoiser from a function of (states, levels) that returns the output in `prediction`.
pub fn from_fn<const D: usize, F>(prediction: Prediction, f: F) -> FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    FromFn { prediction, f }
}

/// A closure as a denoiser; made by [`from_fn`].
#[derive(Clone, Debug)]
pub struct FromFn<F> {
    prediction: Prediction,
    f: F,
}

impl<const D: usize, F> Denoiser<D> for FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let output = (self.f)(query.x.clone(), query.levels)?;
        if output.dims() != query.x.dims() {
            return Err(DenoiseError::Shape {
                what: "the denoiser's output".into(),
                given: output.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", query.x.dims()),
            });
        }
        Ok(Estimate::new(query.x, output, query.levels.clone(), self.prediction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::noise::Seeded;
    use crate::prediction::{PredictionError, Quantity};
    use burn::tensor::{DType, Device, TensorData};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// One number for each sample.
    #[derive(Clone, Debug)]
    struct Numbers(Vec<f64>);

    impl Condition for Numbers {
        fn rows(&self) -> Option<usize> {
            Some(self.0.len())
        }
        fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
            match self.0.len() {
                n if n == rows => Ok(self.clone()),
                1 => Ok(Numbers(vec![self.0[0]; rows])),
                n => Err(DenoiseError::ConditionRows { condition: n, batch: rows }),
            }
        }
        fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
            Ok(Numbers(parts.iter().flat_map(|part| part.0.iter().copied()).collect()))
        }
    }

    /// `x² + time·condition`, and that plus one as variance; counts its calls.
    #[derive(Clone, Debug, Default)]
    struct Counting {
        calls: Arc<AtomicUsize>,
        variance: bool,
        cut: bool,
        sampling: bool,
    }

    impl Network<2> for Counting {
        type Cond = Numbers;

        fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Numbers) -> Result<Tensor<2>, DenoiseError> {
            assert!(self.sampling, "a network in training was asked");
            let rows = x.dims()[0];
            assert_eq!((time.dims()[0], cond.0.len()), (rows, rows));
            self.calls.fetch_add(1, Ordering::Relaxed);
            let told = Tensor::<1>::from_data(TensorData::new(cond.0.clone(), [rows]), (&x.device(), x.dtype()));
            let y = x.clone().mul(x).add(time.mul(told).reshape([rows, 1]));
            Ok(match (self.variance, self.cut) {
                (true, _) => Tensor::cat(vec![y.clone(), y.add_scalar(1.0)], 1),
                (false, true) => y.narrow(0, 0, 1),
                (false, false) => y,
            })
        }
        fn for_sampling(&self) -> Self {
            Self { sampling: true, ..self.clone() }
        }
        fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
            if sample == [2] {
                return Ok(());
            }
            let expected = "two values a sample".into();
            Err(DenoiseError::Shape { what: "the state".into(), given: sample.to_vec(), expected })
        }
    }

    fn level(time: f64) -> Level {
        Level { alpha: 0.6, sigma: 0.8, time }
    }

    fn state() -> Tensor<2> {
        Tensor::from_data(TensorData::from([[1.0, 2.0], [3.0, -4.0]]), (&Device::flex(), DType::F64))
    }

    fn ask(denoiser: &impl Denoiser<2>, x: Tensor<2>, levels: &Levels) -> Result<Estimate<2>, DenoiseError> {
        denoiser.denoise(Query { x, levels, past: &[], noise: &Seeded::new(0) })
    }

    fn output(denoiser: &impl Denoiser<2>, levels: &Levels) -> Vec<f64> {
        ask(denoiser, state(), levels).unwrap().output().into_data().iter::<f64>().collect()
    }

    fn bound(cond: &[f64]) -> Bound<Counting, 2> {
        Counting::default().denoiser(Prediction::Epsilon, Numbers(cond.to_vec())).unwrap()
    }

    #[test]
    fn time_and_condition_reach_their_rows() {
        let each = Levels::Each(vec![level(10.0), level(100.0)]);
        assert_eq!(output(&bound(&[1.0, 2.0]), &each), [11.0, 14.0, 209.0, 216.0]);
        assert_eq!(output(&bound(&[3.0]), &Levels::Shared(level(10.0))), [31.0, 34.0, 39.0, 46.0]);
        let boxed: Box<dyn Denoiser<2>> = Box::new(bound(&[3.0]));
        assert_eq!(output(&&boxed, &Levels::Shared(level(10.0))), [31.0, 34.0, 39.0, 46.0]);
    }

    #[test]
    fn the_input_is_scaled_for_edm() {
        // c_in = 1/√((σ/α)² + σ_d²)/α: with σ/α = 4/3 and σ_d = 1, (5/3·0.6)⁻¹ = 1.
        let prediction = Prediction::Edm { sigma_data: 1.0 };
        let net = Counting::default();
        let one = net.denoiser(prediction, Numbers(vec![0.0])).unwrap();
        let at = |sigma| Levels::Shared(Level { alpha: 0.6, sigma, time: 0.0 });
        for (got, expected) in output(&one, &at(0.8)).iter().zip([1.0, 4.0, 9.0, 16.0]) {
            assert!((got - expected).abs() < 1e-13);
        }
        // σ = 0 with σ_d = 1: c_in = 1/0.6, so squares grow by 1/0.36.
        for (got, expected) in output(&one, &at(0.0)).iter().zip([1.0, 4.0, 9.0, 16.0]) {
            assert!((got - expected / 0.36).abs() < 1e-13);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let shared = Levels::Shared(level(10.0));
        let error = ask(&bound(&[1.0, 2.0, 3.0]), state(), &shared).unwrap_err();
        assert_eq!(error, DenoiseError::ConditionRows { condition: 3, batch: 2 });
        let three = Levels::Each(vec![level(1.0); 3]);
        assert_eq!(ask(&bound(&[1.0]), state(), &three).unwrap_err(), DenoiseError::LevelRows { levels: 3, batch: 2 });
        let guided = bound(&[1.0]).guided(Numbers(vec![0.0; 3]), 2.0).unwrap();
        let error = ask(&guided, state(), &shared).unwrap_err();
        assert_eq!(error, DenoiseError::ConditionRows { condition: 3, batch: 2 });
        assert!(matches!(ask(&guided, state(), &three), Err(DenoiseError::LevelRows { .. })));
        let wide = Tensor::zeros([2, 3], (&Device::flex(), DType::F64));
        for error in [
            ask(&bound(&[1.0]), wide.clone(), &shared).unwrap_err(),
            ask(&bound(&[1.0]).guided(Numbers(vec![0.0]), 2.0).unwrap(), wide, &shared).unwrap_err(),
        ] {
            assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [3]));
        }
        for scale in [f64::NAN, f64::INFINITY] {
            let error = bound(&[1.0]).guided(Numbers(vec![0.0]), scale).unwrap_err();
            assert!(matches!(error, DenoiseError::Setting { setting: "guidance scale", .. }));
        }
        let error = Counting::default().denoiser(Prediction::Edm { sigma_data: 0.0 }, Numbers(vec![0.0])).unwrap_err();
        assert_eq!(error, DenoiseError::Prediction(PredictionError::SigmaData { given: 0.0 }));
        let edm = Counting::default().denoiser(Prediction::Edm { sigma_data: 1.0 }, Numbers(vec![0.0])).unwrap();
        let nothing = Levels::Shared(Level { alpha: 0.0, sigma: 0.0, time: 0.0 });
        let error = ask(&edm, state(), &nothing).unwrap_err();
        assert!(matches!(error, DenoiseError::Prediction(PredictionError::Singular { wanted: Quantity::X0, .. })));
    }

    #[test]
    fn wrong_outputs_are_errors() {
        let levels = Levels::Shared(level(1.0));
        let net = Counting { cut: true, ..Counting::default() };
        let error = ask(&net.denoiser(Prediction::Epsilon, Numbers(vec![0.0])).unwrap(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [1, 2]));
        // Variance channels nobody announced, and announced ones that are missing.
        let net = Counting { variance: true, ..Counting::default() };
        let error = ask(&net.denoiser(Prediction::Epsilon, Numbers(vec![0.0])).unwrap(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [2, 4]));
        let error = ask(&bound(&[0.0]).with_learned_variance(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [2, 2]));
        let short = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.narrow(1, 0, 1)));
        assert!(matches!(ask(&short, state(), &levels), Err(DenoiseError::Shape { given, .. }) if given == [2, 1]));
        let failing =
            from_fn(Prediction::Sample, |_: Tensor<2>, _: &Levels| Err(DenoiseError::Class { given: 12, classes: 10 }));
        assert_eq!(ask(&failing, state(), &levels).unwrap_err(), DenoiseError::Class { given: 12, classes: 10 });
    }

    #[test]
    fn guidance_is_two_answers_in_one_call() {
        let net = Counting::default();
        let cond = net.denoiser(Prediction::Epsilon, Numbers(vec![1.0, 2.0])).unwrap();
        let uncond = net.denoiser(Prediction::Epsilon, Numbers(vec![-1.0])).unwrap();
        for levels in [Levels::Shared(level(10.0)), Levels::Each(vec![level(10.0), level(100.0)])] {
            let (with, without) = (output(&cond, &levels), output(&uncond, &levels));
            for scale in [0.0, 1.0, 7.5, -2.0] {
                let guided = cond.clone().guided(Numbers(vec![-1.0]), scale).unwrap();
                let before = net.calls.load(Ordering::Relaxed);
                let got = output(&guided, &levels);
                assert_eq!(net.calls.load(Ordering::Relaxed), before + 1);
                for ((got, with), without) in got.iter().zip(&with).zip(&without) {
                    assert_eq!(*got, without + scale * (with - without));
                }
                if scale == 1.0 {
                    assert_eq!(got, with);
                }
            }
        }
    }

    #[test]
    fn learned_variance_is_the_conditional_one() {
        let net = Counting { variance: true, ..Counting::default() };
        let one = net.denoiser(Prediction::Epsilon, Numbers(vec![2.0])).unwrap().with_learned_variance();
        let levels = Levels::Shared(level(10.0));
        let estimate = ask(&one, state(), &levels).unwrap();
        let values = |t: Tensor<2>| t.into_data().iter::<f64>().collect::<Vec<_>>();
        assert_eq!(values(estimate.output()), [21.0, 24.0, 29.0, 36.0]);
        assert_eq!(values(estimate.variance().unwrap()), [22.0, 25.0, 30.0, 37.0]);
        let guided = one.guided(Numbers(vec![0.0]), 3.0).unwrap();
        let estimate = ask(&guided, state(), &levels).unwrap();
        assert_eq!(values(estimate.output()), [61.0, 64.0, 69.0, 76.0]);
        assert_eq!(values(estimate.variance().unwrap()), [22.0, 25.0, 30.0, 37.0]);
    }

    #[test]
    fn no_condition_fits_every_batch() {
        assert_eq!((Condition::rows(&()), ().expand(7), <()>::cat(&[&(), &()])), (None, Ok(()), Ok(())));
    }

    #[test]
    fn noise_errors_pass_through() {
        let error: DenoiseError = crate::NoiseError::HostUnsupported.into();
        assert_eq!(error.to_string(), crate::NoiseError::HostUnsupported.to_string());
        let condition = DenoiseError::Condition { problem: "was built without classes; give none".into() };
        assert_eq!(condition.to_string(), "the network was built without classes; give none");
    }
}
