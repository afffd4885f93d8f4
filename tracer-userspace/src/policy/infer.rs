//! From observations to candidate entries and their evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    analysis::{risk, role::role},
    policy::{
        decided::Decided,
        evidence::{self, Evidence, GapFigures},
        labels::{MOST, labels},
        model::{Entry, Service, Status, Target},
        observe::{Destination, Observations},
        seen::Seen,
        tools::Tools,
        translation::{Left, Translation},
    },
    record::{Outcome, Role},
};

/// What candidates are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The exact name where it is proven or resolved; else the address
    #[default]
    Name,
    /// The address, whatever its name
    Address,
}

/// One candidate per name or address, with sorted services; sorted by destination. What `decided`
/// speaks of by address is no news under a name, nor the other way round. Where it names tools, there
/// is one for each tool. What was tried and never succeeded is no candidate, unless it is asked for.
#[must_use]
pub fn entries(observations: &Observations, by: By, decided: &Decided<'_>) -> Vec<Entry> {
    let mut wanted = Wanted {
        decided,
        found: BTreeMap::new(),
    };
    for (destination, seen) in observations.destinations() {
        if seen.never_succeeded() && !observations.includes_failed() {
            continue;
        }
        if seen.believed.is_empty() {
            wanted.address(destination, seen);
            continue;
        }
        match by {
            By::Name if decided.on_address(destination) => {}
            By::Name => wanted.names(destination, seen),
            By::Address if decided.on_names(&seen.believed, &destination.service) => {}
            By::Address => wanted.address(destination, seen),
        }
    }
    wanted.entries()
}

/// Services and what left for each, by where they are wanted.
struct Wanted<'d> {
    decided: &'d Decided<'d>,
    found: BTreeMap<(Target, Option<Tools>), Found>,
}

/// What was found about one destination.
#[derive(Default)]
struct Found {
    services: BTreeMap<Service, BTreeSet<Left>>,
    processes: BTreeSet<String>,
    roles: BTreeSet<String>,
}

impl Wanted<'_> {
    /// What is wanted of a destination, apart for the tool if the policy names some there.
    fn of(
        &mut self,
        to: Target,
        (destination, seen): (&Destination, &Seen),
    ) -> &mut BTreeMap<Service, BTreeSet<Left>> {
        let tool = seen.tool.clone().filter(|_| self.decided.names_tools(&to));
        let found = self.found.entry((to, tool)).or_default();
        found
            .processes
            .extend(seen.processes.iter().map(str::to_owned));
        let role = seen.role.or_else(|| role_of(destination, seen));
        found.roles.extend(labels(role, seen.peers.iter()));
        &mut found.services
    }

    fn address(&mut self, destination: &Destination, seen: &Seen) {
        let services = self.of(Target::Address(destination.ip), (destination, seen));
        let left = services.entry(destination.service.clone()).or_default();
        left.extend(seen.left.iter());
    }

    /// What is believed to have gone to a name left as asked.
    fn names(&mut self, destination: &Destination, seen: &Seen) {
        for name in &seen.believed {
            let services = self.of(Target::Name(name.to_string()), (destination, seen));
            services.entry(destination.service.clone()).or_default();
        }
    }

    fn entries(self) -> Vec<Entry> {
        let entry = |((to, tools), found): ((Target, Option<Tools>), Found)| {
            let Found {
                services,
                processes,
                roles,
            } = found;
            let ports = services.keys().cloned().collect();
            let translated = services
                .into_iter()
                .filter(|(_, left)| left.iter().any(|left| *left != Left::AsAsked))
                .flat_map(|(service, left)| {
                    let service = move || service.clone();
                    left.into_iter().map(move |left| Translation {
                        service: service(),
                        left,
                    })
                });
            Entry {
                translated: translated.collect(),
                tools: tools.map(|tools| tools.iter().map(str::to_owned).collect()),
                processes: (!processes.is_empty()).then(|| processes.into_iter().collect()),
                roles: roles.into_iter().take(MOST).collect(),
                ..Entry::candidate(to, ports)
            }
        };
        self.found.into_iter().map(entry).collect()
    }
}

/// What left for one destination; nothing if that was always what was asked for.
fn translations(destination: &Destination, seen: &Seen) -> Vec<Translation> {
    let translation = |left: &Left| Translation {
        service: destination.service.clone(),
        left: *left,
    };
    let left = seen.left.iter();
    match seen.left.is_only_as_asked() {
        true => Vec::new(),
        false => left.map(translation).collect(),
    }
}

impl Entry {
    /// An entry that nobody has decided on, with what is found about where it goes.
    #[must_use]
    pub fn candidate(to: Target, ports: Vec<Service>) -> Self {
        let findings = risk::written(&to, &ports);
        Self {
            to,
            ports,
            translated: Vec::new(),
            tools: None,
            processes: None,
            status: Status::Candidate,
            reason: None,
            owner: None,
            approved: None,
            expires: None,
            reference: None,
            list: Vec::new(),
            at_most: None,
            findings,
            roles: Vec::new(),
            acknowledged: Vec::new(),
        }
    }
}

