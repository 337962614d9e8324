//! The ways to compute a convolution, and which one is taken.

mod kept;
mod product;
#[cfg(feature = "cube")]
mod winograd;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, module};

use super::{permuted, swapped};
pub(crate) use kept::Kept;
#[cfg(feature = "flex")]
pub(crate) use kept::Transform;
use product::product;
#[cfg(feature = "cube")]
use winograd::{Tile, in_tiles};

/// Values in the table of patches up to which [`Algorithm::Product`] is taken: 1 GiB in `f32`.
const LARGEST_TABLE: usize = 1 << 28;

/// Multiplications below which Burn's tuner was seen to take its plain kernel, and not the one for tensor cores, in half precision; a
/// convolution that is smaller than that costs a launch either way.
const FEWEST_MULTIPLICATIONS: usize = 1 << 26;

/// Channels from which Winograd's matrix products are worth their transforms.
const FEWEST_CHANNELS: usize = 16;

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
struct Convolved {
    /// `[batch, input, height, width]`
    image: [usize; 4],
    output: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    /// Whether image and weight are of one type.
    alike: bool,
}

impl Convolved {
    fn new(x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Self {
        let [output, _, k, l] = weight.dims();
        Self { image: x.dims(), output, kernel: [k, l], stride, padding, alike: x.dtype() == weight.dtype() }
    }

    /// Values in the table of patches.
    fn table(&self) -> usize {
        let [batch, input, height, width] = self.image;
        let [rows, columns] = output_size([height, width], self.kernel, self.stride, self.padding);
        batch * rows * columns * self.kernel[0] * self.kernel[1] * input
    }

    /// Multiplications of the direct way.
    fn multiplications(&self) -> usize {
        self.table().saturating_mul(self.output)
    }

    /// Whether each pixel is mapped by itself.
    #[cfg(feature = "cube")]
    fn is_a_map(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    #[cfg(feature = "cube")]
    fn windows(&self) -> langevin_gpu::Windows {
        let [_, _, height, width] = self.image;
        langevin_gpu::Windows::new(self.kernel, self.stride, self.padding, [height, width])
    }

    /// Whether the kernels of [`Algorithm::Winograd2`] and [`Algorithm::Winograd4`] compute it.
    fn in_tiles(&self, device: &Device, dtype: DType) -> bool {
        let is_there = cfg!(feature = "cube") && self.alike && dtype != DType::F64 && compiles_kernels(device);
        is_there && Algorithm::Winograd4.fits(self.kernel, self.stride) && self.multiplications() > 0
    }

    /// Whether the kernel of [`Algorithm::Windows`] computes it.
    fn by_windows(&self, device: &Device, dtype: DType) -> bool {
        #[cfg(feature = "cube")]
        if self.alike {
            let [batch, input, ..] = self.image;
            return langevin_gpu::convolves_windows(device, dtype, batch, [input, self.output], self.windows());
        }
        // Without the feature nobody computes it that way.
        let _ = (device, dtype);
        false
    }

    /// Whether the kernel of [`Algorithm::NineProducts`] computes it.
    fn by_nine_products(&self, device: &Device, dtype: DType) -> bool {
        let fits = self.alike && self.padding == [1, 1] && Algorithm::NineProducts.fits(self.kernel, self.stride);
        #[cfg(feature = "vulkan")]
        if fits {
            let [batch, input, height, width] = self.image;
            return langevin_gpu::convolves(device, dtype, [batch, height, width, input], self.output);
        }
        // Without the feature nobody computes it that way.
        let _ = (device, dtype, fits);
        false
    }
}

/// How a convolution is computed. All give the same result but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Kernels of this library for CPUs: Winograd's F(4 x 4, 3 x 3) or F(2 x 2, 3 x 3), or a product with a table of patches, as
    /// `langevin_kernels::convolution` says. Elsewhere it is what the layers take there.
    Packed,
    /// Burn's own kernel.
    Direct,
    /// One matrix product of a table of patches with the weights.
    Product,
    /// The same without the table (implicit GEMM): a kernel for GPUs reads patches from the image, for types of which the hardware has no
    /// matrices. Elsewhere it is what the layers take there.
    Windows,
    /// Winograd's F(2 x 2, 3 x 3), by kernels for GPUs: 2.25 times fewer multiplications. Elsewhere it is what the layers take there.
    Winograd2,
    /// Winograd's F(4 x 4, 3 x 3), likewise: 4 times fewer multiplications, for `f32`.
    Winograd4,
    /// Nine matrix products in one kernel for tensor cores, with what is added to the result: for `f16`, with the feature `vulkan` and a
    /// driver that has `VK_NV_cooperative_matrix2`. Elsewhere it is what the layers take there.
    NineProducts,
}

impl Algorithm {
    /// The one that layers take: the fastest for this input, from what was measured.
    ///
    /// | device | dtype | convolution | algorithm | why |
    /// |---|---|---|---|---|
    /// | CPU (`flex`) | all but `f64` | all | packed | 0.47 of PyTorch's time for [1, 320, 64, 64] |
    /// | CPU (`flex`) | `f64` | all | direct | blocked im2col of its own |
    /// | GPU with matrices of a workgroup | `f16` | 3 x 3, stride 1 or 2, a border of 1, 32 channels and more on a side | nine products | 0.15 ms where the direct kernel took 0.22; a UNet 12.0 where it took 16.7 |
    /// | GPU with tensor cores | `f16`, `bf16` | others, from 2²⁶ multiplications on | direct | a kernel for them: 0.79 ms where Winograd took 0.6 to 2.2, 0.42 where it took 0.70 |
    /// | GPU with tensor cores | `f16`, `bf16` | smaller | product | the tuner may find the plain kernel faster, which adds up in the type of its inputs: 2e-3 off where the product is 6e-4 off |
    /// | GPU without | `f16`, `bf16` | padding smaller than the kernel | windows | the plain direct kernel adds up in the type of its inputs, 6e-3 off where a product is 5e-4 off |
    /// | GPU | `f32` | 3 x 3, stride 1, from 16 channels to 16 and more | Winograd, tiles of 4 | 0.62 ms where a product took 5.9 and the direct kernel 51; 0.25 where they took 1.6 and 12 |
    /// | GPU without tensor cores for it | `f32` | others, padding smaller than the kernel | windows | the plain direct kernel is 5 to 10 times slower than a product, and gradients of a table of patches with stride 2 took 40 ms for [64, 128, 32, 32] |
    /// | GPU | all but `f64` | others, tables of patches up to 2²⁸ numbers | product | the plain direct kernel is slow and, in half precision, inexact |
    /// | GPU | all | others | direct | needs no table |
    ///
    /// The times are those of an H100: [8, 320, 64, 64] and [64, 256, 16, 16]; that of the nine products is for [64, 256, 16, 16] alone,
    /// without what lies around it.
    ///
    /// A kernel of one pixel with stride 1 is an affine map, as linear layers are, and goes the same way as they on a GPU.
    ///
    /// # Shapes
    ///
    /// As [`run`](Self::run).
    ///
    /// # Example
    ///
    /// ```
    /// use langevin_models::layers::algorithm::Convolution;
    /// use burn::tensor::{Device, Tensor};
    ///
    /// let device = Device::flex();
    /// let (x, weight) = (Tensor::ones([1, 8, 16, 16], &device), Tensor::ones([8, 8, 3, 3], &device));
    /// # #[cfg(feature = "flex")]
    /// assert_eq!(Convolution::of(&x, &weight, [1, 1], [1, 1]), Convolution::Packed);
    /// ```
    #[must_use]
    pub fn of(x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Self {
        #[cfg(feature = "flex")]
        if crate::cpu::convolves(x, weight, stride, padding) {
            return Self::Packed;
        }
        Self::by_operations(&x.device(), x.dtype(), &Convolved::new(x, weight, stride, padding))
    }

    /// The rows of the table after the first.
    fn by_operations(device: &Device, dtype: DType, shape: &Convolved) -> Self {
        if shape.by_nine_products(device, dtype) {
            return Self::NineProducts;
        }
        if !compiles_kernels(device) || dtype == DType::F64 {
            return Self::Direct;
        }
        if dtype != DType::F32 {
            let large = shape.multiplications() >= FEWEST_MULTIPLICATIONS;
            if large && has_tensor_cores(device, dtype) {
                return Self::Direct;
            }
            return Self::of_a_product(device, dtype, shape);
        }
        let wide = shape.image[1] >= FEWEST_CHANNELS && shape.output >= FEWEST_CHANNELS;
        if wide && shape.in_tiles(device, dtype) { Self::Winograd4 } else { Self::of_a_product(device, dtype, shape) }
    }

    /// The product without a table of patches, or with it, or none where the table would be too large.
    fn of_a_product(device: &Device, dtype: DType, shape: &Convolved) -> Self {
        if shape.by_windows(device, dtype) {
            Self::Windows
        } else if shape.table() <= LARGEST_TABLE {
            Self::Product
        } else {
            Self::Direct
        }
    }

    /// Whether it can compute a convolution with this kernel and stride.
    #[must_use]
    pub fn fits(self, kernel: [usize; 2], stride: [usize; 2]) -> bool {
        match self {
            Self::Packed | Self::Direct | Self::Product | Self::Windows => true,
            Self::Winograd2 | Self::Winograd4 => kernel == [3, 3] && stride == [1, 1],
            Self::NineProducts => kernel == [3, 3] && matches!(stride, [1, 1] | [2, 2]),
        }
    }

    /// Whether it computes this convolution itself, on the device where its tensors are: all but [`Self::Direct`] and [`Self::Product`] have
    /// kernels for some devices and sizes, and elsewhere do what the layers do.
    #[must_use]
    pub fn computes(self, x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> bool {
        let shape = Convolved::new(x, weight, stride, padding);
        match self {
            #[cfg(feature = "flex")]
            Self::Packed => crate::cpu::convolves(x, weight, stride, padding),
            #[cfg(not(feature = "flex"))]
            Self::Packed => false,
            Self::NineProducts => shape.by_nine_products(&x.device(), x.dtype()),
            Self::Windows => shape.by_windows(&x.device(), x.dtype()),
            Self::Winograd2 | Self::Winograd4 => shape.in_tiles(&x.device(), x.dtype()),
            Self::Direct | Self::Product => true,
        }
    }

    /// Convolves without a bias.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, height, width]`
    /// - weight: `[output, input, rows, columns]`
    /// - output: `[batch, output, down, across]`, with `(height + 2·padding − rows)/stride + 1` down, and across likewise
    ///
    /// # Panics
    ///
    /// If it does not [fit](Self::fits).
    #[must_use]
    pub fn run(self, x: Tensor<4>, weight: Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Tensor<4> {
        let [_, _, k, l] = weight.dims();
        assert!(self.fits([k, l], stride), "{self:?} is not for kernels of {k} x {l} and stride {stride:?}");
        match self {
            #[cfg(feature = "flex")]
            Self::Packed if let Some(y) = crate::cpu::convolve(&x, &weight, None, stride, padding, None) => y,
            #[cfg(feature = "vulkan")]
            Self::NineProducts if self.computes(&x, &weight, stride, padding) => {
                nine_products(x, weight, None, None, stride[0])
            }
            #[cfg(feature = "cube")]
            Self::Windows if self.computes(&x, &weight, stride, padding) => {
                windows(x, weight, None, None, stride, padding)
            }
            #[cfg(feature = "cube")]
            Self::Winograd2 if self.computes(&x, &weight, stride, padding) => {
                in_tiles(Tile::Two, x, weight, None, None, padding, None)
            }
            #[cfg(feature = "cube")]
            Self::Winograd4 if self.computes(&x, &weight, stride, padding) => {
                in_tiles(Tile::Four, x, weight, None, None, padding, None)
            }
            Self::Packed | Self::NineProducts | Self::Windows | Self::Winograd2 | Self::Winograd4 => {
                Self::of(&x, &weight, stride, padding).run(x, weight, stride, padding)
            }
            Self::Direct => {
                let (device, dtype) = (x.device(), x.dtype());
                let options = ConvOptions::new(stride, padding, [1, 1], 1);
                let half = matches!(dtype, DType::F16 | DType::BF16);
                if half && compiles_kernels(&device) && !has_tensor_cores(&device, dtype) {
                    // Without tensor cores Burn's kernel adds up in the type of its inputs.
                    return module::conv2d(x.cast(DType::F32), weight.cast(DType::F32), None, options).cast(dtype);
                }
                module::conv2d(x, weight, None, options)
            }
            Self::Product => product(x, weight, None, None, stride, padding),
        }
    }
}

#[cfg(feature = "cube")]
pub(super) use langevin_gpu::compiles_kernels;

/// Whether a device computes by compiled kernels, where only Burn may have been built with such a backend, and not this library. Without the backend's feature Burn does
/// not let one ask for it: its printed form tells.
#[cfg(not(feature = "cube"))]
pub(super) fn compiles_kernels(device: &Device) -> bool {
    format!("{device:?}").contains("Cube(")
}

/// Whether a device with kernels is known to multiply matrices of a type in hardware, with sums in `f32`.
fn has_tensor_cores(device: &Device, dtype: DType) -> bool {
    #[cfg(feature = "cube")]
    return langevin_gpu::has_tensor_cores(device, dtype);
    #[cfg(not(feature = "cube"))]
    {
        let _ = (device, dtype);
        false
    }
}

/// Convolves `[batch, input, height, width]` with `[output, input, rows, columns]` by the fastest algorithm for this input, and
/// adds the bias `[output]`.
pub(crate) fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    convolve_adding(x, weight, bias, None, stride, padding, None)
}

/// The same, and an image that is added, of the output's shape or `[batch, output, 1, 1]`: without another pass over memory where
/// there is a kernel that adds. Transforms of the weight are taken from those that are kept, if any are to be.
pub(crate) fn convolve_adding(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
    stride: [usize; 2],
    padding: [usize; 2],
    kept: Option<&Kept>,
) -> Tensor<4> {
    let ([_, input, height, width], [_, of, k, l]) = (x.dims(), weight.dims());
    let fits = input == of && x.dtype() == weight.dtype();
    assert!(fits, "a convolution of {of} channels in {:?} was given {:?} in {:?}", weight.dtype(), x.dims(), x.dtype());
    let fits = height + 2 * padding[0] >= k && width + 2 * padding[1] >= l;
    assert!(fits, "a kernel of {k} x {l} with a border of {padding:?} does not fit an image of {height} x {width}");
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::convolve(&x, &weight, bias.as_ref(), stride, padding, kept) {
        return plus(y, added);
    }
    let output = weight.dims()[0];
    let shape = Convolved::new(&x, &weight, stride, padding);
    let algorithm = Algorithm::by_operations(&x.device(), x.dtype(), &shape);
    #[cfg(feature = "vulkan")]
    if algorithm == Algorithm::NineProducts {
        return nine_products(x, weight, bias, added, stride[0]);
    }
    #[cfg(feature = "cube")]
    if shape.is_a_map()
        && added.as_ref().is_none_or(|added| added.dims() == [x.dims()[0], output, x.dims()[2], x.dims()[3]])
    {
        let map = weight.clone().reshape([output, x.dims()[1]]);
        let added = added.clone().map(channels_last);
        if let Some(y) = super::linear::mapped(&channels_last(x.clone()), &map, bias.as_ref(), added.as_ref()) {
            return channels_first(y);
        }
    }
    #[cfg(feature = "cube")]
    if algorithm == Algorithm::Winograd4 {
        return in_tiles(Tile::Four, x, weight, bias, added, padding, kept);
    }
    // What else keeps transforms does so above.
    let _ = kept;
    if algorithm == Algorithm::Product {
        return product(x, weight, bias, added, stride, padding);
    }
    #[cfg(feature = "cube")]
    if algorithm == Algorithm::Windows {
        return windows(x, weight, bias, added, stride, padding);
    }
    let y = algorithm.run(x, weight, stride, padding);
    // Added here and not in Burn's convolution: in half precision a GPU then keeps its fast kernel.
    let y = match bias {
        Some(bias) => y + bias.reshape([1, output, 1, 1]),
        None => y,
    };
    plus(y, added)
}

fn plus(y: Tensor<4>, added: Option<Tensor<4>>) -> Tensor<4> {
    match added {
        Some(added) => y + added,
        None => y,
    }
}

/// The product whose one factor is read from the image.
#[cfg(feature = "cube")]
fn windows(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    let windows = Convolved::new(&x, &weight, stride, padding).windows();
    let additions = langevin_gpu::Additions { bias, added: added.map(channels_last) };
    channels_first(langevin_gpu::convolve_windows(channels_last(x), weight, additions, windows))
}

/// Whether a convolution with a square kernel goes by [`Algorithm::NineProducts`].
#[cfg(feature = "vulkan")]
pub(super) fn by_nine_products(x: &Tensor<4>, weight: &Tensor<4>, stride: usize, padding: usize) -> bool {
    Convolved::new(x, weight, [stride; 2], [padding; 2]).by_nine_products(&x.device(), x.dtype())
}

/// The kernels that normalize, convolve and add.
#[cfg(feature = "vulkan")]
pub(super) fn normalized_nine_products(
    x: Tensor<4>,
    parameters: [Tensor<1>; 2],
    settings: langevin_gpu::Normalization,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
) -> Tensor<4> {
    let additions = langevin_gpu::Additions { bias, added: added.map(channels_last) };
    channels_first(langevin_gpu::convolve_normalized(channels_last(x), parameters, settings, weight, additions))
}

/// The kernel that convolves and adds.
#[cfg(feature = "vulkan")]
fn nine_products(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<4>>,
    stride: usize,
) -> Tensor<4> {
    let additions = langevin_gpu::Additions { bias, added: added.map(channels_last) };
    channels_first(langevin_gpu::convolve(channels_last(x), weight, stride, additions))
}

/// Sizes of the output.
pub(super) fn output_size<const N: usize>(
    size: [usize; N],
    kernel: [usize; N],
    stride: [usize; N],
    padding: [usize; N],
) -> [usize; N] {
    std::array::from_fn(|i| (size[i] + 2 * padding[i]).saturating_sub(kernel[i]) / stride[i] + 1)
}

/// `[batch, channels, height, width]` to `[batch, height, width, channels]`.
pub(super) fn channels_last(x: Tensor<4>) -> Tensor<4> {
    permuted(x, [0, 2, 3, 1])
}

/// The way back.
pub(super) fn channels_first(x: Tensor<4>) -> Tensor<4> {
    permuted(x, [0, 3, 1, 2])
}

/// `[batch, channels, height, width]` to tokens `[batch, height·width, channels]`: a view where channels lie last, as on
/// GPUs after a convolution.
pub(super) fn to_tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    if compiles_kernels(&x.device()) {
        return channels_last(x).reshape([batch, height * width, channels]);
    }
    swapped(x.flatten::<3>(2, 3), 1)
}

/// The way back.
pub(super) fn to_image(x: Tensor<3>, height: usize, width: usize) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    if compiles_kernels(&x.device()) {
        return channels_first(x.reshape([batch, height, width, channels]));
    }
    swapped(x, 1).reshape([batch, channels, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    /// The others have kernels for GPUs alone.
    #[test]
    fn the_product_agrees_in_value_and_gradient() {
        for (kernel, stride, padding, size, input, output) in [
            (3, 1, 1, [6, 5], 3, 4),
            (3, 2, 1, [7, 8], 3, 4),
            (3, 2, 0, [9, 7], 3, 4),
            (1, 1, 0, [4, 3], 3, 4),
            (1, 2, 0, [5, 6], 3, 4),
            (5, 3, 2, [8, 8], 3, 4),
            (3, 1, 1, [6, 5], 1, 4),
            (3, 1, 1, [6, 5], 3, 1),
            (3, 1, 1, [6, 5], 1, 1),
            (1, 1, 0, [4, 3], 1, 4),
            (1, 1, 0, [4, 3], 4, 1),
            (1, 1, 0, [4, 3], 1, 1),
            (3, 1, 1, [1, 5], 3, 4),
            (3, 1, 1, [5, 1], 3, 4),
            (3, 1, 1, [1, 1], 3, 4),
            (3, 1, 1, [8, 8], 3, 4),
            (3, 1, 0, [9, 7], 3, 4),
            (3, 1, 2, [5, 6], 3, 4),
        ] {
            agree([kernel, kernel], [stride, stride], [padding, padding], size, input, output);
        }
        // Each axis with settings of its own, as signals and frames have them.
        for (kernel, stride, padding, size) in [
            ([1, 5], [1, 1], [0, 2], [1, 9]),
            ([1, 3], [1, 2], [0, 1], [1, 9]),
            ([3, 1], [1, 1], [1, 0], [4, 6]),
            ([2, 3], [2, 1], [0, 1], [6, 5]),
        ] {
            agree(kernel, stride, padding, size, 3, 4);
        }
    }

    #[track_caller]
    fn agree(
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        size: [usize; 2],
        input: usize,
        output: usize,
    ) {
        let device = flex();
        let run = |algorithm: Algorithm| {
            let x = Tensor::<4>::from_inner(tensor([2, input, size[0], size[1]], 0.3, &device)).require_grad();
            let weight =
                Tensor::<4>::from_inner(tensor([output, input, kernel[0], kernel[1]], 0.7, &device)).require_grad();
            let y = algorithm.run(x.clone(), weight.clone(), stride, padding);
            let [rows, columns] = output_size(size, kernel, stride, padding);
            assert_eq!(y.dims(), [2, output, rows, columns]);
            let factors = Tensor::from_inner(tensor(y.dims(), 0.9, &device));
            let gradients = y.clone().mul(factors).sum().backward();
            let (of_x, of_weight) = (x.grad(&gradients), weight.grad(&gradients));
            [values(&y.inner()), values(&of_x.expect("a gradient")), values(&of_weight.expect("a gradient"))]
        };
        let direct = run(Algorithm::Direct);
        for (direct, given) in direct.iter().zip(&run(Algorithm::Product)) {
            let given = Tensor::<1>::from_data(given.as_slice(), (&device, DType::F64));
            assert_close(&given.cast(DType::F32), direct, 2e-5);
        }
    }

    #[test]
    fn operations_on_the_cpu_take_the_direct_way() {
        let shape = Convolved {
            image: [1, 32, 4, 4],
            output: 32,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            alike: true,
        };
        for dtype in [DType::F32, DType::F16] {
            assert_eq!(Algorithm::by_operations(&flex(), dtype, &shape), Algorithm::Direct);
            assert_eq!(Algorithm::by_operations(&flex().autodiff(), dtype, &shape), Algorithm::Direct);
        }
    }
}
