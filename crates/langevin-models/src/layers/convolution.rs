//! The ways to compute a convolution, and which one is taken.

mod product;
mod winograd;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, module};

use product::product;
use winograd::winograd;

/// Values in the table of patches up to which [`Algorithm::Product`] is taken: 1 GiB in `f32`.
const LARGEST_TABLE: usize = 1 << 28;

/// Channels from which Winograd's matrix products are worth their transforms.
const FEWEST_CHANNELS: usize = 16;

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
struct Convolved {
    input: usize,
    output: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Values in the table of patches.
    table: usize,
}

/// How a convolution is computed. All give the same result but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Burn's own kernel.
    Direct,
    /// One matrix product of a table of patches with the weights.
    Product,
    /// Winograd's F(2 x 2, 3 x 3): 2.25 times fewer multiplications.
    Winograd2,
    /// Winograd's F(4 x 4, 3 x 3): 4 times fewer multiplications, for `f32`.
    Winograd4,
    /// Nine matrix products in one kernel for tensor cores: for `f16`, with the feature `vulkan` and a driver that has
    /// `VK_NV_cooperative_matrix2`. Elsewhere it is [`Direct`](Self::Direct).
    NineProducts,
}

impl Algorithm {
    /// The fastest for this input.
    ///
    /// | device | dtype | convolution | algorithm | why |
    /// |---|---|---|---|---|
    /// | CPU | `f64` | all | direct | blocked im2col of its own; the other types have kernels of this library |
    /// | GPU | `f16`, `bf16` | all | direct | a kernel for tensor cores: 0.79 ms where Winograd took 0.6 to 2.2, 0.42 where it took 0.70 |
    /// | GPU | `f32` | 3 x 3, stride 1, from 16 channels to 16 and more | Winograd, tiles of 4 | 1.1 ms where the product took 5.9 and the direct kernel 51; 0.44 where they took 1.6 and 12 |
    /// | GPU | `f32` | others | product | the kernel for tensor cores does not exist, and the plain one is 5 to 10 times slower than the product |
    ///
    /// The times are those of an H100: [8, 320, 64, 64] and [64, 256, 16, 16]. [`NineProducts`](Self::NineProducts) takes 0.56 and 0.20
    /// ms there and is not chosen: a UNet took as long with it as without (16.1 and 16.7 ms), and drivers compile its kernels, one for each
    /// tile, so long that a first training step took more than 235 seconds instead of 88.
    fn of(device: &Device, dtype: DType, shape: Convolved) -> Self {
        if dtype != DType::F32 || !has_kernels(device) {
            return Self::Direct;
        }
        let wide = shape.input >= FEWEST_CHANNELS && shape.output >= FEWEST_CHANNELS;
        if cfg!(feature = "cube") && wide && Self::Winograd4.fits(shape.kernel, shape.stride) {
            Self::Winograd4
        } else if shape.table <= LARGEST_TABLE {
            Self::Product
        } else {
            Self::Direct
        }
    }

    /// Whether it can compute a convolution with this kernel and stride.
    #[must_use]
    pub fn fits(self, kernel: [usize; 2], stride: [usize; 2]) -> bool {
        match self {
            Self::Direct | Self::Product => true,
            Self::Winograd2 | Self::Winograd4 | Self::NineProducts => kernel == [3, 3] && stride == [1, 1],
        }
    }

