//! Brownian motion by bisection at fixed nodes.
//!
//! Nodes are, in the order in which they are drawn: the clock 2⁰; 2^±1, 2^±2, 2^±4 … 2^±512, each from its neighbor
//! nearer to 2⁰; powers of two between these by halving the exponent's interval; and dyadic points inside an octave
//! `[2^e, 2^(e+1)]`. Every node is drawn from the law of Brownian motion given its two neighbors (or given the left
//! one, for those beyond all others), with noise keyed by the node alone.

use super::NoiseError;
use super::cells::Draw;
use super::seeded::TAG_PATH_NODE;

/// Largest exponent of the skeleton; the path is linear below 2^-512 and ends at 2^512.
const REACH: i32 = 512;
/// Bisections inside an octave.
const DEPTH: u32 = 40;

/// Rejects intervals outside the clock.
pub(super) fn check_interval(from: f64, until: f64) -> Result<(), NoiseError> {
    if 0.0 <= from && from <= until && until <= power(REACH) {
        Ok(())
    } else {
        Err(NoiseError::Interval { from, until })
    }
}

/// `W(until) − W(from)` of one sample, for the first elements of one block of at most [`BLOCK`](super::cells::BLOCK).
pub(super) fn fill_path_block(seed: u64, sample: u64, block: u64, (from, until): (f64, f64), out: &mut [f64]) {
    let nodes = Nodes { seed, sample, block };
    out.fill(0.0);
    if from == until {
        return;
    }
    if Octave::of(from) == Octave::of(until) {
        // Only the octave's own increment enters, so close points do not cancel against W itself.
        let (mut cell, _) = nodes.octave(from, out.len());
        while cell.depth < DEPTH && cell.keep_common(&nodes, from, until) {}
        let mut left = cell.clone();
        cell.descend(&nodes, until, out);
        let mut start = vec![0.0; out.len()];
        left.descend(&nodes, from, &mut start);
        out.iter_mut().zip(start).for_each(|(end, start)| *end -= start);
        return;
    }
    nodes.position(until, out);
    if from > 0.0 {
        let mut start = vec![0.0; out.len()];
        nodes.position(from, &mut start);
        out.iter_mut().zip(start).for_each(|(end, start)| *end -= start);
    }
}

/// 2^exponent, exactly.
fn power(exponent: i32) -> f64 {
    libm::ldexp(1.0, exponent)
}

/// Where on the scale of powers of two a clock lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Octave {
    /// Below 2^-512.
    Bottom,
    /// In `[2^e, 2^(e+1))`; the end of the clock counts to the last octave.
    At(i32),
}

impl Octave {
    fn of(clock: f64) -> Self {
        if clock < power(-REACH) {
            return Octave::Bottom;
        }
        Octave::At(libm::ilogb(clock).min(REACH - 1))
    }
}

/// The nodes of one sample's path, for one block of elements.
struct Nodes {
    seed: u64,
    sample: u64,
    block: u64,
}

impl Nodes {
    /// Noise of the node 2^exponent (`heap` 0) or of a dyadic point of the octave above it (`heap` > 0).
    fn noise(&self, exponent: i32, heap: u64, numel: usize) -> Vec<f64> {
        let mut values = vec![0.0; numel];
        let lane = (exponent + 2 * REACH) as u32;
        Draw::new(self.seed, self.sample, TAG_PATH_NODE, heap, lane).fill_block(self.block, &mut values);
        values
    }

    /// The octave of `clock` as a cell, and W at its left end.
    fn octave(&self, clock: f64, numel: usize) -> (Cell, Vec<f64>) {
        let Octave::At(octave) = Octave::of(clock) else {
            let right = self.walk_out(-REACH, numel).1;
            return (Cell::new(0.0, power(-REACH), None, right), vec![0.0; numel]);
        };
        let (mut low, mut high);
        let (mut at_low, mut at_high);
        if octave >= 0 {
            // Skeleton exponents 0, 1, 2, 4, ...: the first above the octave's left end closes the interval.
            high = if octave == 0 { 1 } else { 2 << octave.ilog2() };
            low = if octave == 0 { 0 } else { high / 2 };
            (at_low, at_high) = self.walk_out(high, numel);
        } else {
            low = -((-octave as u32).next_power_of_two() as i32);
            high = if low == -1 { 0 } else { low / 2 };
            (at_high, at_low) = self.walk_out(low, numel);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let (l, m, h) = (power(low), power(middle), power(high));
            let std = ((m - l) * ((h - m) / (h - l))).sqrt();
            let weight = (m - l) / (h - l);
            let mut at_middle = self.noise(middle, 0, numel);
            for ((value, &left), &right) in at_middle.iter_mut().zip(&at_low).zip(&at_high) {
                *value = left + weight * (right - left) + std * *value;
            }
            if octave < middle {
                (high, at_high) = (middle, at_middle);
            } else {
                (low, at_low) = (middle, at_middle);
            }
        }
        let increment = at_high.iter().zip(&at_low).map(|(right, left)| right - left).collect();
        (Cell::new(power(low), power(high), Some(low), increment), at_low)
    }

