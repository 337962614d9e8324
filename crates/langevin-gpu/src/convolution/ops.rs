//! The convolution as an operation of Burn's backends, with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{FloatDType, Shape};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::kernels::{Weights, gradient_of_weight, image_of};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait ConvolutionOps: Backend {
    #[fusion(meta = output)]
    fn convolve(image: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// From the gradient of the output.
    #[fusion(meta = input)]
    fn gradient_of_image(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(meta = weight)]
    fn gradient_of_weight(image: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn with_channels(image: &TensorSpec, channels: usize) -> TensorSpec {
    let [batch, height, width, _] = image.shape.dims();
    TensorSpec::new(Shape::new([batch, height, width, channels]), image.dtype)
}

fn output(image: &TensorSpec, weight: &TensorSpec) -> TensorSpec {
    with_channels(image, weight.shape[0])
}

fn input(gradient: &TensorSpec, weight: &TensorSpec) -> TensorSpec {
    with_channels(gradient, weight.shape[1])
}

fn weight(image: &TensorSpec, gradient: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::new([gradient.shape[3], image.shape[3], 3, 3]), image.dtype)
}

/// Parts in `f32` to their sum.
fn total(parts: FloatTensor<CubeBackend>, dtype: FloatDType) -> FloatTensor<CubeBackend> {
    let sum = if parts.meta.shape()[0] == 1 { parts } else { CubeBackend::float_sum_dim(parts, 0) };
    CubeBackend::float_cast(sum, dtype)
}

/// The weights `[output, input, 3, 3]` by place, where rows lie that are read 16 bytes at a time.
fn by_place(weight: FloatTensor<CubeBackend>, weights: Weights) -> FloatTensor<CubeBackend> {
    let [output, input, ..] = weight.meta.shape().dims::<4>();
    let (order, shape) = match weights {
        Weights::InputFirst => ([2, 3, 1, 0], [9, input, output]),
        Weights::OutputFirst | Weights::Turned => ([2, 3, 0, 1], [9, output, input]),
    };
    let weight = into_contiguous(CubeBackend::float_permute(weight, &order));
    CubeBackend::float_reshape(weight, Shape::new(shape))
}

fn image_by(
    image: FloatTensor<CubeBackend>,
    weight: FloatTensor<CubeBackend>,
    weights: Weights,
) -> FloatTensor<CubeBackend> {
    let dtype = FloatDType::from(image.dtype);
    let y = image_of(&into_contiguous(image), by_place(weight, weights), weights);
    let shape: Vec<usize> = y.meta.shape().iter().copied().collect();
    match shape[..] {
        [_, batch, height, width, channels] => {
            CubeBackend::float_reshape(total(y, dtype), Shape::new([batch, height, width, channels]))
        }
        _ => y,
    }
}

impl ConvolutionOps for CubeBackend {
    fn convolve(image: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        // Where the weights are the most of it, moving them costs more than reading them well saves.
        let few = weight.meta.shape().num_elements() < image.meta.shape().num_elements();
        image_by(image, weight, if few { Weights::InputFirst } else { Weights::OutputFirst })
    }

    fn gradient_of_image(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        image_by(gradient, weight, Weights::Turned)
    }

    fn gradient_of_weight(image: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = FloatDType::from(image.dtype);
        let (image, gradient) = (into_contiguous(image), into_contiguous(gradient));
        let (input, output) = (image.meta.shape()[3], gradient.meta.shape()[3]);
        let entries = total(gradient_of_weight(&image, gradient), dtype);
        let entries = Self::float_reshape(entries, Shape::new([3, 3, output, input]));
        into_contiguous(Self::float_permute(entries, &[2, 3, 0, 1]))
    }
}

impl<B: Backend + ConvolutionOps, C: CheckpointStrategy> ConvolutionOps for Autodiff<B, C> {
    fn convolve(image: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Convolve;

        impl<B: Backend + ConvolutionOps> Backward<B, 2> for Convolve {
            type State = [FloatTensor<B>; 2];

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_weight] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let [image, weight] = ops.state;
                if let Some(node) = of_image {
                    grads.register::<B>(node.id, B::gradient_of_image(gradient.clone(), weight));
                }
                if let Some(node) = of_weight {
                    grads.register::<B>(node.id, B::gradient_of_weight(image, gradient));
                }
            }
        }

        let ((image, of_image), (weight, of_weight)) = (image.into_parts(), weight.into_parts());
        match Convolve.prepare::<C>([of_image, of_weight]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = [image.clone(), weight.clone()];
                prep.finish(state, B::convolve(image, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolve(image, weight)),
        }
    }

    fn gradient_of_image(_gradient: FloatTensor<Self>, _weight: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn gradient_of_weight(_image: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
