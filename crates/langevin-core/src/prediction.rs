//! What a network answers with, and the exact conversions between the answers.
//!
//! With `x = α·x_0 + σ·ε` every parameterization is linear in `(x, output)`, so a conversion is a pair of
//! coefficients, computed in `f64`. Where a conversion divides by zero it is an error, never an infinity.

use crate::level::Level;
use serde::{Deserialize, Serialize};

/// The quantity a network was trained to predict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020, eq. 14).
    Epsilon,
    /// The clean sample x_0.
    Sample,
    /// The velocity `v = α·ε − σ·x_0` (Salimans & Ho 2022, appendix D).
    Velocity,
    /// The score `∇ ln p(x) = −ε/σ` (Song et al. 2021).
    Score,
    /// The score times σ, `−ε`: what score networks compute before they divide by σ (Song & Ermon 2020).
    ScaledScore,
    /// The flow `u = ε − x_0` (Liu et al. 2022), which points from data to noise.
    Flow,
    /// The flow with the other sign, `x_0 − ε`, which points from noise to data (Lipman et al. 2022).
    FlowToData,
    /// The raw output F of EDM preconditioning, `x_0 = c_skip·x + c_out·F(c_in·x, c_noise)` at α = 1
    /// (Karras et al. 2022, table 1), on any process through `x/α`.
    Edm {
        /// Standard deviation of the data, > 0; 0.5 in the paper.
        sigma_data: f64,
    },
    /// EDM's output with the other sign, `x_0 = c_skip·x − |c_out|·F`: at σ_data = 1 it is the velocity of `x/√(α² + σ²)`,
    /// and for any σ_data the output of [`TrigFlow`](crate::process::TrigFlow)'s networks.
    EdmVelocity {
        /// Standard deviation of the data, > 0; 1 in CosXL.
        sigma_data: f64,
    },
    /// The raw output F of a consistency model, `f = c_skip·x + c_out·F(c_in·x)` with
    /// `c_skip = σ_d²/((s − s_min)² + σ_d²)` and `c_out = σ_d(s − s_min)/√(s² + σ_d²)` at `s = σ/α`, so that f is x itself at
    /// s_min (Song et al. 2023, appendix C). f stands for x̂_0.
    Consistency {
        /// Standard deviation of the data, > 0; 0.5 in the paper.
        sigma_data: f64,
        /// Where the model ends, 0 or more; 0.002 in the paper.
        sigma_min: f64,
    },
}

impl std::fmt::Display for Prediction {
    /// As a noun with its article: "an epsilon prediction".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Prediction::Epsilon => f.write_str("an epsilon prediction"),
            Prediction::Sample => f.write_str("a sample prediction"),
            Prediction::Velocity => f.write_str("a velocity prediction"),
            Prediction::Score => f.write_str("a score prediction"),
            Prediction::ScaledScore => f.write_str("a scaled score prediction"),
            Prediction::Flow => f.write_str("a flow prediction"),
            Prediction::FlowToData => f.write_str("a flow-to-data prediction"),
            Prediction::Edm { sigma_data } => write!(f, "an EDM prediction (sigma_data {sigma_data})"),
            Prediction::EdmVelocity { sigma_data } => write!(f, "an EDM velocity prediction (sigma_data {sigma_data})"),
            Prediction::Consistency { sigma_data, sigma_min } => {
                write!(f, "a consistency prediction (sigma_data {sigma_data}, sigma_min {sigma_min})")
            }
        }
    }
}

/// A conversion that does not exist at a level, or a bad setting.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PredictionError {
    /// The quantity cannot be recovered from this prediction at this level.
    #[error(
        "{wanted} cannot be computed from {prediction} at alpha = {alpha}, sigma = {sigma} (time {time}): \
         the conversion divides by zero; use a velocity or flow prediction, or a grid that leaves this level out"
    )]
    Singular {
        /// What was asked for.
        wanted: Quantity,
        /// What the network predicts.
        prediction: Prediction,
        /// α of the level.
        alpha: f64,
        /// σ of the level.
        sigma: f64,
        /// The network's time at the level.
        time: f64,
    },
    /// The data deviation of a preconditioning must be positive and finite.
    #[error("sigma_data of EDM preconditioning must be positive and finite, got {given}")]
    SigmaData {
        /// The value given.
        given: f64,
    },
    /// Where a consistency model ends must be a noise level.
    #[error("sigma_min of a consistency model must be finite and not negative, got {given}")]
    SigmaMin {
        /// The value given.
        given: f64,
    },
}

