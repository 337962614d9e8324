//! Large images in overlapping tiles.

use burn::tensor::Tensor;

use crate::error::{ModelError, at_least_one};

/// Squares that a large image is cut into, so that the memory needed does not grow with the image. Neighbours overlap
/// and are blended linearly. Each tile is normalized by itself, so the result differs from that of the whole image.
///
/// # Example
///
/// ```
/// use langevin_models::autoencoder::{AutoencoderKlConfig, Tiling};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = AutoencoderKlConfig::new(3, 4, &[8, 16]).init(&device)?;
/// let net = net.tiled(Some(Tiling { sample: 32, latent: 16, overlap: 0.25 }))?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tiling {
    /// Side of a tile of an image, in pixels.
    pub sample: usize,
    /// Side of a tile of latents.
    pub latent: usize,
    /// Part of a tile that the next one repeats, at least 0 and below 1.
    pub overlap: f64,
}

/// How one side is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Side of a tile of the input.
    tile: usize,
    /// Distance between tiles of the input.
    step: usize,
    /// Entries of the output that are blended with the tile before.
    blend: usize,
    /// Entries of the output that are kept of each tile.
    keep: usize,
}

impl Tiling {
    fn cut(&self, tile: usize, output: usize) -> Cut {
        let part = |size: usize, of: f64| (size as f64 * of) as usize;
        let blend = part(output, self.overlap);
        Cut { tile, step: part(tile, 1.0 - self.overlap), blend, keep: output - blend }
    }

    pub(super) fn of_images(&self) -> Cut {
        self.cut(self.sample, self.latent)
    }

    pub(super) fn of_latents(&self) -> Cut {
        self.cut(self.latent, self.sample)
    }

    fn patches(&self, tile: usize, enlarges: bool) -> Patches {
        let step = tile - (tile as f64 * self.overlap) as usize;
        Patches { tile, step, scale: self.sample / self.latent, enlarges }
    }

    pub(super) fn patches_of_images(&self) -> Patches {
        self.patches(self.sample, false)
    }

    pub(super) fn patches_of_latents(&self) -> Patches {
        self.patches(self.latent, true)
    }

    /// Checks that tiles of both kinds cover the same places.
    pub(super) fn check(&self, scale: usize) -> Result<(), ModelError> {
        self.check_sizes(scale)?;
        let (encode, decode) = (self.of_images(), self.of_latents());
        if decode.step == 0 || encode.step != encode.keep * scale || decode.keep != decode.step * scale {
            return Err(self.refuse_overlap("a part that is a whole number"));
        }
        Ok(())
    }

    /// The same for tiles that are laid over one another, whose soft edge has a first and a last latent.
    pub(super) fn check_patches(&self, scale: usize) -> Result<(), ModelError> {
        self.check_sizes(scale)?;
        let (encode, decode) = (self.patches_of_images(), self.patches_of_latents());
        if decode.step == 0 || encode.step != decode.step * scale || decode.tile - decode.step < 2 {
            return Err(self.refuse_overlap("a part that is a whole number, at least 2,"));
        }
        Ok(())
    }

    fn check_sizes(&self, scale: usize) -> Result<(), ModelError> {
        let refuse = |field, given: String, expected: String| Err(ModelError::Config { field, given, expected });
        at_least_one("latent", self.latent)?;
        if self.latent.checked_mul(scale) != Some(self.sample) {
            let expected = format!("{scale} pixels for each of the {} latents", self.latent);
            return refuse("sample", self.sample.to_string(), expected);
        }
        if !(0.0..1.0).contains(&self.overlap) {
            return refuse("overlap", self.overlap.to_string(), "at least 0 and below 1".into());
        }
        Ok(())
    }

    fn refuse_overlap(&self, part: &str) -> ModelError {
        ModelError::Config {
            field: "overlap",
            given: self.overlap.to_string(),
            expected: format!("{part} of the {} latents of a tile", self.latent),
        }
    }
}

