//! Grids of whole steps of a chain, in the arithmetic in which they are published.

/// Steps 0, r, 2r, … with `r = T div n`, plus an offset; rising.
pub(super) fn leading(n: usize, steps: usize, offset: usize) -> Vec<usize> {
    let ratio = steps / n;
    (0..n).map(|i| (i * ratio).saturating_add(offset)).collect()
}

/// `round(T − i·T/n) − 1`; falling. The increment is what floating-point ranges (numpy's) use: the difference of the
/// first two values, not T/n itself.
pub(super) fn trailing(n: usize, steps: usize) -> Vec<usize> {
    let top = steps as f64;
    let increment = (top - top / n as f64) - top;
    (0..n).map(|i| (top + i as f64 * increment).round_ties_even() as usize - 1).collect()
}

/// `n` equally spaced steps from 0 to T − 1, rounded; rising.
pub(super) fn linspace(n: usize, steps: usize) -> Vec<usize> {
    let last = steps - 1;
    if n == 1 {
        return vec![0];
    }
    let increment = last as f64 / (n - 1) as f64;
    (0..n).map(|i| if i == n - 1 { last } else { (i as f64 * increment).round_ties_even() as usize }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_timesteps_of_eight_steps_in_a_thousand() {
        assert_eq!(leading(8, 1000, 1), [1, 126, 251, 376, 501, 626, 751, 876]);
        assert_eq!(trailing(8, 1000), [999, 874, 749, 624, 499, 374, 249, 124]);
        assert_eq!(linspace(8, 1000), [0, 143, 285, 428, 571, 714, 856, 999]);
    }

    #[test]
    fn halves_round_to_even() {
        // 10 − 2.5·i is 10, 7.5, 5, 2.5.
        assert_eq!(trailing(4, 10), [9, 7, 4, 1]);
        // 0, 2.5, 5, 7.5, 10.
        assert_eq!(linspace(5, 11), [0, 2, 5, 8, 10]);
    }

    #[test]
    fn any_number_of_steps_gives_as_many_distinct_ones() {
        for steps in [7, 20, 999, 1000] {
            for n in 1..=steps {
                let mut grids = [leading(n, steps, 0), trailing(n, steps), linspace(n, steps)];
                grids[1].reverse();
                for grid in grids {
                    assert_eq!(grid.len(), n);
                    assert!(grid.is_sorted_by(|a, b| a < b) && grid[n - 1] < steps, "{n} of {steps}: {grid:?}");
                }
                assert_eq!(trailing(n, steps)[0], steps - 1);
            }
        }
        assert_eq!(leading(12, 12, 0), (0..12).collect::<Vec<_>>());
    }
}
