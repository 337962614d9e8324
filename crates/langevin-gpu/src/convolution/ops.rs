//! The convolution as an operation of Burn's backends, with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{Shape, Slice};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::kernels::{MULTIPLE, image_of, laid, ordered};
use crate::additions::{Added, Form, register_additions};
use crate::product::workgroup::{Around, gradient_of_weight};
use crate::sheet::Sheet;
use crate::sums::{SumOps, summed};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait ConvolutionOps: Backend {
    #[fusion(meta = output)]
    fn convolve(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        step: usize,
        form: Form,
    ) -> FloatTensor<Self>;

    /// The weight, in the order of memory in which it is read.
    #[fusion(dtype = weight, shape = weight)]
    fn arranged(weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradients of image and weight, from that of the output.
    #[fusion(meta = gradients)]
    fn convolve_backward(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        step: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn output(
    image: &TensorSpec,
    weight: &TensorSpec,
    _bias: &TensorSpec,
    _added: &TensorSpec,
    step: &usize,
    _form: &Form,
) -> TensorSpec {
    let [batch, height, width, _] = image.shape.dims();
    let [height, width] = [height, width].map(|size: usize| size.div_ceil(*step));
    TensorSpec::new(Shape::new([batch, height, width, weight.shape[0]]), image.dtype)
}

fn gradients(
    image: &TensorSpec,
    weight: &TensorSpec,
    _gradient: &TensorSpec,
    _step: &usize,
) -> (TensorSpec, TensorSpec) {
    (image.clone(), weight.clone())
}

/// The weights `[output, input, 3, 3]` as `[9, input, output]`. Nothing moves if they lie in that order.
fn by_place(weight: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    let [output, input, ..] = weight.meta.shape().dims::<4>();
    let whole = [input, output].iter().all(|channels| channels.is_multiple_of(MULTIPLE));
    let first = CubeBackend::float_permute(weight.clone(), &[2, 3, 1, 0]);
    if !whole || !first.is_contiguous() {
        return ordered(weight, false);
    }
    CubeBackend::float_reshape(first, Shape::new([9, input, output]))
}

pub(super) fn sheet_of(image: &FloatTensor<CubeBackend>) -> Sheet {
    let [batch, height, width, _] = image.meta.shape().dims();
    Sheet { batch, height, width }
}

/// From the sheet of an image.
pub(super) fn of_sheet(
    sheet: FloatTensor<CubeBackend>,
    of: Sheet,
    weight: FloatTensor<CubeBackend>,
    bias: FloatTensor<CubeBackend>,
    added: FloatTensor<CubeBackend>,
    step: usize,
    form: Form,
) -> FloatTensor<CubeBackend> {
    let channels = weight.meta.shape()[0];
    image_of(sheet, of, by_place(weight), channels, step, Added::new(bias, added, form))
}

/// The gradient of a weight `[output, input, 3, 3]` from its parts `[parts, 9, outputs, inputs]`, in the weight's order in memory.
fn of_weight(weight: &FloatTensor<CubeBackend>, parts: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    let [output, input, ..] = weight.meta.shape().dims::<4>();
    let [count, places, outputs, inputs] = parts.meta.shape().dims::<4>();
    let parts = CubeBackend::float_reshape(parts, Shape::new([1, count, places * outputs * inputs]));
    let entries = CubeBackend::float_reshape(summed(&parts, weight.dtype), Shape::new([3, 3, outputs, inputs]));
    let all = Slice::full();
    let slices = [all, all, Slice::from(0..output), Slice::from(0..input)];
    let entries = CubeBackend::float_slice(entries, &slices);
    // Burn's fused kernels misread views that have moved a dimension of size one.
    if weight.is_contiguous() || output == 1 || input == 1 {
        return into_contiguous(CubeBackend::float_permute(entries, &[2, 3, 0, 1]));
    }
    let arranged = into_contiguous(CubeBackend::float_permute(entries, &[0, 1, 3, 2]));
    CubeBackend::float_permute(arranged, &[3, 2, 0, 1])
}

impl ConvolutionOps for CubeBackend {
    fn convolve(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        step: usize,
        form: Form,
    ) -> FloatTensor<Self> {
        let of = sheet_of(&image);
        of_sheet(laid(&into_contiguous(image), of, 1), of, weight, bias, added, step, form)
    }

    fn arranged(weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let first = into_contiguous(Self::float_permute(weight, &[2, 3, 1, 0]));
        Self::float_permute(first, &[3, 2, 0, 1])
    }

    fn convolve_backward(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        step: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let of = sheet_of(&image);
        let input = weight.meta.shape()[1];
        let image = laid(&into_contiguous(image), of, 1);
        let gradient = laid(&into_contiguous(gradient), of, step);
        let around = Around { rows: of.sums(), places: 9, line: of.line(), lead: of.line() + 1 };
        let of_weight = of_weight(&weight, gradient_of_weight(image, gradient.clone(), around));
        let nothing = Added::nothing(&weight);
        let of_image = image_of(gradient, of, ordered(weight, true), input, 1, nothing);
        (of_image, of_weight)
    }
}

impl<B: Backend + ConvolutionOps + SumOps, C: CheckpointStrategy> ConvolutionOps for Autodiff<B, C> {
    fn convolve(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        step: usize,
        form: Form,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Convolve;

        impl<B: Backend + ConvolutionOps + SumOps> Backward<B, 4> for Convolve {
            type State = ([FloatTensor<B>; 2], usize, Form);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_weight, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([image, weight], step, form) = ops.state;
                let nodes = [of_bias, of_added].map(|node| node.map(|node| node.id));
                register_additions::<B>(grads, &gradient, form, nodes);
                if of_image.is_none() && of_weight.is_none() {
                    return;
                }
                let found = B::convolve_backward(image, weight, gradient, step);
                for (node, gradient) in [(of_image, found.0), (of_weight, found.1)] {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let ((image, of_image), (weight, of_weight)) = (image.into_parts(), weight.into_parts());
        let ((bias, of_bias), (added, of_added)) = (bias.into_parts(), added.into_parts());
        match Convolve.prepare::<C>([of_image, of_weight, of_bias, of_added]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([image.clone(), weight.clone()], step, form);
                prep.finish(state, B::convolve(image, weight, bias, added, step, form))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolve(image, weight, bias, added, step, form)),
        }
    }

    fn arranged(_weight: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("weights are arranged outside of a graph of gradients")
    }

    fn convolve_backward(
        _image: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _step: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }
}