impl Cut {
    /// Whether a size needs more than one tile.
    pub(super) fn applies(&self, [height, width]: [usize; 2]) -> bool {
        height > self.tile || width > self.tile
    }

    /// The size of the last tile along a side: smaller ones than a network takes cannot be cut.
    pub(super) fn last(&self, size: usize) -> usize {
        size - self.step * (size.saturating_sub(1) / self.step)
    }

    /// Runs `network` on each tile and puts the results together.
    pub(super) fn run(&self, x: &Tensor<4>, mut network: impl FnMut(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let mut above: Vec<Tensor<4>> = Vec::new();
        let mut rows = Vec::new();
        for top in (0..height).step_by(self.step) {
            let mut row: Vec<Tensor<4>> = Vec::new();
            for (column, left) in (0..width).step_by(self.step).enumerate() {
                let tile = x.clone().narrow(2, top, self.tile.min(height - top));
                let mut tile = network(tile.narrow(3, left, self.tile.min(width - left)));
                // A tile is blended with its neighbours as they are after their own blending.
                if let Some(above) = above.get(column) {
                    tile = self.blend(above, tile, 2);
                }
                if let Some(left) = row.last() {
                    tile = self.blend(left, tile, 3);
                }
                row.push(tile);
            }
            let kept = row.iter().map(|tile| {
                let [_, _, height, width] = tile.dims();
                tile.clone().narrow(2, 0, self.keep.min(height)).narrow(3, 0, self.keep.min(width))
            });
            rows.push(Tensor::cat(kept.collect(), 3));
            above = row;
        }
        Tensor::cat(rows, 2)
    }

    /// Goes from the end of `before` to `tile` over its first entries along a side.
    fn blend(&self, before: &Tensor<4>, tile: Tensor<4>, dim: usize) -> Tensor<4> {
        let (old, new) = (before.dims()[dim], tile.dims()[dim]);
        let extent = self.blend.min(old).min(new);
        if extent == 0 {
            return tile;
        }
        let ramp: Vec<f64> = (0..extent).map(|i| i as f64 / extent as f64).collect();
        let mut shape = [1; 4];
        shape[dim] = extent;
        let weight = Tensor::<1>::from_data(ramp.as_slice(), (&tile.device(), tile.dtype())).reshape(shape);
        let end = before.clone().narrow(dim, old - extent, extent);
        let start = tile.clone().narrow(dim, 0, extent);
        let mixed = end * (weight.clone().neg() + 1.0) + start * weight;
        match new == extent {
            true => mixed,
            false => Tensor::cat(vec![mixed, tile.narrow(dim, extent, new - extent)], dim),
        }
    }
}

/// How one side is cut into tiles that are laid over one another, each with soft edges towards those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patches {
    /// Side of a tile of the input.
    tile: usize,
    /// Distance between tiles of the input.
    step: usize,
    /// Pixels for each latent.
    scale: usize,
    /// Whether the output has the pixels.
    enlarges: bool,
}

