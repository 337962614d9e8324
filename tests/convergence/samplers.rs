//! Orders of samplers that are no plans: by their tolerance, or by their number of steps.
//!
//! On Gaussian data what most of them did is a plan, made of the levels that a run visited or of the norms that it saw;
//! tests/statistics compares 10⁶ of their samples with those plans. Their errors are measured as those of any plan. Of the others
//! points are run, and the interval of a slope is stated.

use super::errors::{exact_paths, path_error};
use super::reverse::clock;
use super::strong::{along_path, along_shares, strong_difference, strong_error, weak_difference, weak_error};
use super::{EVEN_LAMBDA, Line, TOLERANCE, points as slope_points};
use crate::common::laws::{MEASURED, corrected, improved_euler, posterior_mean, restored};
use crate::common::moments::points;
use crate::common::order::{Errors, rms};
use crate::common::parallel::each;
use crate::common::problem::{STARTS, ends, even_lambda, gaussian, mixture, processes, wide_gaussian};
use crate::common::roster;
use crate::common::solvers::{Kind, type_of};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::exact::{Gaussian, Posterior};
use langevin::core::grid::End;
use langevin::core::inverse::{Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{Denoiser, Grid, Key, Levels, Load, NoiseError, NoiseSource, Prediction, Process};
use langevin::schedulers::exponential::{AdaptiveDpm, Basis, DpmAdaptive, Singlestep};
use langevin::schedulers::inverse::{Ddrm, DpsSteps};
use langevin::schedulers::ode::{AdaptiveFlow, Tableau};
use langevin::schedulers::sde::{AdaptiveReverse, AdaptiveSde};
use langevin::schedulers::{
    Ddpm, DormandPrince, Plan, PredictorCorrector, ProbabilityFlow, ReverseDiffusion, Sampler, SamplerExt, Solver,
};

/// Samplers without a line here, and why.
const ELSEWHERE: [(&str, &str); 4] = [
    ("picard::Picard", "it is its plan, within its tolerance, which tests/picard.rs compares"),
    (
        "consistency::scalewise::Scalewise",
        "each step has more values than the one before: there are no more steps to take",
    ),
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
* DPS: each step adds a gradient that is as long in a shorter one. With a ζ that falls as one over the number of steps (*shrinking*) \
the gradients are a force, and it has the order of the steps that it is around, DDPM's here.
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
    /// How far from it slopes may be.
    tolerance: f64,
    first: usize,
    doublings: u32,
    error: Measured,
}

#[derive(Clone, Copy)]
enum Measured {
    /// An error without a sampling error.
    Exact(fn(&dyn Process, usize) -> f64),
    /// The same at four numbers within each doubling, where one alone says little: steps end where it happens.
    Dense(fn(&dyn Process, usize) -> f64),
    /// Where points end, and the error of some of them from those of twice as many steps.
    Points(fn(&dyn Process, usize) -> Vec<f64>, fn(&[f64], &[f64]) -> f64),
}

fn entries() -> Vec<Entry> {
    let corrector = type_of::<PredictorCorrector>();
    let sde = type_of::<AdaptiveReverse<VpSde>>();
    let dpm = type_of::<AdaptiveDpm<VpSde>>();
    let ode = type_of::<AdaptiveFlow<VpSde>>();
    let ddrm = type_of::<Ddrm<Masking<2>, 2>>();
    let dps = type_of::<DpsSteps<Masking<2>, 2>>();
    let any = |name, of, kind, order, (first, doublings), error: Measured| {
        let grid = if [sde, dpm, ode].contains(&of) { BY_TOLERANCE } else { EVEN_LAMBDA.name };
        Entry { name, of, kind, grid, order, tolerance: TOLERANCE, first, doublings, error }
    };
    let entry = |name, of, kind, order, steps, error| any(name, of, kind, order, steps, Measured::Exact(error));
    let points = |name, of, kind, order, steps, ends| {
        let error = if kind == Kind::WeakItself { difference_of_moments } else { rms };
        any(name, of, kind, order, steps, Measured::Points(ends, error))
    };
    vec![
        entry("predictor-corrector", corrector, Kind::WeakItself, 1.0, (256, 3), |process, n| {
            weak_difference(process, [n, 2 * n].map(|n| with_norms(process, &gaussian(), n, 0.3)).each_ref())
        }),
        entry("predictor-corrector", corrector, Kind::StrongItself, 0.0, (16, 4), |process, n| {
            let plan = |n| along_shares(&with_norms(process, &gaussian(), n, 0.3));
            strong_difference(process, [plan(n), plan(2 * n)].each_ref())
        }),
        entry("predictor-corrector, shrinking", corrector, Kind::Weak, 1.0, (64, 4), |process, n| {
            weak_error(process, &with_norms(process, &wide_gaussian(), n, (0.6 / n as f64).sqrt()), (&|_| 1.0, 1.0))
        }),
        entry("predictor-corrector, shrinking", corrector, Kind::StrongItself, 1.0, (16, 4), |process, n| {
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
            weak_error(process, &adaptive_dpm(process, &wide_gaussian(), 3, n), (&|_| 0.8, 1.0))
        }),
        // As long as the error of h is not small beside that of √h, the slope is steeper than the sixth.
        Entry {
            tolerance: 0.03,
            error: Measured::Dense(|process, n| {
                strong_error(process, &along_path(&adaptive_dpm(process, &gaussian(), 3, n)), (&|_| 0.8, 1.0))
            }),
            ..entry("adaptive DPM-Solver, η = 0.8", dpm, Kind::Strong, 1.0 / 6.0, (1 << 22, 6), |_, _| f64::NAN)
        },
        // Without noise the estimate is as large as the error of the lower of two orders, and the higher one goes on.
        entry("adaptive DPM-Solver", dpm, Kind::Path, 1.0, (1 << 12, 12), |process, n| quiet_dpm(process, 3, n)),
        entry("adaptive DPM-Solver of order 2", dpm, Kind::Path, 1.0, (1 << 12, 12), |process, n| {
            quiet_dpm(process, 2, n)
        }),
        // With the lower order the estimate is of the size of h², the weak error too, and the noise of the last step of √h.
        entry("adaptive DPM-Solver of order 2, η = 0.8", dpm, Kind::Weak, 1.0, (1 << 12, 9), |process, n| {
            weak_error(process, &adaptive_dpm(process, &wide_gaussian(), 2, n), (&|_| 0.8, 1.0))
        }),
        Entry {
            tolerance: 0.03,
            error: Measured::Dense(|process, n| {
                strong_error(process, &along_path(&adaptive_dpm(process, &gaussian(), 2, n)), (&|_| 0.8, 1.0))
            }),
            ..entry("adaptive DPM-Solver of order 2, η = 0.8", dpm, Kind::Strong, 0.25, (1 << 15, 6), |_, _| f64::NAN)
        },
        any("Dormand-Prince", ode, Kind::Path, 1.0, (1 << 25, 9), Measured::Dense(dormand_prince)),
        entry("DDRM", ddrm, Kind::WeakItself, 1.0, (512, 4), |process, n| {
            let law = |n| restored(process, &even_lambda(process, n), &gaussian(), 1.0);
            let [a, b] = [law(n), law(2 * n)].map(|law| [law.mean, law.covariance].concat());
            rms(&a, &b)
        }),
        points("DDRM", ddrm, Kind::StrongItself, 0.0, (8, 4), restored_points),
        points("DPS", dps, Kind::WeakItself, 0.0, (8, 3), |process, n| pulled_points(process, n, 0.1)),
        points("DPS", dps, Kind::StrongItself, 0.0, (8, 4), |process, n| pulled_points(process, n, 0.1)),
        points("DPS, shrinking", dps, Kind::WeakItself, 1.0, (32, 3), |process, n| {
            pulled_points(process, n, 1.0 / n as f64)
        }),
        points("DPS, shrinking", dps, Kind::StrongItself, 1.0, (16, 4), |process, n| {
            pulled_points(process, n, 1.0 / n as f64)
        }),
    ]
}

/// A slope with what it was measured by.
struct Found {
    slope: f64,
    /// Half of the interval that holds it at 95%, where points were drawn.
    half: f64,
    smallest: f64,
}

impl Entry {
    fn measure(&self, process: &dyn Process) -> Found {
        let (mut half, count) = (0.0, slope_points(self.kind));
        let (slope, errors) = match self.error {
            Measured::Exact(error) => {
                let errors = Errors::measure(self.first, self.doublings, |n| error(process, n));
                (if self.grid == BY_TOLERANCE { errors.slope_of_all() } else { errors.slope_over(count) }, errors)
            }
            Measured::Dense(error) => {
                let numbers =
                    (0..=4 * self.doublings).map(|k| (self.first as f64 * 2f64.powf(f64::from(k) / 4.0)).round());
                let numbers: Vec<f64> = numbers.collect();
                let errors = numbers.iter().map(|n| error(process, *n as usize)).collect();
                let errors = Errors { steps: numbers.iter().map(|n| *n as usize).collect(), errors };
                (errors.slope_of_all(), errors)
            }
            Measured::Points(ends, error) => {
                let ends: Vec<Vec<f64>> = (0..=self.doublings + 1).map(|k| ends(process, self.first << k)).collect();
                let of = |left: Option<usize>| {
                    let rest: Vec<Vec<f64>> = ends.iter().map(|ends| without(ends, left)).collect();
                    Errors::measure(self.first, self.doublings, |n| {
                        let k = (n / self.first).ilog2() as usize;
                        error(&rest[k], &rest[k + 1])
                    })
                };
                let slopes: Vec<f64> = (0..PARTS).map(|part| of(Some(part)).slope_over(count)).collect();
                half = 2.0 * jackknife(&slopes);
                (of(None).slope_over(count), of(None))
            }
        };
        Found { slope, half, smallest: errors.errors.iter().copied().fold(f64::INFINITY, f64::min) }
    }
}

/// Parts of the points, each of which is left out once.
const PARTS: usize = 32;

/// All points but those of a part.
fn without(ends: &[f64], part: Option<usize>) -> Vec<f64> {
    let size = ends.len() / PARTS;
    assert!(size.is_multiple_of(2));
    ends.chunks(size)
        .enumerate()
        .filter(|(index, _)| Some(*index) != part)
        .flat_map(|(_, ends)| ends)
        .copied()
        .collect()
}

/// The standard error of a number from its values with one part left out each.
fn jackknife(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() * (count - 1.0) / count).sqrt()
}

