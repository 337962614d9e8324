//! How the outputs of a convolution are cut into tiles.

/// Outputs that a workgroup computes: pixels of a few images by channels, from `depth` numbers at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    pub depth: usize,
}

impl Tile {
    /// The shape of `pixels` pixels that covers `[batch, height, width]` with the fewest pixels outside; of such, the widest.
    pub fn covering(pixels: usize, [batch, height, width]: [usize; 3], channels: usize, depth: usize) -> Self {
        let powers = |limit: usize| (0..).map(|power| 1 << power).take_while(move |&size| size <= limit);
        let shapes = powers(pixels).flat_map(|columns| {
            powers(pixels / columns).map(move |rows| Self {
                images: pixels / columns / rows,
                rows,
                columns,
                channels,
                depth,
            })
        });
        let covered = |tile: &Self| tile.padded([batch, height, width]).iter().product::<usize>();
        shapes
            .min_by_key(|tile| (covered(tile), usize::MAX - tile.columns, tile.images))
            .expect("a tile of one column and one row")
    }

    pub fn pixels(self) -> usize {
        self.images * self.rows * self.columns
    }

    /// Tiles along each axis of `[batch, height, width]`.
    pub fn counts(self, [batch, height, width]: [usize; 3]) -> [usize; 3] {
        [batch.div_ceil(self.images), height.div_ceil(self.rows), width.div_ceil(self.columns)]
    }

    /// The sizes that whole tiles cover.
    pub fn padded(self, sizes: [usize; 3]) -> [usize; 3] {
        let counts = self.counts(sizes);
        [counts[0] * self.images, counts[1] * self.rows, counts[2] * self.columns]
    }
}

/// The largest of some sizes that divides a number of channels, which is a multiple of 32.
pub(super) fn dividing(channels: usize, sizes: &[usize]) -> usize {
    sizes.iter().copied().find(|size| channels.is_multiple_of(*size)).unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_with_little_waste() {
        let tile = |sizes| {
            let tile = Tile::covering(64, sizes, 128, 32);
            assert_eq!(tile.pixels(), 64);
            ([tile.images, tile.rows, tile.columns], tile.padded(sizes))
        };
        assert_eq!(tile([64, 32, 32]), ([1, 2, 32], [64, 32, 32]));
        assert_eq!(tile([2, 64, 64]), ([1, 1, 64], [2, 64, 64]));
        assert_eq!(tile([64, 8, 8]), ([1, 8, 8], [64, 8, 8]));
        assert_eq!(tile([64, 4, 4]), ([4, 4, 4], [64, 4, 4]));
        assert_eq!(tile([1, 20, 24]), ([1, 8, 8], [1, 24, 24]));
        assert_eq!(tile([3, 7, 5]).1.iter().product::<usize>(), 192);
    }

    #[test]
    fn channels_are_divided() {
        assert_eq!([320, 256, 96, 192].map(|channels| dividing(channels, &[128, 64, 32])), [64, 128, 32, 64]);
    }
}
