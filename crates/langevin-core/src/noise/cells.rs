//! Normal values of whole draws, cell by cell.

use super::box_muller::{pair, uniform};
use super::chacha;
use pulp::NullaryFnOnce;
use std::ops::Range;

/// Elements that share one ChaCha stream.
pub(super) const BLOCK: usize = 4096;
/// Values that one ChaCha block makes.
pub(super) const CELL: usize = 8;
/// ChaCha blocks that are computed side by side.
const LANES: usize = 16;
/// So many cells and more cost less side by side than one after another.
const FEW: usize = 6;

/// Values are made in `f64` and rounded once, to this.
pub(super) trait Rounded: Copy + Default + Send {
    fn rounded(value: f64) -> Self;
}

impl Rounded for f64 {
    #[inline(always)]
    fn rounded(value: f64) -> Self {
        value
    }
}

impl Rounded for f32 {
    #[inline(always)]
    fn rounded(value: f64) -> Self {
        value as f32
    }
}

/// One draw of one sample: a ChaCha key.
#[derive(Clone, Copy)]
pub(crate) struct Draw {
    seed: u64,
    sample: u64,
    index: u64,
    lane: u32,
    tag: u32,
}

impl Draw {
    pub(crate) const fn new(seed: u64, sample: u64, tag: u32, index: u64, lane: u32) -> Self {
        Self { seed, sample, index, lane, tag }
    }

    /// Seed, sample, index, lane and tag one after another: no two draws share a key.
    fn key(&self) -> [u32; 8] {
        let [seed, sample, index] = [self.seed, self.sample, self.index].map(|n| [n as u32, (n >> 32) as u32]);
        [seed[0], seed[1], sample[0], sample[1], index[0], index[1], self.lane, self.tag]
    }

    /// The first word of the draw.
    pub(crate) fn word(&self) -> u64 {
        let mut words = [[0; 1]; 16];
        chacha::block(&chacha::start(&self.key()), &mut words);
        word(&words, 0, 0)
    }

    /// A uniform number in (0, 1], from the first word of the draw.
    pub(crate) fn uniform(&self) -> f64 {
        uniform(self.word())
    }

    /// Standard normal values from the start of the draw.
    pub(crate) fn fill_normal(&self, out: &mut [f64]) {
        self.fill_cells(out.len(), 0..out.len().div_ceil(CELL), out);
    }

    /// The first standard normal values of one block of the draw.
    pub(super) fn fill_block(&self, block: u64, values: &mut [f64]) {
        let before = block as usize * BLOCK;
        let cells = before / CELL..(before + values.len()).div_ceil(CELL);
        self.fill_cells(before + values.len(), cells, values);
    }

    /// Standard normal values of consecutive cells of `[samples, numel]`, whose row 0 belongs to this draw's sample and
    /// the next ones to the samples after it.
    ///
    /// A cell is [`CELL`] consecutive elements of a row, the last of each row perhaps fewer; `values` are those of the
    /// cells and nothing else.
    pub(super) fn fill_cells<T: Rounded>(&self, numel: usize, cells: Range<usize>, values: &mut [T]) {
        if !cells.is_empty() {
            vectorized(Fill { draw: *self, numel, cells, values });
        }
    }
}

/// Calls a function with the widest vectors that this processor has and that the function is compiled for.
///
/// The function is the same, and so is each bit of what it computes: nothing is reordered, and products and sums are not
/// fused.
fn vectorized<F: NullaryFnOnce>(f: F) -> F::Output {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(avx2) = pulp::x86::V3::try_new() {
        return avx2.vectorize(f);
    }
    f.call()
}

/// A call of [`Draw::fill_cells`].
struct Fill<'a, T> {
    draw: Draw,
    numel: usize,
    cells: Range<usize>,
    values: &'a mut [T],
}

impl<T: Rounded> NullaryFnOnce for Fill<'_, T> {
    type Output = ();

    // Only what is inlined is compiled for the instructions that `vectorized` allows.
    #[inline(always)]
    fn call(self) {
        let Self { draw, numel, cells, mut values } = self;
        let mut places = Places::new(draw.sample, numel, cells.start);
        let mut left = cells.len();
        let key = draw.key();
        let (mut start, mut words) = (chacha::start::<LANES>(&key), [[0; LANES]; 16]);
        let mut normals = [[0.0; LANES]; CELL];
        while left >= FEW {
            let lanes = left.min(LANES);
            let mut lengths = [0; LANES];
            for (lane, length) in lengths[..lanes].iter_mut().enumerate() {
                *length = places.next(&mut start, lane);
            }
            chacha::block(&start, &mut words);
            for n in 0..CELL / 2 {
                #[expect(clippy::needless_range_loop, reason = "the lane is that of words and of two rows of normals")]
                for lane in 0..LANES {
                    let [x, y] = pair(word(&words, 2 * n, lane), word(&words, 2 * n + 1, lane));
                    normals[2 * n][lane] = x;
                    normals[2 * n + 1][lane] = y;
                }
            }
            for (lane, length) in lengths[..lanes].iter().enumerate() {
                let cell = values.split_off_mut(..*length).expect("values are those of the cells");
                // Lengths are nearly always full, and a known length needs no loop.
                if let Ok(cell) = <&mut [T; CELL]>::try_from(&mut *cell) {
                    for (value, normal) in cell.iter_mut().zip(&normals) {
                        *value = T::rounded(normal[lane]);
                    }
                } else {
                    for (value, normal) in cell.iter_mut().zip(&normals) {
                        *value = T::rounded(normal[lane]);
                    }
                }
            }
            left -= lanes;
        }
        let (mut start, mut words) = (chacha::start::<1>(&key), [[0; 1]; 16]);
        for _ in 0..left {
            let length = places.next(&mut start, 0);
            let cell = values.split_off_mut(..length).expect("values are those of the cells");
            chacha::block(&start, &mut words);
            for (n, values) in cell.chunks_mut(2).enumerate() {
                let normals = pair(word(&words, 2 * n, 0), word(&words, 2 * n + 1, 0));
                for (value, normal) in values.iter_mut().zip(normals) {
                    *value = T::rounded(normal);
                }
            }
        }
    }
}