/// Difference of mean and covariance of points.
fn difference_of_moments(a: &[f64], b: &[f64]) -> f64 {
    let moments = |points: &[f64]| {
        let count = points.len() as f64 / 2.0;
        let mean = [0, 1].map(|i| points.chunks(2).map(|x| x[i]).sum::<f64>() / count);
        let covariance =
            |i: usize, j: usize| points.chunks(2).map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / count;
        [mean[0], mean[1], covariance(0, 0), covariance(0, 1), covariance(1, 1)]
    };
    rms(&moments(a), &moments(b))
}

/// Lines of the table: slopes by the logarithm of the number of steps, or of one over the tolerance.
pub fn lines() -> Vec<Line> {
    let (count, on) = (entries().len(), processes().len());
    let measured = each(count * on, |index| {
        let (entry, (_, process)) = (entries().swap_remove(index / on), processes().swap_remove(index % on));
        entry.measure(&process)
    });
    let line = |(entry, found): (Entry, &[Found])| Line {
        solver: entry.name,
        kind: entry.kind,
        grid: entry.grid,
        order: entry.order,
        on_edm: entry.order,
        tolerance: entry.tolerance,
        slopes: found.iter().map(|found| Some(found.slope)).collect(),
        // Steps end where it happens, and points are drawn.
        last: vec![None; found.len()],
        halves: match entry.error {
            Measured::Points(..) => Some(found.iter().map(|found| found.half).collect()),
            _ => None,
        },
        smallest: found.iter().map(|found| found.smallest).fold(f64::INFINITY, f64::min),
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
fn adaptive_dpm(process: &dyn Process, data: &Gaussian, order: usize, n: usize) -> Plan {
    let (noisy, clean) = ends(process);
    let method = DpmAdaptive::new(1.0 / n as f64, 1.0 / n as f64).and_then(|method| method.order(order)?.eta(0.8));
    let sampler = method.expect("settings").batch_control().between(process, noisy, clean).expect("a run");
    let grid = Grid::times(visited(&sampler, process, data)).expect("falling").ending(End::Range);
    let solver = Singlestep::new(order).and_then(|solver| solver.basis(Basis::Noise).capped().ancestral(0.8));
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

/// Noise of steps from one path over the share of steps taken, of which there are `finest` at most.
struct Shares {
    seeded: Seeded,
    steps: usize,
    finest: usize,
}

impl NoiseSource for Shares {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        if key.domain != Key::step(0, 0).domain {
            return self.seeded.fill(sample, key, out);
        }
        assert!(self.finest.is_multiple_of(self.steps), "{} steps of {}", self.steps, self.finest);
        let parts = (self.finest / self.steps) as u64;
        let mut z = vec![0.0; out.len()];
        out.fill(0.0);
        for part in 0..parts {
            self.seeded.fill(sample, Key::step(key.index * parts + part, 0), &mut z)?;
            out.iter_mut().zip(&z).for_each(|(sum, z)| *sum += z / (parts as f64).sqrt());
        }
        Ok(())
    }
}

/// No sampler takes more steps.
const FINEST: usize = 512;

/// Points whose distances and moments are sampled.
pub const DRAWN: usize = 1 << 12;

/// Where DDRM takes points in n steps.
fn restored_points(process: &dyn Process, n: usize) -> Vec<f64> {
    let (data, like) = (gaussian(), (&Device::flex(), DType::F64));
    let row = |values: [f64; 2]| Tensor::<2>::from_data(TensorData::new(values.repeat(DRAWN), [1, 2 * DRAWN]), like);
    let mask = Masking::new(row([1.0, 0.0])).expect("a mask");
    let measurement = Measurement::new(mask, row([MEASURED.0, 0.0]), MEASURED.1).expect("a measurement");
    let sampler = Ddrm::new(process, &even_lambda(process, n), measurement).expect("a sampler");
    drawn(&sampler, process, &posterior_mean(&data), [1, 2 * DRAWN], n)
}

/// Where DPS takes points in n steps of DDPM, of which both values are measured, far away: what is left unexplained is never
/// nothing, where the direction of its gradient would jump.
fn pulled_points(process: &dyn Process, n: usize, step: f64) -> Vec<f64> {
    let (data, like) = (gaussian(), (&Device::flex(), DType::F64));
    let row = |values: [f64; 2]| Tensor::<2>::from_data([values], like);
    let mask = Masking::new(row([1.0, 1.0])).expect("a mask");
    let measurement = Measurement::new(mask, row([6.0, -8.0]), 0.0).expect("a measurement");
    let plan = Ddpm::new().plan(process, &even_lambda(process, n)).expect("a plan");
    let sampler = DpsSteps::new(plan, measurement, step).expect("a step size");
    drawn(&sampler, process, &posterior_mean(&data), [DRAWN, 2], n)
}

/// Where a sampler takes points of a shape, as x/α, along paths over the share of steps taken.
fn drawn(
    sampler: &dyn Sampler<2>,
    process: &dyn Process,
    denoiser: &dyn Denoiser<2>,
    shape: [usize; 2],
    steps: usize,
) -> Vec<f64> {
    let noise = Shares { seeded: Seeded::new(8), steps, finest: FINEST };
    let run = (&sampler).start(shape, denoiser, &noise, Load::on(&Device::flex()).dtype(DType::F64));
    let x = run.expect("starts").finish().expect("a sample").try_to_vec_as::<f64>().expect("a readable tensor");
    let alpha = process.level(ends(process).1).alpha;
    x.iter().map(|x| x / alpha).collect()
}

/// The error of Dormand-Prince with a tolerance of 1/n, as [`path_error`](super::errors::path_error).
fn dormand_prince(process: &dyn Process, n: usize) -> f64 {
    let (noisy, clean) = ends(process);
    let method = DormandPrince::new(1.0 / n as f64, 1.0 / n as f64).expect("tolerances").batch_control();
    quiet(process, &method.between(process, noisy, clean).expect("a run"))
}

/// The same of the adaptive DPM-Solver without noise.
fn quiet_dpm(process: &dyn Process, order: usize, n: usize) -> f64 {
    let (noisy, clean) = ends(process);
    let method = DpmAdaptive::new(1.0 / n as f64, 1.0 / n as f64).and_then(|method| method.order(order));
    let method = method.expect("settings").batch_control();
    quiet(process, &method.between(process, noisy, clean).expect("a run"))
}

fn quiet(process: &dyn Process, sampler: &dyn Sampler<2>) -> f64 {
    let (start, end) = (process.level(ends(process).0), process.level(ends(process).1));
    let denoiser = mixture().denoiser(Prediction::Velocity).expect("a denoiser");
    let x: Vec<f64> = STARTS.as_flattened().iter().map(|y| y * start.sigma).collect();
    let x = Tensor::<2>::from_data(TensorData::new(x, [STARTS.len(), 2]), (&Device::flex(), DType::F64));
    let noise = Seeded::new(0);
    let x = (&sampler).start_from(0, x, &denoiser, &noise).expect("starts").finish().expect("arrives");
    let x = x.try_to_vec_as::<f64>().expect("a readable tensor");
    let found: Vec<f64> = x.iter().map(|x| x / end.alpha).collect();
    rms(&found, exact_paths())
}

/// Every sampler has a line of its weak and one of its strong order, or without noise one of its paths, or is named with the
/// reason why not.
#[test]
fn every_sampler_has_a_line() {
    let entries = entries();
    for entry in &entries {
        let has = |of: fn(Kind) -> bool| {
            entries.iter().any(|other| (other.of, other.name) == (entry.of, entry.name) && of(other.kind))
        };
        let quiet = has(|kind| kind == Kind::Path);
        assert!(quiet || has(Kind::is_weak) && has(Kind::is_strong), "{}: a weak and a strong order", entry.name);
    }
    roster::assert_complete(&roster::samplers(), entries.iter().map(|entry| entry.of), &ELSEWHERE);
}

/// Dormand-Prince at fixed times has too few errors between its asymptotic range and rounding for a line of the table, but they
/// fall by its order there.
#[test]
fn dormand_prince_has_its_order_before_rounding() {
    let solver = ProbabilityFlow::new(Tableau::dormand_prince());
    for (name, process) in processes() {
        let error = |n| path_error(&process, &solver.plan(&process, &even_lambda(&process, n)).expect("a plan"));
        let slope = (error(32) / error(64)).log2();
        println!("{name}: {slope:.2}");
        assert!((5.0..5.6).contains(&slope), "{name}: {slope}");
    }
}
