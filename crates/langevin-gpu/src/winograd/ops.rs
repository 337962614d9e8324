//! The convolution as an operation of Burn's backends: in its stream of fused operations, and with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;

pub(super) use burn::backend::Dispatch;

use super::kernels::{give_image, take_entries, unweigh_kernel, weigh_kernel};
use super::matrices::Map;
use super::{Tile, Tiling};
use crate::additions::{Added, Form, register_additions};
use crate::product::{Turned, times};
use crate::sums::SumOps;

#[allow(clippy::too_many_arguments, reason = "an operation of Burn's has its tensors one by one")]
#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait WinogradOps: Backend {
    /// The convolution with a kernel, or with the transform of one, and what is added.
    #[fusion(meta = output)]
    fn convolve(
        image: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
        form: Form,
    ) -> FloatTensor<Self>;

    /// The gradient of the image, from that of the output.
    #[fusion(meta = input)]
    fn gradient_of_image(
        gradient: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
    ) -> FloatTensor<Self>;

    /// The gradient of the kernel, or of its transform, from that of the output.
    #[fusion(meta = kernel)]
    fn gradient_of_kernel(
        image: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
    ) -> FloatTensor<Self>;

    /// The transform of a kernel.
    #[fusion(meta = weighed)]
    fn weigh(weight: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self>;
}

fn weighed(weight: &TensorSpec, tile: &Tile) -> TensorSpec {
    let shape = Shape::new([tile.inputs() * tile.inputs(), weight.shape[1], weight.shape[0]]);
    TensorSpec::new(shape, weight.dtype)
}

fn output(
    image: &TensorSpec,
    kernel: &TensorSpec,
    _bias: &TensorSpec,
    _added: &TensorSpec,
    tiling: &Tiling,
    weighed: &bool,
    _form: &Form,
) -> TensorSpec {
    let ([height, width], channels) = (tiling.output, kernel.shape[if *weighed { 2 } else { 0 }]);
    TensorSpec::new(Shape::new([image.shape[0], height, width, channels]), image.dtype)
}

fn input(gradient: &TensorSpec, kernel: &TensorSpec, tiling: &Tiling, _weighed: &bool) -> TensorSpec {
    let [height, width] = tiling.input;
    TensorSpec::new(Shape::new([gradient.shape[0], height, width, kernel.shape[1]]), gradient.dtype)
}

fn kernel(image: &TensorSpec, gradient: &TensorSpec, tiling: &Tiling, weighed: &bool) -> TensorSpec {
    let (input, output) = (image.shape[3], gradient.shape[3]);
    let shape =
        if *weighed { Shape::new([tiling.entries(), input, output]) } else { Shape::new([output, input, 3, 3]) };
    TensorSpec::new(shape, image.dtype)
}

impl WinogradOps for CubeBackend {
    fn convolve(
        image: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
        form: Form,
    ) -> FloatTensor<Self> {
        let batch = image.shape()[0];
        let kernel = if weighed { kernel } else { weigh_kernel(kernel, tiling.tile) };
        let tiles = take_entries(image, tiling, Map::Tiles(tiling.tile));
        let products = times(tiles, kernel, Turned { left: false, right: false });
        give_image(products, batch, tiling, Map::Image(tiling.tile), Added::new(bias, added, form))
    }

    fn gradient_of_image(
        gradient: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
    ) -> FloatTensor<Self> {
        let batch = gradient.shape()[0];
        let kernel = if weighed { kernel } else { weigh_kernel(kernel, tiling.tile) };
        let gradients = take_entries(gradient, tiling, Map::OfImage(tiling.tile));
        let tiles = times(gradients, kernel, Turned { left: false, right: true });
        let nothing = Added::nothing(&tiles);
        give_image(tiles, batch, tiling, Map::OfTiles(tiling.tile), nothing)
    }

    fn gradient_of_kernel(
        image: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
    ) -> FloatTensor<Self> {
        let tiles = take_entries(image, tiling, Map::Tiles(tiling.tile));
        let gradients = take_entries(gradient, tiling, Map::OfImage(tiling.tile));
        let found = times(tiles, gradients, Turned { left: true, right: false });
        if weighed { found } else { unweigh_kernel(found, tiling.tile) }
    }

    fn weigh(weight: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self> {
        weigh_kernel(weight, tile)
    }
}

/// The transformed windows are made anew on the way back: kept, they would take 2.25 times the memory of the images, or four times.
impl<B: Backend + WinogradOps + SumOps, C: CheckpointStrategy> WinogradOps for Autodiff<B, C> {
    fn convolve(
        image: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        tiling: Tiling,
        weighed: bool,
        form: Form,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Convolve;

        impl<B: Backend + WinogradOps + SumOps> Backward<B, 4> for Convolve {
            type State = ([FloatTensor<B>; 2], Tiling, bool, Form);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_image, of_kernel, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([image, kernel], tiling, weighed, form) = ops.state;
                let nodes = [of_bias, of_added].map(|node| node.map(|node| node.id));
                register_additions::<B>(grads, &gradient, form, nodes);
                if let Some(node) = of_image {
                    grads.register::<B>(node.id, B::gradient_of_image(gradient.clone(), kernel, tiling, weighed));
                }
                if let Some(node) = of_kernel {
                    grads.register::<B>(node.id, B::gradient_of_kernel(image, gradient, tiling, weighed));
                }
            }
        }

        let ((image, of_image), (kernel, of_kernel)) = (image.into_parts(), kernel.into_parts());
        let ((bias, of_bias), (added, of_added)) = (bias.into_parts(), added.into_parts());
        match Convolve.prepare::<C>([of_image, of_kernel, of_bias, of_added]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([image.clone(), kernel.clone()], tiling, weighed, form);
                prep.finish(state, B::convolve(image, kernel, bias, added, tiling, weighed, form))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolve(image, kernel, bias, added, tiling, weighed, form)),
        }
    }

    fn gradient_of_image(
        _gradient: FloatTensor<Self>,
        _kernel: FloatTensor<Self>,
        _tiling: Tiling,
        _weighed: bool,
    ) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn gradient_of_kernel(
        _image: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _tiling: Tiling,
        _weighed: bool,
    ) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn weigh(_weight: FloatTensor<Self>, _tile: Tile) -> FloatTensor<Self> {
        panic!("a transform that is kept has no gradient")
    }
}