/// A quantity that an estimate can be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The clean sample x̂_0.
    X0,
    /// The noise ε̂.
    Epsilon,
    /// The score.
    Score,
    /// The training target of the prediction.
    Target,
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Quantity::X0 => "the clean sample x_0",
            Quantity::Epsilon => "the noise epsilon",
            Quantity::Score => "the score",
            Quantity::Target => "the training target",
        })
    }
}

/// A quantity as `x·X + output·OUT`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// Coefficient of the state x.
    pub x: f64,
    /// Coefficient of the network's output.
    pub output: f64,
}

impl Linear {
    /// The same of an output with the other sign.
    fn turned(self) -> Self {
        Self { output: -self.output, ..self }
    }
}

/// A training target as `x0·X_0 + eps·ε`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Coefficient of the clean sample.
    pub x0: f64,
    /// Coefficient of the noise.
    pub eps: f64,
}

impl Prediction {
    /// Checks the settings a prediction carries.
    ///
    /// # Errors
    /// [`PredictionError::SigmaData`] unless σ_data is positive and finite, [`PredictionError::SigmaMin`] unless σ_min is
    /// finite and not negative.
    pub fn validate(self) -> Result<Self, PredictionError> {
        match self {
            Prediction::Edm { sigma_data }
            | Prediction::EdmVelocity { sigma_data }
            | Prediction::Consistency { sigma_data, .. }
                if !(sigma_data > 0.0 && sigma_data.is_finite()) =>
            {
                Err(PredictionError::SigmaData { given: sigma_data })
            }
            Prediction::Consistency { sigma_min, .. } if !(sigma_min >= 0.0 && sigma_min.is_finite()) => {
                Err(PredictionError::SigmaMin { given: sigma_min })
            }
            _ => Ok(self),
        }
    }

    fn singular(self, wanted: Quantity, at: &Level) -> PredictionError {
        PredictionError::Singular { wanted, prediction: self, alpha: at.alpha, sigma: at.sigma, time: at.time }
    }

    /// `c / d`, or an error that names what was wanted where that is not a number.
    fn over(self, c: f64, d: f64, wanted: Quantity, at: &Level) -> Result<f64, PredictionError> {
        let value = c / d;
        if value.is_finite() { Ok(value) } else { Err(self.singular(wanted, at)) }
    }

    /// Coefficients of x̂_0.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] for ε and scores at α = 0, and for consistency models below σ_min.
    ///
    /// ```
    /// use langevin_core::{Level, Prediction};
    /// let level = Level { alpha: 0.6, sigma: 0.8, time: 0.0 };
    /// let c = Prediction::Velocity.x0(&level)?;
    /// // x = 0.6·1 + 0.8·2 and v = 0.6·2 − 0.8·1 give back x_0 = 1.
    /// assert!((c.x * 2.2 + c.output * 0.4 - 1.0).abs() < 1e-12);
    /// # Ok::<(), langevin_core::PredictionError>(())
    /// ```
    pub fn x0(self, at: &Level) -> Result<Linear, PredictionError> {
        let (a, s) = (at.alpha, at.sigma);
        let over = |c, d| self.over(c, d, Quantity::X0, at);
        Ok(match self {
            Prediction::Epsilon => Linear { x: over(1.0, a)?, output: over(-s, a)? },
            Prediction::Sample => Linear { x: 0.0, output: 1.0 },
            Prediction::Velocity => {
                let n = a * a + s * s;
                Linear { x: over(a, n)?, output: over(-s, n)? }
            }
            Prediction::Score => Linear { x: over(1.0, a)?, output: over(s * s, a)? },
            Prediction::ScaledScore => Linear { x: over(1.0, a)?, output: over(s, a)? },
            Prediction::Flow => Linear { x: over(1.0, a + s)?, output: over(-s, a + s)? },
            Prediction::FlowToData => Prediction::Flow.x0(at)?.turned(),
            Prediction::Edm { sigma_data } => {
                let (d, n) = scales(at, sigma_data);
                Linear { x: over(d * sigma_data, n * n)?, output: over(s * sigma_data, n)? }
            }
            Prediction::EdmVelocity { sigma_data } => Prediction::Edm { sigma_data }.x0(at)?.turned(),
            Prediction::Consistency { sigma_data, sigma_min } => {
                let (d, n) = scales(at, sigma_data);
                let above = self.above(sigma_min, Quantity::X0, at)?;
                let skip = libm::hypot(d, above);
                Linear { x: over(d * sigma_data, skip * skip)?, output: over(above * sigma_data, n)? }
            }
        })
    }

