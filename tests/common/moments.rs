//! Mean and covariance of a million samples, and those that plans predict.

use super::affine::{VARIANCE, ask_points, marginal, push, push_known};
use langevin::core::exact::Gaussian;
use langevin::core::noise::Seeded;
use langevin::core::{Key, Level, NoiseError, NoiseSource};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Draw, HostStep, KNOWN, MASK, Set, Src};
use serde_json::{Value, json};

pub const SAMPLES: usize = 1_000_000;
/// Points that share one run: the host loop works on them side by side.
pub const POINTS: usize = 10_000;
pub const STANDARD_ERRORS: f64 = 4.0;

/// A mean and a covariance, row-major.
#[derive(Clone, Debug)]
pub struct Moments {
    pub mean: Vec<f64>,
    pub covariance: Vec<f64>,
}

/// Sums over points, about the data's mean, so that squares do not cancel.
pub struct Sums {
    center: Vec<f64>,
    count: usize,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    pub fn new(data: &Gaussian) -> Self {
        let d = data.dimension();
        Self { center: data.mean().to_vec(), count: 0, sum: vec![0.0; d], squares: vec![0.0; d * d] }
    }

    /// Adds points that lie behind one another.
    pub fn add(&mut self, x: &[f64]) {
        let d = self.center.len();
        for point in x.chunks_exact(d) {
            let off = |i: usize| point[i] - self.center[i];
            for (i, sum) in self.sum.iter_mut().enumerate() {
                *sum += off(i);
            }
            for (k, square) in self.squares.iter_mut().enumerate() {
                *square += off(k / d) * off(k % d);
            }
        }
        self.count += x.len() / d;
    }

    pub fn moments(&self) -> Moments {
        assert_eq!(self.count, SAMPLES);
        let (n, d) = (self.count as f64, self.center.len());
        let shift: Vec<f64> = self.sum.iter().map(|s| s / n).collect();
        let covariance = self.squares.iter().enumerate().map(|(k, s)| s / n - shift[k / d] * shift[k % d]).collect();
        Moments { mean: shift.iter().zip(&self.center).map(|(s, c)| s + c).collect(), covariance }
    }
}

/// Points of the exact marginal at a level, from standard normal values.
pub fn points(data: &Gaussian, level: &Level, z: &[f64]) -> Vec<f64> {
    let (mean, factor) = marginal(data, level);
    let d = mean.len();
    let mut x = Vec::with_capacity(z.len());
    for z in z.chunks_exact(d) {
        x.extend((0..d).map(|i| mean[i] + factor.iter().zip(z).map(|(column, z)| column[i] * z).sum::<f64>()));
    }
    x
}

/// Mean and covariance of samples of `plan`, started from the exact marginal.
pub fn sampled(plan: &Plan, data: &Gaussian, seed: u64) -> Moments {
    sampled_given(plan, data, seed, None)
}

/// As [`sampled`], for a plan that is given a known sample and a mask.
pub fn sampled_given(plan: &Plan, data: &Gaussian, seed: u64, known: Option<(&[f64], &[f64])>) -> Moments {
    sampled_by(plan, data, &Seeded::new(seed), known)
}

/// The noise of a seed, and of paths the increments between the times that a plan asks for: far fewer values than a path that
/// is there for all times.
pub struct Increments {
    seeded: Seeded,
    clocks: Vec<f64>,
}

impl Increments {
    pub fn of(plan: &Plan, seed: u64) -> Self {
        let draws = plan.rows().iter().flat_map(|row| &row.draws);
        let mut clocks: Vec<f64> = draws
            .flat_map(|draw| match *draw {
                Draw::Path { from, until, .. } => vec![from, until],
                _ => vec![],
            })
            .collect();
        clocks.sort_unstable_by(f64::total_cmp);
        clocks.dedup();
        Self { seeded: Seeded::new(seed), clocks }
    }
}

impl NoiseSource for Increments {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.seeded.fill(sample, key, out)
    }

    fn fill_path(&self, sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        out.fill(0.0);
        let mut z = vec![0.0; out.len()];
        for (index, pair) in self.clocks.windows(2).enumerate().filter(|(_, pair)| pair[0] >= from && pair[1] <= until)
        {
            // Beyond the rows of any plan.
            self.seeded.fill(sample, Key::step(u64::MAX - index as u64, 0), &mut z)?;
            let width = (pair[1] - pair[0]).sqrt();
            out.iter_mut().zip(&z).for_each(|(sum, z)| *sum += width * z);
        }
        Ok(())
    }
}

