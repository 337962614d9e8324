//! The convolution as an operation of Burn's backends, with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::Windows;
use crate::additions::{Added, Form, register_additions};
use crate::product::{Kind, Reads, Window, product_of};
use crate::sums::SumOps;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait WindowsOps: Backend {
    #[fusion(meta = output)]
    fn convolve_windows(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        windows: Windows,
        form: Form,
    ) -> FloatTensor<Self>;

    /// The gradient of the image, from that of the output.
    #[fusion(meta = input)]
    fn gradient_of_windows(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self>;

    /// The gradient of the weight, from that of the output.
    #[fusion(meta = weight)]
    fn gradient_by_windows(
        image: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self>;
}

fn output(
    image: &TensorSpec,
    weight: &TensorSpec,
    _bias: &TensorSpec,
    _added: &TensorSpec,
    windows: &Windows,
    _form: &Form,
) -> TensorSpec {
    let [rows, columns] = windows.output;
    TensorSpec::new(Shape::new([image.shape[0], rows, columns, weight.shape[0]]), image.dtype)
}

fn input(gradient: &TensorSpec, weight: &TensorSpec, windows: &Windows) -> TensorSpec {
    let [height, width] = windows.input;
    TensorSpec::new(Shape::new([gradient.shape[0], height, width, weight.shape[1]]), gradient.dtype)
}

fn weight(image: &TensorSpec, gradient: &TensorSpec, windows: &Windows) -> TensorSpec {
    let [k, l] = windows.kernel;
    TensorSpec::new(Shape::new([gradient.shape[3], image.shape[3], k, l]), image.dtype)
}

/// A weight `[output, input, rows, columns]` with the channels of the input last in memory.
fn channels_last(weight: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    into_contiguous(CubeBackend::float_permute(weight, &[0, 2, 3, 1]))
}

impl Windows {
    /// The windows around the pixels of the image for each of the output.
    fn window(&self, channels: usize) -> Window {
        let ([height, width], [rows, columns]) = (self.input, self.output);
        Window {
            height,
            width,
            channels,
            rows,
            columns,
            places: self.places(),
            across: self.kernel[1],
            stride_down: self.stride[0],
            stride_across: self.stride[1],
            above: self.padding[0],
            left: self.padding[1],
            ..Window::none()
        }
    }

    /// The windows around the pixels of the output, a stride apart, for each of the image.
    fn window_back(&self, channels: usize) -> Window {
        let ([height, width], [rows, columns]) = (self.output, self.input);
        Window {
            height,
            width,
            channels,
            rows,
            columns,
            places: self.places(),
            across: self.kernel[1],
            above: self.kernel[0] - 1 - self.padding[0],
            left: self.kernel[1] - 1 - self.padding[1],
            step_down: self.stride[0],
            step_across: self.stride[1],
            ..Window::none()
        }
    }
}

impl WindowsOps for CubeBackend {
    fn convolve_windows(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        windows: Windows,
        form: Form,
    ) -> FloatTensor<Self> {
        let ([batch, _, _, input], output) = (image.shape().dims(), weight.shape()[0]);
        let [rows, columns] = windows.output;
        let sizes = [1, batch * rows * columns, windows.places() * input, output];
        let left = Reads::new(Kind::Windows { stepped: false }, true, input);
        let right = Reads::new(Kind::Matrix, true, sizes[2]);
        let mut more = Added::new(bias, added, form);
        // To whole images, in a pass of its own.
        more.form.shift = false;
        let shift = form.shift.then(|| more.added.clone());
        let factors = [into_contiguous(image), channels_last(weight)];
        let y = product_of(factors, sizes, [left, right], windows.window(input), more);
        let y = Self::float_reshape(y, Shape::new([batch, rows, columns, output]));
        match shift {
            Some(shift) => Self::float_add(y, shift),
            None => y,
        }
    }

    fn gradient_of_windows(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self> {
        let ([batch, _, _, output], input) = (gradient.shape().dims(), weight.shape()[1]);
        let [height, width] = windows.input;
        let sizes = [1, batch * height * width, windows.places() * output, input];
        let left = Reads::new(Kind::Windows { stepped: windows.stride != [1, 1] }, true, output);
        let right = Reads::new(Kind::Flipped, false, input);
        let factors = [into_contiguous(gradient), channels_last(weight)];
        let nothing = Added::nothing(&factors[1]);
        let found = product_of(factors, sizes, [left, right], windows.window_back(output), nothing);
        Self::float_reshape(found, Shape::new([batch, height, width, input]))
    }

    fn gradient_by_windows(
        image: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self> {
        let ([batch, rows, columns, output], input) = (gradient.shape().dims(), image.shape()[3]);
        let sizes = [1, output, batch * rows * columns, windows.places() * input];
        let left = Reads::new(Kind::Matrix, false, output);
        let right = Reads::new(Kind::Windows { stepped: false }, false, input);
        let factors = [into_contiguous(gradient), into_contiguous(image)];
        let nothing = Added::nothing(&factors[0]);
        let found = product_of(factors, sizes, [left, right], windows.window(input), nothing);
        let [k, l] = windows.kernel;
        let found = Self::float_reshape(found, Shape::new([output, k, l, input]));
        // In the order of memory of the weight: Burn's fused kernels misread views that have moved a dimension of size one.
        into_contiguous(Self::float_permute(found, &[0, 3, 1, 2]))
    }
}

impl<B: Backend + WindowsOps + SumOps, C: CheckpointStrategy> WindowsOps for Autodiff<B, C> {
    fn convolve_windows(
        image: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        windows: Windows,
        form: Form,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Convolve;

        impl<B: Backend + WindowsOps + SumOps> Backward<B, 4> for Convolve {
            type State = ([FloatTensor<B>; 2], Windows, Form);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_weight, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([image, weight], windows, form) = ops.state;
                let nodes = [of_bias, of_added].map(|node| node.map(|node| node.id));
                register_additions::<B>(grads, &gradient, form, nodes);
                if let Some(node) = of_image {
                    grads.register::<B>(node.id, B::gradient_of_windows(gradient.clone(), weight, windows));
                }
                if let Some(node) = of_weight {
                    grads.register::<B>(node.id, B::gradient_by_windows(image, gradient, windows));
                }
            }
        }

        let ((image, of_image), (weight, of_weight)) = (image.into_parts(), weight.into_parts());
        let ((bias, of_bias), (added, of_added)) = (bias.into_parts(), added.into_parts());
        match Convolve.prepare::<C>([of_image, of_weight, of_bias, of_added]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([image.clone(), weight.clone()], windows, form);
                prep.finish(state, B::convolve_windows(image, weight, bias, added, windows, form))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolve_windows(image, weight, bias, added, windows, form)),
        }
    }

    fn gradient_of_windows(
        _gradient: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _windows: Windows,
    ) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn gradient_by_windows(
        _image: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _windows: Windows,
    ) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
