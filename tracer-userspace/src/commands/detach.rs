//! `detach`: removes what daemons have left in the kernel.

use std::path::PathBuf;

use clap::Args;

use crate::{
    ebpf::pin::{self, Pins},
    output::terminal,
};

/// Removes every pinned hook and map.
///
/// A daemon that is ended by SIGTERM, or killed, leaves its hooks counting for the next one. This
/// ends that; counts that no daemon has written yet are lost.
#[derive(Args, Debug)]
pub struct DetachArgs {
    /// Where the daemon pinned them
    #[arg(long, value_name = "DIR", default_value = pin::DEFAULT)]
    pin: PathBuf,
}

/// Removes the pins of every version, and says what that was.
///
/// # Errors
/// A running daemon holds them, or this user may not.
pub(super) fn detach(args: &DetachArgs) -> anyhow::Result<()> {
    let root = args.pin.display();
    let said = match Pins::find(&args.pin)? {
        None => format!("nothing is pinned in {root}\n"),
        Some(pins) => {
            let removed = pins.remove()?;
            format!(
                "removed {} hooks and {} maps from {root}\n",
                removed.links, removed.maps
            )
        }
    };
    // Whoever reads may have gone.
    let _read = terminal::data(&said);
    Ok(())
}
