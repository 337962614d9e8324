//! Whole training runs on small networks.

mod network;
mod resume;
mod training;
mod watch;
mod words;
