//! What the proofs share: problems with known solutions, references, and plans as affine maps.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod affine;
pub mod law;
pub mod laws;
pub mod leaning;
pub mod moments;
pub mod order;
pub mod parallel;
pub mod problem;
pub mod reference;
pub mod response;
pub mod roster;
pub mod samplers;
pub mod solvers;
