//! What can be known of a table before it runs: which answers an evaluation owes, and when values die.

use super::{Aux, Coef, Draw, Row, Set, Slot, Src, TableError, Term};
use langevin_core::Node;
use std::collections::{BTreeMap, BTreeSet};

/// How much depends on a part of an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Nothing reads it.
    #[default]
    No,
    /// Only reports read it: where it cannot be computed there is no report.
    Report,
    /// The samples depend on it: where it cannot be computed the run fails.
    Yes,
}

/// Which parts of an estimate later rows read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub x0: Need,
    pub eps: Need,
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
    /// What each row and those after it need of what was there before; what only reports read may be missing.
    pub live: Vec<BTreeSet<Place>>,
    /// What dies after each row.
    pub dead: Vec<Vec<Place>>,
}

/// The sample itself, which is never dropped.
const SAMPLE: Place = Place::Value(Src::X(0));

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
            events: vec![Vec::new(); rows.len()],
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
        let (live, dead) = (live(&walk.events, false), dead(&walk.events));
        Ok(Self { needs: walk.needs, live, dead })
    }

    /// What must be there before the first row, beside the sample.
    pub fn auxiliaries(&self) -> Vec<Aux> {
        let aux = |place: &Place| if let Place::Value(Src::Aux(aux)) = place { Some(*aux) } else { None };
        self.live.first().into_iter().flatten().filter_map(aux).collect()
    }
}

/// One use of a place.
#[derive(Clone, Copy, Debug)]
enum Event {
    Read(Place),
    /// By a report, which may do without.
    Glance(Place),
    Write(Place),
}

/// What is live before each row, walking backwards, with or without what only reports read.
fn live(rows: &[Vec<Event>], reports: bool) -> Vec<BTreeSet<Place>> {
    let mut live = vec![BTreeSet::new(); rows.len()];
    let mut now = BTreeSet::from([SAMPLE]);
    for (before, events) in live.iter_mut().zip(rows).rev() {
        for event in events.iter().rev() {
            match event {
                Event::Write(place) => now.remove(place),
                Event::Read(place) => now.insert(*place),
                Event::Glance(place) => reports && now.insert(*place),
            };
        }
        now.insert(SAMPLE);
        before.clone_from(&now);
    }
    live
}

/// What dies after each row, walking forwards.
fn dead(rows: &[Vec<Event>]) -> Vec<Vec<Place>> {
    let live = live(rows, true);
    // What a run is given is there from the start.
    let mut held = live.first().cloned().unwrap_or_default();
    let after = live.iter().skip(1).map(Some).chain([None]);
    let dead = rows.iter().zip(after).map(|(events, after)| {
        held.extend(events.iter().filter_map(|event| match event {
            Event::Write(place) => Some(*place),
            Event::Read(_) | Event::Glance(_) => None,
        }));
        let lives_on = |place: &Place| *place == SAMPLE || after.is_some_and(|after| after.contains(place));
        let dies = held.iter().filter(|place| !lives_on(place)).copied().collect();
        held.retain(lives_on);
        dies
    });
    dead.collect()
}

/// Whether no step reads a state once it has asked, and both parts of answers count. States that are only asked about
/// (inner stages) may be written, from answers alone.
pub(super) fn goes_on_from_answers(rows: &[Row], needs: &[Needs]) -> bool {
    let reads_state = |set: &Set| set.sum.iter().any(|term| matches!(term.of, Src::X(_)));
    let mut asked = false;
    for row in rows {
        // Before its first question a step may change the state (churn).
        if asked && row.pre.iter().any(reads_state) {
            return false;
        }
        asked |= row.eval.is_some();
        if asked && row.post.iter().any(reads_state) {
            return false;
        }
        asked &= row.step.is_none();
    }
    needs.iter().any(|needs| needs.x0 == Need::Yes) && needs.iter().any(|needs| needs.eps == Need::Yes)
}

struct Walk {
    row: usize,
    needs: Vec<Needs>,
    /// Row that asked for each slot last.
    asked: BTreeMap<Slot, usize>,
    written: BTreeSet<Src>,
    /// What each row reads and writes, in order.
    events: Vec<Vec<Event>>,
}

