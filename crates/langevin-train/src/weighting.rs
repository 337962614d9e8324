//! Loss weights.

use crate::TrainError;
use crate::error::require;
use langevin_core::{Level, Prediction};
use serde::{Deserialize, Serialize};

/// How much the loss counts at each noise level.
///
/// `SNR` and `MinSnr` are weights of the error in x_0, carried over to what the network predicts: an error `e` of
/// the output is an error `c·e` of x_0 (`c` of [`Prediction::x0`]), so the plain mean squared error of the output is
/// multiplied by `w(SNR)·c²`. With `SNR = α²/σ²` on a variance-preserving process:
///
/// | prediction | `Snr` | `MinSnr(γ)` |
/// |---|---|---|
/// | ε | 1 | `min(SNR, γ)/SNR` |
/// | x_0 | `SNR` | `min(SNR, γ)` |
/// | v | `SNR/(SNR + 1)` | `min(SNR, γ)/(SNR + 1)` |
///
/// All three rows of a column are the same loss of the same x̂_0. Score, flow and EDM outputs follow from the same
/// rule. Where SNR is 0 (a chain rescaled to zero terminal SNR) v, flow and x_0 get weight 0: that level is then
/// learned from its neighbors only, so prefer [`Constant`](Self::Constant) there.
///
/// # References
/// Salimans & Ho 2022, section 4 (SNR weights); Hang et al. 2023, "Efficient Diffusion Training via Min-SNR
/// Weighting Strategy", section 3.4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Weighting {
    /// The plain mean squared error of what the network predicts: `L_simple` for ε (Ho et al. 2020, eq. 14), flow
    /// matching for flow, the loss of Karras et al. 2022 for EDM's raw output.
    Constant,
    /// The error of x_0 times SNR, which is the error of ε.
    Snr,
    /// The error of x_0 times `min(SNR, γ)`, γ > 0; 5 in the paper.
    MinSnr(f64),
}

impl Weighting {
    /// Checks γ.
    ///
    /// # Errors
    /// [`TrainError::Setting`] unless γ is positive and finite.
    pub fn validate(self) -> Result<Self, TrainError> {
        if let Weighting::MinSnr(gamma) = self {
            require(gamma > 0.0 && gamma.is_finite(), "gamma of min-SNR weights", gamma, "a positive, finite number")?;
        }
        Ok(self)
    }

    /// The number that the plain mean squared error of `prediction` is multiplied by at `level`.
    ///
    /// # Errors
    /// [`TrainError::Weight`] where it is infinite: x_0 with SNR weights at σ = 0.
    ///
    /// ```
    /// use langevin_core::{Level, Prediction};
    /// use langevin_train::Weighting;
    /// let level = Level { alpha: 0.8, sigma: 0.6, time: 0.0 }; // SNR = 16/9
    /// let weight = Weighting::MinSnr(1.0).weight(Prediction::Velocity, &level)?;
    /// assert!((weight - 1.0 / (16.0 / 9.0 + 1.0)).abs() < 1e-12);
    /// # Ok::<(), langevin_train::TrainError>(())
    /// ```
    pub fn weight(self, prediction: Prediction, level: &Level) -> Result<f64, TrainError> {
        let ratio = level.alpha / level.sigma;
        let snr = ratio * ratio;
        let weight = match self {
            Weighting::Constant => 1.0,
            Weighting::Snr => snr_times_output(prediction, level)?,
            // Two forms of min(SNR, γ)·c², each without a division by zero where it is used.
            Weighting::MinSnr(gamma) if snr <= gamma => snr_times_output(prediction, level)?,
            Weighting::MinSnr(gamma) => {
                let c = prediction.x0(level)?.output;
                gamma * c * c
            }
        };
        if weight.is_finite() { Ok(weight) } else { Err(TrainError::Weight { weighting: self, level: *level }) }
    }
}

