//! Images as rows of patches.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use super::{Conv2d, Conv2dConfig};
use crate::error::{ModelError, at_least_one, positive};
use crate::layers::{permuted, swapped};
use crate::tap::Tap;

/// Sines and cosines for the place of each patch in a grid: half of the features tell the column, half the row.
///
/// With a quarter of the width q, the frequencies are `10000^(-i/q)`, i = 0 .. q-1. A coordinate c of a side with n
/// patches is told as `c·base/n/scale`: whatever the size of the image, its patches cover the same range, which the base
/// and the scale set.
///
/// # References
///
/// Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.5; the scale: Chen et al. 2024,
/// [arXiv:2403.04692](https://arxiv.org/abs/2403.04692), section 3.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridPositions {
    width: usize,
    base: usize,
    scale: f64,
}

impl GridPositions {
    /// `width` features, for networks trained on images of `base` patches a side.
    #[must_use]
    pub fn new(width: usize, base: usize) -> Self {
        Self { width, base, scale: 1.0 }
    }

    /// Sets the divisor of coordinates (`interpolation_scale` of published configurations).
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is no multiple of 4 or zero, the base zero, or the scale not above zero.
    pub fn check(self) -> Result<Self, ModelError> {
        at_least_one("sample_size", self.base)?;
        positive("interpolation_scale", self.scale)?;
        if self.width == 0 || !self.width.is_multiple_of(4) {
            return Err(ModelError::Config {
                field: "width",
                given: self.width.to_string(),
                expected: "a multiple of 4: sines and cosines of columns and rows".into(),
            });
        }
        Ok(self)
    }

    /// The features of each patch of a grid, in f32.
    ///
    /// # Shapes
    ///
    /// - output: `[1, rows·columns, width]`
    #[must_use]
    pub fn table(&self, [rows, columns]: [usize; 2], device: &Device) -> Tensor<3> {
        let half = self.width / 2;
        // Computed for one side at a time: the table is a product of two short ones.
        let across = self.side(columns, device).reshape([1, 1, columns, half]).expand([1, rows, columns, half]);
        let down = self.side(rows, device).reshape([1, rows, 1, half]).expand([1, rows, columns, half]);
        Tensor::cat(vec![across, down], 3).reshape([1, rows * columns, self.width])
    }

    /// Sines, then cosines, of the coordinates of a side. Coordinates are rounded to f32 as in the reference.
    fn side(&self, count: usize, device: &Device) -> Tensor<2> {
        let quarter = self.width / 4;
        let mut values = Vec::with_capacity(count * 2 * quarter);
        for c in 0..count {
            let place = c as f32 / (count as f64 / self.base as f64) as f32 / self.scale as f32;
            let angle = |i: usize| f64::from(place) / 10_000f64.powf(i as f64 / quarter as f64);
            values.extend((0..quarter).map(|i| angle(i).sin() as f32));
            values.extend((0..quarter).map(|i| angle(i).cos() as f32));
        }
        Tensor::from_data(TensorData::new(values, [count, 2 * quarter]), (device, DType::F32))
    }
}

/// Configuration of a [`PatchEmbedding`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::PatchEmbeddingConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = PatchEmbeddingConfig::new(4, 64, 2, 16).init(&device)?;
/// assert_eq!(layer.proj.weight.dims(), [64, 4, 2, 2]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchEmbeddingConfig {
    /// Channels of the image.
    pub channels: usize,
    /// Features of a patch.
    pub width: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Height and width of the images that the network was trained on.
    pub sample_size: usize,
    /// Divisor of coordinates. Default: `1`.
    pub scale: f64,
    /// Rows and columns of a stored table of positions, of which the middle is used. Default: `None`, positions are
    /// computed for the size at hand.
    pub table: Option<usize>,
}

impl PatchEmbeddingConfig {
    /// Patches of `patch·patch` pixels.
    #[must_use]
    pub fn new(channels: usize, width: usize, patch: usize, sample_size: usize) -> Self {
        Self { channels, width, patch, sample_size, scale: 1.0, table: None }
    }

