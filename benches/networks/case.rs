//! What can be timed: a name, and what builds the work. A value of every result is read: what a kernel did wrong shows only when a
//! result is read.

use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Tensor};
use langevin::models::layers::{cast_parameters, keep_transforms};

/// Where and how cases run.
#[derive(Clone)]
pub struct Setting {
    /// The device.
    pub device: Device,
    /// Element type of weights and inputs.
    pub dtype: DType,
    /// Whether sizes are those for a processor: smaller batches.
    pub on_cpu: bool,
    /// Images in a batch of a network, where they are not those of its case.
    pub batch: Option<usize>,
    /// Whether transforms of weights are kept.
    pub keep: bool,
    /// Whether everything is as small as it can be.
    pub tiny: bool,
}

impl Setting {
    /// A size, or a tiny one.
    pub fn size(&self, n: usize) -> usize {
        if self.tiny { n.min(8) } else { n }
    }
}

/// Random numbers with standard deviation one.
pub fn random<const D: usize>(shape: [usize; D], setting: &Setting) -> Tensor<D> {
    Tensor::<D>::random(shape, Distribution::Normal(0.0, 1.0), &setting.device).cast(setting.dtype)
}

/// A module with parameters of the element type that is timed, in the order of memory that is fastest.
pub fn cast<M: Module>(module: M, setting: &Setting) -> M {
    let module = cast_parameters(module, setting.dtype);
    if setting.keep { keep_transforms(module) } else { module }
}

/// One round of a case: what is timed. Returns one value of the result, on the device.
pub type Work = Box<dyn FnMut() -> Tensor<1>>;

/// Something to time.
pub struct Case {
    /// What it is a part of: a kind of layer, or whole networks.
    pub group: &'static str,
    /// What and in which size.
    pub name: String,
    /// Builds networks and inputs, which is not timed.
    pub prepare: Box<dyn Fn(&Setting) -> Work>,
}

impl Case {
    /// A case by what prepares it.
    pub fn new(group: &'static str, name: impl Into<String>, prepare: impl Fn(&Setting) -> Work + 'static) -> Self {
        Self { group, name: name.into(), prepare: Box::new(prepare) }
    }
}

/// One value of a tensor, on the device.
pub fn probe<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let y = if y.is_autodiff() { y.inner() } else { y };
    let value = y.slice(std::array::from_fn::<_, D, _>(|_| 0..1)).reshape([1]).cast(DType::F32);
    let device = value.device();
    // On the CPU a part holds the memory of the whole: results of a round would all be kept, and none of their memory used again.
    if device == Device::flex() { Tensor::from_data(value.into_data(), &device) } else { value }
}
