//! LMSDiscreteScheduler.

use super::configured::{Configured, Method, Schedule};
use super::options::{self, chain, prediction};
use super::sigmas::{Sigmas, conversion};
use super::{ConfigError, keys::Keys};
use crate::sigma::Lms;
use std::sync::Arc;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let chain = chain(keys, options::DDPM)?;
    let mut sigmas = Sigmas::read(keys, &chain)?;
    sigmas.conversion = conversion(keys)?;
    Ok(Configured {
        class: keys.class().to_owned(),
        process: Arc::new(chain),
        prediction: prediction(keys)?,
        threshold: None,
        rederive: false,
        schedule: Schedule::Sigmas(sigmas),
        method: Method::Lms(Lms::new(4)?),
    })
}
