//! Orders of samplers with noise that are no plans: by their tolerance, or by their number of steps.
//!
//! On Gaussian data what they did is a plan, made of the levels that a run visited or of the norms that it saw; tests/statistics
//! compares 10⁶ of their samples with those plans. Their errors are measured as those of any plan.

use super::reverse::clock;
use super::strong::{along_path, along_shares, strong_difference, strong_error, weak_difference, weak_error};
use super::{EVEN_LAMBDA, Line};
use crate::common::laws::{MEASURED, corrected, improved_euler, posterior_mean, restored};
use crate::common::moments::points;
use crate::common::order::{Errors, rms};
use crate::common::parallel::each;
use crate::common::problem::{ends, even_lambda, gaussian, processes, wide_gaussian};
use crate::common::roster;
use crate::common::solvers::{Kind, type_of};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::exact::Gaussian;
use langevin::core::grid::End;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{Grid, Key, Levels, Load, NoiseError, NoiseSource, Process};
use langevin::schedulers::exponential::{AdaptiveDpm, Basis, DpmAdaptive, Singlestep};
use langevin::schedulers::inverse::Ddrm;
use langevin::schedulers::sde::{AdaptiveReverse, AdaptiveSde};
use langevin::schedulers::{Plan, PredictorCorrector, ReverseDiffusion, Sampler, SamplerExt, Solver};

/// Samplers without a line here, and why.
const ELSEWHERE: [(&str, &str); 6] = [
    ("ode::adaptive::AdaptiveFlow", "it has no noise; tests/continuous compares its errors with its tolerance"),
    ("picard::Picard", "it is its plan, within its tolerance, which tests/picard.rs compares"),
    (
        "consistency::scalewise::Scalewise",
        "each step has more values than the one before: there are no more steps to take",
    ),
    ("inverse::dps::DpsSteps", "each step adds a gradient that is not less in shorter steps: nothing is gone to"),
    ("sde::simulation::Simulation", "tests/continuous measures its strong orders, and its laws are the exact ones"),
    (
        "sde::adaptive_simulation::AdaptiveSimulation",
        "tests/continuous measures its errors along a path by its tolerance",
    ),
];

/// Of samplers, as the table says it of plans.
pub const LAWS: &str = "\
* predictor-corrector: its corrections are as long as the norms of their noise and of the score say, in any number of steps. With a \
ratio that falls as one over the root of the number of steps (*shrinking*) they take the same time in all, and it has an order.
* DDRM: each step draws all the noise of its level anew.
";

const BY_TOLERANCE: &str = "tolerance";
const POINTS: usize = 256;

/// What is measured of a sampler on a process, for a number that doubles.
struct Entry {
    name: &'static str,
    of: &'static str,
    kind: Kind,
    grid: &'static str,
    /// 0 if there is none.
    order: f64,
    first: usize,
    doublings: u32,
    error: fn(&dyn Process, usize) -> f64,
}

