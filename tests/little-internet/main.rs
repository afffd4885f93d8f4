//! `little-internet`: the servers of a little internet, in one process.
//!
//! Reads a [`lab::Plan`] as one line of JSON from stdin, listens, prints `ready`, and serves
//! until stdin ends. The lab starts it inside a network namespace.

mod dns;
mod servers;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use lab::Plan;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut input = BufReader::new(stdin());
    let mut line = String::new();
    input.read_line(&mut line).await?;
    let plan: Plan = serde_json::from_str(&line).context("stdin is not a plan")?;

    let zone = dns::Zone::new(&plan.zone)?;
    for server in &plan.servers {
        servers::start(server, &zone)
            .await
            .with_context(|| format!("cannot serve {server:?}"))?;
    }
    writeln!(std::io::stdout(), "ready")?;

    let mut rest = Vec::new();
    input.read_to_end(&mut rest).await?;
    Ok(())
}
