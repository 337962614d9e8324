//! Pieces of noise on several threads.

use std::ops::Range;
use std::sync::OnceLock;

/// Calls `fill(pieces, values)` for shares of `[rows, numel]`, on up to as many threads as there are CPUs and shares of
/// `least` values.
///
/// A piece is `unit` consecutive elements of a row, the last of each row perhaps fewer; pieces are numbered row by row.
/// They are functions of their numbers, so the result does not depend on the threads. Where threads do not exist
/// (WebAssembly) everything runs on the caller's.
pub(super) fn in_shares<T: Send>(
    numel: usize,
    unit: usize,
    least: usize,
    values: &mut [T],
    fill: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    if values.is_empty() {
        return;
    }
    let in_row = numel.div_ceil(unit);
    let pieces = values.len() / numel * in_row;
    let wanted = (values.len() / least).min(pieces);
    let threads = if wanted > 1 { wanted.min(processors()) } else { 1 };
    let start = |piece: usize| piece / in_row * numel + piece % in_row * unit;
    let mut shares = (1..=threads).scan((0, values), |(from, rest), n| {
        let until = pieces * n / threads;
        let values = rest.split_off_mut(..start(until) - start(*from))?;
        Some((std::mem::replace(from, until)..until, values))
    });
    let own = shares.next();
    std::thread::scope(|scope| {
        for (pieces, values) in shares {
            let fill = &fill;
            scope.spawn(move || fill(pieces, values));
        }
        if let Some((pieces, values)) = own {
            fill(pieces, values);
        }
    });
}

/// Calls `fill(row, piece of the row, values)` for every one of consecutive pieces.
pub(super) fn each_piece<T>(
    numel: usize,
    unit: usize,
    pieces: Range<usize>,
    mut values: &mut [T],
    fill: impl Fn(usize, usize, &mut [T]),
) {
    let in_row = numel.div_ceil(unit);
    for piece in pieces {
        let (row, piece) = (piece / in_row, piece % in_row);
        let length = (numel - piece * unit).min(unit);
        let values = values.split_off_mut(..length).expect("values are those of the pieces");
        fill(row, piece, values);
    }
}

/// How many threads can run at once; asked for once, because systems take longer to answer than a small draw takes.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_filled_once_whatever_the_threads() {
        for (rows, numel, unit) in [(3, 8202, 4096), (7, 5, 8), (1, 40, 8), (5, 17, 8)] {
            let run = |least| {
                let mut values = vec![0.0; rows * numel];
                in_shares(numel, unit, least, &mut values, |pieces, values| {
                    each_piece(numel, unit, pieces, values, |row, piece, values| {
                        for (n, value) in values.iter_mut().enumerate() {
                            *value += (row * 1_000_000 + piece * 10_000 + n) as f64;
                        }
                    });
                });
                values
            };
            let expected: Vec<f64> = (0..rows * numel)
                .map(|at| (at / numel * 1_000_000 + at % numel / unit * 10_000 + at % numel % unit) as f64)
                .collect();
            for least in [usize::MAX, 1, 9, numel] {
                assert_eq!(run(least), expected, "{rows} rows of {numel}, shares of {least}");
            }
        }
        in_shares(3, 8, 1, &mut [0.0f32; 0], |_, _| unreachable!("there is no piece"));
    }

    #[test]
    fn there_are_at_least_as_many_values_as_asked_for_in_a_share() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let smallest = AtomicUsize::new(usize::MAX);
        in_shares(1000, 8, 300, &mut [0u8; 1000], |_, values| {
            smallest.fetch_min(values.len(), Ordering::Relaxed);
        });
        assert!(smallest.load(Ordering::Relaxed) >= 300);
    }
}
