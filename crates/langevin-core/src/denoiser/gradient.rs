//! Derivatives of an answer with respect to the state.

use super::{DenoiseError, Denoiser, Estimate, Query};
use burn::tensor::Tensor;

/// An estimate and a derivative at the state it was asked about.
#[derive(Clone, Debug)]
pub struct Graded<const D: usize> {
    /// What the denoiser answered, without an autodiff graph.
    pub estimate: Estimate<D>,
    /// The derivative with respect to the state, `[batch, ..]`, without an autodiff graph.
    pub gradient: Tensor<D>,
}

/// Refuses what is [beyond autodiff](Denoiser::beyond_autodiff), for `of`, which takes gradients through it.
///
/// # Errors
/// [`DenoiseError::Combination`] with both names.
pub fn check_autodiff<const D: usize>(
    of: &'static str,
    denoiser: &(impl Denoiser<D> + ?Sized),
) -> Result<(), DenoiseError> {
    let reason = "it takes a gradient through what it asks, which follows a gradient itself, and autodiff has first gradients \
                  only; leave one of the two out, or make one energy of x̂_0 of both (`EnergyGuided::of_clean`)";
    denoiser.beyond_autodiff().map_or(Ok(()), |second| Err(DenoiseError::Combination { first: of, second, reason }))
}

/// Asks, and differentiates a number computed from the answer with respect to the state.
///
/// The denoiser is asked at the query's x on the autodiff form of its device; an earlier graph of x is left behind.
/// Networks in their sampling form are constants in it: no gradients of parameters are computed. `number` gets the
/// estimate inside the graph and returns a sum over the batch, `[1]`; as every sample has its own term in it, row i of
/// the gradient is that of sample i. One forward and one backward pass.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::denoiser::{from_fn, gradient};
/// use langevin_core::{Level, Levels, Prediction, Query, noise::Seeded};
/// let denoiser = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.clone().mul(x)));
/// let levels = Levels::from(Level { alpha: 0.6, sigma: 0.8, time: 0.0 });
/// let x = Tensor::<2>::full([2, 3], 1.5, &Device::flex());
/// let query = Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) };
/// // Σ x̂_0 with x̂_0 = x² has the gradient 2x.
/// let graded = gradient(&denoiser, query, |estimate| Ok(estimate.x0()?.sum()))?;
/// assert_eq!(graded.gradient.max().into_scalar::<f32>(), 3.0);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
///
/// # Errors
/// Those of the denoiser and of `number`; [`DenoiseError::NoGradient`] if the denoiser's output, or the number, does
/// not depend on x through tensor operations; [`DenoiseError::Combination`] for a denoiser that is
/// [beyond autodiff](Denoiser::beyond_autodiff).
pub fn gradient<const D: usize>(
    denoiser: &(impl Denoiser<D> + ?Sized),
    query: Query<'_, D>,
    number: impl FnOnce(&Estimate<D>) -> Result<Tensor<1>, DenoiseError>,
) -> Result<Graded<D>, DenoiseError> {
    check_autodiff("a gradient through a denoiser", denoiser)?;
    let x = query.x.inner().autodiff().require_grad();
    // Not the leaf itself: detached leaves go on asking for gradients, of which nothing would reach x.
    let estimate = denoiser.denoise(Query { x: x.clone().mul_scalar(1.0), ..query })?;
    if !estimate.parts().output.is_tracked() {
        return Err(DenoiseError::NoGradient { what: "the denoiser's output" });
    }
    let number = number(&estimate)?;
    if !number.is_tracked() {
        return Err(DenoiseError::NoGradient { what: "the number to differentiate" });
    }
    let mut gradients = number.backward();
    let gradient = x.grad_remove(&mut gradients).ok_or(DenoiseError::NoGradient { what: "the denoiser's output" })?;
    Ok(Graded { estimate: estimate.without_graph(), gradient })
}

