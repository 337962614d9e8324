//! Many images as one picture.

use std::path::Path;

use burn::tensor::Tensor;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::{DataError, atomic, scale};

/// The largest picture that is drawn, in pixels.
const MAX_PIXELS: usize = 1 << 28;

/// Draws a batch of images row by row into one picture.
///
/// Pixels in `[-1, 1]` become black to full brightness; values beyond are drawn as the nearest end, because samples of
/// a model may lie a little outside. Defaults: no upscaling, one pixel of padding, black ground.
///
/// # Example
///
/// ```no_run
/// use burn::tensor::Device;
/// use langevin_data::{DataSet, ImageGrid, digits};
///
/// # fn main() -> Result<(), langevin_data::DataError> {
/// let digits = digits()?;
/// let indices: Vec<usize> = (0..40).collect();
/// let images = digits.batch(&indices, &Device::flex())?.x;
/// ImageGrid::new(10)?.upscale(4)?.padding(2).save(&images, "out/digits.png")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGrid {
    columns: usize,
    upscale: usize,
    padding: usize,
    background: [u8; 3],
}

impl ImageGrid {
    /// A grid of at most `columns` images a row.
    ///
    /// # Errors
    ///
    /// [`DataError::GridSetting`] for 0 columns.
    pub fn new(columns: usize) -> Result<Self, DataError> {
        if columns == 0 {
            return Err(DataError::GridSetting { setting: "columns" });
        }
        Ok(Self { columns, upscale: 1, padding: 1, background: [0; 3] })
    }

    /// Draws each pixel as a square of `factor` by `factor` (nearest neighbor, no smoothing). Defaults to 1.
    ///
    /// # Errors
    ///
    /// [`DataError::GridSetting`] for 0.
    pub fn upscale(mut self, factor: usize) -> Result<Self, DataError> {
        if factor == 0 {
            return Err(DataError::GridSetting { setting: "upscale" });
        }
        self.upscale = factor;
        Ok(self)
    }

    /// Pixels of the picture between images and around them all, not upscaled. Defaults to 1.
    #[must_use]
    pub fn padding(mut self, pixels: usize) -> Self {
        self.padding = pixels;
        self
    }

    /// Red, green and blue of padding and of places without an image. Defaults to black.
    #[must_use]
    pub fn background(mut self, rgb: [u8; 3]) -> Self {
        self.background = rgb;
        self
    }

    /// Draws `images` `[n, channels, height, width]`, gray for 1 channel and red, green, blue for 3.
    ///
    /// Reads the tensor back from its device.
    ///
    /// # Errors
    ///
    /// [`Channels`](DataError::Channels) for another number of channels, [`NonFinite`](DataError::NonFinite) for NaN or
    /// infinity in a pixel, [`Empty`](DataError::Empty), [`ZeroExtent`](DataError::ZeroExtent),
    /// [`GridTooLarge`](DataError::GridTooLarge), [`Read`](DataError::Read).
    pub fn render(&self, images: &Tensor<4>) -> Result<Raster, DataError> {
        let [n, channels, height, width] = images.dims();
        if n == 0 {
            return Err(DataError::Empty { what: "the image grid" });
        }
        if height == 0 || width == 0 {
            return Err(DataError::ZeroExtent { shape: images.dims().to_vec() });
        }
        if channels != 1 && channels != 3 {
            return Err(DataError::Channels { channels });
        }
        let columns = self.columns.min(n);
        let mut raster = self.ground(columns, n.div_ceil(columns), height, width)?;

        let values = images.clone().try_into_vec_as::<f32>().map_err(|source| DataError::Read { source })?;
        let bytes = scale::to_u8(&values)?;
        for (index, image) in bytes.chunks_exact(channels * height * width).enumerate() {
            let left = self.padding + index % columns * (width * self.upscale + self.padding);
            let top = self.padding + index / columns * (height * self.upscale + self.padding);
            for y in 0..height * self.upscale {
                for x in 0..width * self.upscale {
                    let source = y / self.upscale * width + x / self.upscale;
                    // A gray image gives its one channel three times.
                    let rgb = [0, 1, 2].map(|c| image[c.min(channels - 1) * height * width + source]);
                    let target = 3 * ((top + y) * raster.width + left + x);
                    raster.rgb[target..target + 3].copy_from_slice(&rgb);
                }
            }
        }
        Ok(raster)
    }