    /// W at the skeleton's exponent `to` and at the one before it.
    fn walk_out(&self, to: i32, numel: usize) -> (Vec<f64>, Vec<f64>) {
        let mut exponent = 0;
        let mut here = self.noise(0, 0, numel);
        let mut before = here.clone();
        while exponent != to {
            let next = if exponent == 0 { to.signum() } else { 2 * exponent };
            let (old, new) = (power(exponent), power(next));
            let mut there = self.noise(next, 0, numel);
            // Outwards a free increment; inwards a bridge from W(0) = 0.
            let (weight, std) =
                if to > 0 { (1.0, (new - old).sqrt()) } else { (new / old, (new * (1.0 - new / old)).sqrt()) };
            for (value, &known) in there.iter_mut().zip(&here) {
                *value = weight * known + std * *value;
            }
            before = std::mem::replace(&mut here, there);
            exponent = next;
        }
        (before, here)
    }

    /// Adds W(clock).
    fn position(&self, clock: f64, out: &mut [f64]) {
        let (mut cell, at_low) = self.octave(clock, out.len());
        cell.descend(self, clock, out);
        out.iter_mut().zip(at_low).for_each(|(value, low)| *value += low);
    }
}

/// A dyadic interval of an octave and W's increment over it.
#[derive(Clone)]
struct Cell {
    low: f64,
    high: f64,
    /// Exponent of the octave; `None` below the skeleton, where the path is linear.
    octave: Option<i32>,
    depth: u32,
    /// Number of the cell's midpoint: 1 for the octave's middle, then 2h and 2h + 1.
    heap: u64,
    increment: Vec<f64>,
}

impl Cell {
    fn new(low: f64, high: f64, octave: Option<i32>, increment: Vec<f64>) -> Self {
        let depth = if octave.is_some() { 0 } else { DEPTH };
        Self { low, high, octave, depth, heap: 1, increment }
    }

    /// Goes to the half that contains both clocks; false if there is none.
    fn keep_common(&mut self, nodes: &Nodes, from: f64, until: f64) -> bool {
        let middle = 0.5 * (self.low + self.high);
        if until <= middle {
            self.halve(nodes, middle, false, None);
        } else if from >= middle {
            self.halve(nodes, middle, true, None);
        } else {
            return false;
        }
        true
    }

    /// Adds `W(clock) − W(low)` to `out`, for a clock inside the cell.
    fn descend(&mut self, nodes: &Nodes, clock: f64, out: &mut [f64]) {
        while self.depth < DEPTH && clock > self.low && clock < self.high {
            let middle = 0.5 * (self.low + self.high);
            self.halve(nodes, middle, clock >= middle, Some(&mut *out));
        }
        let weight = (clock - self.low) / (self.high - self.low);
        out.iter_mut().zip(&self.increment).for_each(|(value, increment)| *value += weight * increment);
    }

