//! Winograd's convolution: linear maps around matrix products.
//!
//! A convolution with a 3 x 3 kernel is computed in tiles of m x m outputs, from windows of (m + 2) x (m + 2) inputs:
//! `y = Aᵀ[Σ (G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`, the sum over input channels. Here are `d → Bᵀ·d·B` of every window and `M → Aᵀ·M·A`
//! of every tile, with their adjoints; the sum between them is a matrix product for each of the (m + 2)² entries.
//! All of it is one operation, which keeps image and kernel for its gradient and nothing in between.
//!
//! # References
//!
//! Lavin, Gray 2016, [arXiv:1509.09308](https://arxiv.org/abs/1509.09308), section 4.

mod kernels;
mod matrices;
mod ops;

use burn::tensor::Tensor;

use crate::additions::Additions;
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

/// The kernel of a convolution.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// `[output, input, 3, 3]`
    Plain(Tensor<4>),
    /// What [`kernel_of`] made of it: `[entries, input, output]`.
    Transformed(Tensor<3>),
}

/// The convolution with a 3 x 3 kernel and stride 1, and what is added to it, with gradients.
///
/// # Shapes
///
/// - image: `[batch, height, width, input]`
/// - output: `[batch, height, width, output]`
///
/// # Panics
///
/// If the shapes or types do not fit, or the output is empty.
#[must_use]
pub fn convolve_in_tiles(image: Tensor<4>, kernel: Kernel, additions: Additions, tiling: Tiling) -> Tensor<4> {
    let [batch, height, width, channels] = image.dims();
    assert_eq!([height, width], tiling.input, "the image");
    let (dtype, fits) = match &kernel {
        Kernel::Plain(kernel) => (kernel.dtype(), kernel.dims()[1..] == [channels, 3, 3]),
        Kernel::Transformed(kernel) => (kernel.dtype(), kernel.dims()[..2] == [tiling.entries(), channels]),
    };
    assert!(fits && dtype == image.dtype(), "the kernel");
    assert!(batch * channels * tiling.output[0] * tiling.output[1] > 0, "an image as large as the kernel");
    let output = |channels: usize| [batch, tiling.output[0], tiling.output[1], channels];
    let ((bias, added, form), kernel, weighed) = match kernel {
        Kernel::Plain(kernel) => (additions.with(output(kernel.dims()[0]), &kernel), kernel.into_dispatch(), false),
        Kernel::Transformed(kernel) => {
            (additions.with(output(kernel.dims()[2]), &kernel), kernel.into_dispatch(), true)
        }
    };
    Tensor::from_dispatch(Dispatch::convolve(image.into_dispatch(), kernel, bias, added, tiling, weighed, form))
}

/// The transformed kernel of each pair of channels: `G·g·Gᵀ`.
///
/// # Shapes
///
/// - weight: `[output, input, 3, 3]`
/// - output: `[entries, input, output]`
///
/// # Panics
///
/// If the weight is part of a graph of gradients: a transform that is kept has none.
#[must_use]
pub fn kernel_of(weight: Tensor<4>, tile: Tile) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::weigh(weight.into_dispatch(), tile))
}