fn entries() -> Vec<Entry> {
    let corrector = type_of::<PredictorCorrector>();
    let sde = type_of::<AdaptiveReverse<VpSde>>();
    let dpm = type_of::<AdaptiveDpm<VpSde>>();
    let ddrm = type_of::<Ddrm<Masking<2>, 2>>();
    let entry = |name, of, kind, order, (first, doublings), error| {
        let grid = if of == sde || of == dpm { BY_TOLERANCE } else { EVEN_LAMBDA.name };
        Entry { name, of, kind, grid, order, first, doublings, error }
    };
    vec![
        entry("predictor-corrector", corrector, Kind::WeakItself, 1.0, (256, 3), |process, n| {
            weak_difference(process, [n, 2 * n].map(|n| with_norms(process, &gaussian(), n, 0.3)).each_ref())
        }),
        entry("predictor-corrector", corrector, Kind::StrongItself, 0.0, (16, 3), |process, n| {
            let plan = |n| along_shares(&with_norms(process, &gaussian(), n, 0.3));
            strong_difference(process, [plan(n), plan(2 * n)].each_ref())
        }),
        entry("predictor-corrector, shrinking", corrector, Kind::Weak, 1.0, (64, 4), |process, n| {
            weak_error(process, &with_norms(process, &wide_gaussian(), n, (0.6 / n as f64).sqrt()), (&|_| 1.0, 1.0))
        }),
        entry("predictor-corrector, shrinking", corrector, Kind::StrongItself, 1.0, (32, 3), |process, n| {
            let plan = |n| along_shares(&with_norms(process, &gaussian(), n, (0.6 / n as f64).sqrt()));
            strong_difference(process, [plan(n), plan(2 * n)].each_ref())
        }),
        // The estimate of the error of a step of length h is of the size of h^{3/2}, so that h is as tolerance^{2/3}.
        entry("adaptive SDE steps", sde, Kind::Weak, 4.0 / 3.0, (256, 7), |process, n| {
            weak_error(process, &adaptive_sde(process, &wide_gaussian(), n), (&|_| 1.0, 1.0))
        }),
        entry("adaptive SDE steps", sde, Kind::Strong, 2.0 / 3.0, (64, 7), |process, n| {
            strong_error(process, &along_path(&adaptive_sde(process, &gaussian(), n)), (&|_| 1.0, 1.0))
        }),
        // Here it is of the size of h³, the weak error too, and the strong one of h, but for the noise of the last step, which is
        // left out.
        entry("adaptive DPM-Solver, η = 0.8", dpm, Kind::Weak, 1.0, (1 << 14, 9), |process, n| {
            weak_error(process, &adaptive_dpm(process, &wide_gaussian(), n), (&|_| 0.8, 1.0))
        }),
        entry("adaptive DPM-Solver, η = 0.8", dpm, Kind::Strong, 1.0 / 6.0, (1 << 14, 9), |process, n| {
            strong_error(process, &along_path(&adaptive_dpm(process, &gaussian(), n)), (&|_| 0.8, 1.0))
        }),
        entry("DDRM", ddrm, Kind::WeakItself, 1.0, (512, 4), |process, n| {
            let law = |n| restored(process, &even_lambda(process, n), &gaussian(), 1.0);
            let [a, b] = [law(n), law(2 * n)].map(|law| [law.mean, law.covariance].concat());
            rms(&a, &b)
        }),
        entry("DDRM", ddrm, Kind::StrongItself, 0.0, (8, 3), |process, n| {
            rms(&restored_points(process, n), &restored_points(process, 2 * n))
        }),
    ]
}

/// Lines of the table: slopes by the logarithm of the number of steps, or of one over the tolerance.
pub fn lines() -> Vec<Line> {
    let (count, on) = (entries().len(), processes().len());
    let measured = each(count * on, |index| {
        let (entry, (_, process)) = (entries().swap_remove(index / on), processes().swap_remove(index % on));
        let errors = Errors::measure(entry.first, entry.doublings, |n| (entry.error)(&process, n));
        let slope = if entry.grid == BY_TOLERANCE { errors.slope_of_all() } else { errors.slope() };
        (slope, errors.errors.iter().copied().fold(f64::INFINITY, f64::min))
    });
    let line = |(entry, found): (Entry, &[(f64, f64)])| Line {
        solver: entry.name,
        kind: entry.kind,
        grid: entry.grid,
        order: entry.order,
        slopes: found.iter().map(|(slope, _)| *slope).collect(),
        smallest: found.iter().map(|(_, smallest)| *smallest).fold(f64::INFINITY, f64::min),
    };
    entries().into_iter().zip(measured.chunks(on)).map(line).collect()
}

/// What predictor-corrector with norms over many points does in n steps, two corrections before each.
fn with_norms(process: &dyn Process, data: &Gaussian, n: usize, ratio: f64) -> Plan {
    let predictor = ReverseDiffusion::new().plan(process, &even_lambda(process, n)).expect("a plan");
    corrected(&predictor, data, ratio, f64::INFINITY)
}

/// What adaptive SDE steps did with a tolerance of 1/n.
fn adaptive_sde(process: &dyn Process, data: &Gaussian, n: usize) -> Plan {
    let (noisy, clean) = ends(process);
    let method = AdaptiveSde::new(1.0 / n as f64, 1.0 / n as f64).expect("tolerances").batch_control();
    let sampler = method.between(process, noisy, clean).expect("a run");
    improved_euler(process, &visited(&sampler, process, data))
}

