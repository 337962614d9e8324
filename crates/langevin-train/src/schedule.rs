//! The learning rate as a pure function of the step.

use crate::TrainError;
use crate::error::require;
use serde::{Deserialize, Serialize};

/// A learning rate with linear warm-up, then constant or falling along half a cosine.
///
/// ```
/// use langevin_train::{Decay, LearningRate};
/// let schedule = LearningRate { base: 1e-3, warmup: 4, decay: Decay::Cosine { steps: 12, floor: 0.0 } };
/// assert_eq!(schedule.at(0), 0.25e-3);
/// assert_eq!(schedule.at(3), 1e-3);
/// assert!((schedule.at(8) - 0.5e-3).abs() < 1e-15);
/// assert_eq!(schedule.at(12), 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningRate {
    /// The rate after warm-up, > 0.
    pub base: f64,
    /// Steps over which the rate grows linearly to `base`; the first step already has `base/warmup`.
    pub warmup: u64,
    /// What happens after warm-up.
    pub decay: Decay,
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Decay {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine and reaches `floor·base` at step `steps` (Loshchilov & Hutter 2017, "SGDR", eq. 5).
    Cosine {
        /// The step at which it arrives, larger than the warm-up.
        steps: u64,
        /// Share of the base rate that is left then, in `[0, 1]`.
        floor: f64,
    },
}

impl LearningRate {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] naming the one that is out of range.
    pub fn validate(self) -> Result<Self, TrainError> {
        let base = self.base;
        require(base > 0.0 && base.is_finite(), "learning_rate", base, "a positive, finite number")?;
        if let Decay::Cosine { steps, floor } = self.decay {
            let longer = "fewer steps of warm-up than the cosine has in all";
            require(steps > self.warmup, "warmup", self.warmup as f64, longer)?;
            require((0.0..=1.0).contains(&floor), "floor of the cosine", floor, "a number in [0, 1]")?;
        }
        Ok(self)
    }

    /// The rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.base * (step + 1) as f64 / self.warmup as f64;
        }
        match self.decay {
            Decay::Constant => self.base,
            Decay::Cosine { steps, floor } if step >= steps => self.base * floor,
            Decay::Cosine { steps, floor } => {
                let done = (step - self.warmup) as f64 / (steps - self.warmup) as f64;
                self.base * (floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_stays_or_falls() {
        let constant = LearningRate { base: 2.0, warmup: 2, decay: Decay::Constant };
        assert_eq!([0, 1, 2, 1_000_000].map(|step| constant.at(step)), [1.0, 2.0, 2.0, 2.0]);
        let none = LearningRate { warmup: 0, ..constant };
        assert_eq!(none.at(0), 2.0);
        let cosine = LearningRate { decay: Decay::Cosine { steps: 8, floor: 0.1 }, ..constant };
        assert_eq!(cosine.at(2), 2.0);
        // Half-way: the mean of base and floor. A third of the way: cos(π/3) = 1/2.
        assert!((cosine.at(5) - 1.1).abs() < 1e-12);
        assert!((cosine.at(4) - (0.2 + 1.8 * 0.75)).abs() < 1e-12);
        assert_eq!([8, 9, 1000].map(|step| cosine.at(step)), [0.2, 0.2, 0.2]);
    }

    #[test]
    fn settings_are_checked() {
        let good = LearningRate { base: 1e-3, warmup: 5, decay: Decay::Cosine { steps: 6, floor: 0.0 } };
        assert!(good.validate().is_ok());
        let bad = |schedule: LearningRate, setting: &str| {
            let error = schedule.validate().unwrap_err();
            assert!(error.to_string().starts_with(setting), "{error}");
        };
        for base in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            bad(LearningRate { base, ..good }, "learning_rate");
        }
        bad(LearningRate { warmup: 6, ..good }, "warmup");
        for floor in [-0.1, 1.1, f64::NAN] {
            bad(LearningRate { decay: Decay::Cosine { steps: 6, floor }, ..good }, "floor");
        }
    }
}
