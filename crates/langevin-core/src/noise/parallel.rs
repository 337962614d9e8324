//! Blocks of noise on several threads.

use super::seeded::BLOCK;

/// Calls `fill(sample, block, values)` for every block of [`BLOCK`] elements of every row of `[rows, numel]` (row 0
/// is sample `first`), on up to as many threads as there are CPUs and shares of `share` values.
///
/// Blocks are functions of their numbers, so the result does not depend on the threads. Where threads do not exist
/// (WebAssembly) everything runs on the caller's.
pub(super) fn for_each_block(
    first: u64,
    rows: usize,
    values: &mut [f64],
    share: usize,
    fill: impl Fn(u64, u64, &mut [f64]) + Sync,
) {
    if rows == 0 || values.is_empty() {
        return;
    }
    let numel = values.len() / rows;
    let wanted = (values.len() / share).min(rows * numel.div_ceil(BLOCK));
    let jobs = values.chunks_mut(numel).enumerate().flat_map(|(i, row)| {
        let sample = first.wrapping_add(i as u64);
        row.chunks_mut(BLOCK).enumerate().map(move |(block, values)| (sample, block as u64, values))
    });
    let threads = match wanted {
        0 | 1 => 1,
        wanted => wanted.min(std::thread::available_parallelism().map_or(1, usize::from)),
    };
    if threads == 1 {
        return jobs.for_each(|(sample, block, values)| fill(sample, block, values));
    }
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (n, job) in jobs.enumerate() {
        shares[n % threads].push(job);
    }
    std::thread::scope(|scope| {
        for share in shares {
            let fill = &fill;
            scope.spawn(move || share.into_iter().for_each(|(sample, block, values)| fill(sample, block, values)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_filled_once_whatever_the_threads() {
        let numel = 2 * BLOCK + 10;
        let run = |share| {
            let mut values = vec![0.0; 3 * numel];
            for_each_block(7, 3, &mut values, share, |sample, block, values| {
                for (n, value) in values.iter_mut().enumerate() {
                    *value += (sample * 1_000_000 + block * 10_000) as f64 + n as f64;
                }
            });
            values
        };
        let (alone, shared) = (run(usize::MAX), run(1));
        assert_eq!(alone, shared);
        assert_eq!((alone[0], alone[BLOCK + 3], alone[numel - 1]), (7e6, 7_010_003.0, 7_020_009.0));
        assert_eq!(alone[2 * numel + BLOCK], 9_010_000.0);
        for_each_block(3, 0, &mut [], 1, |_, _, _| unreachable!("there is no block"));
        for_each_block(3, 1, &mut [], 1, |_, _, _| unreachable!("there is no block"));
    }
}
