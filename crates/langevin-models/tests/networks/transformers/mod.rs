//! The transformers as users meet them: folders, names, gradients, half precision, conditions and errors.

mod dit;
mod flux;
mod mdm;
mod pixart;
mod prior;
mod sd3;

use crate::common::{tensor, values};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Gradients, Tensor};
use langevin_models::weights::parameters;
use langevin_models::{ModelError, Tap, Tapped};

/// Gives every parameter set values of a sensible size in one element type.
struct Fill(f64, DType);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 0.37;
        let (seed, dtype) = (self.0, self.1);
        param.map(|old| {
            let fan_in: usize = old.dims()[1..].iter().product();
            let scale = if D == 1 { 0.3 } else { 1.5 / (fan_in as f64).sqrt() };
            let new = tensor(old.dims(), seed, &old.device()) * scale;
            // Vectors are biases and the weights of norms, which stand around 1.
            (if D == 1 { new + 0.5 } else { new }).cast(dtype)
        })
    }
}

/// The network with set parameters.
fn filled<M: Module>(network: M, dtype: DType) -> M {
    network.map(&mut Fill(0.1, dtype))
}

/// Checks that two outputs are close in proportion to the largest entry of the first.
#[track_caller]
fn assert_near<const D: usize>(a: &Tensor<D>, b: &Tensor<D>, relative: f64) {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let largest = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0f64, |m, d| if d.is_nan() { d } else { m.max(d) });
    assert!(largest > 1e-3, "the output is zero");
    assert!(worst <= relative * largest, "{worst} apart, of at most {largest}");
}

/// Checks that a network answers in the type in which it is asked, in half precision close to single: within `limits` of the
/// largest entry, in f16 and bf16.
#[track_caller]
fn assert_half_precision<M: Module, const D: usize>(
    init: impl Fn() -> M,
    x: &Tensor<D>,
    ask: impl Fn(&M, Tensor<D>) -> Tensor<D>,
    limits: [f64; 2],
) {
    let run = |dtype| {
        let network = filled(init(), dtype);
        let y = ask(&network, x.clone().cast(dtype));
        assert_eq!(y.dtype(), dtype);
        // States in single precision are brought to the parameters' type, and answered in theirs.
        let single = ask(&network, x.clone());
        assert_eq!(single.dtype(), DType::F32);
        assert_near(&single, &y.clone().cast(DType::F32), 1e-6);
        y.cast(DType::F32)
    };
    let single = run(DType::F32);
    for (dtype, limit) in [DType::F16, DType::BF16].into_iter().zip(limits) {
        assert_near(&single, &run(dtype), limit);
    }
}

/// The gradients of a weighted sum of the output, in which no entry counts like another.
fn slopes<const D: usize>(y: Tensor<D>) -> Gradients {
    let weights = tensor(y.dims(), 0.9, &y.device());
    (y * weights).sum().backward()
}

/// Checks that the output of every module with parameters is shown, whole or part by part.
#[track_caller]
fn assert_shows_every_module<M: Module>(network: &M, forward: impl FnOnce(&mut Tap<'_>)) {
    let mut names = Vec::new();
    let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
    forward(&mut Tap::new(&mut see));
    let parameters = parameters(network);
    let modules = parameters.iter().filter_map(|p| p.name.rsplit_once('.')).map(|(module, _)| module);
    for module in modules {
        let first = format!("{module}.0");
        assert!(names.iter().any(|name| name == module || *name == first), "{module} is not shown");
    }
}

/// Checks that a configuration is refused for the field `name`.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, ModelError>, name: &str) {
    let error = result.expect_err(name);
    assert!(matches!(&error, ModelError::Config { field, .. } if *field == name), "{name}: {error}");
}

/// Checks that a published configuration is refused for the option `name`.
#[track_caller]
fn assert_unsupported<T: std::fmt::Debug>(result: Result<T, ModelError>, name: &str) {
    let error = result.expect_err(name);
    assert!(matches!(&error, ModelError::Unsupported { key, .. } if *key == name), "{name}: {error}");
}