impl Walk {
    fn visit(&mut self, row: &Row) -> Result<(), TableError> {
        for draw in &row.draws {
            if let Draw::Path { from, until, .. } = draw {
                self.finite("an end of a path interval", &[*from, *until])?;
            }
            let to = Src::Z(draw.register());
            self.written.insert(to);
            self.event(Event::Write(Place::Value(to)));
        }
        self.assign(&row.pre)?;
        if let Some(eval) = &row.eval {
            self.finite("the level it asks at", &[eval.at.alpha, eval.at.sigma, eval.at.time])?;
            self.known(Src::X(eval.x))?;
            self.asked.insert(eval.into, self.row);
            for place in
                [Place::Value(Src::X0(eval.into)), Place::Value(Src::Eps(eval.into)), Place::Variance(eval.into)]
            {
                self.event(Event::Write(place));
            }
        }
        self.assign(&row.post)?;
        let Node { t, level } = row.after;
        self.finite("the level it arrives at", &[t, level.alpha, level.sigma, level.time])?;
        row.report.iter().try_for_each(|term| self.read(term, Need::Report))
    }

    fn finite(&self, what: &'static str, numbers: &[f64]) -> Result<(), TableError> {
        match numbers.iter().find(|value| !value.is_finite()) {
            Some(&value) => Err(TableError::NotFinite { row: self.row, what, value }),
            None => Ok(()),
        }
    }

