//! Where numbers stop being finite.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorReadError};
use std::fmt;

/// Where a loss that is NaN or infinite came from: the first place that was found so in the step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The batch that the data set gave.
    Data,
    /// A parameter before the step, in the type that the network computes in: its path.
    Parameter(String),
    /// What a sub-module returned: its name, as in `Tap`.
    Layer(String),
    /// What the network returned, which does not name its parts ([`Network::first_not_finite`](langevin_core::Network::first_not_finite)).
    Output,
    /// The loss of an output that is finite: a square beyond `f32`, or a target.
    Loss,
    /// Nobody looked: the loss was read when later steps had already changed the parameters. [`Trainer::check_numbers`](crate::Trainer::check_numbers) looks in time.
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("the batch of data is so already"),
            Self::Parameter(path) => {
                write!(f, "the parameter `{path}`, in the type that the network computes in, was so before the step")
            }
            Self::Layer(name) => write!(f, "the output of `{name}` is the first that is so"),
            Self::Output => f.write_str("the network's output is so"),
            Self::Loss => f.write_str("the network's output is finite, and its squared error is not"),
            Self::Unknown => f.write_str("run again with `.check_numbers()`, which names the layer"),
        }
    }
}

/// Zero times the sum of numbers, `[1]` in `f32`: zero where all are finite, else NaN.
fn zero<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.mul_scalar(0.0).sum().cast(DType::F32)
}

/// Whether all numbers of a tensor are finite. Reads one from the device.
pub(crate) fn is_finite<const D: usize>(tensor: Tensor<D>) -> Result<bool, TensorReadError> {
    Ok(zero(tensor).try_into_scalar::<f32>()? == 0.0)
}

/// The path of the last parameter, in order of declaration, whose gradient has a NaN or an infinity. Gradients run from the loss to the
/// input and spoil what lies before them, so that the last is where it began. Reads one number, and more only if there is one.
pub(crate) fn last_gradient_not_finite<M: Module>(
    gradients: &GradientsParams,
    network: &M,
) -> Result<Option<String>, TensorReadError> {
    let mut zeros = Zeros { path: Vec::new(), list: Vec::new(), gradients: Some(gradients) };
    network.visit(&mut zeros);
    zeros.list.reverse();
    first(zeros.list)
}

/// The path of the first parameter that has a NaN or an infinity. Reads one number, and more only if there is one.
pub(crate) fn first_parameter_not_finite<M: Module>(network: &M) -> Result<Option<String>, TensorReadError> {
    let mut zeros = Zeros { path: Vec::new(), list: Vec::new(), gradients: None };
    network.visit(&mut zeros);
    first(zeros.list)
}

/// [`zero`] of each parameter, or of its gradient.
struct Zeros<'a> {
    path: Vec<String>,
    list: Vec<(String, Tensor<1>)>,
    gradients: Option<&'a GradientsParams>,
}

impl ModuleVisitor for Zeros<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val().inner()),
        };
        if let Some(tensor) = tensor {
            self.list.push((self.path.join("."), zero(tensor)));
        }
    }
}

fn first(list: Vec<(String, Tensor<1>)>) -> Result<Option<String>, TensorReadError> {
    let Some(all) = list.iter().map(|(_, zero)| zero.clone()).reduce(Tensor::add) else { return Ok(None) };
    if all.try_into_scalar::<f32>()? == 0.0 {
        return Ok(None);
    }
    for (path, zero) in list {
        if zero.try_into_scalar::<f32>()? != 0.0 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<1>>,
    }

    fn network(a: [f32; 2], b: [f32; 1]) -> Two {
        let device = Device::flex();
        Two { a: Param::from_data(a, &device), b: Param::from_data(b, &device) }.train()
    }

    /// Numbers of `a` and of `b`, and which of the two is named first and last.
    struct Case([f32; 2], [f32; 1], Option<&'static str>, Option<&'static str>);

    const CASES: [Case; 4] = [
        Case([f32::NAN, 0.0], [1.0], Some("a"), Some("a")),
        Case([1.0, 0.0], [f32::INFINITY], Some("b"), Some("b")),
        Case([f32::INFINITY, 0.0], [f32::NEG_INFINITY], Some("a"), Some("b")),
        Case([f32::MAX, 0.0], [f32::MIN], None, None),
    ];

    #[test]
    fn of_gradients_the_last_is_named() {
        let (network, device) = (network([1.0, 2.0], [3.0]), Device::flex());
        assert_eq!(last_gradient_not_finite(&GradientsParams::new(), &network).unwrap(), None);
        for Case(a, b, _, name) in CASES {
            let mut gradients = GradientsParams::new();
            gradients.register(network.a.id, Tensor::<1>::from_data(a, &device));
            gradients.register(network.b.id, Tensor::<1>::from_data(b, &device));
            assert_eq!(last_gradient_not_finite(&gradients, &network).unwrap().as_deref(), name);
        }
    }

    #[test]
    fn of_parameters_the_first_is_named() {
        for Case(a, b, name, _) in CASES {
            assert_eq!(first_parameter_not_finite(&network(a, b)).unwrap().as_deref(), name);
        }
        assert!(!is_finite(Tensor::<1>::from_data([1.0, f32::NAN], &Device::flex())).unwrap());
    }
}
