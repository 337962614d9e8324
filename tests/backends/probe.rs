//! Values and gradients of a module with set parameters, and how far two devices are apart in them.

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use langevin::models::layers::{Linear, cast_parameters};
use std::fmt::Write;

/// Numbers that look random, in `[-1, 1]`, the same on every device.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let draw = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..count).map(draw).collect()
}

/// A tensor of such numbers.
pub fn tensor<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), device)
}

/// Gives every parameter set values of a sensible size: weights that keep the variance, scales near 1, small biases.
struct Fill {
    seed: u64,
    name: String,
}

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, _container: &str) {
        name.clone_into(&mut self.name);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.seed += 1;
        let shape = param.val().dims();
        let values = tensor(shape, self.seed, &param.val().device());
        let values = if D > 1 {
            let fan_in: usize = shape[1..].iter().product();
            values.mul_scalar((3.0 / fan_in as f64).sqrt())
        } else if self.name == "weight" {
            values.mul_scalar(0.2).add_scalar(1.0)
        } else {
            values.mul_scalar(0.2)
        };
        param.map(|_| values)
    }
}

/// A module with set parameters.
pub fn filled<M: Module>(module: M) -> M {
    module.map(&mut Fill { seed: 100, name: String::new() })
}

/// What a device computed: named lists of numbers.
#[derive(Debug, Default)]
pub struct Measured {
    pub values: Vec<f32>,
    pub gradients: Vec<(String, Vec<f32>)>,
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("f32")
}

/// No two devices drop the same numbers.
struct WithoutDropout;

impl ModuleMapper for WithoutDropout {
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(false)
    }
}

/// Gradients by the path of the parameter.
struct Collect<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Vec<(String, Vec<f32>)>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let path = self.path.join(".");
            // As an optimizer uses it: fused with a tensor of its own, where views have been misread before.
            let moment = tensor(gradient.dims(), 3, &gradient.device()).cast(gradient.dtype());
            let moved = moment.mul_scalar(0.5).add(gradient.clone().mul_scalar(0.5));
            self.found.push((format!("{path}, moved"), read(moved)));
            self.found.push((path, read(gradient)));
        }
    }
}

/// Value of `forward` at a set input, and the gradients of a set weighted sum of it for the input and every parameter.
/// `forward` gets the module in training.
pub fn module<M: Module, const I: usize, const O: usize>(
    module: M,
    input: [usize; I],
    device: &Device,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
) -> Measured {
    module_in(DType::F32, module, input, device, forward)
}

/// The same with parameters in a type of their own. Input and output stay in `f32`: `forward` casts.
pub fn module_in<M: Module, const I: usize, const O: usize>(
    dtype: DType,
    module: M,
    input: [usize; I],
    device: &Device,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
) -> Measured {
    let module = cast_parameters(filled(module), dtype).train().map(&mut WithoutDropout);
    let x = Tensor::from_inner(tensor(input, 1, device).mul_scalar(2.0)).require_grad();
    let y = forward(&module, x.clone());
    let weights = Tensor::from_inner(tensor(y.dims(), 2, device));
    let gradients = y.clone().mul(weights).sum().backward();
    let mut collect = Collect { gradients: &gradients, path: Vec::new(), found: Vec::new() };
    module.visit(&mut collect);
    let mut found = collect.found;
    found.extend(x.grad(&gradients).map(|gradient| ("input".to_owned(), read(gradient))));
    Measured { values: read(y.inner()), gradients: found }
}

/// As [`module`], for a function without parameters.
pub fn function<const I: usize, const O: usize>(
    input: [usize; I],
    device: &Device,
    f: impl Fn(Tensor<I>) -> Tensor<O>,
) -> Measured {
    module(Vec::<Linear>::new(), input, device, |_, x| f(x))
}

/// A value alone.
pub fn value<const D: usize>(tensor: Tensor<D>) -> Measured {
    Measured { values: read(tensor), gradients: Vec::new() }
}

/// The largest difference, as a share of the largest reference value or of `floor`.
fn distance(given: &[f32], reference: &[f32], floor: f32) -> f32 {
    assert_eq!(given.len(), reference.len(), "the devices return different shapes");
    let scale = reference.iter().fold(floor, |scale, v| scale.max(v.abs()));
    let pairs = given.iter().zip(reference);
    // NaN must not vanish in a maximum.
    pairs.fold(0.0, |worst, (a, b)| {
        let error = (a - b).abs() / scale;
        if error.is_finite() { worst.max(error) } else { f32::INFINITY }
    })
}

/// Worst relative errors of one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    pub value: f32,
    /// `None` where there is nothing to differentiate.
    pub gradient: Option<f32>,
}

/// Compares with the reference. A gradient that vanishes by cancellation (a bias in front of a normalization) is
/// measured against a hundredth of the largest one.
pub fn errors(given: &Measured, reference: &Measured) -> Errors {
    let names = |measured: &Measured| measured.gradients.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(given), names(reference), "the devices have different gradients");
    let all = reference.gradients.iter().flat_map(|(_, values)| values);
    let floor = all.fold(0.0_f32, |largest, v| largest.max(v.abs())) / 100.0;
    let pairs = given.gradients.iter().zip(&reference.gradients);
    let gradient = pairs.map(|((_, given), (_, reference))| distance(given, reference, floor)).reduce(f32::max);
    Errors { value: distance(&given.values, &reference.values, f32::MIN_POSITIVE), gradient }
}

/// One line of the report.
pub fn line(device: &str, name: &str, errors: Errors) -> String {
    let mut line = format!("BACKEND {device} | {name} | {:.1e} | ", errors.value);
    match errors.gradient {
        Some(gradient) => write!(line, "{gradient:.1e}"),
        None => write!(line, "–"),
    }
    .expect("writing to a string");
    line
}
