//! The clouds' published address ranges: read as they are downloaded, kept in one compact file,
//! looked up by longest prefix. Pure.

mod providers;
mod table;

use std::{collections::BTreeSet, fmt};

use ipnet::IpNet;

pub use self::{
    providers::{ProviderError, read},
    table::{Ranges, RangesError},
};

/// What a provider says about a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// `aws`, `azure`, `cloudflare`, `fastly`, `gcp`, `github`, `oracle`.
    pub provider: String,
    /// As the provider spells it; empty if it does not say.
    pub service: String,
    /// As the provider spells it; empty if it does not say.
    pub region: String,
}

/// One published list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub provider: &'static str,
    /// When the provider made it, as it says; empty if it does not.
    pub date: String,
    pub ranges: BTreeSet<(IpNet, Tag)>,
}

impl fmt::Display for Tag {
    /// `aws:S3:us-east-1`, without the empty end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        if !self.service.is_empty() || !self.region.is_empty() {
            write!(f, ":{}", self.service)?;
        }
        if !self.region.is_empty() {
            write!(f, ":{}", self.region)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
