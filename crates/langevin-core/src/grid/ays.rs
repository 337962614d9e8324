//! The align-your-steps tables.

use serde::{Deserialize, Serialize};

/// Noise levels σ/α optimized for a model family (Sabour et al. 2024, "Align Your Steps"), for 10 steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AysTable {
    /// Stable Diffusion 1.5.
    StableDiffusion15,
    /// Stable Diffusion XL.
    StableDiffusionXl,
    /// Stable Video Diffusion.
    StableVideoDiffusion,
}

impl AysTable {
    /// The tables print three decimals, so that a level may lie beyond the model's own range by this much.
    pub const HALF_DIGIT: f64 = 5e-4;

    /// The model that it was made for, in words.
    pub fn model(self) -> &'static str {
        match self {
            AysTable::StableDiffusion15 => "Stable Diffusion 1.5",
            AysTable::StableDiffusionXl => "Stable Diffusion XL",
            AysTable::StableVideoDiffusion => "Stable Video Diffusion",
        }
    }

    /// The published 11 levels, falling.
    pub fn sigmas(self) -> [f64; 11] {
        match self {
            AysTable::StableDiffusion15 => {
                [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
            }
            AysTable::StableDiffusionXl => {
                [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]
            }
            AysTable::StableVideoDiffusion => {
                [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002]
            }
        }
    }

    /// `n + 1` levels σ/α for n steps, by linear interpolation of ln(σ/α) in the position.
    pub fn interpolated(self, n: usize) -> Vec<f64> {
        let table = self.sigmas();
        let last = table.len() - 1;
        (0..=n)
            .map(|i| {
                let position = last as f64 * i as f64 / n.max(1) as f64;
                let below = (position as usize).min(last - 1);
                let weight = position - below as f64;
                if weight == 0.0 || weight == 1.0 {
                    return table[below + weight as usize];
                }
                libm::exp((1.0 - weight) * libm::log(table[below]) + weight * libm::log(table[below + 1]))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AysTable; 3] =
        [AysTable::StableDiffusion15, AysTable::StableDiffusionXl, AysTable::StableVideoDiffusion];

    #[test]
    fn ten_steps_are_the_table() {
        for table in ALL {
            assert_eq!(table.interpolated(10), table.sigmas());
        }
    }

    #[test]
    fn twenty_steps_add_geometric_means() {
        for table in ALL {
            let (sigmas, fine) = (table.sigmas(), table.interpolated(20));
            for i in 0..10 {
                assert_eq!(fine[2 * i], sigmas[i]);
                assert!((fine[2 * i + 1] / (sigmas[i] * sigmas[i + 1]).sqrt() - 1.0).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn any_number_of_steps_falls_between_the_ends() {
        for table in ALL {
            for n in 1..50 {
                let sigmas = table.interpolated(n);
                assert!(sigmas.len() == n + 1 && sigmas.is_sorted_by(|a, b| a > b), "{n}: {sigmas:?}");
                assert_eq!((sigmas[0], sigmas[n]), (table.sigmas()[0], table.sigmas()[10]));
            }
        }
    }
}
