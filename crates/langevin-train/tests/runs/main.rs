//! Whole training runs on small networks.

mod network;
mod precision;
mod resume;
mod training;
mod watch;
mod words;
