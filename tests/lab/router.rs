//! A namespace that forwards for others, as a host does for its containers.

use std::path::Path;

use anyhow::Result;

use crate::{
    names,
    namespace::Namespace,
    process::{output, run},
};

/// A namespace with IP forwarding, into which rules can be loaded that would be too dangerous on
/// the machine itself. Its containers come and go with it.
#[derive(Debug)]
pub struct Router {
    net: Namespace,
}

impl Router {
    /// Without a way out: packets that it forwards end in an interface that swallows them.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn new(stem: &str) -> Result<Self> {
        let router = Self::unconnected(stem)?;
        // What comes out at the other end is addressed to nobody there.
        let pair = [
            "link", "add", "away", "type", "veth", "peer", "name", "gone",
        ];
        router.net.ip(&pair)?;
        router.net.ip(&["link", "set", "gone", "up"])?;
        router
            .net
            .ip(&["link", "set", "away", "arp", "off", "up"])?;
        router.net.ip(&["route", "add", "default", "dev", "away"])?;
        router
            .net
            .ip(&["-6", "route", "add", "default", "dev", "away"])?;
        Ok(router)
    }

    /// Without any way out: connect its namespace to something.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn unconnected(stem: &str) -> Result<Self> {
        let net = Namespace::new(stem)?;
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            net.sysctl(key, "1")?;
        }
        // Two containers may have one address: answers need not go back the way questions come.
        for interface in ["all", "default"] {
            net.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        Ok(Self { net })
    }

    /// The host's own namespace.
    #[must_use]
    pub fn net(&self) -> &Namespace {
        &self.net
    }

    /// A namespace behind it at `10.88.<number>.2` and `fd88:<number>::2`, and the name of the
    /// interface that leads there.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn container(&self, stem: &str, number: u8) -> Result<(Namespace, String)> {
        let container = Namespace::new(stem)?;
        let (inside, outside) = (names::interface(), names::interface());
        let peer = ["peer", "name", &outside, "netns", self.net.name()];
        let link = ["link", "add", &inside, "netns", container.name()];
        run("ip", &[&link[..], &["type", "veth"], &peer].concat())?;
        for (net, interface, last) in [(&self.net, &outside, 1), (&container, &inside, 2)] {
            let v4 = format!("10.88.{number}.{last}/24");
            let v6 = format!("fd88:{number}::{last}/64");
            net.ip(&["address", "add", &v4, "dev", interface])?;
            net.ip(&["-6", "address", "add", &v6, "dev", interface, "nodad"])?;
            net.ip(&["link", "set", interface, "up"])?;
        }
        let (v4, v6) = (format!("10.88.{number}.1"), format!("fd88:{number}::1"));
        container.ip(&["route", "add", "default", "via", &v4])?;
        container.ip(&["-6", "route", "add", "default", "via", &v6])?;
        Ok((container, outside))
    }

    /// Loads an nftables file into it.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn load(&self, rules: &Path) -> Result<()> {
        output(self.net.command("nft").arg("-f").arg(rules)).map(drop)
    }
}
