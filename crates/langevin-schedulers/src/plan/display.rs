//! Plans as text: one line a row, readable beside the paper.

use super::{Coef, Draw, Plan, Row, Set, Src, Term};
use std::fmt::{Display, Formatter, Result};

impl Display for Src {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Src::X(0) => f.write_str("x"),
            Src::X(reg) => write!(f, "x{reg}"),
            Src::X0(slot) => write!(f, "x̂0[{slot}]"),
            Src::Eps(slot) => write!(f, "ε̂[{slot}]"),
            Src::Z(reg) => write!(f, "z{reg}"),
        }
    }
}

/// Shortest form that keeps six significant digits.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return format!("{value:.5e}");
    }
    let digits = 5 - value.abs().max(1e-300).log10().floor().clamp(-5.0, 5.0) as i32;
    let text = format!("{value:.*}", digits.max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.c {
            Coef::C(1.0) => write!(f, "{}", self.of),
            Coef::C(value) => write!(f, "{}·{}", number(value), self.of),
            Coef::LearnedStd { slot, log_min, log_max } => {
                write!(
                    f,
                    "std(v[{slot}], {}..{})·{}",
                    number((0.5 * log_min).exp()),
                    number((0.5 * log_max).exp()),
                    self.of
                )
            }
            Coef::PredictedStd { slot } => write!(f, "√v[{slot}]·{}", self.of),
        }
    }
}

fn sum(terms: &[Term]) -> String {
    let mut text = String::new();
    for term in terms {
        let part = term.to_string();
        match part.strip_prefix('-') {
            _ if text.is_empty() => text.push_str(&part),
            Some(positive) => text.push_str(&format!(" − {positive}")),
            None => text.push_str(&format!(" + {part}")),
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} ← {}", Src::X(self.to), sum(&self.sum))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut parts = Vec::new();
        for draw in &self.draws {
            parts.push(match *draw {
                Draw::White { to, lane } => format!("draw z{to} (lane {lane})"),
                Draw::Path { to, from, until } => format!("z{to} ← W({}) − W({})", number(until), number(from)),
            });
        }
        parts.extend(self.pre.iter().map(ToString::to_string));
        if let Some(eval) = &self.eval {
            parts.push(format!(
                "ask[{}] {} at α = {}, σ = {}, time = {}",
                eval.into,
                Src::X(eval.x),
                number(eval.at.alpha),
                number(eval.at.sigma),
                number(eval.at.time)
            ));
        }
        parts.extend(self.post.iter().map(ToString::to_string));
        f.write_str(&parts.join("; "))
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "{}: {} steps, {} evaluations, starts at t = {} from noise of deviation {}",
            self.name(),
            self.steps(),
            self.evaluations(),
            number(self.start_node().t),
            number(self.prior_deviation())
        )?;
        for row in self.rows() {
            let step = row.step.map_or_else(|| "·".to_owned(), |step| step.to_string());
            writeln!(f, "{step:>4} | {row} | now t = {}", number(row.after.t))?;
        }
        Ok(())
    }
}
