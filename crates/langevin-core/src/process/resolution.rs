//! How far the times of a flow are shifted for images of a size.

use super::ProcessError;
use serde::{Deserialize, Serialize};

const NAME: &str = "resolution shift";

/// The shift of a [`RectifiedFlow`](super::RectifiedFlow) that a number of tokens (or pixels) asks for.
///
/// Larger images have more redundant signal, so that the same noise destroys less of them: their times are shifted towards
/// noise, `u = s·t/(1 + (s − 1)·t)`.
///
/// ```
/// use langevin_core::process::{RectifiedFlow, ResolutionShift};
/// // Flux at 1024×1024: 64×64 tokens.
/// let flow = RectifiedFlow::new().shift(ResolutionShift::FLUX.shift(64 * 64)?)?;
/// assert!((ResolutionShift::FLUX.mu(4096)? - 1.15).abs() < 1e-15);
/// // Stable Diffusion 3, trained on 256×256, at 1024×1024: √16.
/// assert_eq!(ResolutionShift::SquareRoot { trained: 256 * 256 }.shift(1024 * 1024)?, 4.0);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResolutionShift {
    /// `s = e^μ` with μ linear in the number of tokens (Black Forest Labs 2024, Flux).
    Linear {
        /// A number of tokens and its μ.
        base: (usize, f64),
        /// Another number of tokens and its μ.
        max: (usize, f64),
    },
    /// `s = √(m/n)` for m pixels where the network was trained on n (Esser et al. 2024, eq. 23).
    SquareRoot {
        /// n, in the unit of m.
        trained: usize,
    },
}

impl ResolutionShift {
    /// Flux's: μ from 0.5 at 256 tokens to 1.15 at 4096.
    pub const FLUX: Self = Self::Linear { base: (256, 0.5), max: (4096, 1.15) };

    /// `μ = ln s` for `size` tokens or pixels. Linear ones go on beyond their two points.
    ///
    /// # Errors
    /// [`ProcessError::Parameter`] for a size of 0, equal sizes of the two points, and μ that are not finite.
    pub fn mu(&self, size: usize) -> Result<f64, ProcessError> {
        let bad = |parameter, given, expected| ProcessError::Parameter { process: NAME, parameter, given, expected };
        if size == 0 {
            return Err(bad("size", 0.0, "at least 1"));
        }
        match *self {
            Self::SquareRoot { trained: 0 } => Err(bad("trained size", 0.0, "at least 1")),
            Self::SquareRoot { trained } => Ok(0.5 * libm::log(size as f64 / trained as f64)),
            Self::Linear { base, max } => {
                if base.0 == max.0 {
                    return Err(bad("max size", max.0 as f64, "another size than that of the base"));
                }
                let slope = (max.1 - base.1) / (max.0 as f64 - base.0 as f64);
                let mu = base.1 + slope * (size as f64 - base.0 as f64);
                if mu.is_finite() { Ok(mu) } else { Err(bad("mu", mu, "a finite number")) }
            }
        }
    }

    /// The shift s for `size` tokens or pixels, for [`RectifiedFlow::shift`](super::RectifiedFlow::shift).
    ///
    /// # Errors
    /// As [`mu`](Self::mu).
    pub fn shift(&self, size: usize) -> Result<f64, ProcessError> {
        match *self {
            // Exact where the ratio is a square.
            Self::SquareRoot { trained } if trained > 0 && size > 0 => Ok((size as f64 / trained as f64).sqrt()),
            _ => Ok(libm::exp(self.mu(size)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_points_make_a_line() {
        let flux = ResolutionShift::FLUX;
        for (size, mu) in [(256, 0.5), (4096, 1.15), (2176, 0.825), (8192, 1.15 + 0.65 * 4096.0 / 3840.0)] {
            assert!((flux.mu(size).unwrap() - mu).abs() < 1e-14, "{size}");
            assert!((flux.shift(size).unwrap() - f64::exp(mu)).abs() < 1e-13, "{size}");
        }
        let root = ResolutionShift::SquareRoot { trained: 100 };
        assert_eq!((root.shift(100).unwrap(), root.shift(25).unwrap()), (1.0, 0.5));
        assert!((root.mu(400).unwrap() - 2f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn settings_that_make_no_shift_are_refused() {
        let line = |base, max| ResolutionShift::Linear { base, max };
        for (shift, size) in [
            (ResolutionShift::FLUX, 0),
            (ResolutionShift::SquareRoot { trained: 0 }, 5),
            (ResolutionShift::SquareRoot { trained: 5 }, 0),
            (line((256, 0.5), (256, 1.15)), 300),
            (line((256, f64::NAN), (4096, 1.15)), 300),
            (line((256, 0.5), (4096, f64::INFINITY)), 300),
        ] {
            assert!(matches!(shift.mu(size), Err(ProcessError::Parameter { .. })), "{shift:?}");
            assert!(matches!(shift.shift(size), Err(ProcessError::Parameter { .. })), "{shift:?}");
        }
    }
}