/// As [`sampled_given`], with any noise.
pub fn sampled_by(plan: &Plan, data: &Gaussian, noise: &dyn NoiseSource, known: Option<(&[f64], &[f64])>) -> Moments {
    let mut sums = Sums::new(data);
    let known = known.map(|(image, mask)| (image.repeat(POINTS), mask.repeat(POINTS)));
    let given = known.iter().flat_map(|(image, mask)| [(KNOWN, image.as_slice()), (MASK, mask.as_slice())]);
    let given: Vec<_> = given.collect();
    for run in 0..(SAMPLES / POINTS) as u64 {
        let mut z = vec![0.0; POINTS * data.dimension()];
        noise.fill(run, Key::INITIAL, &mut z).expect("seeded noise");
        let x = points(data, &plan.start_node().level, &z);
        let mut end = x.clone();
        let keep = |step: HostStep<'_>| end.copy_from_slice(step.x);
        plan.run_host_given(x, &given, run, noise, ask_points(data), keep).expect("a host run");
        sums.add(&end);
    }
    sums.moments()
}

/// The largest distance of sampled moments from predicted ones, in standard errors.
pub fn distance(predicted: &Moments, sampled: &Moments) -> f64 {
    let (d, exact, n) = (predicted.mean.len(), &predicted.covariance, SAMPLES as f64);
    let mut worst: f64 = 0.0;
    for i in 0..d {
        worst = worst.max((sampled.mean[i] - predicted.mean[i]).abs() / (exact[i * d + i] / n).sqrt());
        for j in 0..=i {
            // Wishart: var(S_ij) = (C_ii·C_jj + C_ij²)/n.
            let variance = (exact[i * d + i] * exact[j * d + j] + exact[i * d + j].powi(2)) / n;
            worst = worst.max((sampled.covariance[i * d + j] - exact[i * d + j]).abs() / variance.sqrt());
        }
    }
    worst
}

/// The moments that follow from a plan.
pub fn predicted(plan: &Plan, data: &Gaussian) -> Moments {
    predicted_given(plan, data, None)
}

/// As [`predicted`], for a plan that is given a known sample and a mask.
pub fn predicted_given(plan: &Plan, data: &Gaussian, known: Option<(&[f64], &[f64])>) -> Moments {
    let (mean, factor) = marginal(data, &plan.start_node().level);
    let affine = match known {
        None => push(plan, data, &mean, &factor),
        Some(known) => push_known(plan, data, (&mean, &factor), known),
    };
    Moments { covariance: affine.covariance(), mean: affine.mean }
}

/// Multiplies every coefficient of a noise by `factor`.
pub fn scale_noise(plan: &Plan, factor: f64) -> Plan {
    scale_noise_of(plan, factor, |_| true)
}

/// Multiplies the coefficients of noise in some of the sums by `factor`.
pub fn scale_noise_of(plan: &Plan, factor: f64, which: impl Fn(&Set) -> bool) -> Plan {
    let mut table = serde_json::to_value(plan).expect("a plan is data");
    let mut scaled = 0;
    for (row, of) in table["rows"].as_array_mut().expect("rows").iter_mut().zip(plan.rows()) {
        for (part, of) in [("pre", &of.pre), ("post", &of.post)] {
            let sets = row[part].as_array_mut().expect("sets").iter_mut().zip(of);
            for (set, _) in sets.filter(|(_, of)| which(of)) {
                let terms = set["sum"].as_array_mut().expect("terms");
                for index in 0..terms.len() {
                    let term = &mut terms[index];
                    if term["of"].get("Z").is_none() {
                        continue;
                    }
                    scaled += 1;
                    if let Some(bounds) = term["c"].get_mut("LearnedStd") {
                        for bound in ["log_min", "log_max"] {
                            bounds[bound] = Value::from(bounds[bound].as_f64().expect("a number") + 2.0 * factor.ln());
                        }
                    } else if term["c"].get("PredictedStd").is_some() {
                        // What the network says has no factor. It says the same everywhere, so that this much is added.
                        let mut more = term.clone();
                        more["c"] = json!({ "C": (factor - 1.0) * VARIANCE.sqrt() });
                        terms.push(more);
                    } else {
                        term["c"]["C"] = Value::from(term["c"]["C"].as_f64().expect("a number") * factor);
                    }
                }
            }
        }
    }
    let noises = plan.rows().iter().flat_map(|row| row.pre.iter().chain(&row.post));
    let noises = noises.filter(|set| which(set)).flat_map(|set| &set.sum);
    assert_eq!(scaled, noises.filter(|term| matches!(term.of, Src::Z(_))).count());
    assert!(scaled > 0);
    serde_json::from_value(table).expect("still a plan")
}
