//! A solver over parts of its grid.

use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Reg, Row};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Node, Process};
use std::collections::BTreeMap;

/// The plan of a solver, and plans that begin anew at later nodes: a solver that remembers its steps starts afresh there.
pub(super) struct Pieces<'a> {
    name: &'static str,
    solver: &'a dyn Solver,
    process: &'a dyn Process,
    grid: &'a Grid,
    whole: Plan,
    stops: Vec<Stop>,
    /// Steps that the grid itself leaves out.
    left_out: usize,
    nodes: Vec<Node>,
    later: BTreeMap<usize, Plan>,
}

impl<'a> Pieces<'a> {
    pub fn of(
        name: &'static str,
        solver: &'a dyn Solver,
        process: &'a dyn Process,
        grid: &'a Grid,
    ) -> Result<Self, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(name, &stops, true)?;
        check_joined(name, &stops)?;
        let left_out = grid.clone().starting_at(0).stops(process)?.len() - stops.len();
        let whole = solver.plan(process, grid)?;
        let ends = whole.rows().iter().filter(|row| row.step.is_some()).map(|row| row.after);
        let nodes = std::iter::once(whole.start_node()).chain(ends).collect();
        Ok(Self { name, solver, process, grid, whole, stops, left_out, nodes, later: BTreeMap::new() })
    }

    /// The plan from the grid's start.
    pub fn whole(&self) -> &Plan {
        &self.whole
    }

    /// Where the steps begin and end, the start first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The rows that lead from node `from` to node `until`.
    pub fn rows(&mut self, from: usize, until: usize) -> Result<Vec<Row>, PlanError> {
        let end = self.nodes[until];
        let plan = self.from(from)?;
        match plan.rows().iter().position(|row| row.step.is_some() && row.after == end) {
            Some(last) => Ok(plan.rows()[..=last].to_vec()),
            None => Err(self.apart(from)),
        }
    }

    fn from(&mut self, from: usize) -> Result<&Plan, PlanError> {
        if from == 0 {
            return Ok(&self.whole);
        }
        if !self.later.contains_key(&from) {
            let start = self.nodes[from];
            let Some(stop) = self.stops.iter().position(|stop| stop.from == start) else {
                return Err(self.apart(from));
            };
            let grid = self.grid.clone().starting_at(self.left_out + stop);
            // It plans the whole grid: that it does not plan the rest is for these jumps to say.
            let plan = self.solver.plan(self.process, &grid).map_err(|_| self.apart(from))?;
            self.later.insert(from, plan);
        }
        Ok(&self.later[&from])
    }

    fn apart(&self, node: usize) -> PlanError {
        self.refuse(
            &format!("{} at step {node}", self.whole.name()),
            "planned from there on, the solver does not take the steps that it takes on the whole grid; use one that visits \
             the nodes of the grid",
        )
    }

    /// An error that names the solver.
    pub fn refuse(&self, what: &str, reason: &'static str) -> PlanError {
        PlanError::Combination { first: self.name.to_owned(), second: what.to_owned(), reason }
    }

    /// A noise register that no row of the solver writes.
    pub fn free_register(&self) -> Result<Reg, PlanError> {
        let used: Vec<Reg> = self.whole.rows().iter().flat_map(|row| &row.draws).map(Draw::register).collect();
        (0..=Reg::MAX).find(|register| !used.contains(register)).ok_or_else(|| {
            self.refuse(self.whole.name(), "all of its 256 noise registers are in use, and one more is needed")
        })
    }
}
