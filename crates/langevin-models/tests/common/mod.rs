//! Helpers of the integration tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

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
