//! Shifts of a flow's sigmas, and what stretches them.

use super::{ConfigError, keys::Keys};
use langevin_core::process::ResolutionShift;

/// How sigmas are shifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shift {
    /// By the configuration.
    Static(f64),
    /// By an argument.
    Dynamic {
        /// Whether the shift is e^μ, and not μ itself.
        exponential: bool,
        /// μ of an image's size, where the class has one.
        resolution: Option<ResolutionShift>,
        /// The shift as long as μ is not given, where the class has one.
        otherwise: Option<f64>,
        /// Not given yet.
        mu: Option<f64>,
    },
}

/// `s·u/(1 + (s − 1)·u)`.
pub(super) fn shifted(shift: f64, sigma: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

impl Shift {
    /// Sets μ of a dynamic shift.
    pub fn set_mu(&mut self, class: &str, given: f64) -> Result<(), ConfigError> {
        let bad = |expected| {
            Err(ConfigError::Value { class: class.to_owned(), key: "mu", given: given.to_string(), expected })
        };
        match self {
            Shift::Static(_) => bad("nothing unless use_dynamic_shifting is set"),
            Shift::Dynamic { exponential: true, .. } if !(-30.0..=30.0).contains(&given) => {
                bad("a number in [-30, 30]: its exponential is the shift")
            }
            Shift::Dynamic { exponential: false, .. } if !(given > 0.0 && given.is_finite()) => {
                bad("a positive number")
            }
            Shift::Dynamic { mu, .. } => {
                *mu = Some(given);
                Ok(())
            }
        }
    }

    /// Sets μ to that of an image of `tokens` tokens.
    pub fn set_tokens(&mut self, class: &str, tokens: usize) -> Result<(), ConfigError> {
        let bad = |expected| {
            let (class, given) = (class.to_owned(), tokens.to_string());
            Err(ConfigError::Value { class, key: "image_seq_len", given, expected })
        };
        match self {
            Shift::Static(_) => bad("nothing unless use_dynamic_shifting is set"),
            Shift::Dynamic { resolution: None, .. } => bad("nothing: this class has no line of shifts; give it mu"),
            Shift::Dynamic { resolution: Some(resolution), .. } => {
                let mu = resolution.mu(tokens)?;
                self.set_mu(class, mu)
            }
        }
    }

    /// The factor s.
    pub fn factor(&self, class: &str) -> Result<f64, ConfigError> {
        match *self {
            Shift::Static(shift) => Ok(shift),
            Shift::Dynamic { exponential, mu: Some(mu), .. } => Ok(if exponential { libm::exp(mu) } else { mu }),
            Shift::Dynamic { otherwise: Some(shift), .. } => Ok(shift),
            Shift::Dynamic { .. } => Err(ConfigError::Value {
                class: class.to_owned(),
                key: "mu",
                given: "missing".to_owned(),
                expected: "a number, or the image's size where the class has shifts for sizes, because use_dynamic_shifting \
                           is set",
            }),
        }
    }
}

/// `time_shift_type`: whether it is exponential.
pub(super) fn exponential(keys: &mut Keys) -> Result<bool, ConfigError> {
    match keys.word("time_shift_type", "exponential")?.as_str() {
        "exponential" => Ok(true),
        "linear" => Ok(false),
        other => Err(keys.bad("time_shift_type", other, "exponential or linear")),
    }
}

/// `shift_terminal`, where the last asked σ is stretched to.
pub(super) fn terminal(keys: &mut Keys) -> Result<Option<f64>, ConfigError> {
    match keys.optional("shift_terminal")? {
        None | Some(0.0) => Ok(None),
        Some(terminal) if terminal > 0.0 && terminal < 1.0 => Ok(Some(terminal)),
        Some(terminal) => Err(keys.bad("shift_terminal", terminal, "null or a number in [0, 1)")),
    }
}

/// Stretches falling sigmas so that the last is `terminal`.
pub(super) fn stretch(class: &str, sigmas: &mut [f64], terminal: f64) -> Result<(), ConfigError> {
    let scale = sigmas.last().map_or(0.0, |last| (1.0 - last) / (1.0 - terminal));
    if !(scale > 0.0) {
        return Err(ConfigError::Value {
            class: class.to_owned(),
            key: "shift_terminal",
            given: terminal.to_string(),
            expected: "at least two steps, the last of them below σ = 1, to stretch",
        });
    }
    sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / scale);
    Ok(())
}
