//! Two-dimensional convolutions and their gradients.

mod patches;
mod pointwise;
mod tiles;
mod winograd;

use tiles::Tiled;
use winograd::{Four, Two};

/// Tiles of an image below which a 3x3 kernel is not applied by tiles of that size: the transform of the kernels then costs more
/// than it saves. Those of one image, so that a sample does not depend on how many there are.
const FEWEST_FOURS: usize = 12;
/// See [`FEWEST_FOURS`].
const FEWEST_TWOS: usize = 16;

/// Channels, of images and of results, below which a 3x3 kernel is not applied by tiles of 4x4. From 24 on they would be faster, but
/// lose a digit: their errors are three to five times as large, which networks of few channels show.
const FEWEST_CHANNELS_OF_FOURS: usize = 96;
/// The same for tiles of 2x2, of which only the time counts.
const FEWEST_CHANNELS_OF_TWOS: usize = 48;
/// Channels above which the kernels' transform takes what tiles of 2x2 in small images save.
const MOST_CHANNELS_OF_TWOS: usize = 384;

/// Pixels of an image below which a kernel of one pixel meets many images at once, in a table.
const FEWEST_PIXELS: usize = 64;

/// Tiles of 4x4 of all images, and channels, below which the gradient of a weight goes by patches.
const FEWEST_TILES_OF_GRADIENTS: usize = 16;
/// See [`FEWEST_TILES_OF_GRADIENTS`].
const FEWEST_CHANNELS_OF_GRADIENTS: usize = 48;

/// Sizes of a convolution.
///
/// Kernels of 3x3 that move by one, with one zero around the images, are applied by Winograd's algorithm where there are enough
/// pixels and channels, with tiles of 4x4 or of 2x2 results; all others by one product with a table of patches. Errors are about
/// 2e-6, 6e-7 and 4e-7 of the results' root mean square (320 channels of random numbers). Gradients of weights, which are
/// sums over all pixels, go by tiles of 4x4 from 48 channels and 16 tiles of all images on.
///
/// # Example
///
/// ```
/// use langevin_kernels::convolution::ConvolutionSizes;
///
/// let sizes = ConvolutionSizes { batch: 1, input: 2, output: 3, image: [4, 5], kernel: [3, 3], stride: [1, 1], padding: [1, 1] };
/// assert_eq!(sizes.result(), [4, 5]);
/// let (x, weight) = (vec![1.0; 40], vec![0.5; 54]);
/// let mut y = vec![0.0; 60];
/// sizes.forward(&x, &weight, Some(&[0.0, 1.0, 2.0]), &mut y);
/// // At a corner, four entries of the kernels of two channels meet the image.
/// assert!((y[0] - 4.0).abs() < 1e-5 && (y[20] - 5.0).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionSizes {
    /// Images.
    pub batch: usize,
    /// Channels of the images.
    pub input: usize,
    /// Channels of the results.
    pub output: usize,
    /// Height and width of the images.
    pub image: [usize; 2],
    /// Height and width of the kernels.
    pub kernel: [usize; 2],
    /// Distance between results, in pixels of the images.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side of the images.
    pub padding: [usize; 2],
}

/// Kernels of a weight as the tiles of one size take them: of nine numbers 16 for tiles of 2x2, 36 for tiles of 4x4.
///
/// Made by [`ConvolutionSizes::transform`].
#[derive(Debug, Clone)]
pub struct TransformedKernels {
    numbers: Vec<f32>,
    /// Results of a tile, down and across.
    tile: usize,
    /// Channels of results and of images.
    channels: [usize; 2],
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    /// Tiles of 4x4 results.
    Fours(Tiled<Four, 4, 6>),
    /// Tiles of 2x2 results.
    Twos(Tiled<Two, 2, 4>),
    /// Products with the images as they lie.
    Pixels,
    /// A product with a table of patches.
    Patches,
}

