//! How parameters start: torch's default distributions, drawn when a parameter is first used.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Distribution, Shape, Tensor};

/// A parameter whose entries are drawn from `distribution` on first use, in the device's float type.
pub(crate) fn random<const D: usize>(
    shape: [usize; D],
    distribution: Distribution,
    device: &Device,
) -> Param<Tensor<D>> {
    lazy(shape, device, move |device| Tensor::random(shape, distribution, device))
}

/// A parameter that starts at one value.
pub(crate) fn constant<const D: usize>(shape: [usize; D], value: f32, device: &Device) -> Param<Tensor<D>> {
    lazy(shape, device, move |device| Tensor::full(shape, value, device))
}

/// Torch's default for the weight and the bias of linear layers and convolutions: uniform on
/// `[-1/√fan_in, 1/√fan_in]`, which is He's uniform initialization with a = √5.
pub(crate) fn fan_in_uniform<const D: usize>(shape: [usize; D], fan_in: usize, device: &Device) -> Param<Tensor<D>> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    random(shape, Distribution::Uniform(-bound, bound), device)
}

fn lazy<const D: usize>(
    shape: [usize; D],
    device: &Device,
    make: impl Fn(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, require_grad| make(device).set_require_grad(require_grad),
        device.clone(),
        true,
        Shape::from(shape),
    )
}