    /// Becomes its left or right half; on the way right the left half's increment is added to `passed`.
    fn halve(&mut self, nodes: &Nodes, middle: f64, right: bool, passed: Option<&mut [f64]>) {
        let half_std = 0.5 * (self.high - self.low).sqrt();
        let noise = nodes.noise(self.octave.unwrap_or(-REACH), self.heap, self.increment.len());
        let left = noise.iter().zip(&self.increment).map(|(z, whole)| 0.5 * whole + half_std * z);
        if right {
            let left: Vec<f64> = left.collect();
            self.increment.iter_mut().zip(&left).for_each(|(whole, left)| *whole -= left);
            if let Some(passed) = passed {
                passed.iter_mut().zip(&left).for_each(|(sum, left)| *sum += left);
            }
            self.low = middle;
        } else {
            self.increment = left.collect();
            self.high = middle;
        }
        self.heap = 2 * self.heap + u64::from(right);
        self.depth += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{NoiseSource, Seeded};

    fn increment(sample: u64, from: f64, until: f64, numel: usize) -> Vec<f64> {
        let mut out = vec![f64::NAN; numel];
        Seeded::new(3).fill_path(sample, from, until, &mut out).unwrap();
        out
    }

    /// Intervals at very different scales: inside a cell, inside an octave, across octaves, from zero, below one.
    const INTERVALS: [(f64, f64); 14] = [
        (0.0, 1.0),
        (0.0, 1e-9),
        (0.0, 1e12),
        (1.0, 2.0),
        (1.1, 1.1001),
        (1.49999, 1.50001),
        (0.3, 0.7),
        (0.1, 40.0),
        (3e-5, 4e-5),
        (1e-160, 2e-150),
        (9.0, 9.00001),
        (700.0, 6000.0),
        (1e6, 1.5e6),
        (1e150, 1e154),
    ];

    #[test]
    fn increments_add_up() {
        let clocks = [0.0, 1e-200, 1e-9, 0.013, 0.5, 0.75, 0.9999, 1.0, 1.3, 1.3000001, 2.0, 2.5, 63.9, 1e3, 7e11];
        for (i, &a) in clocks.iter().enumerate() {
            for (j, &b) in clocks.iter().enumerate().skip(i) {
                for &c in &clocks[j..] {
                    let (whole, first, second) = (increment(5, a, c, 3), increment(5, a, b, 3), increment(5, b, c, 3));
                    for n in 0..3 {
                        let scale = (c - a).sqrt().max(f64::MIN_POSITIVE);
                        assert!((first[n] + second[n] - whole[n]).abs() < 1e-12 * scale, "{a} {b} {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn close_points_keep_their_precision() {
        // Six increments of a fine grid at a large clock add up relative to themselves, not to W.
        let (from, step) = (1e9, 1e-3);
        let at = |k: u32| from + f64::from(k) * step;
        let whole = increment(2, at(0), at(6), 50);
        for (n, whole) in whole.iter().enumerate() {
            let sum: f64 = (0..6).map(|k| increment(2, at(k), at(k + 1), 50)[n]).sum();
            assert!((sum - whole).abs() < 1e-12 * (6.0 * step).sqrt());
        }
    }

    #[test]
    fn variance_is_the_length_of_the_interval() {
        let (samples, numel) = (40, 500);
        for (from, until) in INTERVALS {
            let (mut square, mut fourth) = (0.0, 0.0);
            for sample in 0..samples {
                for value in increment(sample, from, until, numel) {
                    let z = value / (until - from).sqrt();
                    square += z * z;
                    fourth += z.powi(4);
                }
            }
            let count = (samples as usize * numel) as f64;
            // Var z² = 2, Var z⁴ = 96.
            assert!((square / count - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "[{from}, {until}]: {square}");
            assert!((fourth / count - 3.0).abs() < 4.0 * (96.0 / count).sqrt(), "[{from}, {until}]: {fourth}");
        }
    }

    #[test]
    fn disjoint_increments_samples_and_elements_are_independent() {
        let numel = 20_000;
        let bound = 4.0 / (numel as f64).sqrt();
        let correlation = |a: &[f64], b: &[f64], lengths: f64| {
            a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / numel as f64 / lengths.sqrt()
        };
        let cuts = [0.0, 1e-6, 0.2, 0.7, 0.71, 1.0, 1.5, 1.75, 1.7501, 5.0, 900.0];
        let pieces: Vec<(f64, Vec<f64>)> =
            cuts.windows(2).map(|w| (w[1] - w[0], increment(0, w[0], w[1], numel))).collect();
        for (i, (length, a)) in pieces.iter().enumerate() {
            for (other, b) in &pieces[..i] {
                let c = correlation(a, b, length * other);
                assert!(c.abs() < bound, "increments of {length} and {other} correlate: {c}");
            }
            let own = increment(1, cuts[i], cuts[i + 1], numel);
            assert!(correlation(a, &own, length * length).abs() < bound, "samples correlate");
            let shifted = correlation(&a[1..], &a[..numel - 1], length * length);
            assert!(shifted.abs() < bound, "elements correlate: {shifted}");
        }
        // And overlapping ones share what they share: Cov(W(0, 2), W(1, 5)) = 1.
        let c = correlation(&increment(0, 0.0, 2.0, numel), &increment(0, 1.0, 5.0, numel), 1.0);
        assert!((c - 1.0).abs() < 4.0 * (9.0 / numel as f64).sqrt(), "{c}");
    }

    #[test]
    fn white_noise_and_paths_share_nothing() {
        let mut white = vec![0.0; 4];
        let key = crate::Key { domain: crate::noise::Domain::Path, index: 0, lane: 1024 };
        Seeded::new(3).fill(0, key, &mut white).unwrap();
        assert_ne!(white, increment(0, 0.0, 1.0, 4));
    }

    #[test]
    fn empty_and_bad_intervals() {
        assert_eq!(increment(0, 2.5, 2.5, 2), [0.0, 0.0]);
        for (from, until) in
            [(-1.0, 1.0), (2.0, 1.0), (0.0, f64::INFINITY), (f64::NAN, 1.0), (0.0, f64::NAN), (0.0, 1e155)]
        {
            let result = Seeded::new(0).fill_path(0, from, until, &mut [0.0]);
            assert!(matches!(result, Err(NoiseError::Interval { .. })), "[{from}, {until}]");
        }
    }

    #[test]
    fn golden_increment() {
        let bits = increment(1, 0.3, 7.9, 4).iter().fold(0u64, |h, v| h.rotate_left(7) ^ v.to_bits());
        assert_eq!(bits, 17_249_842_098_994_256_013, "bits of the path changed");
    }
}
