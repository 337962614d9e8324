//! Images as rows of pixels with zeros between them.

/// Pixels that a workgroup of a convolution computes.
pub(crate) const PIXELS: usize = 64;

/// Images `[batch, height, width]` one after the other as rows of pixels, channels last.
///
/// There is a zero before each row of an image and a row of zeros before each image, and both serve what comes before them, too: a
/// neighbour that lies outside an image is a zero. Seen from any pixel the nine neighbours are then at the same distances, whatever the
/// size of the images, and one kernel convolves all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sheet {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
}

impl Sheet {
    /// Pixels from one row of an image to the next.
    pub fn line(self) -> usize {
        self.width + 1
    }

    /// Pixels from the first of the first image to the last of the last one, with zeros between them, in whole tiles.
    pub fn sums(self) -> usize {
        (self.images() - self.line() - 1).next_multiple_of(PIXELS)
    }

    /// Pixels and zeros up to the last image's end.
    pub fn images(self) -> usize {
        self.batch * (self.height + 1) * self.line()
    }

    /// Pixels and zeros in all: what is summed around has neighbours on both sides.
    pub fn pixels(self) -> usize {
        self.sums() + 2 * (self.line() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_outside_are_zeros() {
        for (batch, height, width) in [(1, 1, 1), (2, 3, 5), (3, 4, 1), (1, 16, 16)] {
            let sheet = Sheet { batch, height, width };
            let line = sheet.line();
            let at = |b: usize, row: usize, column: usize| (b * (height + 1) + row) * line + column;
            let mut pixel = vec![false; sheet.pixels()];
            for (b, row, column) in places(batch, height, width) {
                pixel[at(b, row + 1, column + 1)] = true;
            }
            for (b, row, column) in places(batch, height, width) {
                let sum = at(b, row + 1, column + 1) - line - 1;
                assert!(sum < sheet.sums());
                for (down, across) in (0..3).flat_map(|down| (0..3).map(move |across| (down, across))) {
                    let inside = (1..=height).contains(&(row + down)) && (1..=width).contains(&(column + across));
                    assert_eq!(pixel[sum + down * line + across], inside, "{sheet:?} {b} {row} {column}");
                }
            }
        }
    }

    fn places(batch: usize, height: usize, width: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..batch * height * width).map(move |i| (i / width / height, i / width % height, i % width))
    }

    #[test]
    fn little_is_thrown_away() {
        for (batch, side, most) in [(64, 32, 0.07), (64, 16, 0.13), (64, 8, 0.22), (64, 4, 0.38), (2, 64, 0.05)] {
            let sheet = Sheet { batch, height: side, width: side };
            let wasted = 1.0 - (batch * side * side) as f64 / sheet.sums() as f64;
            assert!(wasted < most, "{side}: {wasted}");
        }
    }
}