/// Asks, and multiplies the Jacobian of x̂_0 with a vector from the left: the gradient is `vᵀ·∂x̂_0/∂x` for each sample.
///
/// `vector` is computed from the estimate and has the shape of the states; it counts as a constant. Back-propagation of
/// a residual (ΠGDM, Song et al. 2023) is this. For other parts of an answer, and for losses, there is [`gradient`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::denoiser::pull_back;
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::{Level, Levels, Prediction, Query, noise::Seeded};
/// let (mixture, level) = (correlated_mixture()?, Level { alpha: 0.6, sigma: 0.8, time: 0.5 });
/// let (denoiser, levels) = (mixture.clone().denoiser(Prediction::Epsilon)?, Levels::from(level));
/// let x = Tensor::<2>::from_data([[0.3, -0.2]], &Device::flex());
/// let query = Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) };
/// let graded = pull_back(&denoiser, query, |_| Ok(Tensor::from_data([[1.0, 0.0]], &Device::flex())))?;
/// // The first row of the Jacobian.
/// let expected = mixture.x0_jacobian(&[0.3, -0.2], &level)?;
/// for (got, expected) in graded.gradient.into_data().iter::<f64>().zip(expected) {
///     assert!((got - expected).abs() < 1e-5);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`gradient`], and [`DenoiseError::Shape`] for a vector of another shape.
pub fn pull_back<const D: usize>(
    denoiser: &(impl Denoiser<D> + ?Sized),
    query: Query<'_, D>,
    vector: impl FnOnce(&Estimate<D>) -> Result<Tensor<D>, DenoiseError>,
) -> Result<Graded<D>, DenoiseError> {
    gradient(denoiser, query, |estimate| {
        let x0 = estimate.x0()?;
        let vector = vector(estimate)?.inner();
        if vector.dims() != x0.dims() {
            return Err(DenoiseError::Shape {
                what: "the vector to pull back".into(),
                given: vector.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", x0.dims()),
            });
        }
        Ok(x0.mul(vector.autodiff()).sum())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::{Condition, DenoiserExt, Network, Threshold, from_fn};
    use crate::level::{Level, Levels};
    use crate::noise::Seeded;
    use crate::prediction::Prediction;
    use burn::tensor::{DType, Device, TensorData};

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.5 }
    }

    fn state() -> Tensor<2> {
        Tensor::from_data(TensorData::from([[0.5, -1.0], [1.5, 0.25]]), (&Device::flex(), DType::F64))
    }

    fn values(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn ask(
        denoiser: &dyn Denoiser<2>,
        x: Tensor<2>,
        number: impl FnOnce(&Estimate<2>) -> Result<Tensor<1>, DenoiseError>,
    ) -> Result<Graded<2>, DenoiseError> {
        let levels = Levels::Shared(level(0.6, 0.8));
        gradient(denoiser, Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) }, number)
    }

    /// x̂_0 = x³ in every prediction: the conversions are part of the graph.
    #[test]
    fn conversions_are_differentiated() {
        for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::Velocity, Prediction::Flow] {
            let cube = from_fn(prediction, move |x: Tensor<2>, levels: &Levels| {
                let x0 = x.clone().mul(x.clone()).mul(x.clone());
                let eps = Estimate::new(x, x0.clone(), levels.clone(), Prediction::Sample).eps()?;
                let target = prediction.target(&level(0.6, 0.8))?;
                Ok(x0.mul_scalar(target.x0).add(eps.mul_scalar(target.eps)))
            });
            let graded = ask(&cube, state(), |estimate| Ok(estimate.x0()?.sum())).unwrap();
            for (got, x) in values(graded.gradient).iter().zip([0.5f64, -1.0, 1.5, 0.25]) {
                assert!((got - 3.0 * x * x).abs() < 1e-12, "{prediction}: {got}");
            }
            assert!(!graded.estimate.x0().unwrap().is_autodiff() && !graded.estimate.x().is_autodiff());
            for (got, x) in values(graded.estimate.x0().unwrap()).iter().zip([0.5f64, -1.0, 1.5, 0.25]) {
                assert!((got - x.powi(3)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn combinators_are_differentiated() {
        let square = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.clone().mul(x)));
        let clipped = square.thresholded(Threshold::Static { range: 1.1 }).unwrap();
        let graded = ask(&clipped, state(), |estimate| Ok(estimate.x0()?.sum())).unwrap();
        // 1.5² is clipped away.
        assert_eq!(values(graded.gradient), [1.0, -2.0, 0.0, 0.5]);
    }

    #[test]
    fn an_earlier_graph_is_left_behind() {
        let square = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.clone().mul(x)));
        let before = state().autodiff().require_grad();
        let graded = ask(&square, before.clone().mul_scalar(2.0), |estimate| Ok(estimate.x0()?.sum())).unwrap();
        assert_eq!(values(graded.gradient), [2.0, -4.0, 6.0, 1.0]);
    }

    /// `w·x²` with a parameter of its own that asks for gradients unless it samples.
    #[derive(Clone, Debug)]
    struct Squares(Tensor<2>);

    impl Network<2> for Squares {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, (): &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x.clone().mul(x).mul(self.0.clone()))
        }
        fn for_sampling(&self) -> Self {
            Self(self.0.clone().inner())
        }
    }

    #[test]
    fn networks_that_sample_and_guidance_are_differentiated() {
        let weight = Tensor::<2>::full([1, 1], 3.0, (&Device::flex(), DType::F64)).autodiff().require_grad();
        let bound = Squares(weight).denoiser(Prediction::Sample, ()).unwrap();
        let graded = ask(&bound, state(), |estimate| Ok(estimate.x0()?.sum())).unwrap();
        assert_eq!(values(graded.gradient), [3.0, -6.0, 9.0, 1.5]);
        let graded = ask(&bound.guided((), 2.0).unwrap(), state(), |estimate| Ok(estimate.x0()?.sum())).unwrap();
        assert_eq!(values(graded.gradient), [3.0, -6.0, 9.0, 1.5]);
        assert_eq!(<() as Condition>::rows(&()), None);
    }

    #[test]
    fn vectors_are_pulled_back_row_by_row() {
        let swap = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| {
            let (a, b) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1));
            Ok(Tensor::cat(vec![b.clone().mul(b), a], 1))
        });
        let levels = Levels::Each(vec![level(0.6, 0.8), level(1.0, 0.1)]);
        let query = Query { x: state(), levels: &levels, past: &[], noise: &Seeded::new(0) };
        // v = x̂_0 is a constant: x̂_0 = (b², a), vᵀJ = (v_2, 2b·v_1).
        let graded = pull_back(&swap, query, |estimate| Ok(estimate.x0()?)).unwrap();
        assert_eq!(values(graded.gradient), [0.5, -2.0, 1.5, 2.0 * 0.25 * 0.0625]);
        let query = Query { x: state(), levels: &levels, past: &[], noise: &Seeded::new(0) };
        let wide = Tensor::zeros([2, 3], (&Device::flex(), DType::F64));
        let error = pull_back(&swap, query, |_| Ok(wide)).unwrap_err();
        assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [2, 3]));
    }

    #[test]
    fn answers_that_do_not_follow_the_state_are_errors() {
        let host = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| {
            Ok(Tensor::from_data(x.to_data(), (&x.device(), x.dtype())))
        });
        let detached = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.detach()));
        for cut in [&host as &dyn Denoiser<2>, &detached] {
            let error = ask(cut, state(), |estimate| Ok(estimate.x0()?.sum())).unwrap_err();
            assert_eq!(error, DenoiseError::NoGradient { what: "the denoiser's output" });
        }
        let square = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.clone().mul(x)));
        let error = ask(&square, state(), |estimate| Ok(estimate.x0()?.inner().sum())).unwrap_err();
        assert_eq!(error, DenoiseError::NoGradient { what: "the number to differentiate" });
        assert!(error.to_string().contains("tensor operations"), "{error}");
    }
}
