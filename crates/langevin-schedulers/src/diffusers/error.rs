//! Errors of configurations.

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
    /// A scheduler that is not there.
    #[error("scheduler class '{class}' is not supported; supported are {known}")]
    Class {
        /// The class given.
        class: String,
        /// The classes known.
        known: String,
    },
    /// A key that the class does not have.
    #[error("{class} has no option '{key}'; its options are {known}")]
    UnknownKey {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// The keys it has.
        known: String,
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
