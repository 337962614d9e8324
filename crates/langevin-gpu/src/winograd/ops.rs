//! The maps as operations of Burn's backends: in its stream of fused operations, and with their gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn_cubecl::CubeBackend;

pub(super) use burn::backend::Dispatch;

use super::kernels::{give_image, take_entries, unweigh_kernel, weigh_kernel};
use super::matrices::Map;
use super::{Tile, Tiling};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait WinogradOps: Backend {
    #[fusion(meta = entries)]
    fn tiles(image: FloatTensor<Self>, tiling: Tiling) -> FloatTensor<Self>;

    #[fusion(meta = input)]
    fn tiles_adjoint(entries: FloatTensor<Self>, batch: usize, tiling: Tiling) -> FloatTensor<Self>;

    #[fusion(meta = output)]
    fn image(entries: FloatTensor<Self>, batch: usize, tiling: Tiling) -> FloatTensor<Self>;

    #[fusion(meta = entries)]
    fn image_adjoint(image: FloatTensor<Self>, tiling: Tiling) -> FloatTensor<Self>;

    #[fusion(meta = weighed)]
    fn weigh(weight: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self>;

    #[fusion(meta = kernel)]
    fn weigh_adjoint(entries: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self>;
}

fn weighed(weight: &TensorSpec, tile: &Tile) -> TensorSpec {
    let shape = Shape::new([tile.inputs() * tile.inputs(), weight.shape[1], weight.shape[0]]);
    TensorSpec::new(shape, weight.dtype)
}

fn kernel(entries: &TensorSpec, _tile: &Tile) -> TensorSpec {
    TensorSpec::new(Shape::new([entries.shape[2], entries.shape[1], 3, 3]), entries.dtype)
}

fn entries(image: &TensorSpec, tiling: &Tiling) -> TensorSpec {
    let [down, across] = tiling.tiles();
    let shape = Shape::new([tiling.entries(), image.shape[0] * down * across, image.shape[3]]);
    TensorSpec::new(shape, image.dtype)
}

fn input(entries: &TensorSpec, batch: &usize, tiling: &Tiling) -> TensorSpec {
    image(entries, *batch, tiling.input)
}

fn output(entries: &TensorSpec, batch: &usize, tiling: &Tiling) -> TensorSpec {
    image(entries, *batch, tiling.output)
}

fn image(entries: &TensorSpec, batch: usize, [height, width]: [usize; 2]) -> TensorSpec {
    TensorSpec::new(Shape::new([batch, height, width, entries.shape[2]]), entries.dtype)
}

impl WinogradOps for CubeBackend {
    fn tiles(image: FloatTensor<Self>, tiling: Tiling) -> FloatTensor<Self> {
        take_entries(image, tiling, Map::Tiles(tiling.tile))
    }

    fn tiles_adjoint(entries: FloatTensor<Self>, batch: usize, tiling: Tiling) -> FloatTensor<Self> {
        give_image(entries, batch, tiling, Map::OfTiles(tiling.tile))
    }

    fn image(entries: FloatTensor<Self>, batch: usize, tiling: Tiling) -> FloatTensor<Self> {
        give_image(entries, batch, tiling, Map::Image(tiling.tile))
    }

    fn image_adjoint(image: FloatTensor<Self>, tiling: Tiling) -> FloatTensor<Self> {
        take_entries(image, tiling, Map::OfImage(tiling.tile))
    }

    fn weigh(weight: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self> {
        weigh_kernel(weight, tile)
    }

    fn weigh_adjoint(entries: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self> {
        unweigh_kernel(entries, tile)
    }
}

/// The maps are linear: their gradient is the adjoint map of the gradient, which needs no value.
impl<B: Backend + WinogradOps, C: CheckpointStrategy> WinogradOps for Autodiff<B, C> {
    fn tiles(image: FloatTensor<Self>, tiling: Tiling) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Tiles;

        impl<B: Backend + WinogradOps> Backward<B, 1> for Tiles {
            type State = (usize, Tiling);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (batch, tiling) = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |grad| B::tiles_adjoint(grad, batch, tiling));
            }
        }

        let batch = burn::backend::TensorMetadata::shape(&image)[0];
        let (image, node) = image.into_parts();
        match Tiles.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((batch, tiling), B::tiles(image, tiling)),
            OpsKind::UnTracked(prep) => prep.finish(B::tiles(image, tiling)),
        }
    }

    fn tiles_adjoint(_entries: FloatTensor<Self>, _batch: usize, _tiling: Tiling) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn image(entries: FloatTensor<Self>, batch: usize, tiling: Tiling) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Image;

        impl<B: Backend + WinogradOps> Backward<B, 1> for Image {
            type State = Tiling;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let tiling = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |grad| B::image_adjoint(grad, tiling));
            }
        }

        let (entries, node) = entries.into_parts();
        match Image.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(tiling, B::image(entries, batch, tiling)),
            OpsKind::UnTracked(prep) => prep.finish(B::image(entries, batch, tiling)),
        }
    }

    fn image_adjoint(_image: FloatTensor<Self>, _tiling: Tiling) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn weigh(weight: FloatTensor<Self>, tile: Tile) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Weigh;

        impl<B: Backend + WinogradOps> Backward<B, 1> for Weigh {
            type State = Tile;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let tile = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |grad| B::weigh_adjoint(grad, tile));
            }
        }

        let (weight, node) = weight.into_parts();
        match Weigh.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(tile, B::weigh(weight, tile)),
            OpsKind::UnTracked(prep) => prep.finish(B::weigh(weight, tile)),
        }
    }

    fn weigh_adjoint(_entries: FloatTensor<Self>, _tile: Tile) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
