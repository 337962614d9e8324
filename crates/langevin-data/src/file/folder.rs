//! Images in a folder.

use super::{FileError, Problem};
use crate::{DataError, ImageSet, Split};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, Limits, Rgb, RgbImage};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files that are read, by their endings.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// How images of several sizes become one size, `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Images stay as they are; all must have one size.
    Keep,
    /// The shorter side is scaled to the size, and the middle is cut out.
    Resize([u32; 2]),
    /// Both sides are scaled, which changes proportions.
    Stretch([u32; 2]),
    /// The middle is cut out, without scaling.
    Crop([u32; 2]),
}

/// A folder of PNG, JPEG and WebP images, to be read into an [`ImageSet`].
///
/// Either the images lie in it directly, and the set has no classes, or in one subfolder for each class; classes are
/// numbered in the order of the folders' names, compared byte by byte. Names that begin with a dot and files with other
/// endings are passed over; links are followed. The set's order is that of the names, whatever the system lists first.
///
/// Colors are 8 bits each; deeper images are rounded. Transparent pixels are laid over [`background`](Self::background).
/// Images are decoded in parallel, once; the pixels stay in memory.
///
/// ```no_run
/// use langevin_data::ImageFolder;
///
/// let data = ImageFolder::open("photos")?.resize(32).flip().split(0.9, 7)?;
/// assert_eq!(data.train.image_shape(), [3, 32, 32]);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    files: Vec<(PathBuf, usize)>,
    classes: Vec<String>,
    fit: Fit,
    gray: bool,
    flip: bool,
    skip: bool,
    background: [u8; 3],
    max_pixels: u64,
}

/// What was in a folder.
#[derive(Debug)]
pub struct LoadedImages {
    /// The images. Without classes all are of one class.
    pub images: ImageSet,
    /// The names of the classes, in their order; empty without classes.
    pub classes: Vec<String>,
    /// Files that could not be read, if that was to be passed over.
    pub skipped: Vec<FileError>,
}

