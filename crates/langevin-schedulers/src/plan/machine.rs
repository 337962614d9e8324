//! The one loop that runs every plan, over any arithmetic.

use super::analysis::{Needs, Place};
use super::{Aux, Coef, Draw, Plan, Reg, Row, Set, Slot, Src, Term};
use langevin_core::{Key, Level, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All values of a running plan: registers, estimates, noises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory<V> {
    states: BTreeMap<Reg, V>,
    x0: BTreeMap<Slot, V>,
    eps: BTreeMap<Slot, V>,
    variance: BTreeMap<Slot, V>,
    noises: BTreeMap<Reg, V>,
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    given: BTreeMap<Aux, V>,
}

impl<V> Memory<V> {
    /// Memory whose register 0 is the sample.
    pub fn new(x: V) -> Self {
        Self {
            states: BTreeMap::from([(0, x)]),
            x0: BTreeMap::new(),
            eps: BTreeMap::new(),
            variance: BTreeMap::new(),
            noises: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }

    /// A state register; register 0 is the sample.
    pub fn state(&self, reg: Reg) -> Option<&V> {
        self.states.get(&reg)
    }

    /// Writes a state register.
    pub fn set_state(&mut self, reg: Reg, value: V) {
        self.states.insert(reg, value);
    }

    /// A tensor that the run was given, while rows to come read it.
    pub fn given(&self, aux: Aux) -> Option<&V> {
        self.given.get(&aux)
    }

    /// Gives the run a tensor beside its sample.
    pub fn give(&mut self, aux: Aux, value: V) {
        self.given.insert(aux, value);
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        [&self.x0, &self.eps, &self.variance].iter().map(|m| m.len()).sum::<usize>()
            + self.states.len()
            + self.noises.len()
            + self.given.len()
    }

    /// Whether nothing is held, which never happens in a run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same memory in another representation.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map<W, E>(&self, f: impl Fn(&V) -> Result<W, E>) -> Result<Memory<W>, E> {
        fn each<V, W, E>(map: &BTreeMap<u8, V>, f: &impl Fn(&V) -> Result<W, E>) -> Result<BTreeMap<u8, W>, E> {
            map.iter().map(|(key, value)| Ok((*key, f(value)?))).collect()
        }
        Ok(Memory {
            states: each(&self.states, &f)?,
            x0: each(&self.x0, &f)?,
            eps: each(&self.eps, &f)?,
            variance: each(&self.variance, &f)?,
            noises: each(&self.noises, &f)?,
            given: each(&self.given, &f)?,
        })
    }

    /// Whether every one of `places` holds a value.
    pub(super) fn holds<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> bool {
        places.into_iter().all(|place| match place {
            Place::Value(Src::X(reg)) => self.states.contains_key(reg),
            Place::Value(Src::X0(slot)) => self.x0.contains_key(slot),
            Place::Value(Src::Eps(slot)) => self.eps.contains_key(slot),
            Place::Value(Src::Z(reg)) => self.noises.contains_key(reg),
            Place::Value(Src::Aux(aux)) => self.given.contains_key(aux),
            Place::Variance(slot) => self.variance.contains_key(slot),
        })
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        let maps = [&self.states, &self.x0, &self.eps, &self.variance, &self.noises, &self.given];
        maps.into_iter().flat_map(BTreeMap::values)
    }

    fn find(&self, source: Src) -> Option<&V> {
        match source {
            Src::X(reg) => self.states.get(&reg),
            Src::X0(slot) => self.x0.get(&slot),
            Src::Eps(slot) => self.eps.get(&slot),
            Src::Z(reg) => self.noises.get(&reg),
            Src::Aux(aux) => self.given.get(&aux),
        }
    }

    fn get(&self, source: Src) -> &V {
        self.find(source).expect("a plan reads only what it has written: checked when it was made")
    }

    fn drop_dead(&mut self, places: &[Place]) {
        for place in places {
            match *place {
                Place::Value(Src::X(reg)) => drop(self.states.remove(&reg)),
                Place::Value(Src::X0(slot)) => drop(self.x0.remove(&slot)),
                Place::Value(Src::Eps(slot)) => drop(self.eps.remove(&slot)),
                Place::Value(Src::Z(reg)) => drop(self.noises.remove(&reg)),
                Place::Value(Src::Aux(aux)) => drop(self.given.remove(&aux)),
                Place::Variance(slot) => drop(self.variance.remove(&slot)),
            }
        }
    }
}

/// What an evaluation delivers: the parts that the plan needs, and those for its reports that there are.
pub(super) struct Answer<V> {
    pub x0: Option<V>,
    pub eps: Option<V>,
    pub variance: Option<V>,
}

/// A coefficient with its tensor parts filled in.
pub(super) enum Factor<'a, V> {
    Number(f64),
    LearnedStd { variance: &'a V, log_min: f64, log_max: f64 },
    PredictedStd { variance: &'a V },
}

/// What the loop runs on.
pub(super) trait Arithmetic {
    type Value: Clone;
    type Error;
    /// The sum of `factor · value`; zero of the shape of `like` if there are no terms.
    fn sum(&mut self, like: &Self::Value, terms: &[(Factor<'_, Self::Value>, &Self::Value)]) -> Self::Value;
    /// `mask·new + (1 − mask)·old`.
    fn blend(&mut self, mask: &Self::Value, new: Self::Value, old: &Self::Value) -> Self::Value;
    fn ask(&mut self, x: &Self::Value, at: &Level, needs: Needs) -> Result<Answer<Self::Value>, Self::Error>;
    fn white(&mut self, key: Key) -> Result<Self::Value, Self::Error>;
    fn path(&mut self, from: f64, until: f64) -> Result<Self::Value, Self::Error>;
}

/// What a completed step leaves.
pub(super) struct Committed<V> {
    pub after: Node,
    pub report: Option<V>,
}

/// Runs rows from `*row` until one completes a step.
pub(super) fn advance<A: Arithmetic>(
    plan: &Plan,
    row: &mut usize,
    memory: &mut Memory<A::Value>,
    arithmetic: &mut A,
) -> Result<Option<Committed<A::Value>>, A::Error> {
    while let Some(current) = plan.rows().get(*row) {
        let committed = run_row(plan, *row, current, memory, arithmetic)?;
        *row += 1;
        if committed.is_some() {
            return Ok(committed);
        }
    }
    Ok(None)
}

fn run_row<A: Arithmetic>(
    plan: &Plan,
    index: usize,
    row: &Row,
    memory: &mut Memory<A::Value>,
    arithmetic: &mut A,
) -> Result<Option<Committed<A::Value>>, A::Error> {
    for draw in &row.draws {
        let value = match *draw {
            Draw::White { lane, .. } => arithmetic.white(Key::step(index as u64, u32::from(lane)))?,
            Draw::Known { lane, .. } => arithmetic.white(Key::known(index as u64, u32::from(lane)))?,
            Draw::Path { from, until, .. } => arithmetic.path(from, until)?,
        };
        memory.noises.insert(draw.register(), value);
    }
    assign(&row.pre, memory, arithmetic);
    if let Some(eval) = &row.eval {
        let answer = arithmetic.ask(memory.get(Src::X(eval.x)), &eval.at, plan.analysis.needs[index])?;
        let places =
            [(&mut memory.x0, answer.x0), (&mut memory.eps, answer.eps), (&mut memory.variance, answer.variance)];
        for (place, part) in places {
            match part {
                Some(value) => drop(place.insert(eval.into, value)),
                None => drop(place.remove(&eval.into)),
            }
        }
    }
    assign(&row.post, memory, arithmetic);
    // A part that only reports read may not be there.
    let reports = row.step.is_some() && !row.report.is_empty();
    let reports = reports && row.report.iter().all(|term| memory.find(term.of).is_some());
    let report = reports.then(|| combine(&row.report, memory, arithmetic));
    memory.drop_dead(&plan.analysis.dead[index]);
    Ok(row.step.map(|_| Committed { after: row.after, report }))
}

fn assign<A: Arithmetic>(sets: &[Set], memory: &mut Memory<A::Value>, arithmetic: &mut A) {
    for set in sets {
        let mut value = combine(&set.sum, memory, arithmetic);
        if let Some(mask) = set.mask {
            value = arithmetic.blend(memory.get(Src::Aux(mask)), value, memory.get(Src::X(set.to)));
        }
        memory.states.insert(set.to, value);
    }
}

fn combine<A: Arithmetic>(terms: &[Term], memory: &Memory<A::Value>, arithmetic: &mut A) -> A::Value {
    let variance = |slot| memory.variance.get(&slot).expect("the analysis asks for every variance that is read");
    let terms: Vec<_> = terms
        .iter()
        .map(|term| {
            let factor = match term.c {
                Coef::C(value) => Factor::Number(value),
                Coef::LearnedStd { slot, log_min, log_max } => {
                    Factor::LearnedStd { variance: variance(slot), log_min, log_max }
                }
                Coef::PredictedStd { slot } => Factor::PredictedStd { variance: variance(slot) },
            };
            (factor, memory.get(term.of))
        })
        .collect();
    arithmetic.sum(memory.get(Src::X(0)), &terms)
}
