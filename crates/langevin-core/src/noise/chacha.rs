//! ChaCha8, several blocks side by side.

/// The words of `L` ChaCha blocks: word `i` of block `l` is `words[i][l]`.
///
/// Word by word, the same step of all blocks is one loop over neighbors in memory, which a compiler turns into vector
/// instructions where there are any. The result is the same without.
pub(super) type Words<const L: usize> = [[u32; L]; 16];

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// `L` times the block 0 of stream 0 of a key, before the rounds.
///
/// Words 4 to 11 are the key, 12 and 13 the number of the block, 14 and 15 that of the stream.
#[inline(always)]
pub(super) fn start<const L: usize>(key: &[u32; 8]) -> Words<L> {
    let mut words = [[0; L]; 16];
    for (word, value) in words.iter_mut().zip(CONSTANTS.into_iter().chain(*key)) {
        *word = [value; L];
    }
    words
}

/// Sets a number that takes two words.
#[inline(always)]
pub(super) fn set<const L: usize>(words: &mut Words<L>, at: usize, lane: usize, value: u64) {
    words[at][lane] = value as u32;
    words[at + 1][lane] = (value >> 32) as u32;
}

/// Eight rounds, and the start added.
#[inline(always)]
pub(super) fn block<const L: usize>(start: &Words<L>, out: &mut Words<L>) {
    *out = *start;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = out;
    for _ in 0..4 {
        quarter(a, e, i, m);
        quarter(b, f, j, n);
        quarter(c, g, k, o);
        quarter(d, h, l, p);
        quarter(a, f, k, p);
        quarter(b, g, l, m);
        quarter(c, h, i, n);
        quarter(d, e, j, o);
    }
    for (word, start) in out.iter_mut().zip(start) {
        for lane in 0..L {
            word[lane] = word[lane].wrapping_add(start[lane]);
        }
    }
}

#[inline(always)]
fn quarter<const L: usize>(a: &mut [u32; L], b: &mut [u32; L], c: &mut [u32; L], d: &mut [u32; L]) {
    for lane in 0..L {
        let (mut w, mut x, mut y, mut z) = (a[lane], b[lane], c[lane], d[lane]);
        w = w.wrapping_add(x);
        z = (z ^ w).rotate_left(16);
        y = y.wrapping_add(z);
        x = (x ^ y).rotate_left(12);
        w = w.wrapping_add(x);
        z = (z ^ w).rotate_left(8);
        y = y.wrapping_add(z);
        x = (x ^ y).rotate_left(7);
        (a[lane], b[lane], c[lane], d[lane]) = (w, x, y, z);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    #[test]
    fn words_are_those_of_another_implementation() {
        let key: [u32; 8] = std::array::from_fn(|i| 0x9e37_79b9_u32.wrapping_mul(i as u32 + 1));
        let bytes: Vec<u8> = key.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut reference = ChaCha8Rng::from_seed(bytes.try_into().unwrap());
        let mut words = start::<7>(&key);
        let places = [(0, 0), (1, 0), (511, 3), (u64::from(u32::MAX), 5), (1 << 32, 1 << 40), (5, u64::MAX), (77, 1)];
        for (lane, (block, stream)) in places.into_iter().enumerate() {
            set(&mut words, 12, lane, block);
            set(&mut words, 14, lane, stream);
        }
        let mut out = [[0; 7]; 16];
        block(&words, &mut out);
        for (lane, (block, stream)) in places.into_iter().enumerate() {
            reference.set_stream(stream);
            reference.set_word_pos(u128::from(block) * 16);
            for (i, word) in out.iter().enumerate() {
                assert_eq!(word[lane], reference.next_u32(), "word {i} of block {block} of stream {stream}");
            }
        }
    }
}
