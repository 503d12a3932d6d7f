//! `varve demo`.

use anyhow::{Result, bail};

#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn demo(_arguments: &Arguments) -> Result<u8> {
    bail!("the demonstration is not there yet")
}
