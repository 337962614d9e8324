//! Several answers about one state, for combinators that weigh them against each other.

use super::bound::check_rows;
use super::combine::scoped;
use super::{Bound, Condition, DenoiseError, Denoiser, Estimate, Network, Query};

/// Several answers about one state, of which a combinator asks for those that it needs: the answers of one network to
/// several conditions ([`Conditions`]), or those of several denoisers ([`Several`]).
pub trait Answers<const D: usize>: Send + Sync {
    /// The answers with the numbers `which`, in that order.
    ///
    /// # Errors
    /// [`DenoiseError`] from the denoisers.
    fn answers(&self, which: &[usize], query: Query<'_, D>) -> Result<Vec<Estimate<D>>, DenoiseError>;

    /// As [`Denoiser::memory`].
    fn memory(&self) -> usize;

    /// As [`Denoiser::check`].
    ///
    /// # Errors
    /// [`DenoiseError`] if states of this shape could not be answered.
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError>;

    /// As [`Denoiser::is_split`].
    fn is_split(&self) -> bool;

    /// As [`Denoiser::beyond_autodiff`].
    fn beyond_autodiff(&self) -> Option<&'static str>;

    /// As [`Denoiser::beyond_output`].
    fn beyond_output(&self) -> Option<&'static str>;

    /// As [`Denoiser::beyond_eps`].
    fn beyond_eps(&self) -> Option<&'static str>;
}

/// One network under several conditions, in one call on concatenated rows; made by [`Bound::guided`] and
/// [`Bound::composed`].
#[derive(Clone, Debug)]
pub struct Conditions<N: Network<D>, const D: usize> {
    bound: Bound<N, D>,
    conditions: Vec<N::Cond>,
}

impl<N: Network<D>, const D: usize> Conditions<N, D> {
    pub(super) fn new(bound: Bound<N, D>, conditions: Vec<N::Cond>) -> Self {
        Self { bound, conditions }
    }
}

impl<N: Network<D>, const D: usize> Answers<D> for Conditions<N, D> {
    fn answers(&self, which: &[usize], query: Query<'_, D>) -> Result<Vec<Estimate<D>>, DenoiseError> {
        let batch = query.x.dims()[0];
        check_rows(query.levels, batch)?;
        let conditions = which.iter().map(|i| self.conditions[*i].expand(batch)).collect::<Result<Vec<_>, _>>()?;
        let condition = match &conditions[..] {
            [one] => one.clone(),
            several => N::Cond::cat(&several.iter().collect::<Vec<_>>())?,
        };
        self.bound.ask(&query, which.len(), &condition)
    }

    fn memory(&self) -> usize {
        self.bound.memory()
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.conditions.iter().try_for_each(|condition| self.bound.check_with(shape, condition))
    }

    fn is_split(&self) -> bool {
        false
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        None
    }

    fn beyond_output(&self) -> Option<&'static str> {
        None
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        None
    }
}

/// Several denoisers, each asked by itself; made by [`DenoiserExt::autoguided`](super::DenoiserExt::autoguided) and
/// [`DenoiserExt::composed_with`](super::DenoiserExt::composed_with).
///
/// Each sees the estimates of the whole as its past, with what it kept itself.
#[derive(Clone, Debug)]
pub struct Several<T, U> {
    base: T,
    others: Vec<U>,
}

impl<T, U> Several<T, U> {
    pub(super) fn new(base: T, others: Vec<U>) -> Self {
        Self { base, others }
    }

    /// All, the base first.
    fn all<const D: usize>(&self) -> impl Iterator<Item = &dyn Denoiser<D>>
    where
        T: Denoiser<D>,
        U: Denoiser<D>,
    {
        let others = self.others.iter().map(|other| other as &dyn Denoiser<D>);
        std::iter::once(&self.base as &dyn Denoiser<D>).chain(others)
    }
}

impl<const D: usize, T: Denoiser<D>, U: Denoiser<D>> Answers<D> for Several<T, U> {
    fn answers(&self, which: &[usize], query: Query<'_, D>) -> Result<Vec<Estimate<D>>, DenoiseError> {
        let Query { x, levels, past, noise } = query;
        let all: Vec<&dyn Denoiser<D>> = self.all().collect();
        let ask = |i: &usize| {
            let past = scoped(past, *i);
            all[*i].denoise(Query { x: x.clone(), levels, past: &past, noise })
        };
        which.iter().map(ask).collect()
    }

    fn memory(&self) -> usize {
        self.all().map(Denoiser::memory).max().unwrap_or(0)
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.all().try_for_each(|denoiser| denoiser.check(shape))
    }

    fn is_split(&self) -> bool {
        self.all().any(Denoiser::is_split)
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.all().find_map(Denoiser::beyond_autodiff)
    }

    fn beyond_output(&self) -> Option<&'static str> {
        self.all().find_map(Denoiser::beyond_output)
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        self.all().find_map(Denoiser::beyond_eps)
    }
}