    /// [`render`](Self::render), then [`Raster::save`].
    ///
    /// # Errors
    ///
    /// As these two.
    pub fn save(&self, images: &Tensor<4>, path: impl AsRef<Path>) -> Result<(), DataError> {
        self.render(images)?.save(path)
    }

    /// The empty picture for `columns` by `rows` images.
    fn ground(&self, columns: usize, rows: usize, height: usize, width: usize) -> Result<Raster, DataError> {
        let extent = |count: usize, size: usize| {
            size.checked_mul(self.upscale)?.checked_add(self.padding)?.checked_mul(count)?.checked_add(self.padding)
        };
        let size = extent(columns, width).zip(extent(rows, height));
        let pixels = |(width, height): (usize, usize)| width.checked_mul(height).filter(|&all| all <= MAX_PIXELS);
        match size.and_then(|size| Some((size, pixels(size)?))) {
            Some(((width, height), pixels)) => Ok(Raster { width, height, rgb: self.background.repeat(pixels) }),
            None => Err(DataError::GridTooLarge { limit: MAX_PIXELS }),
        }
    }
}

/// A picture of 8-bit red, green and blue in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Raster {
    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All pixels, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Writes a PNG file, whose name ends with `.png` or has no extension.
    ///
    /// The file appears under its name only once it is complete, replacing one that was there; missing parent folders
    /// are created.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`]; [`DataError::PictureFormat`] for a name that promises another format.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let path = path.as_ref();
        let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
        if let Some(extension) = extension.filter(|extension| !extension.eq_ignore_ascii_case("png")) {
            return Err(DataError::PictureFormat { path: path.to_path_buf(), extension });
        }
        let mut png = Vec::new();
        // Both extents fit: a picture has at most MAX_PIXELS pixels.
        PngEncoder::new(&mut png)
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(|error| DataError::Io {
                action: "encode",
                path: path.to_path_buf(),
                source: std::io::Error::other(error),
            })?;
        atomic::write(path, &png)
    }
}