    /// Coefficients of ε̂.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] for x_0 and consistency models at σ = 0, and for the latter below σ_min.
    pub fn eps(self, at: &Level) -> Result<Linear, PredictionError> {
        let (a, s) = (at.alpha, at.sigma);
        let over = |c, d| self.over(c, d, Quantity::Epsilon, at);
        Ok(match self {
            Prediction::Epsilon => Linear { x: 0.0, output: 1.0 },
            Prediction::Sample => Linear { x: over(1.0, s)?, output: over(-a, s)? },
            Prediction::Velocity => {
                let n = a * a + s * s;
                Linear { x: over(s, n)?, output: over(a, n)? }
            }
            Prediction::Score => Linear { x: 0.0, output: -s },
            Prediction::ScaledScore => Linear { x: 0.0, output: -1.0 },
            Prediction::Flow => Linear { x: over(1.0, a + s)?, output: over(a, a + s)? },
            Prediction::FlowToData => Prediction::Flow.eps(at)?.turned(),
            Prediction::Edm { sigma_data } => {
                let (d, n) = scales(at, sigma_data);
                Linear { x: over(s, n * n)?, output: over(-d, n)? }
            }
            Prediction::EdmVelocity { sigma_data } => Prediction::Edm { sigma_data }.eps(at)?.turned(),
            Prediction::Consistency { sigma_data, sigma_min } => {
                let (d, n) = scales(at, sigma_data);
                let above = self.above(sigma_min, Quantity::Epsilon, at)?;
                let skip = libm::hypot(d, above);
                // (x − α·f)/σ, with 1 − α·c_skip as one fraction.
                Linear { x: over(above * above, skip * skip * s)?, output: over(-d * above, n * s)? }
            }
        })
    }

    /// Coefficients of the score `−ε̂/σ`.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] at σ = 0 unless the network predicts the score itself.
    pub fn score(self, at: &Level) -> Result<Linear, PredictionError> {
        if self == Prediction::Score {
            return Ok(Linear { x: 0.0, output: 1.0 });
        }
        let eps = self.eps(at)?;
        let over = |c| self.over(c, -at.sigma, Quantity::Score, at);
        Ok(Linear { x: over(eps.x)?, output: over(eps.output)? })
    }

    /// The training target in terms of x_0 and ε.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] for the score at σ = 0, for EDM there, and for consistency models at σ_min and below.
    pub fn target(self, at: &Level) -> Result<Target, PredictionError> {
        let (a, s) = (at.alpha, at.sigma);
        let over = |c, d| self.over(c, d, Quantity::Target, at);
        Ok(match self {
            Prediction::Epsilon => Target { x0: 0.0, eps: 1.0 },
            Prediction::Sample => Target { x0: 1.0, eps: 0.0 },
            Prediction::Velocity => Target { x0: -s, eps: a },
            Prediction::Score => Target { x0: 0.0, eps: over(-1.0, s)? },
            Prediction::ScaledScore => Target { x0: 0.0, eps: -1.0 },
            Prediction::Flow => Target { x0: -1.0, eps: 1.0 },
            Prediction::FlowToData => Target { x0: 1.0, eps: -1.0 },
            Prediction::Edm { sigma_data } => {
                let (d, n) = scales(at, sigma_data);
                Target { x0: over(s, sigma_data * n)?, eps: over(-d, n)? }
            }
            Prediction::EdmVelocity { sigma_data } => {
                let target = Prediction::Edm { sigma_data }.target(at)?;
                Target { x0: -target.x0, eps: -target.eps }
            }
            Prediction::Consistency { sigma_data, sigma_min } => {
                let (d, n) = scales(at, sigma_data);
                let above = self.above(sigma_min, Quantity::Target, at)?;
                let square = (d * d + above * above) * sigma_data;
                Target { x0: over(n * above, square)?, eps: over(-n * s * d * sigma_data, above * square)? }
            }
        })
    }

