//! The linear maps around the products of Winograd's convolution.
//!
//! A convolution with a 3 x 3 kernel is computed in tiles of m x m outputs, from windows of (m + 2) x (m + 2) inputs:
//! `y = Aᵀ[Σ (G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`, the sum over input channels. Here are `d → Bᵀ·d·B` of every window and `M → Aᵀ·M·A`
//! of every tile, with their adjoints; the sum between them is a matrix product for each of the (m + 2)² entries.
//!
//! # References
//!
//! Lavin, Gray 2016, [arXiv:1509.09308](https://arxiv.org/abs/1509.09308), section 4.

mod kernels;
mod matrices;
mod ops;

use burn::tensor::Tensor;

pub use matrices::Tile;
use ops::{Dispatch, WinogradOps};

/// How an image is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Outputs of a tile.
    pub tile: Tile,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Zeros above and to the left of the input.
    pub padding: [usize; 2],
}

impl Tiling {
    /// For a 3 x 3 kernel with stride 1.
    #[must_use]
    pub fn new(tile: Tile, input: [usize; 2], padding: [usize; 2]) -> Self {
        let output = std::array::from_fn(|i| (input[i] + 2 * padding[i]).saturating_sub(2));
        Self { tile, input, output, padding }
    }

    /// Tiles down and across.
    #[must_use]
    pub fn tiles(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(self.tile.outputs()))
    }

    /// Entries of a transformed window.
    #[must_use]
    pub fn entries(&self) -> usize {
        let n = self.tile.inputs();
        n * n
    }
}

/// The transformed windows of an image: `Bᵀ·d·B`.
///
/// # Shapes
///
/// - image: `[batch, height, width, channels]`
/// - output: `[entries, batch·tiles down·tiles across, channels]`
#[must_use]
pub fn tiles_of(image: Tensor<4>, tiling: Tiling) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::tiles(image.into_dispatch(), tiling))
}

/// The image whose tiles are `Aᵀ·M·A`.
///
/// # Shapes
///
/// - products: `[entries, batch·tiles down·tiles across, channels]`
/// - output: `[batch, height, width, channels]`
#[must_use]
pub fn image_of(products: Tensor<3>, batch: usize, tiling: Tiling) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::image(products.into_dispatch(), batch, tiling))
}

/// The transformed kernel of each pair of channels: `G·g·Gᵀ`.
///
/// # Shapes
///
/// - weight: `[output, input, 3, 3]`
/// - output: `[entries, input, output]`
#[must_use]
pub fn kernel_of(weight: Tensor<4>, tile: Tile) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::weigh(weight.into_dispatch(), tile))
}
