//! Functions of every number.

use std::ops::ControlFlow;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use langevin_kernels::activation::Activation as Kernel;

use super::{Operation, Value, numbers, run, tensor};
use crate::layers::Activation;

#[derive(Debug, Clone)]
struct Activate {
    kernel: Kernel,
    shape: Shape,
}

impl Operation<1> for Activate {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        let mut x = if x.is_contiguous() { x } else { x.to_contiguous() };
        let count = self.shape.num_elements();
        // Numbers that nobody else holds are replaced where they are.
        if let Some(numbers) = x.try_storage_mut::<f32>().filter(|numbers| numbers.len() == count) {
            self.kernel.apply(numbers);
            return (x, ());
        }
        let mut y = numbers(&x).to_vec();
        self.kernel.apply(&mut y);
        (tensor(y, self.shape.clone()), ())
    }

    fn backward(&self, [x]: [FlexTensor; 1], (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut of_x = numbers(&gradient.to_contiguous()).to_vec();
        self.kernel.gradient(numbers(&x.to_contiguous()), &mut of_x);
        [Some(tensor(of_x, self.shape.clone()))]
    }
}

/// Applies a function to every number: `Break` with the result, or `Continue` with what is to be computed in another way.
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> ControlFlow<Tensor<D>, Tensor<D>> {
    let kernel = match activation {
        Activation::Silu => Kernel::Silu,
        Activation::Gelu => Kernel::Gelu,
        Activation::GeluTanh => Kernel::GeluTanh,
        Activation::QuickGelu => Kernel::QuickGelu,
        Activation::Relu | Activation::Mish => return ControlFlow::Continue(x),
    };
    let Some(value) = Value::of(&x) else { return ControlFlow::Continue(x) };
    let (shape, dtype) = (x.shape(), x.dtype());
    // The value is then the only one that holds the numbers.
    drop(x);
    ControlFlow::Break(run(Activate { kernel, shape }, [value], dtype))
}
