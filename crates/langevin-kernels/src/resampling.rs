//! Blocks of 2 x 2 pixels: written from one number, or summed up to one.

use rayon::prelude::*;

use crate::vectors::{kernel, on_vectors};

/// Numbers that a thread takes at once, about.
const SHARE: usize = 1 << 14;

/// Writes `scale·x` to the four pixels of each block: images of twice the height and width.
///
/// With a scale of 1 this repeats pixels, and it is the gradient of [`sum_quads`] with the same scale.
///
/// # Shapes
///
/// - x: `[images, height, width]`
/// - y: `[images, 2·height, 2·width]`
///
/// # Panics
///
/// If `width` is zero, `x` is no whole number of rows, or `y` is not four times as long.
///
/// # Example
///
/// ```
/// let mut y = [0.0; 8];
/// langevin_kernels::resampling::repeat_quads(&[1.0, 2.0], 2, 0.5, &mut y);
/// assert_eq!(y, [0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0]);
/// ```
pub fn repeat_quads(x: &[f32], width: usize, scale: f32, y: &mut [f32]) {
    check(x.len(), width, y.len());
    let share = width * SHARE.div_ceil(width);
    y.par_chunks_mut(4 * share).zip(x.par_chunks(share)).for_each(|(y, x)| on_vectors(Repeat, (x, width, scale, y)));
}

/// Writes `scale` times the sum of the four pixels of each block: images of half the height and width.
///
/// With a scale of 1/4 this averages, and with 1 it is the gradient of [`repeat_quads`].
///
/// # Shapes
///
/// - x: `[images, 2·height, 2·width]`
/// - y: `[images, height, width]`
///
/// # Panics
///
/// If `width` is zero, `y` is no whole number of rows, or `x` is not four times as long.
///
/// # Example
///
/// ```
/// let mut y = [0.0; 2];
/// langevin_kernels::resampling::sum_quads(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 2, 0.25, &mut y);
/// assert_eq!(y, [3.5, 5.5]);
/// ```
pub fn sum_quads(x: &[f32], width: usize, scale: f32, y: &mut [f32]) {
    check(y.len(), width, x.len());
    let share = width * SHARE.div_ceil(width);
    y.par_chunks_mut(share).zip(x.par_chunks(4 * share)).for_each(|(y, x)| on_vectors(Sum, (x, width, scale, y)));
}

fn check(small: usize, width: usize, large: usize) {
    assert!(width > 0 && small.is_multiple_of(width), "{small} numbers are no rows of {width}");
    assert_eq!(large, 4 * small, "images of twice the height and width");
}

kernel!(Repeat: repeat((&'a [f32], usize, f32, &'a mut [f32])) -> ());
kernel!(Sum: sum((&'a [f32], usize, f32, &'a mut [f32])) -> ());

#[inline(always)]
fn repeat((x, width, scale, y): (&[f32], usize, f32, &mut [f32])) {
    for (row, rows) in x.chunks_exact(width).zip(y.chunks_exact_mut(4 * width)) {
        let (upper, lower) = rows.split_at_mut(2 * width);
        for (pair, value) in upper.as_chunks_mut::<2>().0.iter_mut().zip(row) {
            *pair = [scale * value; 2];
        }
        lower.copy_from_slice(upper);
    }
}

#[inline(always)]
fn sum((x, width, scale, y): (&[f32], usize, f32, &mut [f32])) {
    for (row, rows) in y.chunks_exact_mut(width).zip(x.chunks_exact(4 * width)) {
        let (upper, lower) = rows.split_at(2 * width);
        let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
        for (value, ([a, b], [c, d])) in row.iter_mut().zip(pairs) {
            *value = scale * ((a + b) + (c + d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn blocks_are_those_of_the_definition() {
        // Rows of one number, and more than a thread takes at once.
        for (rows, width) in [(1, 1), (3, 5), (600, 33), (1, 20_000)] {
            let x = numbers(rows * width, 1);
            let mut y = vec![f32::NAN; 4 * x.len()];
            repeat_quads(&x, width, 0.5, &mut y);
            for (at, y) in y.iter().enumerate() {
                let (row, column) = (at / (2 * width), at % (2 * width));
                assert_eq!(*y, 0.5 * x[row / 2 * width + column / 2], "{rows} {width} {at}");
            }
            let large = numbers(4 * x.len(), 2);
            let mut sums = vec![f32::NAN; x.len()];
            sum_quads(&large, width, 0.25, &mut sums);
            for (at, sum) in sums.iter().enumerate() {
                let first = at / width * 4 * width + at % width * 2;
                let by_hand: f64 = [0, 1, 2 * width, 2 * width + 1].iter().map(|i| f64::from(large[first + i])).sum();
                assert!((f64::from(*sum) - 0.25 * by_hand).abs() < 1e-6, "{rows} {width} {at}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "twice the height")]
    fn refuses_results_of_another_size() {
        repeat_quads(&[1.0; 4], 2, 1.0, &mut [0.0; 8]);
    }
}