    /// What the output gains when `σ²·Δ` is added to `σ²` times the score, for each unit of it: guidance by a gradient Δ of a
    /// log-probability moves the score by Δ, x̂_0 by `σ²·Δ/α` and ε̂ by `−σ·Δ`.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] at α = 0 for predictions that determine x̂_0 there, and at σ = 0 for those that determine
    /// ε̂.
    pub fn score_gain(self, at: &Level) -> Result<f64, PredictionError> {
        let target = self.target(at)?;
        let part = |c: f64, d: f64, wanted| if c == 0.0 { Ok(0.0) } else { self.over(c, d, wanted, at) };
        Ok(part(target.x0, at.alpha, Quantity::X0)? - part(target.eps, at.sigma, Quantity::Epsilon)?)
    }

    /// What the state is multiplied by before the network sees it: 1, or EDM's `c_in/α`, which consistency models share.
    ///
    /// # Errors
    /// [`PredictionError::Singular`] for EDM and consistency models at α = σ = 0.
    pub fn input_scale(self, at: &Level) -> Result<f64, PredictionError> {
        match self {
            Prediction::Edm { sigma_data }
            | Prediction::EdmVelocity { sigma_data }
            | Prediction::Consistency { sigma_data, .. } => self.over(1.0, scales(at, sigma_data).1, Quantity::X0, at),
            _ => Ok(1.0),
        }
    }

    /// `σ − s_min·α`, or an error below the end of a consistency model; levels there by rounding are at it.
    fn above(self, sigma_min: f64, wanted: Quantity, at: &Level) -> Result<f64, PredictionError> {
        let end = sigma_min * at.alpha;
        if at.sigma < end * (1.0 - 1e-6) {
            return Err(self.singular(wanted, at));
        }
        Ok((at.sigma - end).max(0.0))
    }
}

