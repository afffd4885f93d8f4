//! The clouds' published address ranges: read as they are downloaded, kept in one compact file,
//! looked up by longest prefix. Pure.

mod providers;
mod table;

use std::{collections::BTreeSet, fmt, str::FromStr};

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

/// Whose lists are read.
const PROVIDERS: [&str; 7] = [
    "aws",
    "azure",
    "cloudflare",
    "fastly",
    "gcp",
    "github",
    "oracle",
];

/// Why a text is no tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no tag: expected PROVIDER:SERVICE or PROVIDER:SERVICE:REGION, such as aws:S3:us-east-1"
)]
pub struct TagError(String);

impl Tag {
    /// Whether `other`, a range's, is what this one stands for: a tag without a region stands for
    /// all of them.
    #[must_use]
    pub fn stands_for(&self, other: &Self) -> bool {
        let is_same = self.provider == other.provider && self.service == other.service;
        is_same && (self.region.is_empty() || self.region == other.region)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let fields: Vec<&str> = text.split(':').collect();
        let (provider, service, region) = match *fields.as_slice() {
            [provider, service] => (provider, service, ""),
            [provider, service, region] if !region.is_empty() => (provider, service, region),
            _ => return Err(TagError(text.to_owned())),
        };
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if !PROVIDERS.contains(&provider) || service.is_empty() || !is_word {
            return Err(TagError(text.to_owned()));
        }
        Ok(Self {
            provider: provider.to_owned(),
            service: service.to_owned(),
            region: region.to_owned(),
        })
    }
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