    /// Whether the kernel of [`NineProducts`](Self::NineProducts) computes this convolution.
    #[cfg(feature = "vulkan")]
    fn served(x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> bool {
        let ([batch, input, height, width], [output, _, k, l]) = (x.dims(), weight.dims());
        padding == [1, 1]
            && Self::NineProducts.fits([k, l], stride)
            && weight.dtype() == x.dtype()
            && langevin_gpu::convolves(&x.device(), x.dtype(), [batch, height, width, input], output)
    }

    /// Convolves `[batch, input, height, width]` with `[output, input, rows, columns]`, without a bias.
    ///
    /// # Panics
    ///
    /// If it does not [fit](Self::fits).
    #[must_use]
    pub fn run(self, x: Tensor<4>, weight: Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Tensor<4> {
        let [_, _, k, l] = weight.dims();
        assert!(self.fits([k, l], stride), "{self:?} is for kernels of 3 x 3 and stride 1");
        match self {
            #[cfg(feature = "vulkan")]
            Self::NineProducts if Self::served(&x, &weight, stride, padding) => {
                channels_first(langevin_gpu::convolve(channels_last(x), weight))
            }
            Self::Direct | Self::NineProducts => {
                let options = ConvOptions::new(stride, padding, [1, 1], 1);
                module::conv2d(x, weight, None, options)
            }
            Self::Product => product(x, weight, stride, padding),
            Self::Winograd2 | Self::Winograd4 => {
                if self == Self::Winograd2 {
                    winograd::<2>(x, weight, padding)
                } else {
                    winograd::<4>(x, weight, padding)
                }
            }
        }
    }
}

/// Whether a device computes by compiled kernels (wgpu, CUDA, ROCm …) and not on the host.
#[cfg(feature = "cube")]
pub(super) fn has_kernels(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}

/// The same where only Burn may have been built with such a backend, and not this library. Without the backend's feature Burn does
/// not let one ask for it: its printed form tells.
#[cfg(not(feature = "cube"))]
pub(super) fn has_kernels(device: &Device) -> bool {
    format!("{device:?}").contains("Cube(")
}

/// Convolves `[batch, input, height, width]` with `[output, input, rows, columns]` by the fastest algorithm for this input, and
/// adds the bias `[output]`: on the CPU the kernels of this library, else [`Algorithm::of`].
pub(crate) fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::convolve(&x, &weight, bias.as_ref(), stride, padding) {
        return y;
    }
    let ([batch, input, height, width], [output, _, k, l]) = (x.dims(), weight.dims());
    let [rows, columns] = output_size([height, width], [k, l], stride, padding);
    let table = batch * rows * columns * k * l * input;
    let shape = Convolved { input, output, kernel: [k, l], stride, table };
    let y = Algorithm::of(&x.device(), x.dtype(), shape).run(x, weight, stride, padding);
    // Added here and not in Burn's convolution: in half precision a GPU then keeps its fast kernel.
    match bias {
        Some(bias) => y + bias.reshape([1, output, 1, 1]),
        None => y,
    }
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
///
/// A single channel or pixel is a matter of the shape alone. It must be: Burn's fused kernels read a view that has moved
/// a dimension of size one in steps of the vector width, and so take the wrong elements.
pub(super) fn channels_last(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let last = [batch, height, width, channels];
    if channels == 1 || height * width == 1 { x.reshape(last) } else { x.permute([0, 2, 3, 1]) }
}

/// The way back.
pub(super) fn channels_first(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let first = [batch, channels, height, width];
    if channels == 1 || height * width == 1 { x.reshape(first) } else { x.permute([0, 3, 1, 2]) }
}

/// `[batch, channels, height, width]` to tokens `[batch, height·width, channels]`: a view where channels lie last, as on
/// GPUs after a convolution.
pub(super) fn to_tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    if has_kernels(&x.device()) {
        return channels_last(x).reshape([batch, height * width, channels]);
    }
    x.flatten::<3>(2, 3).swap_dims(1, 2)
}

/// The way back.
pub(super) fn to_image(x: Tensor<3>, height: usize, width: usize) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    if has_kernels(&x.device()) {
        return channels_first(x.reshape([batch, height, width, channels]));
    }
    x.swap_dims(1, 2).reshape([batch, channels, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn algorithms_agree_in_value_and_gradient() {
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
        for algorithm in [Algorithm::Product, Algorithm::Winograd2, Algorithm::Winograd4] {
            if !algorithm.fits(kernel, stride) {
                continue;
            }
            for (direct, given) in direct.iter().zip(&run(algorithm)) {
                let given = Tensor::<1>::from_data(given.as_slice(), (&device, DType::F64));
                assert_close(&given.cast(DType::F32), direct, 2e-5);
            }
        }
    }

    #[test]
    fn the_cpu_takes_the_direct_way() {
        let shape = Convolved { input: 32, output: 32, kernel: [3, 3], stride: [1, 1], table: 1 };
        assert_eq!(Algorithm::of(&flex(), DType::F32, shape), Algorithm::Direct);
        assert_eq!(Algorithm::of(&flex().autodiff(), DType::F32, shape), Algorithm::Direct);
    }
}
