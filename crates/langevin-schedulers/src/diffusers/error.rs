//! Errors of configurations.

use super::CLASSES;
use crate::names;
use crate::solver::PlanError;
use langevin_core::discrete::DiscreteError;
use langevin_core::{GridError, ProcessError};

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("the scheduler configuration is not readable: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
    /// No `_class_name`.
    #[error("the scheduler configuration names no class: expected the key '_class_name'")]
    NoClass,
    /// A scheduler that is not there, or that another function reads: the message says which.
    #[error("{}", not_here(class, known))]
    Class {
        /// The class given.
        class: String,
        /// The classes that the function reads.
        known: String,
    },
    /// A class whose scheduler is not one sampler of numbers.
    #[error("'{class}' is not one sampler: {instead}")]
    NoSampler {
        /// The class.
        class: String,
        /// Why, and what to take instead.
        instead: &'static str,
    },
    /// A key that the class does not have.
    #[error("{class} has no option '{key}'{}; its options are {known}", nearest(key, known.split(", ")))]
    UnknownKey {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// The keys it has.
        known: String,
    },
    /// A key that other classes have, with a value that asks for something.
    #[error(
        "{class} has no option '{key}', and {given} for it asks for something: it is one of {of}, and diffusers would ignore it; take \
         such a class, or leave the option out"
    )]
    ForeignKey {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// Its value.
        given: String,
        /// A class that has the key, and whether others have.
        of: String,
    },
    /// A value that an option cannot take.
    #[error("option '{key}' of {class} is {given}, expected {expected}")]
    Value {
        /// The class.
        class: String,
        /// The option.
        key: &'static str,
        /// Its value.
        given: String,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// Numbers of options of which no process or solver can be made.
    #[error("{}", out_of_range(class, options, reason))]
    OutOfRange {
        /// The class.
        class: String,
        /// The options, one or those that belong together.
        options: Vec<&'static str>,
        /// What the process or the solver says.
        reason: String,
    },
    /// Two options that exclude each other.
    #[error("options '{first}' and '{second}' of {class} contradict each other: {reason}")]
    Contradiction {
        /// The class.
        class: String,
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why they do.
        reason: &'static str,
    },
    /// The process cannot be built.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The discrete chain cannot be built.
    #[error(transparent)]
    Discrete(#[from] DiscreteError),
    /// The grid cannot be built.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The solver's settings are out of range.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

fn out_of_range(class: &str, options: &[&str], reason: &str) -> String {
    let names = options.iter().map(|option| format!("'{option}'")).collect::<Vec<_>>().join(" and ");
    let (noun, verb) = if options.len() == 1 { ("option", "is") } else { ("options", "are") };
    format!("{noun} {names} of {class} {verb} out of range: {reason}")
}

/// The nearest name, in the words of a message; nothing where none is near.
fn nearest<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> String {
    names::nearest(asked, known.map(str::to_owned)).map(|name| format!(": the nearest is '{name}'")).unwrap_or_default()
}

/// Where a class is read, if not here.
fn not_here(class: &str, known: &str) -> String {
    let advice = names::elsewhere().find(|row| row.name == class).map(|row| row.what);
    let own = CLASSES.contains(&class).then_some("read its configuration with `diffusers::from_config`");
    match advice.or(own) {
        Some(advice) => format!("scheduler class '{class}' is not read by this function: {advice}"),
        None if class.ends_with("Pipeline") => {
            format!(
                "'{class}' is a pipeline and no scheduler: give the text of scheduler/scheduler_config.json in its folder"
            )
        }
        None => {
            let others = CLASSES.into_iter().chain(names::elsewhere().map(|row| row.name));
            let nearest = nearest(class, known.split(", ").chain(others));
            format!("scheduler class '{class}' is not supported{nearest}; supported are {known}")
        }
    }
}
