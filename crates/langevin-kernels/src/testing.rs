//! Helpers of unit tests.

/// Numbers between -1 and 1 without a pattern, the same for the same seed.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Asserts that values agree but for an error relative to the largest of what is expected.
#[track_caller]
pub(crate) fn assert_close(given: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len());
    let scale = expected.iter().fold(1e-30f64, |most, e| most.max(e.abs()));
    for (at, (g, e)) in given.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs() / scale;
        assert!(error <= tolerance, "entry {at}: {g} for {e}, {error:e} of {scale:e}");
    }
}
