//! Times a case in rounds, which a program on the other side can alternate with.

use crate::case::{Case, Setting, Work};
use burn::tensor::Tensor;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The times of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    /// The case.
    pub name: String,
    /// Seconds of the first call, in which kernels are compiled and tuned.
    pub first: f64,
    /// Milliseconds of one call, the mean of each round.
    pub rounds: Vec<f64>,
    /// Milliseconds of a call until it returned: on a GPU, what the thread that calls spends on it.
    pub issued: f64,
}

impl Times {
    /// The median, the least and the largest of the rounds.
    pub fn summary(&self) -> [f64; 3] {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (n, last) = (sorted.len(), sorted.len().saturating_sub(1));
        if n == 0 {
            return [f64::NAN; 3];
        }
        [(sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, sorted[0], sorted[last]]
    }
}

/// A case that is ready to be timed.
pub struct Ready {
    work: Work,
    calls: usize,
    /// Seconds of the first call.
    pub first: f64,
    /// Milliseconds until a call returned, in the last round.
    pub issued: f64,
}

/// Rounds are at least this long, so that starting and reading do not count.
const ROUND: Duration = Duration::from_millis(60);

impl Ready {
    /// Builds the case and calls it for the first time.
    pub fn new(case: &Case, setting: &Setting) -> Self {
        let work = (case.prepare)(setting);
        let mut ready = Self { work, calls: 1, first: 0.0, issued: 0.0 };
        ready.first = ready.timed(1);
        if !setting.tiny {
            // Tuning may go on in the second call, where a first result was reused.
            ready.timed(1);
            let one = ready.timed(1).max(1e-6);
            ready.calls = ((ROUND.as_secs_f64() / one).ceil() as usize).clamp(1, 200);
        }
        ready
    }

    /// Milliseconds of a call, the mean over a round.
    pub fn round(&mut self) -> f64 {
        self.timed(self.calls) * 1e3
    }

    fn timed(&mut self, calls: usize) -> f64 {
        let start = Instant::now();
        let values: Vec<Tensor<1>> = (0..calls).map(|_| (self.work)()).collect();
        self.issued = start.elapsed().as_secs_f64() / calls as f64 * 1e3;
        let values: Vec<f32> = Tensor::cat(values, 0).into_data().try_to_vec().expect("f32");
        let seconds = start.elapsed().as_secs_f64() / calls as f64;
        assert!(values.iter().all(|value| value.is_finite()), "a result is not finite: {values:?}");
        seconds
    }
}
