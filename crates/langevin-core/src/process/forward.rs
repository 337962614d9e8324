//! References and smart pointers to processes are processes.

use super::{DiscreteChain, Process, ProcessError, Transition};
use crate::level::{Level, Node};

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: Process + ?Sized> Process for $pointer {
            fn alpha(&self, t: f64) -> f64 { (**self).alpha(t) }
            fn sigma(&self, t: f64) -> f64 { (**self).sigma(t) }
            fn alpha_dot(&self, t: f64) -> f64 { (**self).alpha_dot(t) }
            fn sigma_dot(&self, t: f64) -> f64 { (**self).sigma_dot(t) }
            fn time_range(&self) -> (f64, f64) { (**self).time_range() }
            fn network_time(&self, t: f64) -> f64 { (**self).network_time(t) }
            fn prior_std(&self) -> f64 { (**self).prior_std() }
            fn lambda(&self, t: f64) -> f64 { (**self).lambda(t) }
            fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> { (**self).time_at_lambda(lambda) }
            fn drift(&self, t: f64) -> f64 { (**self).drift(t) }
            fn diffusion_squared(&self, t: f64) -> f64 { (**self).diffusion_squared(t) }
            fn transition(&self, s: f64, t: f64) -> Transition { (**self).transition(s, t) }
            fn level(&self, t: f64) -> Level { (**self).level(t) }
            fn node(&self, t: f64) -> Node { (**self).node(t) }
            fn clean(&self) -> Node { (**self).clean() }
            fn chain(&self) -> Option<&DiscreteChain> { (**self).chain() }
        }
    )*};
}

forward!(&T, Box<T>, std::sync::Arc<T>);
