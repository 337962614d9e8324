//! The first call of a network, before anybody waits for it.

use crate::denoiser::{DenoiseError, Network};
use crate::load::Load;
use burn::tensor::Tensor;
use std::time::{Duration, Instant};

/// How far [`warm_up`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmed {
    /// Shapes that are done.
    pub done: usize,
    /// Shapes in all.
    pub total: usize,
    /// What the last of them took.
    pub took: Duration,
}

/// Runs a network once for each shape and waits for the result.
///
/// On a GPU the first call for a shape compiles kernels and tries out which are fastest; later calls, and later programs
/// where kernels are kept on disk, start at once. `progress` is called after each shape.
///
/// # Errors
/// [`DenoiseError`] if the network cannot take a shape or the condition, or a shape has a zero.
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// # use langevin_core::{DenoiseError, Load, Network, warm_up};
/// # #[derive(Clone)] struct Identity;
/// # impl Network<4> for Identity {
/// #     type Cond = ();
/// #     fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: &()) -> Result<Tensor<4>, DenoiseError> { Ok(x) }
/// #     fn for_sampling(&self) -> Self { self.clone() }
/// # }
/// let (network, device) = (Identity, Device::flex());
/// let mut seen = Vec::new();
/// warm_up(&network, [([1, 3, 8, 8], ()), ([2, 3, 8, 8], ())], &Load::on(&device), |warmed| {
///     seen.push((warmed.done, warmed.total));
/// })?;
/// assert_eq!(seen, [(1, 2), (2, 2)]);
/// # Ok::<(), DenoiseError>(())
/// ```
pub fn warm_up<N: Network<D>, const D: usize>(
    network: &N,
    inputs: impl IntoIterator<Item = ([usize; D], N::Cond), IntoIter: ExactSizeIterator>,
    load: &Load,
    mut progress: impl FnMut(Warmed),
) -> Result<(), DenoiseError> {
    let network = network.for_sampling();
    let inputs = inputs.into_iter();
    let total = inputs.len();
    for (done, (shape, cond)) in inputs.enumerate() {
        let start = Instant::now();
        if shape.contains(&0) {
            let expected = "at least one in every dimension".into();
            return Err(DenoiseError::Shape { what: "a shape to warm up for".into(), given: shape.to_vec(), expected });
        }
        network.check_shape(&shape[1..]).map_err(|error| error.of_batch(&shape))?;
        network.check_condition(&cond)?;
        // Any time above zero is a noise level and, near enough, a step.
        let time = Tensor::ones([shape[0]], load.device());
        let y = network.forward(Tensor::zeros(shape, load.options()), time, &cond)?;
        // What a kernel did shows only when a value is read.
        drop(y.slice(std::array::from_fn::<_, D, _>(|_| 0..1)).into_data());
        progress(Warmed { done: done + 1, total, took: start.elapsed() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Clone)]
    struct Identity;

    impl Network<2> for Identity {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x)
        }
        fn for_sampling(&self) -> Self {
            Self
        }
    }

    #[test]
    fn nothing_is_no_shape_to_warm_up_for() {
        for shape in [[0, 3], [2, 0]] {
            let mut seen = 0;
            let error = warm_up(&Identity, [([2, 3], ()), (shape, ())], &Load::on(&Device::flex()), |_| seen += 1);
            assert!(matches!(error, Err(DenoiseError::Shape { ref given, .. }) if given == &shape), "{error:?}");
            assert_eq!(seen, 1);
        }
    }
}
