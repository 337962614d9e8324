//! When paths leave an interval: barriers, reaction times.

use super::{Sde, Simulation};
use crate::sampler::SampleError;
use burn::tensor::Tensor;
use langevin_core::NoiseSource;

/// How a path left an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exit {
    /// The end of the step in which it left.
    pub time: f64,
    /// Whether it left above.
    pub above: bool,
}

impl<S> Simulation<S> {
    /// Runs paths until each has left the interval between `lower` and `upper` or the times are over: one answer for each of
    /// the states `[paths, 1]`, `None` for those that are still inside. A path that begins outside has left at the first time.
    ///
    /// Paths are seen at the ends of steps only. One that crosses a bound and comes back within a step is missed, so that
    /// exits are late by O(√dt). Bounds that are nearer by `0.5826·G·√dt`, with the diffusion coefficient G there, have the
    /// exits of the continuous paths up to o(√dt) (Broadie, Glasserman & Kou 1997, theorem 1.1).
    ///
    /// # Errors
    /// As [`run`](Self::run), [`SampleError::Unsupported`] for states of several values, and [`SampleError::Read`] if states
    /// cannot be read.
    pub fn exits(
        &self,
        first: u64,
        x: Tensor<2>,
        (lower, upper): (f64, f64),
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Option<Exit>>, SampleError>
    where
        S: Sde<2>,
    {
        let [paths, width] = x.dims();
        if width != 1 {
            let (what, advice) = ("states of several values", "simulate one value a path: states `[paths, 1]`");
            return Err(SampleError::Unsupported { sampler: "exits", what, advice });
        }
        let mut exits = vec![None; paths];
        let mut look = |time: f64, states: Tensor<2>| -> Result<bool, SampleError> {
            let states = states.try_into_vec_as::<f64>();
            let states = states.map_err(|error| SampleError::Read { message: error.to_string() })?;
            for (exit, state) in exits.iter_mut().zip(states) {
                if exit.is_none() && !(state > lower && state < upper) {
                    *exit = Some(Exit { time, above: state >= upper });
                }
            }
            Ok(exits.iter().all(Option::is_some))
        };
        let mut done = look(self.times()[0], x.clone())?;
        for (step, time) in self.run(first, x, noise)?.zip(&self.times()[1..]) {
            if done {
                break;
            }
            done = look(*time, step?.x)?;
        }
        Ok(exits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sde::{EulerMaruyama, from_fn};
    use burn::tensor::Device;
    use langevin_core::noise::Seeded;

    #[test]
    fn a_path_without_noise_leaves_where_it_must() {
        let sde = from_fn(|x: Tensor<2>, _t| x.ones_like(), |x: Tensor<2>, _t| x.zeros_like());
        let simulation = EulerMaruyama::new().simulate_uniform(sde, (0.0, 2.0), 4).expect("times");
        let start = Tensor::<2>::from_data([[-0.2], [0.7], [-3.0], [-1.2], [5.0]], &Device::flex());
        let exits = simulation.exits(0, start, (-1.5, 1.0), &Seeded::new(1)).expect("a run");
        let exit = |time, above| Some(Exit { time, above });
        assert_eq!(exits, [exit(1.5, true), exit(0.5, true), exit(0.0, false), None, exit(0.0, true)]);
    }

    #[test]
    fn states_of_several_values_are_refused() {
        let sde = from_fn(|x: Tensor<2>, _t| x.ones_like(), |x: Tensor<2>, _t| x.zeros_like());
        let simulation = EulerMaruyama::new().simulate_uniform(sde, (0.0, 2.0), 4).expect("times");
        let start = Tensor::<2>::zeros([2, 3], &Device::flex());
        let error = simulation.exits(0, start, (-1.0, 1.0), &Seeded::new(1)).expect_err("three values");
        assert!(matches!(error, SampleError::Unsupported { sampler: "exits", .. }), "{error}");
    }

    /// Brownian motion between −1 and 1 leaves after a mean time of 1, as often above as below.
    #[test]
    fn nearer_bounds_have_the_exits_of_continuous_paths() {
        let (paths, dt) = (5_000, 0.02);
        let sde = from_fn(|x: Tensor<2>, _t| x.zeros_like(), |x: Tensor<2>, _t| x.ones_like());
        let simulation = EulerMaruyama::new().simulate_uniform(sde, (0.0, 12.0), 600).expect("times");
        let mean = |bound: f64| {
            let start = Tensor::<2>::zeros([paths, 1], &Device::flex());
            let exits = simulation.exits(0, start, (-bound, bound), &Seeded::new(1)).expect("a run");
            let exits: Vec<Exit> = exits.into_iter().flatten().collect();
            assert_eq!(exits.len(), paths);
            let above = exits.iter().filter(|exit| exit.above).count() as f64 / paths as f64;
            // Four standard errors.
            assert!((above - 0.5).abs() < 4.0 * 0.5 / (paths as f64).sqrt(), "{above}");
            exits.iter().map(|exit| exit.time - dt / 2.0).sum::<f64>() / paths as f64
        };
        // The exit time has variance 2/3.
        let within = 4.0 * (2.0f64 / 3.0 / paths as f64).sqrt();
        let (nearer, plain) = (mean(1.0 - 0.5826 * dt.sqrt()), mean(1.0));
        assert!((nearer - 1.0).abs() < within, "{nearer}");
        assert!(plain - 1.0 > 2.0 * within, "{plain}");
    }
}