/// Where cells lie.
struct Places {
    sample: u64,
    numel: usize,
    /// Cells of a row.
    cells: usize,
    cell: usize,
}

impl Places {
    #[inline(always)]
    fn new(first: u64, numel: usize, cell: usize) -> Self {
        let cells = numel.div_ceil(CELL);
        Self { sample: first.wrapping_add((cell / cells) as u64), numel, cells, cell: cell % cells }
    }

    /// Writes the next cell's key, stream and block into a lane, and returns how many elements it has.
    #[inline(always)]
    fn next<const L: usize>(&mut self, start: &mut chacha::Words<L>, lane: usize) -> usize {
        chacha::set(start, 6, lane, self.sample);
        start[12][lane] = (self.cell % (BLOCK / CELL)) as u32;
        chacha::set(start, 14, lane, (self.cell / (BLOCK / CELL)) as u64);
        let length = (self.numel - self.cell * CELL).min(CELL);
        self.cell += 1;
        if self.cell == self.cells {
            self.cell = 0;
            self.sample = self.sample.wrapping_add(1);
        }
        length
    }
}

/// Word `n` of 64 bits of one lane's block.
#[inline(always)]
fn word<const L: usize>(words: &chacha::Words<L>, n: usize, lane: usize) -> u64 {
    u64::from(words[2 * n][lane]) | u64::from(words[2 * n + 1][lane]) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// Element by element, by another ChaCha.
    fn reference(draw: &Draw, sample: u64, element: usize) -> f64 {
        let key = Draw { sample, ..*draw }.key();
        let bytes: Vec<u8> = key.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut chacha = ChaCha8Rng::from_seed(bytes.try_into().unwrap());
        chacha.set_stream((element / BLOCK) as u64);
        chacha.set_word_pos((element % BLOCK / 2 * 4) as u128);
        pair(chacha.next_u64(), chacha.next_u64())[element % 2]
    }

    fn start_of(cell: usize, numel: usize) -> usize {
        let cells = numel.div_ceil(CELL);
        cell / cells * numel + cell % cells * CELL
    }

    #[test]
    fn any_cells_of_any_rows_are_those_of_one_by_one() {
        let draw = Draw::new(9, u64::MAX - 1, 7, 1 << 35, 3);
        for numel in [1, 2, 7, 8, 9, 24, 131, BLOCK - 3, BLOCK + 13] {
            let rows = 5;
            let cells = rows * numel.div_ceil(CELL);
            for range in [0..cells, 0..1, 0..FEW - 1, 1..FEW + 1, cells - 1..cells, 2..cells, cells / 2..cells, 0..0] {
                if range.end > cells || range.start > range.end {
                    continue;
                }
                let (from, until) = (start_of(range.start, numel), start_of(range.end, numel));
                let mut values = vec![0.0f64; until - from];
                draw.fill_cells(numel, range.clone(), &mut values);
                let mut single = vec![0.0f32; until - from];
                draw.fill_cells(numel, range.clone(), &mut single);
                for (n, at) in (from..until).enumerate() {
                    let sample = draw.sample.wrapping_add((at / numel) as u64);
                    let expected = reference(&draw, sample, at % numel);
                    assert_eq!(values[n].to_bits(), expected.to_bits(), "{at} of rows of {numel}, cells {range:?}");
                    assert_eq!(single[n].to_bits(), (expected as f32).to_bits());
                }
            }
        }
    }

    #[test]
    fn wider_vectors_change_no_bit() {
        let draw = Draw::new(1, 2, 3, 4, 5);
        let numel = 1000;
        let cells = numel / CELL;
        let (mut vectors, mut plain) = (vec![0.0f64; numel], vec![0.0f64; numel]);
        draw.fill_cells(numel, 0..cells, &mut vectors);
        Fill { draw, numel, cells: 0..cells, values: &mut plain[..] }.call();
        assert!(vectors.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn a_block_and_the_first_word_are_those_of_the_draw() {
        let draw = Draw::new(5, 6, 7, 8, 9);
        let mut whole = vec![0.0; 2 * BLOCK + 100];
        draw.fill_normal(&mut whole);
        for (block, length) in [(0, 1), (0, BLOCK), (1, 77), (2, 100), (2, 3)] {
            let mut values = vec![0.0; length];
            draw.fill_block(block as u64, &mut values);
            assert_eq!(values, whole[block * BLOCK..][..length]);
        }
        let bytes: Vec<u8> = draw.key().iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut chacha = ChaCha8Rng::from_seed(bytes.try_into().unwrap());
        let first = chacha.next_u64();
        assert_eq!((draw.word(), draw.uniform()), (first, uniform(first)));
    }
}
