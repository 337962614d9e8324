//! Options of other classes, which published files carry from the class that they were converted from.

use super::{CLASSES, ConfigError, keys::Keys, read};
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// How a class walks along its chain which the file does not name.
const WALKS: [&str; 3] = ["set_alpha_to_one", "skip_prk_steps", "steps_offset"];

/// Numbers, and the switches without which they say nothing.
const SWITCHED: [(&str, &str); 3] = [
    ("clip_sample_range", "clip_sample"),
    ("dynamic_thresholding_ratio", "thresholding"),
    ("sample_max_value", "thresholding"),
];

/// Of the classes that a message names, the one whose options people know.
const KNOWN: &str = "DPMSolverMultistepScheduler";

/// Each class and what its reader asks for.
fn options() -> &'static [(&'static str, Vec<&'static str>)] {
    static OPTIONS: OnceLock<Vec<(&str, Vec<&str>)>> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let of = |class: &'static str| {
            let mut keys = Keys::section(class, Map::new());
            let known = read(&mut keys).map(|_| keys.known().to_vec());
            (class, known.unwrap_or_default())
        };
        CLASSES.into_iter().map(of).collect()
    })
}

/// The classes that have an option.
fn owners(key: &str) -> Vec<&'static str> {
    options().iter().filter(|(_, known)| known.contains(&key)).map(|(class, _)| *class).collect()
}

/// Whether an option asks for nothing of a class that does not have it, and has those that are known.
fn asks_for_nothing(key: &str, value: &Value, known: &[&str]) -> bool {
    // What every class does that cannot be told.
    let plain = match key {
        "clip_sample_range" => value.as_f64() == Some(1.0),
        "interpolation_type" => value == "linear",
        "timestep_type" => value == "discrete",
        _ => false,
    };
    // Where the class does not have the switch either, turning it on is refused.
    let off = SWITCHED.iter().any(|(number, switch)| *number == key && !known.contains(switch));
    matches!(value, Value::Null | Value::Bool(false)) || plain || off || WALKS.contains(&key)
}