/// Deviations of the data in a state, `α·σ_d`, and of the state itself. They exist at α = 0 too.
fn scales(at: &Level, sigma_data: f64) -> (f64, f64) {
    let data = at.alpha * sigma_data;
    (data, libm::hypot(data, at.sigma))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Prediction; 10] = [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::ScaledScore,
        Prediction::Flow,
        Prediction::FlowToData,
        Prediction::Edm { sigma_data: 0.5 },
        Prediction::EdmVelocity { sigma_data: 0.5 },
        Prediction::Consistency { sigma_data: 0.5, sigma_min: 1e-4 },
    ];

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 7.0 }
    }

    proptest! {
        #[test]
        fn conversions_recover_x0_eps_and_score(
            alpha in 1e-3f64..3.0, sigma in 1e-3f64..50.0, x0 in -3.0f64..3.0, eps in -3.0f64..3.0,
        ) {
            let at = level(alpha, sigma);
            let x = alpha * x0 + sigma * eps;
            for p in ALL {
                let t = p.target(&at).unwrap();
                let output = t.x0 * x0 + t.eps * eps;
                let scale = 1.0 + (sigma / alpha).max(alpha / sigma).powi(2);
                let c = p.x0(&at).unwrap();
                prop_assert!((c.x * x + c.output * output - x0).abs() < 1e-12 * scale, "{p:?} x0");
                let c = p.eps(&at).unwrap();
                prop_assert!((c.x * x + c.output * output - eps).abs() < 1e-12 * scale, "{p:?} eps");
                let c = p.score(&at).unwrap();
                prop_assert!((c.x * x + c.output * output + eps / sigma).abs() < 1e-12 * scale / sigma, "{p:?} score");
            }
        }
    }

    #[test]
    fn singular_conversions_are_errors() {
        let noise = level(0.0, 1.0);
        let clean = level(1.0, 0.0);
        for p in [Prediction::Epsilon, Prediction::Score, Prediction::ScaledScore] {
            let error = p.x0(&noise);
            assert!(
                matches!(error, Err(PredictionError::Singular { wanted: Quantity::X0, prediction, .. }) if prediction == p)
            );
        }
        assert!(matches!(
            Prediction::Sample.eps(&clean),
            Err(PredictionError::Singular { wanted: Quantity::Epsilon, .. })
        ));
        assert!(matches!(
            Prediction::Velocity.score(&clean),
            Err(PredictionError::Singular { wanted: Quantity::Score, .. })
        ));
        assert!(matches!(
            Prediction::Score.target(&clean),
            Err(PredictionError::Singular { wanted: Quantity::Target, .. })
        ));
        for p in [
            Prediction::Velocity,
            Prediction::Flow,
            Prediction::FlowToData,
            Prediction::Edm { sigma_data: 0.5 },
            Prediction::EdmVelocity { sigma_data: 0.5 },
        ] {
            assert!(p.x0(&noise).is_ok() && p.eps(&noise).is_ok() && p.x0(&clean).is_ok() && p.eps(&clean).is_ok());
        }
        let message = Prediction::Epsilon.x0(&noise).unwrap_err().to_string();
        assert!(message.contains("alpha = 0") && message.contains("velocity"), "{message}");
        assert!(
            message.starts_with("the clean sample x_0 cannot be computed from an epsilon prediction at "),
            "{message}"
        );
        for p in ALL {
            let text = p.to_string();
            let vowel = text.trim_start_matches("an ").trim_start_matches("a ").starts_with(['e', 'E']);
            assert!(text.starts_with(if vowel { "an " } else { "a " }) && text.contains("prediction"), "{text}");
        }
    }

    #[test]
    fn a_gain_in_score_moves_x0_and_eps_with_it() {
        for at in [level(0.6, 0.8), level(0.02, 0.9), level(1.0, 3.0)] {
            for p in ALL {
                // σ²·Δ = 0.7, whatever the state and the output were.
                let moved = |c: Linear| c.output * p.score_gain(&at).unwrap() * 0.7;
                let (x0, eps, score) = (p.x0(&at).unwrap(), p.eps(&at).unwrap(), p.score(&at).unwrap());
                let close = |a: f64, b: f64| (a - b).abs() < 1e-12 * (1.0 + b.abs());
                assert!(close(moved(x0), 0.7 / at.alpha), "{p:?}");
                assert!(close(moved(eps), -0.7 / at.sigma), "{p:?}");
                assert!(close(moved(score), 0.7 / (at.sigma * at.sigma)), "{p:?}");
            }
        }
        let noise = level(0.0, 1.0);
        assert_eq!(Prediction::Epsilon.score_gain(&noise), Ok(-1.0));
        for p in [Prediction::Sample, Prediction::Velocity, Prediction::Flow] {
            let error = p.score_gain(&noise).unwrap_err();
            assert!(matches!(error, PredictionError::Singular { wanted: Quantity::X0, .. }), "{p:?}");
        }
    }

    #[test]
    fn edm_input_has_unit_variance() {
        let p = Prediction::Edm { sigma_data: 0.5 };
        for (alpha, sigma) in [(1.0, 0.002), (1.0, 80.0), (0.3, 0.7)] {
            let c = p.input_scale(&level(alpha, sigma)).unwrap();
            let variance = c * c * (alpha * alpha * 0.25 + sigma * sigma);
            assert!((variance - 1.0).abs() < 1e-12);
        }
    }

    /// The formulas of Song et al. 2023, appendix C, at α = 1.
    #[test]
    fn consistency_models_are_the_identity_where_they_end() {
        let p = Prediction::Consistency { sigma_data: 0.5, sigma_min: 0.002 };
        for s in [0.002, 0.01, 3.0, 80.0] {
            let c = p.x0(&level(1.0, s)).unwrap();
            assert!((c.x - 0.25 / ((s - 0.002) * (s - 0.002) + 0.25)).abs() < 1e-15, "{s}");
            assert!((c.output - 0.5 * (s - 0.002) / (s * s + 0.25f64).sqrt()).abs() < 1e-15, "{s}");
        }
        assert_eq!(p.x0(&level(1.0, 0.002)).unwrap(), Linear { x: 1.0, output: 0.0 });
        // On another process through x/α.
        let (one, other) = (p.x0(&level(1.0, 3.0)).unwrap(), p.x0(&level(0.25, 0.75)).unwrap());
        assert!((other.x - 4.0 * one.x).abs() < 1e-15 && (other.output - one.output).abs() < 1e-15);
        assert!(matches!(p.x0(&level(1.0, 0.0019)), Err(PredictionError::Singular { wanted: Quantity::X0, .. })));
        assert!(matches!(p.target(&level(1.0, 0.002)), Err(PredictionError::Singular { .. })));
        for given in [-1.0, f64::NAN, f64::INFINITY] {
            let p = Prediction::Consistency { sigma_data: 0.5, sigma_min: given };
            assert!(matches!(p.validate(), Err(PredictionError::SigmaMin { .. })));
        }
    }

    #[test]
    fn sigma_data_is_checked() {
        for given in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let consistency = Prediction::Consistency { sigma_data: given, sigma_min: 0.0 };
            for p in [Prediction::Edm { sigma_data: given }, consistency] {
                assert!(matches!(p.validate(), Err(PredictionError::SigmaData { .. })));
            }
        }
    }
}