impl ImageFolder {
    /// Lists a folder. Nothing is decoded yet.
    ///
    /// # Errors
    ///
    /// [`DataError::File`]: it cannot be read, holds no images, holds images beside folders of images, or has names
    /// that are not UTF-8.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let (mut files, mut classes) = (Vec::new(), Vec::new());
        let entries = list(path)?;
        for (name, folder) in entries.iter().filter(|(_, path)| path.is_dir()) {
            let images = images_of(folder)?;
            if !images.is_empty() {
                files.extend(images.into_iter().map(|file| (file, classes.len())));
                classes.push(name.clone());
            }
        }
        let direct = images_of(path)?;
        if !direct.is_empty() && !classes.is_empty() {
            return Err(FileError::new(path, Problem::MixedFolder).into());
        }
        files.extend(direct.into_iter().map(|file| (file, 0)));
        if files.is_empty() {
            return Err(FileError::new(path, Problem::EmptyFolder { kinds: ".png, .jpg, .jpeg or .webp" }).into());
        }
        let (fit, background, max_pixels) = (Fit::Keep, [255; 3], 1 << 26);
        Ok(Self { files, classes, fit, gray: false, flip: false, skip: false, background, max_pixels })
    }

    /// The number of files found.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are no files (never: such a folder is not opened).
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of the classes, in their order; empty if the images lie in the folder directly.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Scales the shorter side to `size` pixels and cuts out the middle: square images without distortion.
    #[must_use]
    pub fn resize(self, size: u32) -> Self {
        self.fit(Fit::Resize([size, size]))
    }

    /// How images of several sizes become one size. Default: all must have one.
    #[must_use]
    pub fn fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }

    /// One channel of brightness instead of red, green and blue.
    #[must_use]
    pub fn gray(mut self) -> Self {
        self.gray = true;
        self
    }

    /// Adds the mirror image of every image, left to right: twice the images. With [`split`](Self::split) only in the
    /// training part.
    #[must_use]
    pub fn flip(mut self) -> Self {
        self.flip = true;
        self
    }

    /// The color behind transparent pixels, red, green and blue. Default: white.
    #[must_use]
    pub fn background(mut self, color: [u8; 3]) -> Self {
        self.background = color;
        self
    }

    /// The most pixels of one image, as its header has them; larger ones are not decoded. Default: 2^26.
    #[must_use]
    pub fn max_pixels(mut self, limit: u64) -> Self {
        self.max_pixels = limit;
        self
    }

    /// Passes over files that cannot be read or decoded, and reports them in [`LoadedImages::skipped`].
    #[must_use]
    pub fn skip_unreadable(mut self) -> Self {
        self.skip = true;
        self
    }

    /// Decodes all images.
    ///
    /// # Errors
    ///
    /// [`DataError::File`] for the first file, in the order of the set, that cannot be read, is larger than allowed, or
    /// does not fit; [`DataError::ZeroExtent`] for a size of 0.
    pub fn load(self) -> Result<LoadedImages, DataError> {
        let mut loaded = self.decode()?;
        if self.flip {
            loaded.images = loaded.images.mirrored();
        }
        Ok(loaded)
    }

    /// Decodes all images and splits off a test part, with the same share of each class in both.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load) and [`ImageSet::split`].
    pub fn split(self, fraction: f64, seed: u64) -> Result<Split<ImageSet>, DataError> {
        let Split { train, test } = self.decode()?.images.split(fraction, seed)?;
        Ok(Split { train: if self.flip { train.mirrored() } else { train }, test })
    }

    fn decode(&self) -> Result<LoadedImages, DataError> {
        if let Fit::Resize(size) | Fit::Stretch(size) | Fit::Crop(size) = self.fit
            && size.contains(&0)
        {
            return Err(DataError::ZeroExtent { shape: size.map(|extent| extent as usize).to_vec() });
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(self.files.len());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((path, _)) = self.files.get(index) else { return done };
                done.push((index, self.read(path)));
            }
        };
        let mut decoded = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // A panic of a decoder is passed on.
            let joined = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect::<Vec<_>>()
        });
        decoded.sort_unstable_by_key(|(index, _)| *index);

        let (mut size, mut pixels, mut labels, mut skipped) = (None, Vec::new(), Vec::new(), Vec::new());
        for (index, image) in decoded {
            let (path, class) = &self.files[index];
            match image {
                Ok(image) => {
                    let given = [image.width(), image.height()];
                    let expected = *size.get_or_insert(given);
                    if given != expected {
                        return Err(FileError::new(path, Problem::Size { given, expected }).into());
                    }
                    self.append(&image, &mut pixels);
                    labels.push(*class);
                }
                Err(error) if self.skip => skipped.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        let Some([width, height]) = size else {
            return Err(DataError::Empty { what: "the readable part of the folder" });
        };
        let shape = [labels.len(), if self.gray { 1 } else { 3 }, height as usize, width as usize];
        let images = ImageSet::from_u8(&pixels, shape, labels, self.classes.len().max(1))?;
        Ok(LoadedImages { images, classes: self.classes.clone(), skipped })
    }

    /// Decodes one file and brings it to size.
    fn read(&self, path: &Path) -> Result<RgbImage, FileError> {
        let bad = |problem| FileError::new(path, problem);
        let io = |source| bad(Problem::Io { action: "read", source });
        let open = || ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(io);
        let decode = |source: image::ImageError| match source {
            image::ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => io(source),
            source => bad(Problem::Image { source }),
        };
        let (width, height) = open()?.into_dimensions().map_err(decode)?;
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(bad(Problem::Pixels { width, height, limit: self.max_pixels }));
        }
        let mut reader = open()?;
        // The header was believed for its size; what the decoder then takes is bounded by it, at 8 bytes a pixel
        // and some room.
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_pixels.saturating_mul(16).max(1 << 24));
        reader.limits(limits);
        let image = self.opaque(reader.decode().map_err(decode)?);
        let given = [image.width(), image.height()];
        Ok(match self.fit {
            Fit::Keep => image,
            Fit::Resize([height, width]) => {
                let scale = (f64::from(width) / f64::from(given[0])).max(f64::from(height) / f64::from(given[1]));
                let scaled = given.map(|side| (f64::from(side) * scale).round() as u32);
                let [wide, high] = [scaled[0].max(width), scaled[1].max(height)];
                middle(&imageops::resize(&image, wide, high, FilterType::CatmullRom), [height, width])
            }
            Fit::Stretch([height, width]) => imageops::resize(&image, width, height, FilterType::CatmullRom),
            Fit::Crop([height, width]) if given[0] < width || given[1] < height => {
                return Err(bad(Problem::Crop { given, crop: [width, height] }));
            }
            Fit::Crop(size) => middle(&image, size),
        })
    }

    /// Lays transparent pixels over the background.
    fn opaque(&self, image: DynamicImage) -> RgbImage {
        if !image.color().has_alpha() {
            return image.into_rgb8();
        }
        let image = image.into_rgba8();
        RgbImage::from_fn(image.width(), image.height(), |x, y| {
            let [red, green, blue, alpha] = image.get_pixel(x, y).0;
            let over = |color: u8, ground: u8| {
                let alpha = u32::from(alpha);
                ((u32::from(color) * alpha + u32::from(ground) * (255 - alpha) + 127) / 255) as u8
            };
            let [r, g, b] = self.background;
            Rgb([over(red, r), over(green, g), over(blue, b)])
        })
    }

    /// Appends the channels of an image one after the other.
    fn append(&self, image: &RgbImage, pixels: &mut Vec<u8>) {
        if self.gray {
            pixels.extend(imageops::grayscale(image).as_raw());
            return;
        }
        for channel in 0..3 {
            pixels.extend(image.pixels().map(|pixel| pixel.0[channel]));
        }
    }
}

/// The middle of an image that is at least as large.
fn middle(image: &RgbImage, [height, width]: [u32; 2]) -> RgbImage {
    let (x, y) = ((image.width() - width) / 2, (image.height() - height) / 2);
    imageops::crop_imm(image, x, y, width, height).to_image()
}

/// Names and paths in a folder, sorted; without those that begin with a dot.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, FileError> {
    let io = |source| FileError::new(folder, Problem::Io { action: "list", source });
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let Some(name) = name else { return Err(FileError::new(&path, Problem::Name)) };
        if !name.starts_with('.') {
            entries.push((name, path));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// The images that lie in a folder directly, sorted.
fn images_of(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let image = |path: &Path| {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && !path.is_dir()
    };
    Ok(list(folder)?.into_iter().map(|(_, path)| path).filter(|path| image(path)).collect())
}

#[cfg(test)]
mod tests;
