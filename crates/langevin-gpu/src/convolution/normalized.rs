//! Normalization and convolution as one operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::kernels::{MULTIPLE, laid};
use super::ops::{ConvolutionOps, of_sheet, sheet_of};
use crate::Normalization;
use crate::additions::{Form, register_additions};
use crate::group_norm::{GroupNormOps, at_once, normalized};
use crate::sums::SumOps;

#[allow(clippy::too_many_arguments, reason = "an operation of Burn's has its tensors one by one")]
#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait NormalizedOps: Backend {
    #[fusion(meta = output)]
    fn convolve_normalized(
        image: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        normalization: Normalization,
        form: Form,
    ) -> FloatTensor<Self>;

    /// The gradients of image, scale, shift and weight, from that of the output: the normalized image is computed again.
    #[fusion(meta = gradients)]
    fn normalized_backward(
        image: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn gradients(
    image: &TensorSpec,
    scale: &TensorSpec,
    shift: &TensorSpec,
    weight: &TensorSpec,
    _gradient: &TensorSpec,
    _normalization: &Normalization,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    (image.clone(), scale.clone(), shift.clone(), weight.clone())
}

#[allow(clippy::too_many_arguments, reason = "as the operation has them")]
fn output(
    image: &TensorSpec,
    _scale: &TensorSpec,
    _shift: &TensorSpec,
    weight: &TensorSpec,
    _bias: &TensorSpec,
    _added: &TensorSpec,
    _normalization: &Normalization,
    _form: &Form,
) -> TensorSpec {
    let [batch, height, width, _] = image.shape.dims();
    TensorSpec::new(Shape::new([batch, height, width, weight.shape[0]]), image.dtype)
}

/// `[batch, pixels, channels]`
fn rows(shape: &Shape) -> Shape {
    let [batch, height, width, channels] = shape.dims();
    Shape::new([batch, height * width, channels])
}

impl NormalizedOps for CubeBackend {
    fn convolve_normalized(
        image: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        normalization: Normalization,
        form: Form,
    ) -> FloatTensor<Self> {
        let of = sheet_of(&image);
        let [image, scale, shift] = [image, scale, shift].map(into_contiguous);
        let shape = image.meta.shape().clone();
        let image = Self::float_reshape(image, rows(&shape));
        let on = Some([of.height, of.pixels()]);
        let whole = shape[3].is_multiple_of(MULTIPLE);
        let sheet = whole.then(|| at_once(&image, scale.clone(), shift.clone(), normalization, on)).flatten();
        let sheet = sheet.unwrap_or_else(|| {
            let normal = normalized(&image, scale, shift, normalization);
            laid(&Self::float_reshape(normal, shape), of, 1)
        });
        of_sheet(sheet, of, weight, bias, added, 1, form)
    }

    fn normalized_backward(
        image: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [image, scale, shift] = [image, scale, shift].map(into_contiguous);
        let shape = image.meta.shape().clone();
        let image = Self::float_reshape(image, rows(&shape));
        let normal = normalized(&image, scale.clone(), shift.clone(), normalization);
        let (gradient, of_weight) =
            Self::convolve_backward(Self::float_reshape(normal, shape.clone()), weight, gradient, 1);
        let gradient = Self::float_reshape(gradient, rows(&shape));
        let (of_image, of_scale, of_shift) = Self::group_norm_backward(image, scale, shift, gradient, normalization);
        (Self::float_reshape(of_image, shape), of_scale, of_shift, of_weight)
    }
}

impl<B: Backend + NormalizedOps + SumOps, C: CheckpointStrategy> NormalizedOps for Autodiff<B, C> {
    fn convolve_normalized(
        image: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        normalization: Normalization,
        form: Form,
    ) -> FloatTensor<Self> {
        /// The normalized image is computed again.
        #[derive(Debug)]
        struct ConvolveNormalized;

        impl<B: Backend + NormalizedOps + SumOps> Backward<B, 6> for ConvolveNormalized {
            type State = ([FloatTensor<B>; 4], Normalization, Form);

            fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_scale, of_shift, of_weight, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([image, scale, shift, weight], normalization, form) = ops.state;
                let nodes = [of_bias, of_added].map(|node| node.map(|node| node.id));
                register_additions::<B>(grads, &gradient, form, nodes);
                if [&of_image, &of_scale, &of_shift, &of_weight].into_iter().all(Option::is_none) {
                    return;
                }
                let found = B::normalized_backward(image, scale, shift, weight, gradient, normalization);
                let found = [(of_image, found.0), (of_scale, found.1), (of_shift, found.2), (of_weight, found.3)];
                for (node, gradient) in found {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let ((image, of_image), (scale, of_scale)) = (image.into_parts(), scale.into_parts());
        let ((shift, of_shift), (weight, of_weight)) = (shift.into_parts(), weight.into_parts());
        let ((bias, of_bias), (added, of_added)) = (bias.into_parts(), added.into_parts());
        let parents = [of_image, of_scale, of_shift, of_weight, of_bias, of_added];
        match ConvolveNormalized.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([image.clone(), scale.clone(), shift.clone(), weight.clone()], normalization, form);
                prep.finish(
                    state,
                    B::convolve_normalized(image, scale, shift, weight, bias, added, normalization, form),
                )
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::convolve_normalized(image, scale, shift, weight, bias, added, normalization, form))
            }
        }
    }
    fn normalized_backward(
        _image: FloatTensor<Self>,
        _scale: FloatTensor<Self>,
        _shift: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }
}