/// Rows of images that belong together, for an [`ImageGrid`] of as many columns: the first of each column, the second of
/// each, and so on. Columns are `[rows, channels, height, width]`; gray ones beside colored ones become colored.
///
/// # Errors
///
/// [`DataError::Empty`] without columns, [`DataError::Channels`] for another number of channels than 1 or 3,
/// [`DataError::Beside`] if the columns differ in rows, height or width.
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// use langevin_data::beside;
/// let [left, right] = [0.0, 1.0].map(|value| Tensor::<4>::full([3, 1, 8, 8], value, &Device::flex()));
/// let images = beside(&[left, right])?;
/// assert_eq!(images.dims(), [6, 1, 8, 8]);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
pub fn beside(columns: &[Tensor<4>]) -> Result<Tensor<4>, DataError> {
    let Some(first) = columns.first() else { return Err(DataError::Empty { what: "the row of images" }) };
    let [rows, _, height, width] = first.dims();
    for column in columns {
        let given @ [n, channels, high, wide] = column.dims();
        if channels != 1 && channels != 3 {
            return Err(DataError::Channels { channels });
        }
        if [n, high, wide] != [rows, height, width] {
            return Err(DataError::Beside { given, first: first.dims() });
        }
    }
    let channels = columns.iter().map(|column| column.dims()[1]).max().unwrap_or(1);
    let colored = |column: &Tensor<4>| column.clone().repeat_dim(1, channels / column.dims()[1]).unsqueeze_dim(1);
    let stacked = Tensor::<5>::cat(columns.iter().map(colored).collect(), 1);
    Ok(stacked.reshape([rows * columns.len(), channels, height, width]))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    /// The red channel as rows.
    fn red(raster: &Raster) -> Vec<Vec<u8>> {
        raster.rgb().chunks(3 * raster.width()).map(|row| row.iter().step_by(3).copied().collect()).collect()
    }

    #[test]
    fn gray_images_are_placed_row_by_row() {
        // Three images of 1 by 2 in two columns: the last place stays empty.
        let images = tensor(&[-1.0, 1.0, 1.0, -1.0, 0.6, 0.6], [3, 1, 1, 2]);
        let raster = ImageGrid::new(2).unwrap().background([9, 8, 7]).render(&images).unwrap();
        assert_eq!((raster.width(), raster.height()), (7, 5));
        let expected: [[u8; 7]; 5] = [
            [9, 9, 9, 9, 9, 9, 9],
            [9, 0, 255, 9, 255, 0, 9],
            [9, 9, 9, 9, 9, 9, 9],
            [9, 204, 204, 9, 9, 9, 9],
            [9, 9, 9, 9, 9, 9, 9],
        ];
        assert_eq!(red(&raster), expected);
        assert_eq!(raster.rgb()[..3], [9, 8, 7]);
        assert_eq!(raster.rgb()[3 * 9..3 * 10], [255; 3]);
    }

    #[test]
    fn pixels_become_squares_and_padding_does_not_grow() {
        let images = tensor(&[-1.0, 1.0], [1, 1, 1, 2]);
        let raster = ImageGrid::new(8).unwrap().upscale(2).unwrap().padding(0).render(&images).unwrap();
        assert_eq!(red(&raster), [[0, 0, 255, 255], [0, 0, 255, 255]]);
        let raster = ImageGrid::new(8).unwrap().upscale(3).unwrap().padding(2).render(&images).unwrap();
        assert_eq!((raster.width(), raster.height()), (10, 7));
    }

    #[test]
    fn three_channels_are_colors() {
        // One pixel: red 255, green 0, blue 204.
        let raster = ImageGrid::new(1).unwrap().padding(0).render(&tensor(&[1.0, -1.0, 0.6], [1, 3, 1, 1])).unwrap();
        assert_eq!(raster.rgb(), [255, 0, 204]);
    }

    #[test]
    fn values_beyond_the_range_are_drawn_as_its_ends() {
        let raster = ImageGrid::new(2).unwrap().padding(0).render(&tensor(&[-3.0, 1.2], [2, 1, 1, 1])).unwrap();
        assert_eq!(red(&raster), [[0, 255]]);
    }

    #[test]
    fn views_are_drawn_in_their_own_order() {
        let images = tensor(&[-1.0, 1.0, 0.6, -0.6], [1, 1, 2, 2]).swap_dims(2, 3);
        let raster = ImageGrid::new(1).unwrap().padding(0).render(&images).unwrap();
        assert_eq!(red(&raster), [[0, 204], [255, 51]]);
    }

    #[test]
    fn the_file_has_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/grid.png");
        let images = tensor(&[-1.0, 0.0, 1.0, 0.25, -0.5, 0.5], [2, 3, 1, 1]);
        let grid = ImageGrid::new(2).unwrap().upscale(2).unwrap();
        grid.save(&images, &path).unwrap();
        let read = image::open(&path).unwrap().into_rgb8();
        let raster = grid.render(&images).unwrap();
        assert_eq!((read.width() as usize, read.height() as usize), (raster.width(), raster.height()));
        assert_eq!(read.into_raw(), raster.rgb());
        // A folder where the file should be.
        let error = grid.save(&images, folder.path()).unwrap_err();
        assert!(matches!(&error, DataError::Io { path, .. } if path == folder.path()), "{error}");
    }

    #[test]
    fn images_that_cannot_be_shown_are_rejected() {
        let grid = ImageGrid::new(4).unwrap();
        for channels in [2, 4] {
            let error = grid.render(&Tensor::zeros([1, channels, 2, 2], &Device::flex())).unwrap_err();
            assert!(matches!(error, DataError::Channels { channels: given } if given == channels), "{error}");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let error = grid.render(&tensor(&[0.0, 0.0, bad, 0.0], [2, 1, 1, 2])).unwrap_err();
            assert!(matches!(error, DataError::NonFinite { index: 2, .. }), "{error}");
        }
        let empty = |shape: [usize; 4]| grid.render(&Tensor::zeros(shape, &Device::flex())).unwrap_err();
        assert!(matches!(empty([0, 1, 2, 2]), DataError::Empty { what: "the image grid" }));
        assert!(matches!(empty([1, 1, 0, 2]), DataError::ZeroExtent { .. }));
    }

    #[test]
    fn settings_of_zero_and_huge_pictures_are_rejected() {
        assert!(matches!(ImageGrid::new(0), Err(DataError::GridSetting { setting: "columns" })));
        let grid = ImageGrid::new(1).unwrap();
        assert!(matches!(grid.upscale(0), Err(DataError::GridSetting { setting: "upscale" })));
        let image = tensor(&[0.0], [1, 1, 1, 1]);
        for grid in [grid.upscale(1 << 15).unwrap(), grid.upscale(usize::MAX).unwrap(), grid.padding(usize::MAX)] {
            assert!(matches!(grid.render(&image), Err(DataError::GridTooLarge { .. })), "{grid:?}");
        }
    }

    #[test]
    fn columns_become_rows() {
        let column = |values: [f32; 2]| tensor(&values, [2, 1, 1, 1]);
        let images = beside(&[column([0.1, 0.2]), column([0.3, 0.4]), column([0.5, 0.6])]).unwrap();
        assert_eq!(images.try_into_vec_as::<f32>().unwrap(), [0.1, 0.3, 0.5, 0.2, 0.4, 0.6]);
        let red = scale::tinted(&column([0.0, 1.0]), [1.0, 0.5, 0.0]).unwrap();
        let images = beside(&[column([0.1, 0.2]), red]).unwrap();
        assert_eq!(images.dims(), [4, 3, 1, 1]);
        let values = images.try_into_vec_as::<f32>().unwrap();
        assert_eq!(values, [0.1, 0.1, 0.1, 0.0, -0.5, -1.0, 0.2, 0.2, 0.2, 1.0, 0.0, -1.0]);
    }

    #[test]
    fn columns_that_do_not_fit_are_errors() {
        let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &Device::flex());
        assert!(matches!(beside(&[]), Err(DataError::Empty { .. })));
        let error = beside(&[zeros([2, 1, 4, 4]), zeros([3, 1, 4, 4])]).unwrap_err();
        assert!(matches!(error, DataError::Beside { given: [3, ..], first: [2, ..] }), "{error}");
        assert!(matches!(beside(&[zeros([2, 2, 4, 4])]), Err(DataError::Channels { channels: 2 })));
        assert!(matches!(scale::tinted(&zeros([2, 3, 4, 4]), [1.0; 3]), Err(DataError::Channels { channels: 3 })));
        assert!(matches!(scale::tinted(&zeros([2, 1, 4, 4]), [1.0, 2.0, 0.0]), Err(DataError::OutOfRange { .. })));
    }

    #[test]
    fn names_of_other_formats_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let raster = ImageGrid::new(1).unwrap().render(&tensor(&[0.5], [1, 1, 1, 1])).unwrap();
        for name in ["a.png", "a.PNG", "plain"] {
            raster.save(folder.path().join(name)).unwrap();
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap()[..4], *b"\x89PNG");
        }
        let path = folder.path().join("a.jpg");
        let error = raster.save(&path).unwrap_err();
        assert!(matches!(&error, DataError::PictureFormat { extension, .. } if extension == "jpg"), "{error}");
        assert!(!path.exists());
    }
}
