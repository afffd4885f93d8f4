//! The little internet: a namespace that owns the documentation addresses and serves a [`Plan`].

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    net::IpAddr,
    process::{ChildStdin, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    names,
    namespace::Namespace,
    plan::Plan,
    process::{Process, binary, run, run_quietly},
};

/// The addresses that live in the little internet.
const V4_RANGES: [&str; 2] = ["198.51.100.0/24", "203.0.113.0/24"];
const V6_RANGE: &str = "2001:db8::/32";

/// Held by the one little internet that the host's routes lead to.
const HOST_LOCK: &str = "/run/egress-tracer-lab.lock";

/// A running little internet. Dropping it ends the servers and removes namespace and links.
#[derive(Debug)]
pub struct Internet {
    // Dropped in this order: the link while its namespace is there, and the servers, which keep
    // the namespace alive, before it.
    host_link: Option<HostLink>,
    _servers: Process,
    _stdin: ChildStdin,
    namespace: Namespace,
    links: AtomicU8,
}

impl Internet {
    /// Starts the servers, in a namespace that nothing is connected to yet.
    ///
    /// # Errors
    /// When the namespace cannot be made or a server of the plan cannot listen.
    pub fn start(plan: &Plan) -> Result<Self> {
        let namespace = Namespace::new("internet")?;
        own_addresses(&namespace, plan)?;
        let (servers, stdin) = serve(&namespace, plan)?;
        Ok(Self {
            _servers: servers,
            _stdin: stdin,
            namespace,
            host_link: None,
            links: AtomicU8::new(0),
        })
    }

    /// The namespace of the servers.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Connects `client`, whose default routes then lead here.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn connect(&self, client: &Namespace) -> Result<()> {
        let link = Link::new(self.links.fetch_add(1, Ordering::Relaxed));
        let (near, far) = (names::interface(), names::interface());
        let ends = ["netns", client.name(), "type", "veth", "peer", "name"];
        run(
            "ip",
            &[
                &["link", "add", &near][..],
                &ends,
                &[&far, "netns", self.namespace.name()],
            ]
            .concat(),
        )?;
        link.set_up(&["-n", client.name()], &near, End::Client)?;
        link.set_up(&["-n", self.namespace.name()], &far, End::Internet)?;
        client.ip(&["route", "add", "default", "via", &link.v4(End::Internet)])?;
        client.ip(&[
            "-6",
            "route",
            "add",
            "default",
            "via",
            &link.v6(End::Internet),
        ])?;
        Ok(())
    }

    /// Connects the host, and with it the containers behind its bridges: the host gets routes to
    /// the little internet's addresses and no others. There is one such connection on a machine
    /// at a time; this waits for its turn, so one thread must not ask for two.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn connect_host(&mut self) -> Result<()> {
        let lock = lock_host()?;
        let link = Link::new(self.links.fetch_add(1, Ordering::Relaxed));
        let (near, far) = (names::interface(), names::interface());
        let internet = self.namespace.name();
        let add = ["link", "add", &near, "type", "veth", "peer", "name", &far];
        run("ip", &[&add[..], &["netns", internet]].concat())?;
        self.host_link = Some(HostLink {
            interface: near.clone(),
            _lock: lock,
        });
        link.set_up(&[], &near, End::Client)?;
        link.set_up(&["-n", internet], &far, End::Internet)?;
        // Answers to containers whose addresses the host does not translate go back this way.
        let back = |family, via: String| {
            self.namespace
                .ip(&[family, "route", "add", "default", "via", &via])
        };
        back("-4", link.v4(End::Client))?;
        back("-6", link.v6(End::Client))?;
        for range in V4_RANGES {
            run(
                "ip",
                &["route", "add", range, "via", &link.v4(End::Internet)],
            )?;
        }
        let via = link.v6(End::Internet);
        run("ip", &["-6", "route", "add", V6_RANGE, "via", &via])?;
        Ok(())
    }

    /// Like [`Self::start`] followed by [`Self::connect_host`].
    ///
    /// # Errors
    /// As theirs.
    pub fn on_host(plan: &Plan) -> Result<Self> {
        let mut internet = Self::start(plan)?;
        internet.connect_host()?;
        Ok(internet)
    }

    /// A new namespace that is connected and asks the little internet's DNS server for names.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn client(&self, stem: &str) -> Result<Namespace> {
        let mut client = Namespace::new(stem)?;
        self.connect(&client)?;
        client.set_resolver(crate::DNS)?;
        Ok(client)
    }

    /// Makes packets to `ip` vanish from now on.
    ///
    /// # Errors
    /// When `ip route` refuses.
    pub fn black_hole(&self, ip: IpAddr) -> Result<()> {
        black_hole(&self.namespace, ip)
    }
}

