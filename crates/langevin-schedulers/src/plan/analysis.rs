//! What can be known of a table before it runs: which answers an evaluation owes, and when values die.

use super::{Coef, Draw, Row, Slot, Src, TableError, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Which parts of an estimate later rows read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub x0: bool,
    pub eps: bool,
    pub variance: bool,
}

/// A value that is kept across rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Value(Src),
    Variance(Slot),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Analysis {
    /// What the evaluation of each row must deliver.
    pub needs: Vec<Needs>,
    /// What dies after each row.
    pub dead: Vec<Vec<Place>>,
}

impl Analysis {
    pub fn of(rows: &[Row]) -> Result<Self, TableError> {
        if rows.is_empty() {
            return Err(TableError::Empty);
        }
        let mut walk = Walk {
            row: 0,
            needs: vec![Needs::default(); rows.len()],
            asked: BTreeMap::new(),
            written: BTreeSet::from([Src::X(0)]),
            last_use: BTreeMap::new(),
        };
        let mut expected = 0;
        for (index, row) in rows.iter().enumerate() {
            walk.row = index;
            walk.visit(row)?;
            if let Some(given) = row.step {
                if given != expected {
                    return Err(TableError::StepNumber { row: index, given, expected });
                }
                expected += 1;
            }
        }
        if rows.last().is_some_and(|row| row.step.is_none()) {
            return Err(TableError::Unfinished);
        }
        let mut dead = vec![Vec::new(); rows.len()];
        for (place, row) in walk.last_use {
            if place != Place::Value(Src::X(0)) {
                dead[row].push(place);
            }
        }
        Ok(Self { needs: walk.needs, dead })
    }
}

struct Walk {
    row: usize,
    needs: Vec<Needs>,
    /// Row that asked for each slot last.
    asked: BTreeMap<Slot, usize>,
    written: BTreeSet<Src>,
    last_use: BTreeMap<Place, usize>,
}

impl Walk {
    fn visit(&mut self, row: &Row) -> Result<(), TableError> {
        for draw in &row.draws {
            let (Draw::White { to, .. } | Draw::Path { to, .. }) = draw;
            self.written.insert(Src::Z(*to));
            self.used(Place::Value(Src::Z(*to)));
        }
        self.assign(&row.pre)?;
        if let Some(eval) = &row.eval {
            self.known(Src::X(eval.x))?;
            self.asked.insert(eval.into, self.row);
        }
        self.assign(&row.post)?;
        row.report.iter().try_for_each(|term| self.read(term))
    }

    fn assign(&mut self, sets: &[super::Set]) -> Result<(), TableError> {
        for set in sets {
            set.sum.iter().try_for_each(|term| self.read(term))?;
            self.written.insert(Src::X(set.to));
            self.used(Place::Value(Src::X(set.to)));
        }
        Ok(())
    }

    fn used(&mut self, place: Place) {
        self.last_use.insert(place, self.row);
    }

    fn unwritten(&self, source: Src) -> TableError {
        TableError::Unwritten { row: self.row, source_name: source.to_string() }
    }

    fn known(&mut self, source: Src) -> Result<(), TableError> {
        if !self.written.contains(&source) {
            return Err(self.unwritten(source));
        }
        self.used(Place::Value(source));
        Ok(())
    }

    fn needs_of(&mut self, slot: Slot) -> Result<&mut Needs, TableError> {
        match self.asked.get(&slot) {
            Some(row) => Ok(&mut self.needs[*row]),
            None => Err(self.unwritten(Src::X0(slot))),
        }
    }

    fn read(&mut self, term: &Term) -> Result<(), TableError> {
        match term.of {
            Src::X0(slot) => self.needs_of(slot)?.x0 = true,
            Src::Eps(slot) => self.needs_of(slot)?.eps = true,
            Src::X(_) | Src::Z(_) => self.known(term.of)?,
        }
        self.used(Place::Value(term.of));
        let numbers = match term.c {
            Coef::C(value) => [value, 0.0],
            Coef::LearnedStd { log_min, log_max, .. } => [log_min, log_max],
            Coef::PredictedStd { .. } => [0.0, 0.0],
        };
        if let Coef::LearnedStd { slot, .. } | Coef::PredictedStd { slot } = term.c {
            self.needs_of(slot)?.variance = true;
            self.used(Place::Variance(slot));
        }
        match numbers.into_iter().find(|value| !value.is_finite()) {
            Some(value) => Err(TableError::Coefficient { row: self.row, source_name: term.of.to_string(), value }),
            None => Ok(()),
        }
    }
}

/// 64-bit FNV-1a over every number of the table: stable across compilers and machines.
pub(super) fn fingerprint(rows: &[Row]) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for row in rows {
        for draw in &row.draws {
            match *draw {
                Draw::White { to, lane } => hash.bytes(&[1, to, lane]),
                Draw::Path { to, from, until } => {
                    hash.bytes(&[2, to]);
                    hash.numbers(&[from, until]);
                }
            }
        }
        if let Some(eval) = &row.eval {
            hash.bytes(&[3, eval.x, eval.into]);
            hash.numbers(&[eval.at.alpha, eval.at.sigma, eval.at.time]);
        }
        for set in row.pre.iter().chain(&row.post) {
            hash.bytes(&[4, set.to]);
            set.sum.iter().for_each(|term| hash.term(term));
        }
        hash.bytes(&[5, u8::from(row.step.is_some())]);
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn numbers(&mut self, numbers: &[f64]) {
        for number in numbers {
            self.bytes(&number.to_bits().to_le_bytes());
        }
    }

    fn term(&mut self, term: &Term) {
        match term.of {
            Src::X(r) => self.bytes(&[6, r]),
            Src::X0(s) => self.bytes(&[7, s]),
            Src::Eps(s) => self.bytes(&[8, s]),
            Src::Z(r) => self.bytes(&[9, r]),
        }
        match term.c {
            Coef::C(value) => self.numbers(&[value]),
            Coef::LearnedStd { slot, log_min, log_max } => {
                self.bytes(&[10, slot]);
                self.numbers(&[log_min, log_max]);
            }
            Coef::PredictedStd { slot } => self.bytes(&[11, slot]),
        }
    }
}