    /// Sets the divisor of coordinates.
    #[must_use]
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Stores a table of `side·side` positions.
    #[must_use]
    pub fn table(mut self, side: usize) -> Self {
        self.table = Some(side);
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the images are smaller than a patch, or [`GridPositions::check`] finds
    /// something.
    pub fn validate(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.channels)?;
        at_least_one("patch_size", self.patch)?;
        if self.sample_size < self.patch {
            return Err(ModelError::Config {
                field: "sample_size",
                given: self.sample_size.to_string(),
                expected: format!("at least {}, the size of a patch", self.patch),
            });
        }
        if let Some(side) = self.table {
            at_least_one("pos_embed_max_size", side)?;
        }
        self.positions().check().map(drop)
    }

    fn positions(&self) -> GridPositions {
        GridPositions::new(self.width, self.sample_size / self.patch.max(1)).scale(self.scale)
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<PatchEmbedding, ModelError> {
        self.validate()?;
        let positions = self.positions();
        let table = match self.table {
            Some(side) => {
                let shape = Shape::from([1, side * side, self.width]);
                let make = move |device: &Device, _: bool| positions.table([side, side], device);
                Some(Param::uninitialized(ParamId::new(), make, device.clone(), false, shape))
            }
            None => None,
        };
        Ok(PatchEmbedding {
            proj: Conv2dConfig::new(self.channels, self.width, self.patch).stride(self.patch).init(device)?,
            pos_embed: table,
            positions,
            side: self.table.unwrap_or(0),
        })
    }
}

/// Turns an image into one vector for each patch, and adds where the patch is. Made by [`PatchEmbeddingConfig::init`].
///
/// # References
///
/// Dosovitskiy et al. 2020, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929), section 3.1; the stored table: Esser et
/// al. 2024, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206), section 5.3.2.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// From the pixels of a patch to its vector.
    pub proj: Conv2d,
    /// The stored table of positions `[1, side·side, width]`; not trained.
    pub pos_embed: Option<Param<Tensor<3>>>,
    #[module(skip)]
    positions: GridPositions,
    side: usize,
}

