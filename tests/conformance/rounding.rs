//! What float32 may have done to a recorded run, call by call.
//!
//! The tolerance that is recorded with a case knows how the trajectory answers to its start. It does not know what a step makes of its
//! own roundings: near pure noise an answer is multiplied by σ/α, and what is left of noise is the root of a difference of
//! squares. The known cases stay within their tolerance all the same and have nothing beside it; others have this.

use crate::fixture::Case;
use crate::schedulers::{begin, is_scaled, ratio};
use crate::walks::{Trace, asking, drawing, ends};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, Row, Src};

/// By how much outputs are off to see what a step makes of them: so little that a threshold does not hide it.
pub const OFF: f64 = 1.0 / 131_072.0;

/// What float32 makes of a number in a dozen operations. It is the share by which the recorded tolerances move the start.
const SHARE: f64 = 1e-6;

/// What is added to a tolerance, by call: nothing where it is empty.
#[derive(Default)]
pub struct Rounding {
    x: Vec<f64>,
    x0: Vec<f64>,
}

impl Rounding {
    /// Of a run from recorded states, and of the same with outputs, or states, that are [`OFF`].
    pub fn of(case: &Case<'_>, plan: &Plan, found: &Trace, others: &[Trace]) -> Self {
        let (rows, ends, scaled) = (asking(plan), ends(plan), is_scaled(case.class()));
        let (mut x, mut x0) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        let apart =
            |a: &[f64], b: &[f64]| SHARE / OFF * largest(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
        for off in others {
            for ((call, a), b) in ends.iter().zip(&found.steps).zip(&off.steps) {
                x[*call] += apart(&a.0, &b.0);
            }
            for (call, (a, b)) in found.calls.iter().zip(&off.calls).enumerate() {
                x0[call] += apart(&a.1, &b.1);
                if call > 0 && rows[call - 1].step.is_none() {
                    x[call - 1] += apart(&a.0, &b.0);
                }
            }
        }
        let (init, states) = (case.need("x_init"), case.need("prev_sample"));
        let mut begins = 0.0;
        for call in 0..rows.len() {
            if call == 0 || rows[call - 1].step.is_some() {
                begins = largest(if call == 0 { &init.data } else { states.row(call - 1) });
            }
            let sigma = rows[call].eval.map_or(0.0, |eval| eval.at.sigma);
            if scaled {
                // Where states are x/α they are as large as σ/α, and a step is a difference of such.
                let to = match rows[call].step {
                    Some(_) => rows[call].after.level.alpha,
                    None => rows[call + 1].eval.map_or(f64::NAN, |eval| eval.at.alpha),
                };
                x[call] = x[call] / to + SHARE * begins;
            } else if case.class() == "FlowMatchHeunDiscreteScheduler" && sigma > 0.0 {
                // Its slopes are (x − x̂_0)/σ, of an x̂_0 that is close to x.
                x[call] += SHARE * begins / sigma;
            }
        }
        if let Some(noise) = case.tensor("noise") {
            for (k, call) in drawing(case, plan).into_iter().enumerate() {
                let Some(call) = call else { continue };
                let level = rows[call].after.level;
                let scale = if scaled { level.alpha } else { 1.0 };
                let lost = SHARE * level.sigma * level.sigma + unlike(case, rows[call], call + begin(case));
                x[call] += more(rows[call], lost, false) * largest(noise.row(k)) / scale;
                if case.class().starts_with("DDIM") {
                    // What is left of the noise that was there is such a root, too.
                    let before = if call == 0 { &init.data } else { states.row(call - 1) };
                    x[call] += more(rows[call], lost, true) * largest(before);
                }
            }
        }
        // A stage half-way to a σ that is lost in part.
        for (call, share) in ways_down(case, plan).into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            let (from, middle) = (asked(rows[call - 1]), asked(rows[call]));
            x[call - 1] *= 1.0 + share / SHARE * middle / (from - middle).abs();
        }
        Self { x, x0 }
    }

    /// For a run that goes on from its own states.
    pub fn carried_on(&self) -> Self {
        let mut sum = 0.0;
        let x: Vec<f64> = self
            .x
            .iter()
            .map(|x| {
                sum += x;
                sum
            })
            .collect();
        let before = |call: usize| if call == 0 { 0.0 } else { x[call - 1] };
        let x0 = self.x0.iter().enumerate().map(|(call, x0)| x0 + before(call)).collect();
        Self { x, x0 }
    }

    /// Of the state after a call.
    pub fn x(&self, call: usize) -> f64 {
        self.x.get(call).copied().unwrap_or(0.0)
    }

