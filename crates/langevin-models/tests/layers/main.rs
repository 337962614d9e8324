//! Leaf layers of random sizes, in value and gradients, against Burn's own operations in `f64`.
//!
//! `PROPTEST_CASES=2000 cargo test --release -p langevin-models --test layers` looks further.

#![allow(missing_docs, reason = "a test")]

mod attention;
mod compare;
mod convolution;
mod normalization;
mod others;
mod refused;
