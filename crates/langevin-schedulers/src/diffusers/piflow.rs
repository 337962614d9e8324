//! PiflowScheduler.

use super::{ConfigError, keys::Keys};
use crate::flow::PiFlow;

const CLASS: &str = "PiflowScheduler";

/// Reads the `scheduler_config.json` of a `PiflowScheduler`. It is no [`Configured`](super::Configured): its networks
/// answer with several velocities at once.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, and options that are not there or out of range.
///
/// ```
/// let config = r#"{"_class_name": "PiflowScheduler", "shift": 5.0, "n_grid": 10}"#;
/// let flow = langevin_schedulers::diffusers::piflow_from_config(config)?;
/// assert_eq!(flow.plan(4)?.segments().len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn piflow_from_config(json: &str) -> Result<PiFlow, ConfigError> {
    let mut keys = Keys::parse(json)?;
    if keys.class() != CLASS {
        return Err(ConfigError::Class { class: keys.class().to_owned(), known: CLASS.to_owned() });
    }
    let answers = keys.count("n_grid", 10)?;
    if answers < 2 {
        return Err(keys.bad("n_grid", answers, "2 or more"));
    }
    let steps = keys.count("num_train_timesteps", 1000)?;
    if steps == 0 {
        return Err(keys.bad("num_train_timesteps", steps, "1 or more"));
    }
    let flow = PiFlow::new(answers)?
        .network_time_scale(steps as f64)?
        .shift(keys.number("shift", 5.0)?)?
        .eps(keys.number("eps", 1e-6)?)?
        .last_step(keys.number("final_step_size_scale", 0.5)?)?
        .substeps(keys.count("num_policy_substeps", 128)?)?;
    keys.finish()?;
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanError;

    #[test]
    fn options_are_honored_or_refused() {
        let read = |options: &str| piflow_from_config(&format!("{{\"_class_name\": \"PiflowScheduler\"{options}}}"));
        let said = read(
            ", \"n_grid\": 4, \"shift\": 3, \"eps\": 0.01, \"final_step_size_scale\": 1, \"num_policy_substeps\": 9, \
             \"num_train_timesteps\": 10",
        );
        let expected = PiFlow::new(4).and_then(|flow| flow.shift(3.0)).and_then(|flow| flow.eps(0.01));
        let expected = expected.and_then(|flow| flow.last_step(1.0)).and_then(|flow| flow.substeps(9));
        assert_eq!(said.unwrap(), expected.and_then(|flow| flow.network_time_scale(10.0)).unwrap());
        assert!(matches!(read(", \"mu\": 1"), Err(ConfigError::UnknownKey { key, .. }) if key == "mu"));
        for (option, key) in [("\"n_grid\": 1", "n_grid"), ("\"num_train_timesteps\": 0", "num_train_timesteps")] {
            assert!(matches!(read(&format!(", {option}")), Err(ConfigError::Value { key: found, .. }) if found == key));
        }
        for option in ["shift", "eps", "final_step_size_scale", "num_policy_substeps"] {
            let error = read(&format!(", \"{option}\": 0"));
            assert!(matches!(error, Err(ConfigError::Plan(PlanError::Setting { .. }))), "{option}");
        }
        let other = piflow_from_config("{\"_class_name\": \"PNDMScheduler\"}");
        assert!(matches!(other, Err(ConfigError::Class { .. })));
    }
}
