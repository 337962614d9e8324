//! Helpers of the tests.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use langevin_core::Network;

pub fn flex() -> Device {
    Device::flex()
}

pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// Numbers without structure in [-1, 1], the same on every call.
pub fn tensor<const D: usize>(shape: [usize; D], seed: f64, device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let data: Vec<f64> = (0..n).map(|i| ((i as f64 + 1.0) * 12.9898 * (seed + 0.1)).sin()).collect();
    Tensor::<1>::from_data(data.as_slice(), device).reshape(shape)
}

pub fn largest_difference<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The largest absolute entry of the gradient of each trained parameter, or none without a gradient.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Vec<(String, Option<f64>)> {
    struct Visitor<'a> {
        path: Vec<String>,
        gradients: &'a Gradients,
        found: Vec<(String, Option<f64>)>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                let largest = tensor.grad(self.gradients).map(|g| {
                    // A NaN must not be lost in a maximum.
                    values(&g).iter().fold(0.0f64, |m, v| if v.is_nan() { f64::NAN } else { m.max(v.abs()) })
                });
                self.found.push((self.path.join("."), largest));
            }
        }
    }
    let mut visitor = Visitor { path: vec![], gradients, found: vec![] };
    module.visit(&mut visitor);
    visitor.found
}

/// Checks that the gradient reaches every trained parameter.
#[track_caller]
pub fn assert_gradients_flow<M: Module>(module: &M, grads: &Gradients) {
    let found = gradients(module, grads);
    assert!(!found.is_empty());
    for (name, largest) in found {
        let largest = largest.unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(largest.is_finite(), "{name}: {largest}");
        // The bias of keys shifts all scores of a query alike, which a softmax does not see.
        if !name.ends_with("to_k.bias") {
            assert!(largest > 1e-9, "{name}: {largest}");
        }
    }
}

/// Checks the gradient of a network by its input, in f64 along a fixed direction: d/dh Σ w·net(x + h·v) by
/// backpropagation and by central differences. `network` is called once for each device, and returns the forward pass.
#[track_caller]
pub fn assert_gradient_agrees<const D: usize, const E: usize, F>(shape: [usize; D], network: impl Fn(&Device) -> F)
where
    F: Fn(Tensor<D>) -> Tensor<E>,
{
    use burn::tensor::DType;
    let device = flex();
    let training = device.clone().autodiff();
    let numbers = |seed, device: &Device| tensor(shape, seed, device).cast(DType::F64);
    let weighed = |y: Tensor<E>, device: &Device| (y.clone() * tensor(y.dims(), 1.7, device).cast(DType::F64)).sum();
    let plain = network(&device);
    let value = |h: f64| {
        let y = plain(numbers(0.77, &device) + numbers(2.3, &device) * h);
        assert_eq!(y.dtype(), DType::F64, "the network is to be loaded in f64");
        values(&weighed(y, &device))[0]
    };
    let h = 1e-4;
    let expected = (value(h) - value(-h)) / (2.0 * h);
    let x = numbers(0.77, &training).require_grad();
    let gradients = weighed(network(&training)(x.clone()), &training).backward();
    let gradient = x.grad(&gradients).expect("a gradient of the input");
    let given: f64 = values(&gradient).iter().zip(values(&numbers(2.3, &device))).map(|(g, v)| g * v).sum();
    assert!(expected.abs() > 1e-3, "{expected}: the output does not depend on the input");
    assert!((given - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{given}, by differences {expected}");
}

/// Checks that a network says that it casts its input, and names the part that first returns what is not finite: none for this state, one for a
/// state of NaN.
#[track_caller]
pub fn assert_names_what_is_not_finite<N: Network<D>, const D: usize>(
    net: &N,
    x: Tensor<D>,
    time: Tensor<1>,
    cond: &N::Cond,
) {
    assert!(net.casts_input());
    assert_eq!(net.first_not_finite(x.clone(), time.clone(), cond).unwrap(), None);
    let name = net.first_not_finite(x * f64::NAN, time, cond).unwrap();
    assert!(name.is_some_and(|name| !name.is_empty()));
}
