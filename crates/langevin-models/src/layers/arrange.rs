//! Weights as a device's kernels read them: in their order of memory, and transformed.

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

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

/// A network with its floating-point parameters in another type, to compute in, and its weights in order for the device
/// ([`arrange_weights`]). Tables of Fourier features stay as they are: rounded, they would be other features (loading
/// in half precision rounds them, as the reference does). Parameters keep their ids.
///
/// A network in training has to stay in `f32`: half precision beside it is the trainer's.
///
/// # Panics
///
/// If the type is not of floating point.
///
/// # Example
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
/// use langevin_models::layers::{Conv2dConfig, cast_parameters};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let device = Device::flex();
/// let layer = cast_parameters(Conv2dConfig::new(32, 32, 3).padding(1).init(&device)?, DType::F16);
/// let x = Tensor::<4>::ones([1, 32, 8, 8], &device);
/// // Layers take what is of their type; networks bring it there.
/// assert_eq!(layer.forward(x.cast(DType::F16)).dtype(), DType::F16);
/// # Ok(()) }
/// ```
#[must_use]
pub fn cast_parameters<M: Module>(network: M, dtype: DType) -> M {
    arrange_weights(network.map(&mut Cast { dtype, inside: Vec::new() }))
}

struct Cast {
    dtype: DType,
    /// Whether each of the modules around has Fourier features.
    inside: Vec<bool>,
}

impl ModuleMapper for Cast {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.inside.push(container.ends_with("Fourier"));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.inside.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.inside.contains(&true) { param } else { param.map(|tensor| tensor.cast(self.dtype)) }
    }
}

/// Lets the convolutions of a network keep the transforms of their weights: those of 3 x 3 kernels that are applied by Winograd's
/// algorithm, on the CPU and in `f32` on a GPU. Each is computed in the first call that needs it, and read by the others; results have
/// the same bits. For networks that are asked and not trained, where calls are short: one small image at a time.
///
/// A transform takes four times the memory of its weight, by tiles of 2x2 16/9 of it. Where a weight is replaced it is computed anew,
/// and until then the old one stays in memory. Clones share what is kept, so that a clone with other weights is better
/// given its own by [`forget_transforms`] and this. Nothing is kept of weights with a place in a graph of gradients, and on a GPU
/// each thread computes its own. Burn's `freeze()` ends it, and `unfreeze()` begins it.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_models::layers::{Conv2dConfig, keep_transforms};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let device = Device::flex();
/// let layer = keep_transforms(Conv2dConfig::new(64, 64, 3).padding(1).init(&device)?);
/// for _ in 0..2 {
///     assert_eq!(layer.forward(Tensor::ones([1, 64, 8, 8], &device)).dims(), [1, 64, 8, 8]);
/// }
/// # Ok(()) }
/// ```
#[must_use]
pub fn keep_transforms<M: Module>(network: M) -> M {
    network.map(&mut Keep { on: true, inside: Vec::new() })
}

/// Ends what [`keep_transforms`] began, and frees the memory that no clone shares.
#[must_use]
pub fn forget_transforms<M: Module>(network: M) -> M {
    network.map(&mut Keep { on: false, inside: Vec::new() })
}

/// Switches on what layers keep, or off.
struct Keep {
    on: bool,
    /// The field, and the type that has it, of each module that was entered.
    inside: Vec<(String, String)>,
}

impl ModuleMapper for Keep {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.inside.push((name.into(), container.into()));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.inside.pop();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.inside.last() {
            Some((name, container)) if name == "kept" && container == "Struct:Conv2d" => flag.with_value(self.on),
            _ => flag,
        }
    }
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
