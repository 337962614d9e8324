//! Arithmetic of estimates: sums, and what the parts of a combinator keep.

use super::estimate::widen;
use super::{DenoiseError, Estimate};
use crate::level::Scalars;
use crate::prediction::PredictionError;
use burn::tensor::{Bool, Tensor, TensorData};

/// `base + Σ weight·(term − base)`, for answers about one state. Outputs are summed in the prediction of `base`;
/// x̂_0 and ε̂ that combinators have replaced are summed by themselves. The variance is that of `base`.
pub(super) fn extrapolate<const D: usize>(
    base: &Estimate<D>,
    terms: &[(Scalars, &Estimate<D>)],
) -> Result<Estimate<D>, DenoiseError> {
    let prediction = base.prediction();
    let replaced = |of: &dyn Fn(&Estimate<D>) -> bool| of(base) || terms.iter().any(|(_, term)| of(term));
    let x0 = replaced(&|e| e.parts().x0.is_some()).then(|| sum(base, terms, Estimate::x0)).transpose()?;
    let eps = replaced(&|e| e.parts().eps.is_some()).then(|| sum(base, terms, Estimate::eps)).transpose()?;
    let output = sum(base, terms, |estimate| estimate.output_as(prediction))?;
    Ok(with_output(base, output).with_parts(x0, eps))
}

/// `base + Σ weight·(term − base)` of one part.
fn sum<const D: usize>(
    base: &Estimate<D>,
    terms: &[(Scalars, &Estimate<D>)],
    part: impl Fn(&Estimate<D>) -> Result<Tensor<D>, PredictionError>,
) -> Result<Tensor<D>, PredictionError> {
    let start = part(base)?;
    terms
        .iter()
        .try_fold(start.clone(), |sum, (weight, term)| Ok(sum.add(weight.times(part(term)?.sub(start.clone())))))
}

/// `estimate` with another output, nothing replaced and nothing kept.
pub(super) fn with_output<const D: usize>(estimate: &Estimate<D>, output: Tensor<D>) -> Estimate<D> {
    let parts = estimate.parts();
    let changed = Estimate::new(parts.x.clone(), output, parts.levels.clone(), parts.prediction);
    match parts.variance {
        Some(variance) => changed.with_variance(variance.clone()),
        None => changed,
    }
}

/// For each row of the batch that of `new` where it is chosen, otherwise that of `old`.
pub(super) fn select<const D: usize>(
    chosen: &[bool],
    new: &Estimate<D>,
    old: &Estimate<D>,
) -> Result<Estimate<D>, DenoiseError> {
    let either = |a: Option<&Tensor<D>>, b: Option<&Tensor<D>>| a.is_some() || b.is_some();
    let (parts, others) = (new.parts(), old.parts());
    let x0 = match either(parts.x0, others.x0) {
        true => Some(rows(chosen, new.x0()?, old.x0()?)),
        false => None,
    };
    let eps = match either(parts.eps, others.eps) {
        true => Some(rows(chosen, new.eps()?, old.eps()?)),
        false => None,
    };
    let output = rows(chosen, new.output(), old.output_as(parts.prediction)?);
    Ok(with_output(new, output).with_parts(x0, eps))
}

/// Rows of `new` where they are chosen, of `old` elsewhere.
pub(super) fn rows<const D: usize>(chosen: &[bool], new: Tensor<D>, old: Tensor<D>) -> Tensor<D> {
    let mut column = [1; D];
    column[0] = chosen.len();
    let mask = Tensor::<D, Bool>::from_data(TensorData::new(chosen.to_vec(), column), &old.device());
    let mask = mask.expand(old.dims());
    old.mask_where(mask, new)
}

/// `⟨a, b⟩` of each sample, `[batch, 1, ..]`, in f32 or wider.
pub(super) fn dot<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
    let dims = a.dims();
    let products = widen(a.clone()).mul(widen(b.clone()));
    let sums: Tensor<2> = products.reshape([dims[0], dims[1..].iter().product()]).sum_dim(1);
    let mut column = [1; D];
    column[0] = dims[0];
    sums.reshape(column)
}

/// `estimate` with all that the parts of a combinator keep: what the `asked` ones do now, under names of their own, and
/// what was kept before by those that were not asked.
pub(super) fn keep_parts<const D: usize>(
    estimate: Estimate<D>,
    past: &[Estimate<D>],
    asked: &[(usize, &Estimate<D>)],
) -> Estimate<D> {
    let mut estimate = estimate.without_kept();
    for (name, value) in past.last().iter().flat_map(|last| last.parts().kept) {
        estimate = estimate.keeping(name.clone(), value.clone());
    }
    for (part, answer) in asked {
        for (name, value) in answer.parts().kept {
            estimate = estimate.keeping(format!("{part}/{name}"), value.clone());
        }
    }
    estimate
}

/// The past as part number `part` of a combinator sees it: with what it keeps itself, and nothing else.
pub(super) fn scoped<const D: usize>(past: &[Estimate<D>], part: usize) -> Vec<Estimate<D>> {
    let prefix = format!("{part}/");
    let of_part = |whole: &Estimate<D>| {
        whole.parts().kept.iter().fold(whole.clone().without_kept(), |estimate, (name, value)| {
            match name.strip_prefix(&prefix) {
                Some(name) => estimate.keeping(name, value.clone()),
                None => estimate,
            }
        })
    };
    past.iter().map(of_part).collect()
}
