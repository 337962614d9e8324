//! DDIMScheduler and DDIMInverseScheduler.

use super::configured::{Configured, Schedule, Walk};
use super::method::Method;
use super::options::{self, chain, check_zero_snr, clipping, ending, prediction, spacing, thresholding};
use super::{ConfigError, keys::Keys};
use crate::ddim::Ddim;
use std::sync::Arc;

pub(super) fn read(keys: &mut Keys, inverse: bool) -> Result<Configured, ConfigError> {
    let ending = ending(keys, true)?;
    let chain = chain(keys, options::DDPM)?.ending(ending);
    let chain = options::rescaled(keys, chain)?;
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    let clip = clipping(keys, true)?;
    // The inverse scheduler has no dynamic thresholding.
    let threshold = if inverse { clip } else { thresholding(keys)?.or(clip) };
    let offset = keys.count("steps_offset", 0)?;
    let spacing = spacing(keys, "leading")?;
    let walk = if inverse { Walk::Inverted } else { Walk::Strided };
    Ok(Configured {
        class: keys.class().to_owned(),
        process: Arc::new(chain),
        prediction,
        threshold,
        rederive: false,
        drops_variance: false,
        compat: false,
        ignored: Vec::new(),
        schedule: Schedule::Steps { spacing, offset, walk },
        method: if inverse { Method::DdimInverse(Ddim::new().with_gaps()) } else { Method::Ddim(Ddim::new()) },
    })
}
