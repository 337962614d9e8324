//! Distances between tokens, in buckets.

/// The bucket of the distance from a token to one that it looks at: half of the buckets for each direction, half of
/// those exact, the others wider and wider up to `furthest`, where the last one takes the rest.
///
/// The boundaries are computed in f32, as those of published networks are.
///
/// # References
///
/// Raffel et al. 2019, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683), section 2.1.
pub(super) fn bucket(distance: i64, buckets: usize, furthest: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let start = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    if distance < exact {
        return start + distance;
    }
    // The logarithm of an f32, rounded once.
    let log = f64::from(distance as f32 / exact as f32).ln() as f32;
    let share = log / (furthest as f64 / exact as f64).ln() as f32;
    let wide = exact + (share * (half - exact) as f32) as usize;
    start + wide.min(half - 1)
}

/// The buckets of all pairs of a text: rows look at columns.
pub(super) fn table(length: usize, buckets: usize, furthest: usize) -> Vec<i64> {
    // One bucket for each distance, from that of the last token to the first.
    let of: Vec<i64> =
        (1 - length as i64..length as i64).map(|distance| bucket(distance, buckets, furthest) as i64).collect();
    (0..length).flat_map(|query| of[length - 1 - query..2 * length - 1 - query].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from transformers 5.24: for each setting the distances from 0 at which a new bucket begins.
    const STARTS: [(usize, usize, &[i64]); 5] = [
        (32, 128, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
        (8, 16, &[0, 1, 2, 6]),
        (32, 20, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 18]),
        (5, 64, &[0, 1]),
        (12, 100, &[0, 1, 2, 3, 10, 32]),
    ];

    #[test]
    fn boundaries_are_those_of_published_networks() {
        for (buckets, furthest, starts) in STARTS {
            let of = |distance: i64| bucket(-distance, buckets, furthest);
            let found: Vec<i64> = (0..1000).filter(|d| *d == 0 || of(*d) != of(*d - 1)).collect();
            assert_eq!(found, starts, "{buckets} buckets up to {furthest}");
            // The other direction has the other half.
            assert!((1..1000).all(|d| bucket(d, buckets, furthest) == of(d) + buckets / 2));
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_token() {
        let rows = table(3, 32, 128);
        assert_eq!(rows, [0, 17, 18, 1, 0, 17, 2, 1, 0]);
    }
}
