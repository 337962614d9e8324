//! Networks whose answers are known, for the tests of combinators.

use super::{Condition, DenoiseError, Denoiser, Estimate, Network, Query};
use crate::level::{Level, Levels};
use crate::noise::Seeded;
use crate::prediction::Prediction;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One number for each sample.
#[derive(Clone, Debug)]
pub(super) struct Numbers(pub Vec<f64>);

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

/// `x² + time·condition`, and that plus one as variance; counts its calls and their rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting {
    pub calls: Arc<AtomicUsize>,
    pub rows: Arc<AtomicUsize>,
    pub variance: bool,
    pub cut: bool,
    pub sampling: bool,
}

impl Network<2> for Counting {
    type Cond = Numbers;

    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &Numbers) -> Result<Tensor<2>, DenoiseError> {
        assert!(self.sampling, "a network in training was asked");
        let rows = x.dims()[0];
        assert_eq!((time.dims()[0], cond.0.len()), (rows, rows));
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
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

pub(super) fn level(time: f64) -> Level {
    Level { alpha: 0.6, sigma: 0.8, time }
}

pub(super) fn state() -> Tensor<2> {
    Tensor::from_data(TensorData::from([[1.0, 2.0], [3.0, -4.0]]), (&Device::flex(), DType::F64))
}

pub(super) fn ask(denoiser: &impl Denoiser<2>, x: Tensor<2>, levels: &Levels) -> Result<Estimate<2>, DenoiseError> {
    denoiser.denoise(Query { x, levels, past: &[], noise: &Seeded::new(0) })
}

pub(super) fn output(denoiser: &impl Denoiser<2>, levels: &Levels) -> Vec<f64> {
    ask(denoiser, state(), levels).unwrap().output().into_data().iter::<f64>().collect()
}

/// As [`ask`], with a past.
pub(super) fn ask_after(
    denoiser: &impl Denoiser<2>,
    x: Tensor<2>,
    levels: &Levels,
    past: &[Estimate<2>],
) -> Result<Estimate<2>, DenoiseError> {
    denoiser.denoise(Query { x, levels, past, noise: &Seeded::new(0) })
}

pub(super) fn values(tensor: Tensor<2>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// A denoiser that always answers the same.
#[derive(Clone, Debug)]
pub(super) struct Always(Prediction, [[f64; 2]; 2]);

pub(super) fn always(prediction: Prediction, answer: [[f64; 2]; 2]) -> Always {
    Always(prediction, answer)
}

impl Denoiser<2> for Always {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let Query { x, levels, .. } = query;
        let output = Tensor::from_data(TensorData::from(self.1), (&x.device(), x.dtype()));
        Ok(Estimate::new(x, output, levels.clone(), self.0))
    }
}

pub(super) fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{got} instead of {expected}");
    }
}
