//! Listening for agents' spans, asked for by flags.

use std::time::Duration;

use clap::Args;

use super::live;
use crate::{
    aggregate::spans::Spans,
    collector::{Collector, Place},
};

/// Where agents export their spans to.
#[derive(Args, Clone, Debug)]
pub struct OtlpArgs {
    /// Receive OpenTelemetry spans (OTLP over HTTP and gRPC) here: 127.0.0.1:4318, or
    /// unix:/run/egress-tracer/otlp.sock; may be given several times. Spans are believed
    #[arg(long, value_name = "PLACE")]
    otlp: Vec<Place>,
    /// How long flows wait for their spans, which exporters send late
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = live::duration)]
    otlp_wait: Duration,
}

impl OtlpArgs {
    /// Listens, if that was asked for.
    ///
    /// # Errors
    /// A place is taken, or not ours to take.
    pub fn listen(&self) -> anyhow::Result<Option<Spans>> {
        if self.otlp.is_empty() {
            return Ok(None);
        }
        let collector = Collector::listen(&self.otlp)?;
        Ok(Some(Spans::new(collector, self.otlp_wait)))
    }
}
