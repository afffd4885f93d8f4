//! `Across`: two networks and a pair of interfaces between them.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use lab::{Cgroup, Namespace};

use super::{
    pairs::{Sample, sample},
    rig::{Rig, last_core, urgent},
};

/// The network for benchmarks (RFC 2544); all of it is the server's.
const SERVERS: &str = "198.18.0.0/15";
const FIRST_SERVER: u32 = 0xc612_0001;
const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "192.0.2.2";

/// A client's network and a server's.
#[derive(Debug)]
pub(super) struct Across {
    client: Namespace,
    server: Namespace,
}

impl Across {
    pub(super) fn new() -> Result<Self> {
        let [client, server] = [Namespace::new("client")?, Namespace::new("server")?];
        let pair = ["link", "add", "out", "type", "veth", "peer", "name", "in"];
        client.ip(&[&pair[..], &["netns", server.name()]].concat())?;
        for (end, device, address) in [(&client, "out", CLIENT), (&server, "in", SERVER)] {
            end.ip(&["addr", "add", &format!("{address}/24"), "dev", device])?;
            end.ip(&["link", "set", device, "up"])?;
        }
        server.ip(&["route", "add", "local", SERVERS, "dev", "lo"])?;
        client.ip(&["route", "add", SERVERS, "via", SERVER])?;
        Ok(Self { client, server })
    }

    /// One sample, with the client's sockets in `cgroup` and the server's outside of it.
    pub(super) fn measured(&self, rig: &Rig, cgroup: &Cgroup, salt: usize) -> Result<Sample> {
        let core = last_core()?;
        let address = Ipv4Addr::from(FIRST_SERVER + u32::try_from(salt)?);
        let mut load = self.server.command(rig.load_generator());
        load.args(["across", &core.to_string(), &address.to_string()]);
        load.arg(self.client.path()).arg(cgroup.path());
        let sample = sample(&lab::output(&mut urgent(&load))?)?;
        ensure!(sample.len() == 3, "the load generator left calls out");
        Ok(sample)
    }
}