/// `SNR·c²`: the squared coefficient of the output in ε̂, with the division by α taken out.
fn snr_times_output(prediction: Prediction, level: &Level) -> Result<f64, TrainError> {
    let c = match prediction {
        // ε̂ = (x − α·x̂_0)/σ, whatever x̂_0 comes from.
        Prediction::Sample => level.alpha / level.sigma,
        _ => prediction.eps(level)?.output,
    };
    Ok(c * c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Prediction; 9] = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::EdmVelocity { sigma_data: 0.5 },
    ];

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.0 }
    }

    /// Weights of a scaled-linear chain of 1000 steps (0.00085 to 0.012) with γ = 5, computed in float64 numpy.
    #[test]
    fn min_snr_reproduces_reference_weights() {
        let mut bar = 1.0f64;
        let bars: Vec<f64> = (0..1000)
            .map(|i| {
                let (low, high) = (0.00085f64.sqrt(), 0.012f64.sqrt());
                let root = low + (high - low) * f64::from(i) / 999.0;
                bar *= 1.0 - root * root;
                bar
            })
            .collect();
        let steps = [0, 10, 100, 400, 700, 999];
        let epsilon = [0.004253615573237339, 0.048305676515169475, 0.5914434426331733, 1.0, 1.0, 1.0];
        let velocity = [
            0.004250000000000087,
            0.04784345442857052,
            0.528882612067203,
            0.42448302403098337,
            0.08252087061035465,
            0.0046600985130772375,
        ];
        let sample = [5.0, 5.0, 5.0, 0.7375682069434486, 0.08994304934789285, 0.004681916706157956];
        for (i, &step) in steps.iter().enumerate() {
            let at = level(bars[step].sqrt(), (1.0 - bars[step]).sqrt());
            for (prediction, expected) in [
                (Prediction::Epsilon, epsilon[i]),
                (Prediction::Velocity, velocity[i]),
                (Prediction::Sample, sample[i]),
            ] {
                let weight = Weighting::MinSnr(5.0).weight(prediction, &at).unwrap();
                assert!((weight / expected - 1.0).abs() < 1e-9, "{prediction:?} step {step}: {weight}, not {expected}");
            }
        }
    }

    /// One error of x_0 costs the same, whichever way the network expresses it.
    #[test]
    fn a_weighting_is_the_same_loss_for_every_prediction() {
        for (alpha, sigma) in [(0.999, 0.04), (0.6, 0.8), (0.1, 0.99), (1.0, 20.0), (0.3, 0.7)] {
            let at = level(alpha, sigma);
            let snr = (alpha / sigma) * (alpha / sigma);
            for (weighting, of_x0) in [(Weighting::Snr, snr), (Weighting::MinSnr(5.0), snr.min(5.0))] {
                for prediction in ALL {
                    let error_of_x0 = 0.01 * prediction.x0(&at).unwrap().output;
                    let loss = weighting.weight(prediction, &at).unwrap() * 0.01 * 0.01;
                    let expected = of_x0 * error_of_x0 * error_of_x0;
                    assert!((loss / expected - 1.0).abs() < 1e-9, "{weighting:?} {prediction:?} at {at:?}");
                }
            }
            for prediction in ALL {
                assert_eq!(Weighting::Constant.weight(prediction, &at).unwrap(), 1.0);
            }
        }
    }

    #[test]
    fn the_ends_of_a_process_have_limits_or_errors() {
        let (noise, clean) = (level(0.0, 1.0), level(1.0, 0.0));
        let min = Weighting::MinSnr(5.0);
        assert_eq!(min.weight(Prediction::Epsilon, &noise).unwrap(), 1.0);
        assert_eq!(min.weight(Prediction::Velocity, &noise).unwrap(), 0.0);
        assert_eq!(min.weight(Prediction::Sample, &clean).unwrap(), 5.0);
        assert_eq!(min.weight(Prediction::Epsilon, &clean).unwrap(), 0.0);
        let error = Weighting::Snr.weight(Prediction::Sample, &clean).unwrap_err();
        assert!(matches!(error, TrainError::Weight { weighting: Weighting::Snr, .. }), "{error}");
        assert!(error.to_string().contains("min-SNR"), "{error}");
    }

    #[test]
    fn gamma_is_checked() {
        for gamma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Weighting::MinSnr(gamma).validate().unwrap_err();
            assert!(matches!(error, TrainError::Setting { .. }), "{error}");
        }
    }
}
