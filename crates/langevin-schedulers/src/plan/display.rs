//! Plans as text: one line a row, readable beside the paper.

use super::{Coef, Draw, KNOWN, MASK, Plan, Row, Set, Src, Term};
use std::fmt::{Display, Formatter, Result};

impl Display for Src {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Src::X(0) => f.write_str("x"),
            Src::X(reg) => write!(f, "x{reg}"),
            Src::X0(slot) => write!(f, "x̂0[{slot}]"),
            Src::Eps(slot) => write!(f, "ε̂[{slot}]"),
            Src::Z(reg) => write!(f, "z{reg}"),
            Src::Aux(KNOWN) => f.write_str("known"),
            Src::Aux(MASK) => f.write_str("mask"),
            Src::Aux(aux) => write!(f, "given{aux}"),
        }
    }
}

/// Shortest form that keeps six significant digits.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:.5e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let digits = 5 - value.abs().max(1e-300).log10().floor().clamp(-5.0, 5.0) as i32;
    let text = format!("{value:.*}", digits.max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.c {
            Coef::C(1.0) => write!(f, "{}", self.of),
            Coef::C(-1.0) => write!(f, "-{}", self.of),
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
        let to = Src::X(self.to);
        match self.mask {
            None => write!(f, "{to} ← {}", sum(&self.sum)),
            Some(mask) => write!(f, "{to} ← {} where {}", sum(&self.sum), Src::Aux(mask)),
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut parts = Vec::new();
        for draw in &self.draws {
            parts.push(match *draw {
                Draw::White { to, lane } => format!("draw z{to} (lane {lane})"),
                Draw::Known { to, lane } => format!("draw z{to} (known region, lane {lane})"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ddim, Solver};
    use langevin_core::Grid;
    use langevin_core::process::{Betas, DiscreteChain};

    #[test]
    fn numbers_have_six_digits() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.5"),
            (-1.0, "-1"),
            (1234.5, "1234.5"),
            (0.001_234_567, "0.00123457"),
            (123_456.7, "123457"),
            (1e-7, "1e-7"),
            (-2.5e8, "-2.5e8"),
            (1.234_567e-100, "1.23457e-100"),
            (-1e10, "-1e10"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn sums_have_signs_between_their_terms() {
        let term = |c, of| Term::new(c, of);
        let set = |sum: Vec<Term>| Set { to: 1, sum, mask: None }.to_string();
        assert_eq!(set(vec![term(1.0, Src::X(0)), term(-0.25, Src::Eps(2))]), "x1 ← x − 0.25·ε̂[2]");
        assert_eq!(set(vec![term(-2.0, Src::Z(0)), term(3.0, Src::X0(0))]), "x1 ← -2·z0 + 3·x̂0[0]");
        assert_eq!(set(vec![term(1.0, Src::Z(0)), term(-1.0, Src::Eps(0))]), "x1 ← z0 − ε̂[0]");
        assert_eq!(set(vec![term(-1.0, Src::X(0)), term(1.0, Src::Z(0))]), "x1 ← -x + z0");
        assert_eq!(set(vec![]), "x1 ← 0");
        let masked = Set::new(0, [term(0.5, Src::Aux(0)), term(1.0, Src::Aux(7))]).masked(1);
        assert_eq!(masked.to_string(), "x ← 0.5·known + given7 where mask");
    }

    #[test]
    fn a_plan_is_a_readable_table() {
        let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain");
        let plan = Ddim::new().eta(0.5).expect("in range").plan(&chain, &Grid::trailing(2)).expect("a plan");
        let text = plan.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "DDIM (eta 0.5): 2 steps, 2 evaluations, starts at t = 999 from noise of deviation 1");
        assert!(
            lines[1].starts_with("   0 | draw z0 (lane 0); ask[0] x at α = 0.00635282, σ = 0.99998, time = 999; x ← ")
        );
        assert!(lines[2].ends_with("x ← x̂0[0] | now t = -1"), "{}", lines[2]);
    }
}