    /// Of x̂_0 in a call.
    pub fn x0(&self, call: usize) -> f64 {
        self.x0.get(call).copied().unwrap_or(0.0)
    }
}

/// σ/α of a question.
fn asked(row: &Row) -> f64 {
    row.eval.map_or(f64::NAN, |eval| ratio(&eval.at))
}

/// By which share σ may be off in each call that is half-way to where an ancestral step of KDPM2 goes down to, which is the root of a
/// difference of squares: σ_to²/σ, of σ_to² and what is raised again. Nothing elsewhere, and in known cases.
pub fn ways_down(case: &Case<'_>, plan: &Plan) -> Vec<f64> {
    let rows = asking(plan);
    let mut shares = vec![0.0; rows.len()];
    if case.class() != "KDPM2AncestralDiscreteScheduler" || case.fixture.is_known() {
        return shares;
    }
    for call in (1..rows.len()).filter(|call| rows[call - 1].step.is_none()) {
        let down = asked(rows[call - 1]) / ratio(&rows[call].after.level);
        shares[call] = 0.25 * SHARE * down * down;
    }
    shares
}

/// How far the times of questions may be off for that: they are told by σ.
pub fn times(case: &Case<'_>, plan: &Plan) -> Vec<f64> {
    let rows = asking(plan);
    let mut off = ways_down(case, plan);
    for call in 1..rows.len() {
        if off[call] == 0.0 {
            continue;
        }
        let time = |call: usize| rows[call].eval.map_or(f64::NAN, |eval| eval.at.time);
        off[call] *= (time(call - 1) - time(call)) / (asked(rows[call - 1]) / asked(rows[call])).ln();
    }
    off
}

/// Whether a time that is cut off to a whole number is one lower, or higher, than the recorded one: that of the chain's last σ, which a
/// formula of σ meets but for the last digit of a logarithm. Known cases are as they are.
pub fn cut_off(case: &Case<'_>, time: f64, recorded: f64) -> bool {
    let converted = ["use_exponential_sigmas", "use_beta_sigmas"].iter().any(|key| case.value["config"][*key] == true);
    let last = case.value["config"]["num_train_timesteps"].as_f64().map_or(f64::NAN, |steps| steps - 1.0);
    converted && !case.fixture.is_known() && time.max(recorded) == last && (time - recorded).abs() == 1.0
}

/// By how much squares of listed sigmas differ where those of a step are one and the same.
fn unlike(case: &Case<'_>, row: &Row, index: usize) -> f64 {
    let stands = row.eval.is_some_and(|eval| eval.at.sigma == row.after.level.sigma);
    match case.tensor("sigmas").map(|sigmas| &sigmas.data) {
        Some(sigmas) if stands && index + 1 < sigmas.len() => (sigmas[index].powi(2) - sigmas[index + 1].powi(2)).abs(),
        _ => 0.0,
    }
}

/// How much more noise a row adds if its variance is off by so much, or keeps; nothing where the network says the variance.
fn more(row: &Row, lost: f64, kept: bool) -> f64 {
    let clock = row.draws.iter().map(|draw| match draw {
        Draw::Path { from, until, .. } => (until - from).abs(),
        _ => 1.0,
    });
    let clock = if kept { 1.0 } else { clock.fold(0.0, f64::max) };
    let mut variance: f64 = 0.0;
    for term in row.pre.iter().chain(&row.post).flat_map(|set| &set.sum) {
        if kept && matches!(term.of, Src::Eps(_)) || !kept && matches!(term.of, Src::Z(_)) {
            let Coef::C(c) = term.c else { return 0.0 };
            variance = variance.max(c * c * clock);
        }
    }
    (variance + lost).sqrt() - variance.sqrt()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

#[test]
fn noise_that_cancels_may_come_back_as_a_root() {
    let row = |c: f64| -> Row {
        let noise = serde_json::json!({"c": {"C": c}, "of": {"Z": 0}});
        serde_json::from_value(serde_json::json!({
            "draws": [{"White": {"to": 0, "lane": 0}}],
            "pre": [],
            "eval": null,
            "post": [{"to": 0, "sum": [noise]}],
            "step": 0,
            "after": {"t": 0.0, "level": {"alpha": 1.0, "sigma": 0.5, "time": 0.0}},
            "report": [],
        }))
        .expect("a row")
    };
    let lost = 0.25e-6;
    assert!((more(&row(0.0), lost, false) - 5e-4).abs() < 1e-12);
    assert!((more(&row(0.5), lost, false) - 2.5e-7).abs() < 1e-12);
    let mut learned = row(0.5);
    learned.post[0].sum[0].c = Coef::PredictedStd { slot: 0 };
    assert_eq!(more(&learned, lost, false), 0.0);
}