impl ConvolutionSizes {
    /// Height and width of the results: `(image + 2·padding - kernel) / stride + 1`.
    ///
    /// # Panics
    ///
    /// If the kernel is larger than the image with its border, or a stride is zero.
    #[must_use]
    pub fn result(&self) -> [usize; 2] {
        std::array::from_fn(|i| {
            let most = self.image[i] + 2 * self.padding[i];
            assert!(most >= self.kernel[i], "a kernel larger than the image: {self:?}");
            (most - self.kernel[i]) / self.stride[i] + 1
        })
    }

    /// Writes `weight * x + bias` to `y`.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, height, width]`
    /// - weight: `[output, input, rows, columns]`
    /// - bias: `[output]`
    /// - y: `[batch, output, height of results, width of results]`
    ///
    /// # Panics
    ///
    /// If a slice has another length than these, or a size is zero.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.check(x, weight.len(), y);
        assert!(bias.is_none_or(|b| b.len() == self.output), "a bias for each output of {self:?}");
        match self.algorithm() {
            Algorithm::Fours(tiled) => tiled.forward(x, weight, bias, y),
            Algorithm::Twos(tiled) => tiled.forward(x, weight, bias, y),
            Algorithm::Pixels => self.forward_by_pixels(x, weight, bias, y),
            Algorithm::Patches => self.forward_by_patches(x, weight, bias, y),
        }
    }

    /// Transforms the kernels of a weight, for [`forward_transformed`](Self::forward_transformed). `None` where convolutions of these
    /// sizes do not go by tiles.
    ///
    /// # Shapes
    ///
    /// - weight: `[output, input, rows, columns]`
    ///
    /// # Panics
    ///
    /// If the weight has another length.
    #[must_use]
    pub fn transform(&self, weight: &[f32]) -> Option<TransformedKernels> {
        assert_eq!(weight.len(), self.kernels(), "kernels of {self:?}");
        let (tile, numbers) = match self.algorithm() {
            Algorithm::Fours(tiled) => (4, tiled.transform(weight)),
            Algorithm::Twos(tiled) => (2, tiled.transform(weight)),
            Algorithm::Pixels | Algorithm::Patches => return None,
        };
        Some(TransformedKernels { numbers, tile, channels: [self.output, self.input] })
    }

    /// Whether these kernels are those that convolutions of these sizes take.
    #[must_use]
    pub fn takes(&self, kernels: &TransformedKernels) -> bool {
        let tile = match self.algorithm() {
            Algorithm::Fours(_) => 4,
            Algorithm::Twos(_) => 2,
            Algorithm::Pixels | Algorithm::Patches => return false,
        };
        (kernels.tile, kernels.channels) == (tile, [self.output, self.input])
    }

    /// Does what [`forward`](Self::forward) does, to the bit, with kernels that are transformed already.
    ///
    /// # Example
    ///
    /// ```
    /// # use langevin_kernels::convolution::ConvolutionSizes;
    /// # let sizes = ConvolutionSizes { batch: 1, input: 96, output: 96, image: [16, 16], kernel: [3, 3], stride: [1, 1], padding: [1, 1] };
    /// let (x, weight) = (vec![1.0; 96 * 256], vec![0.5; 96 * 96 * 9]);
    /// let kernels = sizes.transform(&weight).expect("many channels go by tiles");
    /// let (mut y, mut again) = (vec![0.0; 96 * 256], vec![0.0; 96 * 256]);
    /// sizes.forward(&x, &weight, None, &mut y);
    /// sizes.forward_transformed(&x, &kernels, None, &mut again);
    /// assert_eq!(y, again);
    /// ```
    ///
    /// # Panics
    ///
    /// If it does not [take](Self::takes) these kernels, and as [`forward`](Self::forward) does.
    pub fn forward_transformed(&self, x: &[f32], kernels: &TransformedKernels, bias: Option<&[f32]>, y: &mut [f32]) {
        self.check(x, self.kernels(), y);
        assert!(
            self.takes(kernels),
            "kernels for {:?} channels and tiles of {}: {self:?}",
            kernels.channels,
            kernels.tile
        );
        assert!(bias.is_none_or(|b| b.len() == self.output), "a bias for each output of {self:?}");
        match self.algorithm() {
            Algorithm::Fours(tiled) => tiled.forward_transformed(x, &kernels.numbers, bias, y),
            Algorithm::Twos(tiled) => tiled.forward_transformed(x, &kernels.numbers, bias, y),
            Algorithm::Pixels | Algorithm::Patches => unreachable!("no kernels are for patches"),
        }
    }

    /// Writes the gradient with respect to `x`, given that with respect to the results. Shapes are those of
    /// [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn input_gradient(&self, gradient: &[f32], weight: &[f32], of_x: &mut [f32]) {
        self.check(of_x, weight.len(), gradient);
        match self.algorithm() {
            Algorithm::Fours(tiled) => tiled.input_gradient(gradient, weight, of_x),
            Algorithm::Twos(tiled) => tiled.input_gradient(gradient, weight, of_x),
            Algorithm::Pixels => self.input_gradient_by_pixels(gradient, weight, of_x),
            Algorithm::Patches => self.input_gradient_by_patches(gradient, weight, of_x),
        }
    }

    /// Writes the gradient with respect to the weight, given that with respect to the results. Shapes are those of
    /// [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn weight_gradient(&self, x: &[f32], gradient: &[f32], of_weight: &mut [f32]) {
        self.check(x, of_weight.len(), gradient);
        match self.tiles_of_weight_gradient() {
            Some(fours) => fours.weight_gradient(x, gradient, of_weight),
            None if self.by_pixels() => self.weight_gradient_by_pixels(x, gradient, of_weight),
            None => self.weight_gradient_by_patches(x, gradient, of_weight),
        }
    }

    /// The fastest for these sizes that keeps the digits; the times, milliseconds on two cores, are in `docs/performance.md`.
    ///
    /// | kernel | sizes | algorithm | why |
    /// |---|---|---|---|
    /// | 1x1, stride 1, no border | one image, or 64 pixels and more | pixels | nothing is copied |
    /// | 3x3, stride 1, a border of 1 | 96 channels and more on both sides, 12 tiles of an image and more | tiles of 4x4 | 0.34 where patches took 0.40 on [8, 32, 16, 16], and 0.65 where tiles of 2x2 took 0.83 on [8, 64, 16, 16] |
    /// | the same | 48 to 384 channels, 16 tiles of an image and more | tiles of 2x2 | 0.83 where patches took 1.14 on [8, 64, 16, 16]; tiles of 4x4, 0.65, lose a digit there |
    /// | all others | | patches | 0.40 where tiles of 2x2 took 0.41 on [8, 32, 16, 16] |
    fn algorithm(&self) -> Algorithm {
        if self.by_pixels() {
            return Algorithm::Pixels;
        }
        let channels = self.input.min(self.output);
        let twos = FEWEST_CHANNELS_OF_TWOS..=MOST_CHANNELS_OF_TWOS;
        match (Tiled::of(self), Tiled::of(self)) {
            (Some(fours), _) if fours.count() >= FEWEST_FOURS && channels >= FEWEST_CHANNELS_OF_FOURS => {
                Algorithm::Fours(fours)
            }
            (_, Some(tiles)) if tiles.count() >= FEWEST_TWOS && twos.contains(&channels) => Algorithm::Twos(tiles),
            _ => Algorithm::Patches,
        }
    }

    /// Whether products are taken of single images: not where those are so small that many together are faster.
    fn by_pixels(&self) -> bool {
        self.is_pointwise() && (self.batch == 1 || self.result_pixels() >= FEWEST_PIXELS)
    }

    /// The tiles by which the gradient of the weight goes, if not by patches.
    fn tiles_of_weight_gradient(&self) -> Option<Tiled<Four, 4, 6>> {
        let enough = self.input.min(self.output) >= FEWEST_CHANNELS_OF_GRADIENTS;
        Tiled::of(self).filter(|fours| enough && self.batch * fours.count() >= FEWEST_TILES_OF_GRADIENTS)
    }

    fn result_pixels(&self) -> usize {
        self.result().iter().product()
    }

    /// Numbers of the weight.
    fn kernels(&self) -> usize {
        self.output * self.input * self.kernel[0] * self.kernel[1]
    }

    fn check(&self, x: &[f32], weight: usize, y: &[f32]) {
        let mut sizes = [self.image, self.kernel, self.stride].concat();
        sizes.extend([self.batch, self.input, self.output]);
        assert!(!sizes.contains(&0), "a size is zero: {self:?}");
        assert_eq!(x.len(), self.batch * self.input * self.image[0] * self.image[1], "images of {self:?}");
        assert_eq!(weight, self.kernels(), "kernels of {self:?}");
        assert_eq!(y.len(), self.batch * self.output * self.result_pixels(), "results of {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// The definition, and its gradients: y, of_x, of_weight for the sum of y·g.
    fn by_hand(s: ConvolutionSizes, x: &[f32], w: &[f32], b: &[f32], g: &[f32]) -> [Vec<f64>; 3] {
        let ([height, width], [rows, columns], [k, l]) = (s.image, s.result(), s.kernel);
        let mut y = vec![0.0; s.batch * s.output * rows * columns];
        let (mut of_x, mut of_w) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        for (at, y) in y.iter_mut().enumerate() {
            let (n, o) = (at / (s.output * rows * columns), at / (rows * columns) % s.output);
            let (i, j) = (at / columns % rows, at % columns);
            *y += f64::from(b[o]);
            for c in 0..s.input {
                for (p, q) in (0..k * l).map(|e| (e / l, e % l)) {
                    let (r, t) = (i * s.stride[0] + p, j * s.stride[1] + q);
                    if r < s.padding[0] || t < s.padding[1] || r - s.padding[0] >= height || t - s.padding[1] >= width {
                        continue;
                    }
                    let from = ((n * s.input + c) * height + r - s.padding[0]) * width + t - s.padding[1];
                    let of = ((o * s.input + c) * k + p) * l + q;
                    *y += f64::from(x[from]) * f64::from(w[of]);
                    of_x[from] += f64::from(w[of]) * f64::from(g[at]);
                    of_w[of] += f64::from(x[from]) * f64::from(g[at]);
                }
            }
        }
        [y, of_x, of_w]
    }

    fn agrees(s: ConvolutionSizes, algorithms: &[Algorithm]) {
        let x = numbers(s.batch * s.input * s.image[0] * s.image[1], 1);
        let w = numbers(s.output * s.input * s.kernel[0] * s.kernel[1], 2);
        let b = numbers(s.output, 3);
        let g = numbers(s.batch * s.output * s.result_pixels(), 4);
        let [y, of_x, of_w] = by_hand(s, &x, &w, &b, &g);
        for algorithm in algorithms {
            let empty = |e: &[f64]| vec![f32::NAN; e.len()];
            let (mut given, mut given_x, mut given_w) = (empty(&y), empty(&of_x), empty(&of_w));
            match algorithm {
                Algorithm::Fours(tiled) => {
                    tiled.forward(&x, &w, Some(&b), &mut given);
                    tiled.input_gradient(&g, &w, &mut given_x);
                    tiled.weight_gradient(&x, &g, &mut given_w);
                }
                Algorithm::Twos(tiled) => {
                    tiled.forward(&x, &w, Some(&b), &mut given);
                    tiled.input_gradient(&g, &w, &mut given_x);
                    s.weight_gradient(&x, &g, &mut given_w);
                }
                Algorithm::Pixels => {
                    s.forward_by_pixels(&x, &w, Some(&b), &mut given);
                    s.input_gradient_by_pixels(&g, &w, &mut given_x);
                    s.weight_gradient_by_pixels(&x, &g, &mut given_w);
                }
                Algorithm::Patches => {
                    s.forward_by_patches(&x, &w, Some(&b), &mut given);
                    s.input_gradient_by_patches(&g, &w, &mut given_x);
                    s.weight_gradient_by_patches(&x, &g, &mut given_w);
                }
            }
            assert_close(&given, &y, 1e-5);
            assert_close(&given_x, &of_x, 1e-5);
            assert_close(&given_w, &of_w, 1e-5);
        }
    }

    /// Every algorithm for kernels of three.
    fn all(s: ConvolutionSizes) -> [Algorithm; 3] {
        let (fours, twos) = (Tiled::of(&s).expect("tiles"), Tiled::of(&s).expect("tiles"));
        [Algorithm::Fours(fours), Algorithm::Twos(twos), Algorithm::Patches]
    }

    fn square(batch: usize, input: usize, output: usize, image: [usize; 2]) -> ConvolutionSizes {
        ConvolutionSizes { batch, input, output, image, kernel: [3, 3], stride: [1, 1], padding: [1, 1] }
    }

    #[test]
    fn kernels_of_three_agree_with_the_definition() {
        for (batch, input, output, height, width) in [
            (1, 1, 1, 1, 1),
            (2, 3, 5, 6, 7),
            (1, 17, 33, 8, 8),
            (3, 4, 40, 4, 4),
            (2, 20, 2, 13, 1),
            (1, 2, 3, 1, 30),
            (5, 2, 70, 3, 2),
            (1, 5, 4, 33, 66),
        ] {
            let s = square(batch, input, output, [height, width]);
            agrees(s, &all(s));
        }
    }

    #[test]
    fn other_kernels_agree_with_the_definition() {
        for (kernel, stride, padding) in [
            ([3, 3], [2, 2], [1, 1]),
            ([3, 3], [2, 2], [0, 0]),
            ([3, 3], [1, 1], [0, 0]),
            ([1, 1], [1, 1], [0, 0]),
            ([1, 1], [2, 2], [0, 0]),
            ([1, 1], [1, 1], [1, 2]),
            ([5, 5], [3, 3], [2, 2]),
            ([7, 7], [1, 1], [3, 3]),
            ([1, 5], [1, 1], [0, 2]),
            ([2, 3], [2, 1], [0, 1]),
            ([2, 2], [2, 2], [4, 4]),
        ] {
            for (batch, input, output, image) in [(2, 3, 4, [7, 8]), (1, 1, 40, [9, 7]), (3, 35, 1, [6, 10])] {
                let s = ConvolutionSizes { batch, input, output, image, kernel, stride, padding };
                let pixels = kernel == [1, 1] && stride == [1, 1] && padding == [0, 0];
                // Images of fewer pixels, several of them, go by patches, too.
                assert!(matches!(s.algorithm(), Algorithm::Patches) || (pixels && batch == 1));
                agrees(s, &[Algorithm::Patches]);
                if pixels {
                    agrees(s, &[Algorithm::Pixels]);
                    agrees(ConvolutionSizes { batch: 9, ..s }, &[Algorithm::Pixels]);
                }
            }
        }
    }

    #[test]
    fn several_portions_agree_with_the_definition() {
        // More values than are held at once; a portion of tiles ends within an image, and one of patches too.
        let s = square(3, 256, 16, [33, 66]);
        agrees(s, &all(s));
        // Several whole images in a portion, and several portions.
        let s = ConvolutionSizes { kernel: [1, 1], padding: [0, 0], ..square(70, 2048, 2, [4, 4]) };
        agrees(s, &[Algorithm::Patches]);
    }

    #[test]
    fn many_tiles_of_many_channels_are_transformed() {
        assert!(matches!(square(1, 128, 96, [16, 16]).algorithm(), Algorithm::Fours(_)));
        assert!(matches!(square(1, 128, 96, [8, 8]).algorithm(), Algorithm::Twos(_)));
        assert!(matches!(square(1, 64, 128, [16, 16]).algorithm(), Algorithm::Twos(_)));
        assert!(matches!(square(1, 512, 512, [8, 8]).algorithm(), Algorithm::Patches));
        assert!(matches!(square(1, 320, 4, [64, 64]).algorithm(), Algorithm::Patches));
        // Whatever their number.
        for batch in [1, 16] {
            assert!(matches!(square(batch, 128, 96, [4, 4]).algorithm(), Algorithm::Patches));
        }
        // But the gradient of the weight is one sum over all of them.
        assert!(square(1, 64, 96, [4, 4]).tiles_of_weight_gradient().is_none());
        assert!(square(16, 64, 96, [4, 4]).tiles_of_weight_gradient().is_some());
    }

    #[test]
    fn errors_are_those_of_the_documentation() {
        let s = square(1, 320, 8, [16, 16]);
        let (x, w) = (numbers(320 * 256, 3), numbers(8 * 320 * 9, 5));
        let [y, ..] = by_hand(s, &x, &w, &[0.0; 8], &[0.0; 8 * 256]);
        let error = |given: &[f32]| {
            let of = |v: f64| v * v;
            let errors = given.iter().zip(&y).map(|(g, y)| of(f64::from(*g) - y)).sum::<f64>();
            (errors / y.iter().map(|y| of(*y)).sum::<f64>()).sqrt()
        };
        let mut given = vec![0.0; y.len()];
        Tiled::<Four, 4, 6>::of(&s).expect("tiles").forward(&x, &w, None, &mut given);
        // With the points 0, ±1, ±2 it is twice as much.
        assert!(error(&given) < 2.5e-6, "{}", error(&given));
        Tiled::<Two, 2, 4>::of(&s).expect("tiles").forward(&x, &w, None, &mut given);
        assert!(error(&given) < 8e-7, "{}", error(&given));
        s.forward_by_patches(&x, &w, None, &mut given);
        assert!(error(&given) < 7e-7, "{}", error(&given));
    }

    #[test]
    fn kernels_that_are_transformed_once_give_the_same_bits() {
        // Tiles of 4 and of 2, of one portion and of several, and a block of outputs that is not full.
        for (batch, channels, image) in [(1, [96, 100], [16, 16]), (1, [64, 72], [16, 9]), (3, [256, 96], [33, 66])] {
            let s = square(batch, channels[0], channels[1], image);
            let x = numbers(batch * channels[0] * image[0] * image[1], 1);
            let (w, b) = (numbers(channels[0] * channels[1] * 9, 2), numbers(channels[1], 3));
            let mut y = vec![f32::NAN; batch * channels[1] * image[0] * image[1]];
            let mut again = y.clone();
            s.forward(&x, &w, Some(&b), &mut y);
            let kernels = s.transform(&w).expect("tiles");
            s.forward_transformed(&x, &kernels, Some(&b), &mut again);
            assert_eq!(y, again, "{s:?}");
            assert!(!ConvolutionSizes { output: channels[1] + 1, ..s }.takes(&kernels));
        }
        assert!(square(1, 320, 4, [64, 64]).transform(&[0.0; 320 * 4 * 9]).is_none());
        let (fours, twos) = (square(1, 96, 96, [16, 16]), square(1, 96, 96, [8, 8]));
        assert!(!twos.takes(&fours.transform(&[0.0; 96 * 96 * 9]).expect("tiles")));
    }

    #[test]
    #[should_panic(expected = "results of")]
    fn refuses_slices_of_other_lengths() {
        square(1, 1, 1, [4, 4]).forward(&[0.0; 16], &[0.0; 9], None, &mut [0.0; 15]);
    }
}
