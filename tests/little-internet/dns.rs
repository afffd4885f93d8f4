//! The zone, and answers out of it.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use anyhow::Result;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
    serialize::binary::BinEncodable as _,
};

/// An alias may lead to an alias, but not in circles.
const MOST_ALIASES: usize = 8;

/// Every name there is.
#[derive(Clone, Debug)]
pub(crate) struct Zone(Arc<HashMap<Name, Entry>>);

#[derive(Debug)]
struct Entry {
    ttl: u32,
    addresses: Vec<IpAddr>,
    alias: Option<Name>,
}

impl Zone {
    pub(crate) fn new(names: &[lab::Name]) -> Result<Self> {
        let entries = names.iter().map(|name| {
            let alias = name.alias.as_deref().map(absolute).transpose()?;
            let entry = Entry {
                ttl: name.ttl,
                addresses: name.addresses.clone(),
                alias,
            };
            Ok((absolute(&name.name)?, entry))
        });
        Ok(Self(Arc::new(entries.collect::<Result<_>>()?)))
    }

    /// The answer to a question as it came over the wire; none when it is not one.
    pub(crate) fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?;
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        answer.metadata.response_code = self.find(query, &mut answer.answers);
        answer.queries.push(query.clone());
        answer.to_bytes().ok()
    }

    fn find(&self, query: &Query, answers: &mut Vec<Record>) -> ResponseCode {
        let mut name = lower(query.name());
        for _ in 0..MOST_ALIASES {
            let Some(entry) = self.0.get(&name) else {
                return ResponseCode::NXDomain;
            };
            let Some(alias) = &entry.alias else {
                answers.extend(entry.records(&name, query.query_type()));
                return ResponseCode::NoError;
            };
            let data = RData::CNAME(CNAME(alias.clone()));
            answers.push(Record::from_rdata(name, entry.ttl, data));
            name = alias.clone();
        }
        ResponseCode::ServFail
    }
}

impl Entry {
    fn records(&self, name: &Name, wanted: RecordType) -> impl Iterator<Item = Record> {
        self.addresses
            .iter()
            .map(|ip| match ip {
                IpAddr::V4(ip) => RData::A(A(*ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
            })
            .filter(move |data| data.record_type() == wanted)
            .map(|data| Record::from_rdata(name.clone(), self.ttl, data))
    }
}

fn absolute(name: &str) -> Result<Name> {
    let mut name = Name::from_utf8(name)?;
    name.set_fqdn(true);
    Ok(lower(&name))
}

fn lower(name: &Name) -> Name {
    name.to_lowercase()
}