impl PatchEmbedding {
    /// The vectors of the patches, row by row. The sides of the image are multiples of the patch, and no longer than the
    /// stored table if there is one; networks check that.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, channels, height, width]`
    /// - output: `[batch, patches, width]`
    pub fn forward(&self, image: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<3> {
        let patches = self.proj.forward(image);
        tap.see("proj", &patches);
        let [_, width, rows, columns] = patches.dims();
        let tokens = swapped(patches.flatten::<3>(2, 3), 1);
        let positions = match &self.pos_embed {
            Some(table) => {
                let table = table.val().reshape([1, self.side, self.side, width]);
                let (top, left) = ((self.side - rows) / 2, (self.side - columns) / 2);
                table.narrow(1, top, rows).narrow(2, left, columns).reshape([1, rows * columns, width])
            }
            None => self.positions.table([rows, columns], &tokens.device()),
        };
        let dtype = tokens.dtype();
        // Positions are added in f32 where they are computed, as in the reference.
        let wide = if self.pos_embed.is_some() { dtype } else { wider(dtype) };
        let y = (tokens.cast(wide) + positions.cast(wide)).cast(dtype);
        tap.see("", &y);
        y
    }
}

fn wider(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The order of the entries of a patch in its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchOrder {
    /// All channels of a pixel side by side, as the output layers of transformers have them.
    ChannelsLast,
    /// All pixels of a channel side by side, as packed latents have them.
    ChannelsFirst,
}

/// Cuts an image into patches of `side·side` pixels, row by row.
///
/// # Shapes
///
/// - input: `[batch, channels, height, width]`, both sides multiples of `side`
/// - output: `[batch, patches, channels·side·side]`
pub fn patchify(image: Tensor<4>, side: usize, order: PatchOrder) -> Tensor<3> {
    let [batch, channels, height, width] = image.dims();
    let (rows, columns) = (height / side, width / side);
    let cut = image.reshape([batch, channels, rows, side, columns, side]);
    let axes = match order {
        PatchOrder::ChannelsLast => [0, 2, 4, 3, 5, 1],
        PatchOrder::ChannelsFirst => [0, 2, 4, 1, 3, 5],
    };
    permuted(cut, axes).reshape([batch, rows * columns, channels * side * side])
}

/// Puts patches together to an image of `rows·columns` of them: the way back of [`patchify`].
///
/// # Shapes
///
/// - input: `[batch, rows·columns, channels·side·side]`
/// - output: `[batch, channels, rows·side, columns·side]`
pub fn unpatchify(patches: Tensor<3>, [rows, columns]: [usize; 2], side: usize, order: PatchOrder) -> Tensor<4> {
    let [batch, _, entries] = patches.dims();
    let channels = entries / (side * side);
    let (shape, axes) = match order {
        PatchOrder::ChannelsLast => ([batch, rows, columns, side, side, channels], [0, 5, 1, 3, 2, 4]),
        PatchOrder::ChannelsFirst => ([batch, rows, columns, channels, side, side], [0, 3, 1, 4, 2, 5]),
    };
    permuted(patches.reshape(shape), axes).reshape([batch, channels, rows * side, columns * side])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn positions_agree_with_the_formula() {
        let given = GridPositions::new(8, 4).scale(2.0).check().unwrap().table([2, 5], &flex());
        assert_eq!(given.dims(), [1, 10, 8]);
        let mut expected = Vec::new();
        for row in 0..2 {
            for column in 0..5 {
                let features = |c: f64, n: f64| {
                    let angle = move |i: i32| c * 4.0 / n / 2.0 * 0.01f64.powi(i);
                    [angle(0).sin(), angle(1).sin(), angle(0).cos(), angle(1).cos()]
                };
                expected.extend(features(f64::from(column), 5.0));
                expected.extend(features(f64::from(row), 2.0));
            }
        }
        assert_close(&given, &expected, 1e-6);
    }

    #[test]
    fn a_patch_is_projected_and_its_place_added() {
        let device = flex();
        for table in [None, Some(6)] {
            let mut config = PatchEmbeddingConfig::new(3, 8, 2, 8);
            config.table = table;
            let layer = config.init(&device).unwrap();
            let image = tensor([2, 3, 4, 6], 0.3, &device);
            let weight = layer.proj.weight.val().reshape([8, 12]);
            let pixels = patchify(image.clone(), 2, PatchOrder::ChannelsFirst);
            let bias = layer.proj.bias.as_ref().unwrap().val().reshape([1, 1, 8]);
            let projected = pixels.matmul(weight.transpose().unsqueeze()) + bias;
            let positions = GridPositions::new(8, 4);
            let positions = match table {
                None => positions.table([2, 3], &device),
                // The middle of the table: rows 2 and 3, columns 1 to 3.
                Some(_) => Tensor::cat(vec![positions.table([6, 6], &device); 1], 0)
                    .reshape([1, 6, 6, 8])
                    .slice([0..1, 2..4, 1..4, 0..8])
                    .reshape([1, 6, 8]),
            };
            assert_close(&layer.forward(image, &mut Tap::none()), &values(&(projected + positions)), 1e-5);
        }
    }

    #[test]
    fn patches_come_back_as_the_image() {
        let image = tensor([2, 3, 4, 6], 0.3, &flex());
        for order in [PatchOrder::ChannelsLast, PatchOrder::ChannelsFirst] {
            let patches = patchify(image.clone(), 2, order);
            assert_eq!(patches.dims(), [2, 6, 12]);
            assert_close(&unpatchify(patches, [2, 3], 2, order), &values(&image), 0.0);
        }
    }

    #[test]
    fn entries_of_a_patch_have_the_asked_order() {
        let image = Tensor::<1>::from_data([0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0], &flex());
        let image = image.reshape([1, 2, 2, 2]);
        let first = patchify(image.clone(), 2, PatchOrder::ChannelsFirst);
        assert_close(&first, &[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0], 0.0);
        let last = patchify(image, 2, PatchOrder::ChannelsLast);
        assert_close(&last, &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0], 0.0);
    }

    #[test]
    fn each_bad_setting_is_named() {
        let config = || PatchEmbeddingConfig::new(3, 8, 2, 8);
        let with = |change: fn(&mut PatchEmbeddingConfig)| {
            let mut c = config();
            change(&mut c);
            c
        };
        for (config, name) in [
            (with(|c| c.channels = 0), "in_channels"),
            (with(|c| c.width = 6), "width"),
            (with(|c| c.patch = 0), "patch_size"),
            (with(|c| c.sample_size = 1), "sample_size"),
            (with(|c| c.scale = f64::NAN), "interpolation_scale"),
            (with(|c| c.table = Some(0)), "pos_embed_max_size"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }

    #[test]
    fn a_stored_table_is_not_trained() {
        let layer = PatchEmbeddingConfig::new(3, 8, 2, 8).table(6).init(&flex().autodiff()).unwrap();
        assert!(!layer.pos_embed.unwrap().val().is_require_grad());
    }
}
