//! Whole training runs on small networks.

mod finite;
mod network;
mod precision;
mod resume;
mod training;
mod watch;
mod words;
