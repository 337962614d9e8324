//! LMSDiscreteScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::{self, chain, prediction};
use super::sigmas::{Sigmas, conversion};
use super::{ConfigError, keys::Keys};
use crate::sigma::Lms;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let chain = chain(keys, options::DDPM)?;
    let mut sigmas = Sigmas::read(keys, &chain)?;
    sigmas.conversion = conversion(keys)?;
    let prediction = prediction(keys)?;
    Ok(Configured::new(keys, chain, prediction, Schedule::Sigmas(sigmas), Method::Lms(Lms::new(4)?)))
}
