//! Which kernel updates a parameter.

use crate::AdamW;
use burn::tensor::{DType, Tensor};

/// A kernel for the update of a parameter.
pub(super) enum Kernel {
    #[cfg(feature = "flex")]
    Cpu,
    #[cfg(feature = "cube")]
    Gpu,
}

impl Kernel {
    /// The one for a parameter's device and type, and its gradient's.
    #[cfg_attr(not(feature = "cube"), allow(unused_variables, reason = "the CPU's kernel casts gradients"))]
    pub(super) fn of<const D: usize>(parameter: &Tensor<D>, gradient: DType) -> Option<Self> {
        if parameter.is_autodiff() || parameter.shape().num_elements() == 0 {
            return None;
        }
        #[cfg(feature = "flex")]
        if cpu::serves(parameter) {
            return Some(Self::Cpu);
        }
        #[cfg(feature = "cube")]
        if langevin_gpu::compiles_kernels(&parameter.device()) && ![parameter.dtype(), gradient].contains(&DType::F64) {
            return Some(Self::Gpu);
        }
        None
    }

    /// The parameter and its moments after an update by a rule, with the learning rate over 1 − β₁ᵗ, 1/(1 − β₂ᵗ) and what the
    /// parameter is multiplied by. The gradient is multiplied by `factor`, one number in `f32`.
    #[cfg_attr(not(any(feature = "flex", feature = "cube")), allow(unused_variables, reason = "there is no kernel"))]
    pub(super) fn run<const D: usize>(
        self,
        rule: AdamW,
        [rate, correction, decay]: [f32; 3],
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        moments: [Tensor<D>; 2],
        factor: Option<Tensor<1>>,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => {
                let AdamW { beta_1, beta_2, epsilon, .. } = rule;
                let step = langevin_kernels::adam::AdamStep { beta_1, beta_2, rate, correction, epsilon, decay };
                cpu::adam(step, parameter, super::scaled(gradient, factor, DType::F32), moments)
            }
            #[cfg(feature = "cube")]
            Self::Gpu => {
                let AdamW { beta_1, beta_2, epsilon, .. } = rule;
                let step = langevin_gpu::AdamStep { beta_1, beta_2, rate, correction, epsilon, decay };
                langevin_gpu::adam(parameter, gradient, moments, factor, step)
            }
        }
    }
}

#[cfg(feature = "flex")]
mod cpu {
    use burn::backend::Flex;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::{DType, Tensor};
    use langevin_kernels::adam::{self, AdamStep};

    pub(super) fn serves<const D: usize>(parameter: &Tensor<D>) -> bool {
        parameter.dtype() == DType::F32 && parameter.clone().try_into_primitive::<Flex>().is_ok()
    }

    pub(super) fn adam<const D: usize>(
        step: AdamStep,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        [mean, square]: [Tensor<D>; 2],
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let [mut parameter, mut mean, mut square] = [parameter, mean, square].map(dense);
        let gradient = dense(gradient);
        let numbers = gradient.as_slice().expect("contiguous numbers");
        adam::adam(step, parameter.storage_mut(), numbers, [mean.storage_mut(), square.storage_mut()]);
        let [parameter, mean, square] = [parameter, mean, square].map(Tensor::from_primitive::<Flex>);
        (parameter, [mean, square])
    }

    /// The numbers one after another, and no others.
    fn dense<const D: usize>(x: Tensor<D>) -> FlexTensor {
        let shape = x.shape();
        let x = x.try_into_primitive::<Flex>().expect("a tensor of this backend");
        if x.is_contiguous() && x.bytes().len() == shape.num_elements() * size_of::<f32>() { x } else { copied(&x) }
    }

    fn copied(x: &FlexTensor) -> FlexTensor {
        let numbers = x.to_contiguous().as_slice::<f32>().expect("contiguous numbers").to_vec();
        FlexTensor::from_data(burn::tensor::TensorData::new(numbers, x.layout().shape().clone()))
    }
}
