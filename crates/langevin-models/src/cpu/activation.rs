//! Functions of every number.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use langevin_kernels::activation::Activation;

use super::{Operation, Value, numbers, run, tensor};

#[derive(Debug, Clone)]
struct Activate {
    activation: Activation,
    shape: Shape,
}

impl Operation<1> for Activate {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        let mut x = x.into_contiguous();
        let count = self.shape.num_elements();
        // Numbers that nobody else holds are replaced where they are.
        if let Some(numbers) = x.try_storage_mut::<f32>().filter(|numbers| numbers.len() == count) {
            self.activation.apply(numbers);
            return (x, ());
        }
        let mut y = numbers(&x).to_vec();
        self.activation.apply(&mut y);
        (tensor(y, self.shape.clone()), ())
    }

    fn backward(&self, [x]: [FlexTensor; 1], (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut of_x = numbers(&gradient.to_contiguous()).to_vec();
        self.activation.gradient(numbers(&x.to_contiguous()), &mut of_x);
        [Some(tensor(of_x, self.shape.clone()))]
    }
}

/// Applies a function to every number.
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Result<Tensor<D>, Tensor<D>> {
    let Some(value) = Value::of(&x) else { return Err(x) };
    let shape = x.shape();
    // The value is then the only one that holds the numbers.
    drop(x);
    Ok(run(Activate { activation, shape }, [value]).expect("one input is tracked or not"))
}
