//! Convolution as one matrix product, of the numbers of each window and the weights, by single numbers: windows are read from the image, and
//! there is no table of them (implicit GEMM).
//!
//! # References
//!
//! Chetlur et al. 2014, [arXiv:1410.0759](https://arxiv.org/abs/1410.0759), section 3.

mod ops;

use burn::tensor::{DType, Device, Tensor};

use crate::additions::Additions;
use crate::product::{multiplies, reaches};
use ops::{Dispatch, WindowsOps};

/// The windows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Pixels from one to the next.
    pub stride: [usize; 2],
    /// Zeros around the image, on each side.
    pub padding: [usize; 2],
    /// Height and width of the image.
    pub input: [usize; 2],
    /// Height and width of the output: windows down and across.
    pub output: [usize; 2],
}

impl Windows {
    /// Of an image of some height and width, which with its padding is no smaller than a window.
    ///
    /// # Panics
    ///
    /// If a stride is zero.
    #[must_use]
    pub fn new(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], input: [usize; 2]) -> Self {
        let output = std::array::from_fn(|i| (input[i] + 2 * padding[i]).saturating_sub(kernel[i]) / stride[i] + 1);
        Self { kernel, stride, padding, input, output }
    }

    /// Pixels of a window.
    fn places(&self) -> usize {
        self.kernel.iter().product()
    }
}

/// Whether [`convolve_windows`] can be asked: the device [multiplies] by single numbers, windows are larger than the padding on each side, and
/// no product has more rows than one launch reaches.
#[must_use]
pub fn convolves_windows(
    device: &Device,
    dtype: DType,
    batch: usize,
    [input, output]: [usize; 2],
    windows: Windows,
) -> bool {
    let pixels = |size: [usize; 2]| batch * size[0] * size[1];
    let (whole, outputs) = (pixels(windows.input), pixels(windows.output));
    let places = windows.places();
    let fits = (0..2).all(|i| {
        windows.padding[i] < windows.kernel[i] && windows.input[i] + 2 * windows.padding[i] >= windows.kernel[i]
    });
    fits && multiplies(device, dtype)
        && reaches([1, outputs, places * input], output)
        && reaches([1, whole, places * output], input)
        && reaches([1, output, outputs], places * input)
}

/// The convolution with a kernel of any size, and what is added to it, with gradients.
///
/// # Shapes
///
/// - image: `[batch, height, width, input]`
/// - weight: `[output, input, rows, columns]`
/// - output: `[batch, height, width, output]`
///
/// # Panics
///
/// If it cannot be asked for ([`convolves_windows`]), or a tensor has another type or shape than these.
#[must_use]
pub fn convolve_windows(image: Tensor<4>, weight: Tensor<4>, additions: Additions, windows: Windows) -> Tensor<4> {
    let ([batch, height, width, input], [output, ..]) = (image.dims(), weight.dims());
    let [k, l] = windows.kernel;
    assert_eq!((weight.dims(), weight.dtype()), ([output, input, k, l], image.dtype()), "the weight");
    assert_eq!([height, width], windows.input, "the image");
    let asked = convolves_windows(&image.device(), image.dtype(), batch, [input, output], windows);
    assert!(asked, "no kernel for this convolution");
    let [rows, columns] = windows.output;
    let (bias, added, form) = additions.with([batch, rows, columns, output], &weight);
    let (image, weight) = (image.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::convolve_windows(image, weight, bias, added, windows, form))
}