/// What the adaptive DPM-Solver did with a tolerance of 1/n.
fn adaptive_dpm(process: &dyn Process, data: &Gaussian, n: usize) -> Plan {
    let (noisy, clean) = ends(process);
    let method = DpmAdaptive::new(1.0 / n as f64, 1.0 / n as f64).and_then(|method| method.eta(0.8)).expect("settings");
    let sampler = method.batch_control().between(process, noisy, clean).expect("a run");
    let grid = Grid::times(visited(&sampler, process, data)).expect("falling").ending(End::Range);
    let solver = Singlestep::new(3).and_then(|solver| solver.basis(Basis::Noise).capped().ancestral(0.8));
    solver.expect("settings").plan(process, &grid).expect("a plan")
}

/// The times at which a run of many points was.
fn visited(sampler: &dyn Sampler<2>, process: &dyn Process, data: &Gaussian) -> Vec<f64> {
    let (noise, denoiser, like) = (Seeded::new(7), posterior_mean(data), (&Device::flex(), DType::F64));
    let (noisy, clean) = ends(process);
    let mut z = vec![0.0; 2 * POINTS];
    noise.fill(0, Key::INITIAL, &mut z).expect("seeded noise");
    let x = TensorData::new(points(data, &process.level(noisy), &z), [1, 2 * POINTS]);
    let run = sampler.start_from(0, Tensor::from_data(x, like), &denoiser, &noise).expect("starts");
    let mut times = vec![noisy];
    for step in run {
        let Levels::Shared(level) = step.expect("steps").levels else { panic!("one clock for all") };
        times.push(process.time_at_lambda(level.lambda()).expect("in range"));
    }
    let last = times.len() - 1;
    assert!((clock(&process.level(times[last])) / clock(&process.level(clean)) - 1.0).abs() < 1e-9, "it arrives");
    times[last] = clean;
    times
}

/// Noise of steps from one path over the share of steps taken.
struct Shares {
    seeded: Seeded,
    steps: usize,
}

impl NoiseSource for Shares {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        if key.domain != Key::step(0, 0).domain {
            return self.seeded.fill(sample, key, out);
        }
        let [from, until] = [key.index, key.index + 1].map(|step| step as f64 / self.steps as f64);
        self.seeded.fill_path(sample, from, until, out)?;
        let scale = (self.steps as f64).sqrt();
        out.iter_mut().for_each(|value| *value *= scale);
        Ok(())
    }
}

/// Where DDRM takes points in n steps.
fn restored_points(process: &dyn Process, n: usize) -> Vec<f64> {
    let (data, like) = (gaussian(), (&Device::flex(), DType::F64));
    let row = |values: [f64; 2]| Tensor::<2>::from_data(TensorData::new(values.repeat(POINTS), [1, 2 * POINTS]), like);
    let mask = Masking::new(row([1.0, 0.0])).expect("a mask");
    let measurement = Measurement::new(mask, row([MEASURED.0, 0.0]), MEASURED.1).expect("a measurement");
    let sampler = Ddrm::new(process, &even_lambda(process, n), measurement).expect("a sampler");
    let noise = Shares { seeded: Seeded::new(8), steps: n };
    let denoiser = posterior_mean(&data);
    let run = sampler.start([1, 2 * POINTS], &denoiser, &noise, Load::on(like.0).dtype(like.1));
    let x = run.expect("starts").finish().expect("a sample").try_to_vec_as::<f64>().expect("a readable tensor");
    let alpha = process.level(ends(process).1).alpha;
    x.iter().map(|x| x / alpha).collect()
}

/// Every sampler has a line of its weak and one of its strong order, or is named with the reason why not.
#[test]
fn every_sampler_with_noise_has_a_line() {
    let entries = entries();
    for entry in &entries {
        let has = |of: fn(Kind) -> bool| entries.iter().any(|other| other.of == entry.of && of(other.kind));
        assert!(has(Kind::is_weak) && has(Kind::is_strong), "{}: a weak and a strong order", entry.name);
    }
    roster::assert_complete(&roster::samplers(), entries.iter().map(|entry| entry.of), &ELSEWHERE);
}