/// The host's end of a link.
#[derive(Debug)]
struct HostLink {
    interface: String,
    _lock: Flock<File>,
}

impl Drop for HostLink {
    fn drop(&mut self) {
        // The kernel removes the link with the namespace, but some time later: the next holder
        // of the lock must find the routes gone.
        run_quietly("ip", &["link", "delete", &self.interface]);
    }
}

#[derive(Clone, Copy)]
enum End {
    Client = 1,
    Internet = 2,
}

/// The addresses of one link, out of 198.18.0.0/15 (for benchmarks) and a local IPv6 prefix.
struct Link {
    number: u8,
}

impl Link {
    fn new(number: u8) -> Self {
        Self { number }
    }

    fn v4(&self, end: End) -> String {
        format!("198.18.{}.{}", self.number, end as u8)
    }

    fn v6(&self, end: End) -> String {
        format!("fd4c:6162:0:{:x}::{}", self.number, end as u8)
    }

    fn set_up(&self, place: &[&str], interface: &str, end: End) -> Result<()> {
        let ip = |arguments: &[&str]| run("ip", &[place, arguments].concat());
        let v4 = format!("{}/30", self.v4(end));
        let v6 = format!("{}/64", self.v6(end));
        ip(&["address", "add", &v4, "dev", interface])?;
        // Without duplicate address detection the address is usable at once.
        ip(&["-6", "address", "add", &v6, "dev", interface, "nodad"])?;
        ip(&["link", "set", interface, "up"])?;
        Ok(())
    }
}

/// Makes every address of the ranges the namespace's own.
fn own_addresses(namespace: &Namespace, plan: &Plan) -> Result<()> {
    for range in V4_RANGES {
        namespace.ip(&["route", "add", "local", range, "dev", "lo"])?;
    }
    namespace.ip(&["-6", "route", "add", "local", V6_RANGE, "dev", "lo"])?;
    // IPv6 refuses to bind an address that is local by route only, unless told.
    namespace.sysctl("ipv6/ip_nonlocal_bind", "1")?;
    // A new namespace inherits this; packets nobody owns must end here, not go back.
    namespace.sysctl("ipv4/ip_forward", "0")?;
    for ip in &plan.black_holes {
        black_hole(namespace, *ip)?;
    }
    Ok(())
}

fn black_hole(namespace: &Namespace, ip: IpAddr) -> Result<()> {
    let family = if ip.is_ipv4() { "-4" } else { "-6" };
    let ip = ip.to_string();
    namespace
        .ip(&[family, "route", "add", "blackhole", &ip, "table", "local"])
        .map(drop)
}

/// Starts the servers and waits until they listen. They end when their stdin does: even when
/// this process is killed, nothing stays behind.
fn serve(namespace: &Namespace, plan: &Plan) -> Result<(Process, ChildStdin)> {
    let mut servers = Process::spawn(
        namespace
            .command(binary("little-internet")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let mut stdin = servers.child().stdin.take().context("no stdin")?;
    let stdout = servers.child().stdout.take().context("no stdout")?;
    serde_json::to_writer(&mut stdin, plan)?;
    stdin.write_all(b"\n")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line != "ready\n" {
        bail!("the little internet did not start (see stderr above)");
    }
    Ok((servers, stdin))
}

fn lock_host() -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(HOST_LOCK)
        .with_context(|| format!("cannot open {HOST_LOCK}"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}
