//! Samplers for inverse problems: samples that fit a measurement.
//!
//! [`Ddrm`] works in the spectral space of the operator and needs no gradients. [`DpsSteps`] moves the state by the gradient of
//! the residual after each step of a plan. Methods that change the score instead are denoisers
//! ([`langevin_core::inverse`]) and run under any solver.

mod ddrm;
mod dps;

pub use ddrm::Ddrm;
pub use dps::DpsSteps;

/// Folds numbers into a fingerprint, by FNV-1a over their bits.
fn fingerprint(numbers: impl IntoIterator<Item = f64>) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    numbers.into_iter().flat_map(|number| number.to_bits().to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, fold)
}