impl Patches {
    /// Runs `network` on each tile and lays the results over one another.
    pub(super) fn run(&self, x: &Tensor<4>, mut network: impl FnMut(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let output = |n: usize| if self.enlarges { n * self.scale } else { n / self.scale };
        let mut canvas: Option<Tensor<4>> = None;
        for top in (0..height).step_by(self.step) {
            for left in (0..width).step_by(self.step) {
                let tile = x.clone().narrow(2, top, self.tile.min(height - top));
                let tile = tile.narrow(3, left, self.tile.min(width - left));
                let tile = network(tile);
                let [_, channels, rows, columns] = tile.dims();
                let size = [batch, channels, output(height), output(width)];
                let below = canvas.unwrap_or_else(|| Tensor::zeros(size, (&tile.device(), tile.dtype())));
                let soft = output(self.tile - self.step);
                let edge = |at: usize, count: usize| -> Tensor<1> {
                    let weight = |i: usize| if at == 0 { 1.0 } else { (i as f64 / (soft - 1) as f64).min(1.0) };
                    let weights: Vec<f64> = (0..count).map(weight).collect();
                    Tensor::from_data(weights.as_slice(), (&tile.device(), tile.dtype()))
                };
                let down = edge(top, rows).reshape([1, 1, rows, 1]);
                let mask = down * edge(left, columns).reshape([1, 1, 1, columns]);
                let (y, x) = (output(top), output(left));
                let place = [0..batch, 0..channels, y..y + rows, x..x + columns];
                let old = below.clone().slice(place.clone());
                let mixed = tile * mask.clone() + old * (mask.neg() + 1.0);
                canvas = Some(below.slice_assign(place, mixed));
            }
        }
        canvas.expect("images have pixels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn a_network_that_sees_single_pixels_does_not_notice_tiles() {
        let tiling = Tiling { sample: 8, latent: 8, overlap: 0.25 };
        tiling.check(1).unwrap();
        for size in [[20, 8], [8, 21], [17, 19], [8, 7]] {
            let x = tensor([2, 3, size[0], size[1]], 0.4, &flex());
            let y = tiling.of_latents().run(&x, |tile| tile * 2.0 + 1.0);
            assert_eq!(y.dims(), x.dims());
            assert_close(&y, &values(&(x * 2.0 + 1.0)), 1e-6);
        }
    }

    #[test]
    fn neighbours_are_blended_linearly() {
        let tiling = Tiling { sample: 8, latent: 8, overlap: 0.5 };
        // Each tile returns its number.
        let mut number = -1.0;
        let y = tiling.of_images().run(&Tensor::zeros([1, 1, 8, 12], &flex()), |tile| {
            number += 1.0;
            tile + number
        });
        let row = [0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75];
        assert_close(&y.clone().narrow(2, 0, 1), &row, 1e-6);
        assert_eq!(y.dims(), [1, 1, 8, 12]);
    }

    #[test]
    fn patches_of_single_pixels_are_not_noticed_either() {
        let tiling = Tiling { sample: 8, latent: 8, overlap: 0.25 };
        tiling.check_patches(1).unwrap();
        for size in [[20, 8], [8, 21], [17, 19], [8, 7]] {
            let x = tensor([2, 3, size[0], size[1]], 0.4, &flex());
            let y = tiling.patches_of_latents().run(&x, |tile| tile * 2.0 + 1.0);
            assert_eq!(y.dims(), x.dims());
            assert_close(&y, &values(&(x * 2.0 + 1.0)), 1e-6);
        }
    }

    #[test]
    fn patches_have_soft_edges() {
        let tiling = Tiling { sample: 8, latent: 8, overlap: 0.5 };
        let mut number = -1.0;
        let y = tiling.patches_of_images().run(&Tensor::zeros([1, 1, 4, 8], &flex()), |tile| {
            number += 1.0;
            tile + number
        });
        let row = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0];
        assert_close(&y.narrow(2, 0, 1), &row, 1e-6);
        for overlap in [0.0, 0.1, 0.15] {
            let error = Tiling { overlap, ..tiling }.check_patches(1).unwrap_err();
            assert!(matches!(error, ModelError::Config { field: "overlap", .. }), "{overlap}: {error}");
        }
    }

    #[test]
    fn tiles_that_do_not_cover_the_same_places_are_refused() {
        Tiling { sample: 512, latent: 64, overlap: 0.25 }.check(8).unwrap();
        Tiling { sample: 32, latent: 16, overlap: 0.0 }.check(2).unwrap();
        for (sample, latent, overlap, name) in [
            (32, 0, 0.25, "latent"),
            (33, 16, 0.25, "sample"),
            (32, 16, 1.0, "overlap"),
            (32, 16, -0.1, "overlap"),
            (32, 16, f64::NAN, "overlap"),
            (32, 16, 0.99, "overlap"),
            (32, 16, 0.3, "overlap"),
        ] {
            let error = Tiling { sample, latent, overlap }.check(2).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{overlap}: {error}");
        }
    }
}