    fn assign(&mut self, sets: &[Set]) -> Result<(), TableError> {
        for set in sets {
            set.sum.iter().try_for_each(|term| self.read(term, Need::Yes))?;
            if let Some(mask) = set.mask {
                // Where the mask is not 1, what was there stays.
                self.known(Src::Aux(mask))?;
                self.known(Src::X(set.to))?;
            }
            self.written.insert(Src::X(set.to));
            self.event(Event::Write(Place::Value(Src::X(set.to))));
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        self.events[self.row].push(event);
    }

    fn unwritten(&self, source: Src) -> TableError {
        TableError::Unwritten { row: self.row, source_name: source.to_string() }
    }

    fn known(&mut self, source: Src) -> Result<(), TableError> {
        let given = matches!(source, Src::Aux(_));
        if !given && !self.written.contains(&source) {
            return Err(self.unwritten(source));
        }
        self.event(Event::Read(Place::Value(source)));
        Ok(())
    }

    /// The needs of the evaluation that filled the slot of `source`.
    fn needs_of(&mut self, slot: Slot, source: Src) -> Result<&mut Needs, TableError> {
        match self.asked.get(&slot) {
            Some(row) => Ok(&mut self.needs[*row]),
            None => Err(self.unwritten(source)),
        }
    }

    fn read(&mut self, term: &Term, need: Need) -> Result<(), TableError> {
        let place = Place::Value(term.of);
        let estimate = match term.of {
            Src::X0(slot) => Some(&mut self.needs_of(slot, term.of)?.x0),
            Src::Eps(slot) => Some(&mut self.needs_of(slot, term.of)?.eps),
            Src::X(_) | Src::Z(_) | Src::Aux(_) => None,
        };
        match estimate {
            Some(before) => {
                *before = need.max(*before);
                self.event(if need == Need::Yes { Event::Read(place) } else { Event::Glance(place) });
            }
            None => self.known(term.of)?,
        }
        let numbers = match term.c {
            Coef::C(value) => [value, 0.0],
            Coef::LearnedStd { log_min, log_max, .. } => [log_min, log_max],
            Coef::PredictedStd { .. } => [0.0, 0.0],
        };
        if let Coef::LearnedStd { slot, .. } | Coef::PredictedStd { slot } = term.c {
            self.needs_of(slot, Src::X0(slot))?.variance = true;
            self.event(Event::Read(Place::Variance(slot)));
        }
        match numbers.into_iter().find(|value| !value.is_finite()) {
            Some(value) => Err(TableError::Coefficient { row: self.row, source_name: term.of.to_string(), value }),
            None => Ok(()),
        }
    }
}

/// 64-bit FNV-1a over every number of the table: stable across compilers and machines. Each part is preceded by a tag
/// and each list by its length, so that no two tables write the same bytes.
pub(super) fn fingerprint(start: &Node, prior_std: f64, rows: &[Row]) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.node(start);
    hash.numbers(&[prior_std]);
    for row in rows {
        hash.length(row.draws.len());
        for draw in &row.draws {
            match *draw {
                Draw::White { to, lane } => hash.bytes(&[1, to, lane]),
                Draw::Known { to, lane } => hash.bytes(&[12, to, lane]),
                Draw::Path { to, from, until } => {
                    hash.bytes(&[2, to]);
                    hash.numbers(&[from, until]);
                }
            }
        }
        hash.sets(&row.pre);
        match &row.eval {
            None => hash.bytes(&[3]),
            Some(eval) => {
                hash.bytes(&[4, eval.x, eval.into]);
                hash.numbers(&[eval.at.alpha, eval.at.sigma, eval.at.time]);
            }
        }
        hash.sets(&row.post);
        hash.bytes(&[u8::from(row.step.is_some())]);
        hash.node(&row.after);
        hash.terms(&row.report);
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

    fn length(&mut self, length: usize) {
        self.bytes(&(length as u64).to_le_bytes());
    }

    fn node(&mut self, node: &Node) {
        self.numbers(&[node.t, node.level.alpha, node.level.sigma, node.level.time]);
    }

    fn sets(&mut self, sets: &[Set]) {
        self.length(sets.len());
        for set in sets {
            self.bytes(&[set.to, u8::from(set.mask.is_some()), set.mask.unwrap_or_default()]);
            self.terms(&set.sum);
        }
    }

    fn terms(&mut self, terms: &[Term]) {
        self.length(terms.len());
        for term in terms {
            match term.of {
                Src::X(r) => self.bytes(&[5, r]),
                Src::X0(s) => self.bytes(&[6, s]),
                Src::Eps(s) => self.bytes(&[7, s]),
                Src::Z(r) => self.bytes(&[8, r]),
                Src::Aux(a) => self.bytes(&[13, a]),
            }
            match term.c {
                Coef::C(value) => {
                    self.bytes(&[9]);
                    self.numbers(&[value]);
                }
                Coef::LearnedStd { slot, log_min, log_max } => {
                    self.bytes(&[10, slot]);
                    self.numbers(&[log_min, log_max]);
                }
                Coef::PredictedStd { slot } => self.bytes(&[11, slot]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Eval;
    use langevin_core::Level;

    fn node() -> Node {
        Node { t: 0.5, level: Level { alpha: 0.6, sigma: 0.8, time: 1.0 } }
    }

    fn row(pre: Vec<Set>, ask: Option<(u8, u8)>, post: Vec<Set>, step: Option<u32>) -> Row {
        let eval = ask.map(|(x, into)| Eval { at: node().level, x, into });
        Row { draws: Vec::new(), pre, eval, post, step, after: node(), report: Vec::new() }
    }

    fn set(to: u8, sources: &[Src]) -> Set {
        Set::new(to, sources.iter().map(|source| Term::new(0.5, *source)))
    }

    /// A two-step method that looks back: slot 0 lives for two rows, register 1 for one, and slot 0 is asked again later.
    fn rows() -> Vec<Row> {
        vec![
            row(vec![], Some((0, 0)), vec![set(1, &[Src::X(0), Src::Eps(0)])], None),
            row(vec![], Some((1, 1)), vec![set(0, &[Src::X0(0), Src::X0(1), Src::X(0)])], Some(0)),
            row(vec![], Some((0, 0)), vec![set(0, &[Src::X(0), Src::Eps(0)])], Some(1)),
        ]
    }

    #[test]
    fn values_die_after_their_last_use() {
        let analysis = Analysis::of(&rows()).expect("a table");
        let value = Place::Value;
        assert_eq!(analysis.live[0], BTreeSet::from([SAMPLE]));
        assert_eq!(analysis.live[1], BTreeSet::from([SAMPLE, value(Src::X(1)), value(Src::X0(0))]));
        assert_eq!(analysis.live[2], BTreeSet::from([SAMPLE]));
        assert_eq!(analysis.dead[0], [value(Src::Eps(0)), Place::Variance(0)]);
        let gone = &analysis.dead[1];
        assert!(
            gone.contains(&value(Src::X(1))) && gone.contains(&value(Src::X0(0))) && gone.contains(&value(Src::X0(1)))
        );
        assert!(analysis.dead.iter().all(|dead| !dead.contains(&SAMPLE)));
    }

    #[test]
    fn an_evaluation_owes_what_is_read_of_it() {
        let needs = Analysis::of(&rows()).expect("a table").needs;
        let parts = |x0, eps| Needs { x0, eps, variance: false };
        assert_eq!(needs, [parts(Need::Yes, Need::Yes), parts(Need::Yes, Need::No), parts(Need::No, Need::Yes)]);
    }

    /// What only a report reads is kept for it, and may be missing.
    #[test]
    fn a_report_alone_makes_no_need() {
        let mut rows = rows();
        let report = |slot| vec![Term::new(1.0, Src::X0(slot))];
        (rows[1].report, rows[2].report) = (report(1), report(0));
        let analysis = Analysis::of(&rows).expect("a table");
        let x0: Vec<Need> = analysis.needs.iter().map(|needs| needs.x0).collect();
        assert_eq!(x0, [Need::Yes, Need::Yes, Need::Report]);
        // A report that looks further back keeps what it reads, but a run can go on without it.
        rows[2].eval = None;
        rows[2].post[0].sum.pop();
        rows[2].report = report(1);
        let analysis = Analysis::of(&rows).expect("a table");
        assert!(!analysis.dead[1].contains(&Place::Value(Src::X0(1))));
        assert!(analysis.dead[2].contains(&Place::Value(Src::X0(1))));
        assert_eq!(analysis.live[2], BTreeSet::from([SAMPLE]));
        // But a report of nothing is an error still.
        rows[2].report = report(7);
        assert!(matches!(Analysis::of(&rows), Err(TableError::Unwritten { row: 2, .. })));
    }

    /// What a run is given is asked for at once, and dies after its last use; a masked register must have been written.
    #[test]
    fn given_tensors_live_until_their_last_use() {
        let mut rows = rows();
        rows[0].post.push(set(0, &[Src::Aux(0)]).masked(1));
        rows[1].post.push(set(0, &[Src::X(0)]).masked(1));
        let analysis = Analysis::of(&rows).expect("a table");
        assert_eq!(analysis.auxiliaries(), [0, 1]);
        assert!(analysis.live[1].contains(&Place::Value(Src::Aux(1))));
        assert!(!analysis.live[1].contains(&Place::Value(Src::Aux(0))));
        assert!(analysis.dead[0].contains(&Place::Value(Src::Aux(0))));
        assert!(analysis.dead[1].contains(&Place::Value(Src::Aux(1))));
        rows[0].post.push(set(9, &[Src::Aux(0)]).masked(1));
        assert!(
            matches!(Analysis::of(&rows), Err(TableError::Unwritten { row: 0, source_name }) if source_name == "x9")
        );
    }

    #[test]
    fn every_part_of_a_table_is_in_its_fingerprint() {
        type Change<'a> = &'a dyn Fn(&mut Vec<Row>);
        let print = |change: Change<'_>| {
            let mut rows = rows();
            change(&mut rows);
            fingerprint(&node(), 1.0, &rows)
        };
        let changes: [Change<'_>; 16] = [
            &|_| {},
            &|rows| rows[2].eval = None,
            &|rows| {
                // From behind the evaluation to before it.
                let moved = std::mem::take(&mut rows[2].post);
                rows[2].pre = moved;
            },
            &|rows| rows[0].step = Some(0),
            &|rows| rows[0].after.t = 0.25,
            &|rows| rows[1].report.push(Term::new(0.5, Src::X0(1))),
            &|rows| rows[0].draws.push(Draw::White { to: 0, lane: 0 }),
            &|rows| rows[0].draws.push(Draw::Path { to: 0, from: 0.0, until: 1.0 }),
            &|rows| rows[0].draws.push(Draw::Known { to: 0, lane: 0 }),
            &|rows| rows[1].post[0].to = 1,
            &|rows| rows[1].post[0].mask = Some(0),
            &|rows| rows[1].post[0].mask = Some(1),
            &|rows| rows[1].post[0].sum[0].of = Src::Aux(0),
            &|rows| rows[1].post[0].sum[0].of = Src::X0(1),
            &|rows| rows[1].post[0].sum[0].c = Coef::PredictedStd { slot: 0 },
            &|rows| rows[1].post[0].sum[0].c = Coef::LearnedStd { slot: 0, log_min: -1.0, log_max: 0.0 },
        ];
        let prints: BTreeSet<u64> = changes.iter().map(|change| print(change)).collect();
        assert_eq!(prints.len(), changes.len());
        assert_eq!(print(&|_| {}), fingerprint(&node(), 1.0, &rows()));
        assert_ne!(print(&|_| {}), fingerprint(&node(), 2.0, &rows()));
        assert_ne!(print(&|_| {}), fingerprint(&Node { t: 0.75, ..node() }, 1.0, &rows()));
    }
}