/// The figures behind the candidates.
#[must_use]
pub fn evidence(observations: &Observations) -> Evidence {
    let incomplete = observations.incomplete();
    Evidence {
        schema: evidence::SCHEMA.to_owned(),
        workload: observations.workload().to_owned(),
        complete: incomplete.is_empty(),
        incomplete,
        runs: observations.runs() as u64,
        unclosed: observations.unclosed(),
        left_out: observations.turned_away(),
        gaps: gaps(observations),
        missing_hooks: observations.missing_hooks().clone(),
        sources: observations.sources().map(evidence::Source::from).collect(),
        destinations: observations
            .destinations()
            .map(|(destination, seen)| figures(destination, seen))
            .collect(),
        names: named(observations),
        never_succeeded: never_succeeded(observations),
        unaddressed: unaddressed(observations),
        vanished: Vec::new(),
        records: Vec::new(),
    }
}

/// What left without an IP destination.
#[must_use]
pub fn unaddressed(observations: &Observations) -> Vec<evidence::Unaddressed> {
    let ways = observations.unaddressed().iter();
    ways.map(|(channel, to, way)| evidence::Unaddressed {
        channel,
        to: to.to_owned(),
        count: way.count,
        processes: way.processes.iter().map(str::to_owned).collect(),
    })
    .collect()
}

/// What was tried and never succeeded, each once: under several names it may have failed for each.
#[must_use]
pub fn never_succeeded(observations: &Observations) -> Vec<evidence::Failed> {
    let mut failed: BTreeMap<(IpAddr, &Service), BTreeMap<Outcome, u64>> = BTreeMap::new();
    let all = observations.destinations();
    for (destination, seen) in all.filter(|(_, seen)| seen.never_succeeded()) {
        let key = (destination.ip, &destination.service);
        let outcomes = failed.entry(key).or_default();
        for (outcome, count) in &seen.outcomes {
            *outcomes.entry(*outcome).or_default() += count;
        }
    }
    let failed = failed.into_iter();
    failed
        .map(|((to, service), outcomes)| evidence::Failed {
            to,
            service: service.clone(),
            outcomes,
        })
        .collect()
}

/// What was seen of each name, over all its addresses.
fn named(observations: &Observations) -> Vec<evidence::Named> {
    type Reached<'o> = (BTreeSet<&'o Arc<str>>, BTreeSet<IpAddr>);
    let mut found: BTreeMap<(&Arc<str>, &Service), Reached<'_>> = BTreeMap::new();
    for (destination, seen) in observations.destinations() {
        for name in &seen.believed {
            let key = (name, &destination.service);
            let (runs, addresses) = found.entry(key).or_default();
            runs.extend(&seen.runs);
            addresses.insert(destination.ip);
        }
    }
    let named = |((to, service), (runs, addresses)): ((&Arc<str>, &Service), Reached<'_>)| {
        evidence::Named {
            to: to.to_string(),
            service: service.clone(),
            runs: runs.len() as u64,
            addresses: addresses.len() as u64,
        }
    };
    found.into_iter().map(named).collect()
}

/// What a destination is there for, where the records do not say and it can be told all the same.
fn role_of(destination: &Destination, seen: &Seen) -> Option<Role> {
    let names = seen.names.iter().map(|name| name.name.as_str());
    match &destination.service {
        Service::Port { protocol, port } => role(destination.ip, *protocol, Some(*port), names),
        Service::Protocol { .. } => None,
    }
}

fn gaps(observations: &Observations) -> Vec<GapFigures> {
    observations
        .gaps()
        .map(|(severity, what, tally)| GapFigures {
            what,
            severity,
            records: tally.records,
            lost: tally.lost,
        })
        .collect()
}

fn figures(destination: &Destination, seen: &Seen) -> evidence::Destination {
    let only = seen.tool.as_ref().and_then(Tools::only);
    evidence::Destination {
        to: destination.ip,
        service: destination.service.clone(),
        role: seen.role.or_else(|| role_of(destination, seen)),
        peers: seen.peers.iter().map(str::to_owned).collect(),
        runs: seen.runs.len() as u64,
        connections: seen.count,
        outcomes: seen.outcomes.clone(),
        answered: seen.answers.known(),
        bytes_sent: seen.bytes_sent,
        bytes_received: seen.bytes_received,
        first_seen: seen.first_seen,
        last_seen: seen.last_seen,
        believed: seen.believed.iter().map(ToString::to_string).collect(),
        tool: only.map(str::to_owned),
        one_of_tools: match (&seen.tool, only) {
            (Some(tools), None) => tools.iter().map(str::to_owned).collect(),
            (Some(_) | None, _) => Vec::new(),
        },
        names: seen.names.iter().cloned().collect(),
        more_names: seen.names.more(),
        processes: seen.processes.iter().map(str::to_owned).collect(),
        more_processes: seen.processes.more(),
        commands: seen.commands.iter().map(str::to_owned).collect(),
        containers: seen.containers.iter().map(str::to_owned).collect(),
        via_engine: seen.via_engine,
        writable_path: seen.writable_path,
        channels: seen.channels.iter().copied().collect(),
        translated: translations(destination, seen)
            .iter()
            .map(|translation| translation.left.to_string())
            .collect(),
        more_translated: seen.left.more(),
    }
}
