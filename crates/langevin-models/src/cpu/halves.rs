//! Tensors of 16-bit numbers in `f32`, and back.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Element, TensorData};
use bytemuck::Pod;
use half::{bf16, f16};
use langevin_kernels::halves::{self, Half};

use super::{numbers, tensor};

/// The same numbers in `f32`.
pub(super) fn widen(x: FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F16 => widen_from::<f16>(&x),
        DType::BF16 => widen_from::<bf16>(&x),
        _ => x,
    }
}

fn widen_from<H: Half + Element + Pod>(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let from = x.as_slice::<H>().expect("a contiguous tensor of this type");
    let mut to = vec![0.0; from.len()];
    halves::widen(from, &mut to);
    tensor(to, x.layout().shape().clone())
}

/// Numbers of `f32`, rounded to an element type.
pub(super) fn narrow(x: FlexTensor, dtype: DType) -> FlexTensor {
    match dtype {
        DType::F16 => narrow_to::<f16>(&x),
        DType::BF16 => narrow_to::<bf16>(&x),
        _ => x,
    }
}

fn narrow_to<H: Half + Element + Pod>(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let mut to = vec![H::ZERO; numbers(&x).len()];
    halves::narrow(numbers(&x), &mut to);
    FlexTensor::from_data(TensorData::new(to, x.layout().shape().clone()))
}
