//! What one step does to the block of one sample, and when it is the last.

use super::BlockRefinement;
use crate::discrete::host;

/// How far a run is.
pub(super) struct Progress {
    /// The block.
    pub block: usize,
    /// Steps made in it.
    pub call: usize,
    /// Of each sample.
    pub rows: Vec<Row>,
}

/// How far a sample is.
#[derive(Clone, Default)]
pub(super) struct Row {
    /// Steps that began with masks.
    steps: usize,
    /// Steps that began without.
    posts: usize,
    /// Nothing is left to do in this block.
    settled: bool,
    /// Nothing is left to do at all.
    pub finished: bool,
    /// Without masks: which tokens of the block were taken.
    committed: Vec<bool>,
}

/// The denoiser's answer for the block of a sample.
pub(super) struct Answer<'a> {
    /// What was drawn.
    pub drawn: &'a [i64],
    /// Its probability.
    pub confidence: &'a [f64],
    /// Random tokens, without masks.
    pub any: &'a [i64],
}

impl Progress {
    /// From the memory of a run; `None` if it is that of another.
    pub fn read(settings: &BlockRefinement, memory: &[i64], batch: usize) -> Option<Self> {
        if memory.is_empty() {
            let mut progress = Self { block: settings.prompt / settings.block, call: 0, rows: Vec::new() };
            progress.rows = vec![progress.fresh(settings); batch];
            return Some(progress);
        }
        let flags = if settings.mask.is_some() { 0 } else { settings.block };
        let (head, rows) = memory.split_at_checked(2)?;
        let count = |number: &i64| usize::try_from(*number).ok();
        let flag = |number: &i64| matches!(number, 0 | 1).then_some(*number == 1);
        if rows.len() != batch * (4 + flags) {
            return None;
        }
        let row = |row: &[i64]| {
            Some(Row {
                steps: count(&row[0])?,
                posts: count(&row[1])?,
                settled: flag(&row[2])?,
                finished: flag(&row[3])?,
                committed: row[4..].iter().map(flag).collect::<Option<_>>()?,
            })
        };
        let rows = rows.chunks(4 + flags).map(row).collect::<Option<_>>()?;
        let (block, call) = (count(&head[0])?, count(&head[1])?);
        (block < 1 << 31 && call <= settings.steps.saturating_add(settings.post_steps)).then_some(())?;
        Some(Self { block, call, rows })
    }

    /// For the memory of a run.
    pub fn write(&self) -> Vec<i64> {
        let mut memory = vec![self.block as i64, self.call as i64];
        for row in &self.rows {
            memory.extend([row.steps as i64, row.posts as i64, i64::from(row.settled), i64::from(row.finished)]);
            memory.extend(row.committed.iter().map(|flag| i64::from(*flag)));
        }
        memory
    }

    /// A sample at the beginning of a block.
    fn fresh(&self, settings: &BlockRefinement) -> Row {
        let committed = match settings.mask {
            Some(_) => Vec::new(),
            None => (0..settings.block).map(|i| i < self.prompted(settings)).collect(),
        };
        Row { committed, ..Row::default() }
    }

    /// Positions of the block that the prompt covers.
    fn prompted(&self, settings: &BlockRefinement) -> usize {
        settings.prompt.saturating_sub(self.block * settings.block).min(settings.block)
    }

    /// Refines the last block of a sample's tokens and marks what was taken.
    pub fn refine(
        &mut self,
        settings: &BlockRefinement,
        row: usize,
        tokens: &mut [i64],
        answer: Answer<'_>,
        accepted: &mut [bool],
    ) {
        let (prompted, call) = (self.prompted(settings), self.call);
        let row = &mut self.rows[row];
        if row.settled {
            return;
        }
        let start = tokens.len() - settings.block;
        match settings.mask {
            Some(mask) => {
                row.fill(settings, mask as i64, prompted, &mut tokens[start..], &answer, accepted);
                let behind = &tokens[settings.prompt.min(tokens.len())..];
                let end = settings.end.and_then(|end| behind.iter().position(|token| *token == end as i64));
                row.finished = end.is_some_and(|end| !behind[..end].contains(&(mask as i64)));
            }
            None => {
                row.commit(settings, call, prompted, &mut tokens[start..], &answer, accepted);
                let has = |end: usize| tokens[start + prompted..].contains(&(end as i64));
                row.finished = row.settled && settings.end.is_some_and(has);
            }
        }
        row.settled |= row.finished;
    }

