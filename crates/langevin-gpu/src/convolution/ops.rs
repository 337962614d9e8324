//! The convolution as an operation of Burn's backends, with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Shape, Slice};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::Form;
use super::kernels::{Added, MULTIPLE, image_of, laid, ordered};
use crate::product::kernels::{Around, gradient_of_weight};
use crate::sheet::Sheet;

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
    let bias = if form.bias { into_contiguous(bias) } else { bias };
    let added = if form.added || form.shift { into_contiguous(added) } else { added };
    image_of(sheet, of, by_place(weight), channels, step, Added { bias, added, form })
}

/// The gradients of the bias and of the other addition, from that of the output: of those that there are, and are asked for.
pub(super) fn of_additions<B: Backend>(
    gradient: &FloatTensor<B>,
    form: Form,
    asked: [bool; 2],
) -> [Option<FloatTensor<B>>; 2] {
    let [batch, height, width, channels] = gradient.shape().dims();
    let dtype = FloatDType::from(gradient.dtype());
    let by_image = || {
        let rows = B::float_reshape(gradient.clone(), Shape::new([batch, height * width, channels]));
        B::float_sum_dim(B::float_cast(rows, FloatDType::F32), 1)
    };
    let of_bias = (form.bias && asked[0]).then(|| {
        let sum = B::float_reshape(B::float_sum_dim(by_image(), 0), Shape::new([channels]));
        B::float_cast(sum, dtype)
    });
    let of_added = (form.added || form.shift) && asked[1];
    let of_added = of_added.then(|| match form.shift {
        true => B::float_cast(B::float_reshape(by_image(), Shape::new([batch, 1, 1, channels])), dtype),
        false => gradient.clone(),
    });
    [of_bias, of_added]
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
        let (of, dtype) = (sheet_of(&image), FloatDType::from(image.dtype));
        let [output, input, ..] = weight.meta.shape().dims::<4>();
        let image = laid(&into_contiguous(image), of, 1);
        let gradient = laid(&into_contiguous(gradient), of, step);
        let around = Around { rows: of.sums(), places: 9, line: of.line(), lead: of.line() + 1 };
        let parts = gradient_of_weight(image, gradient.clone(), around);
        let [count, _, outputs, inputs] = parts.meta.shape().dims::<4>();
        let sum = if count == 1 { parts } else { Self::float_sum_dim(parts, 0) };
        let entries = Self::float_reshape(Self::float_cast(sum, dtype), Shape::new([3, 3, outputs, inputs]));
        let all = Slice::full();
        let entries = Self::float_slice(entries, &[all, all, Slice::from(0..output), Slice::from(0..input)]);
        let of_weight = into_contiguous(Self::float_permute(entries, &[2, 3, 0, 1]));
        let form = Form { bias: false, added: false, shift: false };
        let nothing = Added { bias: weight.clone(), added: weight.clone(), form };
        let of_image = image_of(gradient, of, ordered(weight, true), input, 1, nothing);
        (of_image, of_weight)
    }
}

impl<B: Backend + ConvolutionOps, C: CheckpointStrategy> ConvolutionOps for Autodiff<B, C> {
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

        impl<B: Backend + ConvolutionOps> Backward<B, 4> for Convolve {
            type State = ([FloatTensor<B>; 2], usize, Form);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_weight, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([image, weight], step, form) = ops.state;
                let found = of_additions::<B>(&gradient, form, [of_bias.is_some(), of_added.is_some()]);
                for (node, gradient) in [of_bias, of_added].into_iter().zip(found) {
                    if let (Some(node), Some(gradient)) = (node, gradient) {
                        grads.register::<B>(node.id, gradient);
                    }
                }
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
