//! Times a case, and reads a value of every result: what a kernel did wrong shows only when a result is read.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Where and how cases run.
#[derive(Clone)]
pub struct Setting {
    /// The device.
    pub device: Device,
    /// Element type of weights and inputs.
    pub dtype: DType,
    /// Whether sizes are those for a processor: smaller batches.
    pub on_cpu: bool,
    /// Whether everything is as small as it can be.
    pub tiny: bool,
}

impl Setting {
    /// A size, or a tiny one.
    pub fn size(&self, n: usize) -> usize {
        if self.tiny { n.min(8) } else { n }
    }
}

/// Random numbers with standard deviation one.
pub fn random<const D: usize>(shape: [usize; D], setting: &Setting) -> Tensor<D> {
    Tensor::<D>::random(shape, Distribution::Normal(0.0, 1.0), &setting.device).cast(setting.dtype)
}

/// A module with parameters of the element type that is timed.
pub fn cast<M: Module>(module: M, setting: &Setting) -> M {
    module.map(&mut Cast(setting.dtype))
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

/// One round of a case: what is timed. Returns one value of the result, on the device.
pub type Work = Box<dyn FnMut() -> Tensor<1>>;

/// Something to time.
pub struct Case {
    /// What and in which size.
    pub name: String,
    /// Builds networks and inputs, which is not timed.
    pub prepare: Box<dyn Fn(&Setting) -> Work>,
}

impl Case {
    /// A case by what prepares it.
    pub fn new(name: impl Into<String>, prepare: impl Fn(&Setting) -> Work + 'static) -> Self {
        Self { name: name.into(), prepare: Box::new(prepare) }
    }
}

/// The times of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    /// The case.
    pub name: String,
    /// Seconds of the first call, in which kernels are compiled and tuned.
    pub first: f64,
    /// Milliseconds of one call, the mean of each round.
    pub rounds: Vec<f64>,
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

/// One value of a tensor, on the device.
pub fn probe<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let y = if y.is_autodiff() { y.inner() } else { y };
    y.slice(std::array::from_fn::<_, D, _>(|_| 0..1)).reshape([1]).cast(DType::F32)
}

/// A case that is ready to be timed.
pub struct Ready {
    work: Work,
    calls: usize,
    /// Seconds of the first call.
    pub first: f64,
}

/// Rounds are at least this long, so that starting and reading do not count.
const ROUND: Duration = Duration::from_millis(60);

impl Ready {
    /// Builds the case and calls it for the first time.
    pub fn new(case: &Case, setting: &Setting) -> Self {
        let work = (case.prepare)(setting);
        let mut ready = Self { work, calls: 1, first: 0.0 };
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
        let values: Vec<f32> = Tensor::cat(values, 0).into_data().try_to_vec().expect("f32");
        let seconds = start.elapsed().as_secs_f64() / calls as f64;
        assert!(values.iter().all(|value| value.is_finite()), "a result is not finite: {values:?}");
        seconds
    }
}
