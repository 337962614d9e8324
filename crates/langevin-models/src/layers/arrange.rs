//! Weights in the order of memory in which a device's kernels read them.

use burn::module::Module;

/// Puts the weights of convolutions in memory in the order in which the device's kernels read them. Shapes and numbers stay; where a
/// device has no such kernels, nothing happens.
///
/// Loading weights does it by itself. A network that was cast to another type, trained, or moved to a device is the faster for it:
/// otherwise each convolution puts its weight in order at every call.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_models::layers::{Conv2dConfig, arrange_weights};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let device = Device::flex();
/// let layer = arrange_weights(Conv2dConfig::new(32, 32, 3).padding(1).init(&device)?);
/// assert_eq!(layer.forward(Tensor::ones([1, 32, 8, 8], &device)).dims(), [1, 32, 8, 8]);
/// # Ok(()) }
/// ```
#[must_use]
pub fn arrange_weights<M: Module>(network: M) -> M {
    #[cfg(feature = "vulkan")]
    return network.map(&mut on_gpu::Arrange);
    #[cfg(not(feature = "vulkan"))]
    network
}

#[cfg(feature = "vulkan")]
mod on_gpu {
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::Tensor;

    pub(super) struct Arrange;

    impl ModuleMapper for Arrange {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(arranged)
        }
    }

    fn arranged<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
        let &[output, input, 3, 3] = &weight.dims()[..] else { return weight };
        // Any image does: the question is for weights.
        if !langevin_gpu::convolves(&weight.device(), weight.dtype(), [1, 8, 8, input], output) {
            return weight;
        }
        if weight.is_autodiff() {
            let trained = weight.is_require_grad();
            return Tensor::from_inner(langevin_gpu::arranged(weight.inner())).set_require_grad(trained);
        }
        langevin_gpu::arranged(weight)
    }
}