/// Ends the reading: the keys that ask for nothing; an error for those that ask for something, and for those that no class has.
pub(super) fn finish(mut keys: Keys) -> Result<Vec<String>, ConfigError> {
    let foreign = keys.set_aside(|key| !owners(key).is_empty());
    let (class, known) = (keys.class().to_owned(), keys.known().to_vec());
    keys.finish()?;
    let mut ignored = Vec::new();
    for (key, value) in foreign {
        if !asks_for_nothing(&key, &value, &known) {
            let owners = owners(&key);
            let first = owners.iter().find(|owner| **owner == KNOWN).or(owners.first()).copied().unwrap_or_default();
            let of = format!("{first}{}", if owners.len() > 1 { " and others" } else { "" });
            return Err(ConfigError::ForeignKey { class, key, given: value.to_string(), of });
        }
        ignored.push(key);
    }
    Ok(ignored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusers::from_config;

    fn file(class: &str, options: &str) -> Result<Vec<String>, ConfigError> {
        from_config(&format!(r#"{{"_class_name": "{class}Scheduler", {options}}}"#)).map(|read| read.ignored().to_vec())
    }

    #[test]
    fn every_class_reads_its_defaults() {
        for (class, known) in options() {
            assert!(!known.is_empty(), "{class}");
        }
        assert_eq!(owners("use_lu_lambdas"), ["DPMSolverMultistepScheduler"]);
        assert_eq!(owners("skip_prk_steps"), ["PNDMScheduler"]);
        assert_eq!(owners("rescale_betas_zero_snr").len(), 13);
    }

    /// Whatever an option is given: what is said against it names it.
    #[test]
    fn values_out_of_range_name_their_option() {
        let (mut refused, mut unnamed) = (0, Vec::new());
        for (class, known) in options() {
            for option in known {
                for value in ["-1", "0", "1", "1.5", "7", "1e300", "[]", "[0.5, 2.0]", "true", "\"all\""] {
                    // As many betas as there are steps, so that they are looked at.
                    let steps = if *option == "trained_betas" { ", \"num_train_timesteps\": 2" } else { "" };
                    let text = format!(r#"{{"_class_name": "{class}", "{option}": {value}{steps}}}"#);
                    if let Err(error) = from_config(&text) {
                        if !error.to_string().contains(&format!("'{option}'")) {
                            unnamed.push(format!("{text}: {error}"));
                        }
                        refused += 1;
                    }
                }
            }
        }
        assert!(unnamed.is_empty(), "{unnamed:#?}");
        assert!(refused > 2000, "{refused}");
        for (class, options, says) in [
            (
                "DPMSolverMultistep",
                r#""solver_order": 7"#,
                "option 'solver_order' of DPMSolverMultistepScheduler is out of range",
            ),
            ("DDPM", r#""beta_end": 1.5"#, "option 'beta_end' of DDPMScheduler is out of range: beta at step"),
            (
                "DDPM",
                r#""beta_start": 0.0"#,
                "option 'beta_start' of DDPMScheduler is out of range: beta at step 0 is 0",
            ),
            ("DDIM", r#""num_train_timesteps": 0"#, "option 'num_train_timesteps' of DDIMScheduler is out of range"),
            (
                "SASolver",
                r#""predictor_order": 9"#,
                "options 'predictor_order' and 'corrector_order' of SASolverScheduler are",
            ),
        ] {
            let error = file(class, options).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn far_names_suggest_none() {
        let of = |class: &str| from_config(&format!(r#"{{"_class_name": "{class}"}}"#)).unwrap_err().to_string();
        let pipeline = of("StableDiffusionPipeline");
        assert!(pipeline.contains("scheduler/scheduler_config.json") && !pipeline.contains("nearest"), "{pipeline}");
        for class in ["", "UNet2DConditionModel", "stochastic", "FooScheduler", "Scheduler"] {
            let error = of(class);
            assert!(error.contains(&format!("'{class}' is not supported; supported are DDPM")), "{error}");
        }
        let error = file("DDIM", r#""learning": 1"#).unwrap_err().to_string();
        assert!(error.contains("DDIMScheduler has no option 'learning'; its options are"), "{error}");
    }

    #[test]
    fn a_path_is_not_the_text_of_its_file() {
        for (given, begin) in [
            ("cfg/scheduler_config.json", "cfg/scheduler_config.json"),
            ("\n", ""),
            (&format!("/{}", "ä".repeat(50)), &format!("/{}", "ä".repeat(39))),
        ] {
            let error = from_config(given).unwrap_err().to_string();
            let says = format!("not readable: it begins with '{begin}' and not with '{{': give the text of the file");
            assert!(error.contains(&says) && error.contains("`std::fs::read_to_string`"), "{error}");
        }
        let broken = from_config("{").unwrap_err().to_string();
        assert!(broken.contains("EOF while parsing") && !broken.contains("read_to_string"), "{broken}");
    }

    #[test]
    fn what_asks_for_nothing_is_ignored() {
        for (class, options, ignored) in [
            ("DDIM", r#""use_karras_sigmas": false, "sigma_min": null"#, &["sigma_min", "use_karras_sigmas"][..]),
            ("EulerAncestralDiscrete", r#""interpolation_type": "linear""#, &["interpolation_type"]),
            ("UniPCMultistep", r#""timestep_type": "discrete""#, &["timestep_type"]),
            (
                "EulerDiscrete",
                r#""clip_sample_range": 3.0, "sample_max_value": 2.0"#,
                &["clip_sample_range", "sample_max_value"],
            ),
            ("LMSDiscrete", r#""dynamic_thresholding_ratio": 0.9"#, &["dynamic_thresholding_ratio"]),
            (
                "DPMSolverSinglestep",
                r#""steps_offset": 1, "set_alpha_to_one": true"#,
                &["set_alpha_to_one", "steps_offset"],
            ),
            ("RePaint", r#""clip_sample_range": 1.0"#, &["clip_sample_range"]),
            ("DDIM", r#""steps_offset": 1"#, &[]),
        ] {
            assert_eq!(file(class, options).unwrap(), ignored, "{class} {options}");
        }
    }

    #[test]
    fn what_asks_for_something_is_refused() {
        let many = "DPMSolverMultistepScheduler and others";
        for (class, option, value, of) in [
            ("DDIM", "use_karras_sigmas", "true", many),
            ("DDIM", "use_lu_lambdas", "true", "DPMSolverMultistepScheduler"),
            ("LMSDiscrete", "rescale_betas_zero_snr", "true", many),
            ("EulerAncestralDiscrete", "interpolation_type", r#""log_linear""#, "EulerDiscreteScheduler"),
            ("PNDM", "clip_sample", "true", "DDPMScheduler and others"),
            ("EulerDiscrete", "thresholding", "true", many),
            ("RePaint", "clip_sample_range", "3.0", "DDPMScheduler and others"),
            ("DPMSolverSinglestep", "timestep_spacing", r#""leading""#, many),
        ] {
            let expected = ConfigError::ForeignKey {
                class: format!("{class}Scheduler"),
                key: option.to_owned(),
                given: value.to_owned(),
                of: of.to_owned(),
            };
            let error = file(class, &format!(r#""{option}": {value}"#)).unwrap_err();
            assert_eq!(error, expected);
            let says = format!(
                "{class}Scheduler has no option '{option}', and {value} for it asks for something: it is one of {of}"
            );
            assert!(error.to_string().starts_with(&says), "{error}");
        }
        // Whatever its value, a key that no class has, which comes first.
        for value in ["false", "null", "1"] {
            let error = file("DDIM", &format!(r#""use_karras_sigmas": true, "steps_offest": {value}"#)).unwrap_err();
            assert!(matches!(&error, ConfigError::UnknownKey { key, .. } if key == "steps_offest"), "{error}");
            assert!(error.to_string().contains("the nearest is 'steps_offset'"), "{error}");
        }
    }
}
