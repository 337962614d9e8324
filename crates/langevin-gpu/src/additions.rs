//! What is added to the sums of a convolution or a product, in the same pass.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchTensor, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use burn_autodiff::NodeId;
use burn_autodiff::grads::Gradients;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::sums::SumOps;

/// What is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// A number for each channel or column.
    pub bias: bool,
    /// A tensor of the output's shape.
    pub added: bool,
    /// A number for each channel of each image.
    pub shift: bool,
}

/// What is added to the output of a convolution, or of a product of matrices.
#[derive(Clone, Debug, Default)]
pub struct Additions<const D: usize = 4> {
    /// `[output]`
    pub bias: Option<Tensor<1>>,
    /// Of the output's shape, or `[batch, 1, .., output]` for the same at every pixel.
    pub added: Option<Tensor<D>>,
}

impl<const D: usize> Additions<D> {
    /// Both tensors, for an output `[batch, .., output]`; those that the form does not name are `other`: they are not read.
    pub(crate) fn with<const E: usize>(
        self,
        image: [usize; D],
        other: &Tensor<E>,
    ) -> (DispatchTensor, DispatchTensor, Form) {
        let (output, dtype) = (image[D - 1], other.dtype());
        let shifted: [usize; D] = std::array::from_fn(|axis| if axis == 0 || axis == D - 1 { image[axis] } else { 1 });
        let Self { bias, added } = self;
        if let Some(bias) = &bias {
            assert_eq!((bias.dims(), bias.dtype()), ([output], dtype), "the bias");
        }
        let shift = added.as_ref().is_some_and(|added| added.dims() == shifted && shifted != image);
        if let Some(added) = &added {
            let whole = added.dims() == image;
            assert!((whole || shift) && added.dtype() == dtype, "{:?} is added", added.dims());
        }
        let form = Form { bias: bias.is_some(), added: added.is_some() && !shift, shift };
        // As it is: an operation on it would wait for a gradient that never comes.
        let unread = || other.clone().into_dispatch();
        (bias.map_or_else(unread, Tensor::into_dispatch), added.map_or_else(unread, Tensor::into_dispatch), form)
    }
}

/// What is added on the device; tensors that the form does not name are not read.
pub(crate) struct Added {
    pub bias: CubeTensor,
    pub added: CubeTensor,
    pub form: Form,
}

impl Added {
    /// Those that are read, contiguous.
    pub fn new(bias: CubeTensor, added: CubeTensor, form: Form) -> Self {
        let bias = if form.bias { into_contiguous(bias) } else { bias };
        let added = if form.added || form.shift { into_contiguous(added) } else { added };
        Self { bias, added, form }
    }

    /// Nothing is: the tensor is not read.
    pub fn nothing(unread: &CubeTensor) -> Self {
        Self { bias: unread.clone(), added: unread.clone(), form: Form::default() }
    }
}

/// Registers the gradients of the bias and of the other addition, from that of the output `[batch, .., channels]`: of those that there are, and
/// that have a place in the graph.
pub(crate) fn register_additions<B: Backend + SumOps>(
    grads: &mut Gradients,
    gradient: &FloatTensor<B>,
    form: Form,
    [of_bias, of_added]: [Option<NodeId>; 2],
) {
    let shape = gradient.shape();
    let (batch, channels) = (shape[0], shape[shape.num_dims() - 1]);
    if let Some(node) = of_bias.filter(|_| form.bias) {
        grads.register::<B>(node, B::sum_rows(gradient.clone(), Shape::new([channels])));
    }
    if let Some(node) = of_added.filter(|_| form.added || form.shift) {
        let found = match form.shift {
            true => {
                let mut of_images = vec![1; shape.num_dims()];
                (of_images[0], of_images[shape.num_dims() - 1]) = (batch, channels);
                B::sum_rows(gradient.clone(), Shape::from(of_images))
            }
            false => gradient.clone(),
        };
        grads.register::<B>(node, found);
    }
}