    /// Goes on to the next step, or to the next block if no sample is left in this one: `None`.
    pub fn next(&mut self, settings: &BlockRefinement) -> Option<usize> {
        self.call += 1;
        if self.rows.iter().any(|row| !row.settled) {
            return Some(settings.steps - 1 - self.call.min(settings.steps - 1));
        }
        (self.block, self.call) = (self.block + 1, 0);
        let fresh = self.fresh(settings);
        for row in &mut self.rows {
            let finished = row.finished;
            *row = Row { finished, settled: finished, ..fresh.clone() };
        }
        None
    }
}

impl Row {
    /// A step among masks.
    fn fill(
        &mut self,
        settings: &BlockRefinement,
        mask: i64,
        prompted: usize,
        tokens: &mut [i64],
        answer: &Answer<'_>,
        accepted: &mut [bool],
    ) {
        let confidence = answer.confidence;
        let masked: Vec<usize> = (prompted..tokens.len()).filter(|i| tokens[*i] == mask).collect();
        let (block, steps) = (settings.block, settings.steps);
        let step = self.steps.min(steps - 1);
        let quota = match block / steps + usize::from(step < block % steps) {
            0 => 0,
            quota => quota.max(settings.minimal),
        };
        let sure = masked.iter().copied().filter(|i| confidence[*i] > settings.threshold);
        let taken: Vec<usize> = if sure.clone().count() >= quota {
            sure.collect()
        } else {
            let order = host::ascending(masked.iter().copied(), |i| -confidence[i]);
            order.into_iter().take(quota).collect()
        };
        taken.into_iter().for_each(|i| accepted[i] = true);
        let mut edited = false;
        if let Some(threshold) = settings.editing {
            for i in (prompted..tokens.len()).filter(|i| tokens[*i] != mask) {
                accepted[i] = confidence[i] > threshold && answer.drawn[i] != tokens[i];
                edited |= accepted[i];
            }
        }
        take(tokens, answer, accepted);
        if masked.is_empty() {
            self.posts += 1;
            self.settled = !edited || self.posts > settings.post_steps;
        } else {
            self.steps += 1;
            let ready = settings.editing.is_none() && !tokens[prompted..].contains(&mask);
            self.settled = self.steps >= steps || ready;
        }
    }

    /// A step among random tokens.
    fn commit(
        &mut self,
        settings: &BlockRefinement,
        call: usize,
        prompted: usize,
        tokens: &mut [i64],
        answer: &Answer<'_>,
        accepted: &mut [bool],
    ) {
        let confidence = answer.confidence;
        let target = ((call + 1) * settings.block).div_ceil(settings.steps).min(settings.block);
        let needed = match target.saturating_sub(self.committed.iter().filter(|flag| **flag).count()) {
            0 => 0,
            needed => needed.max(settings.minimal),
        };
        let open = (0..tokens.len()).filter(|i| !self.committed[*i]);
        let order = host::ascending(open, |i| -confidence[i]);
        for (rank, i) in order.into_iter().enumerate() {
            accepted[i] = rank < needed || confidence[i] > settings.threshold;
        }
        if let Some(threshold) = settings.editing {
            for i in (prompted..tokens.len()).filter(|i| self.committed[*i]) {
                accepted[i] = confidence[i] > threshold && answer.drawn[i] != tokens[i];
            }
        }
        take(tokens, answer, accepted);
        for (i, committed) in self.committed.iter_mut().enumerate() {
            *committed |= accepted[i];
            if !*committed {
                tokens[i] = answer.any[i];
            }
        }
        self.steps += 1;
        let ready = settings.editing.is_none() && !self.committed.contains(&false);
        self.settled = self.steps >= settings.steps || ready;
    }
}

/// Takes what was drawn where it is accepted.
fn take(tokens: &mut [i64], answer: &Answer<'_>, accepted: &[bool]) {
    for ((token, drawn), accepted) in tokens.iter_mut().zip(answer.drawn).zip(accepted) {
        if *accepted {
            *token = *drawn;
        }
    }
}
