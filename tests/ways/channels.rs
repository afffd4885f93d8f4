//! Every channel, made by a real program: what the log says of each, and which hook sees it.
//!
//! `docs/channels.md` holds the table; a test compares the two.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{self, UnixDatagram, UnixListener},
    },
    path::PathBuf,
    process::{self, Command},
    thread,
};

use lab::Log;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::world::{HOLE, SERVER, World, needs_root, path_text};

const CLIENT: &str = include_str!("ways.py");
const LITTLE: &str = include_str!("little.c");
const V6: &str = "2001:db8::7";

/// One way out.
#[derive(Clone, Copy)]
struct Way {
    /// Its name in `ways.py`, or the program's.
    name: &'static str,
    program: Program,
    what: &'static str,
    address: &'static str,
    /// What its records say: `PROTOCOL CHANNEL COUNT` each, sorted; none: there are no records.
    told: &'static [&'static str],
    /// The port in the record; 0: none.
    port: u16,
    hook: &'static str,
    /// Why it may not be there, for the document; otherwise the machine has to have it.
    lacks: Option<&'static str>,
}

/// What uses it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// `ways.py`
    Python,
    /// `little.c`, for 32 or 64 bits.
    Little(&'static str),
    /// Docker's client, which is written in Go and linked statically.
    Go,
}

impl Program {
    /// A part of its executable's name.
    fn exe(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Little(_) => "little",
            Self::Go => "docker",
        }
    }
}

impl Way {
    const fn by(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// Not on the kernel of the table, for this reason.
    const fn lacks(self, why: &'static str) -> Self {
        Self {
            lacks: Some(why),
            ..self
        }
    }

    const fn telling(self, told: &'static [&'static str]) -> Self {
        Self { told, ..self }
    }
}

const fn way(
    name: &'static str,
    what: &'static str,
    address: &'static str,
    (told, port): (&'static [&'static str; 1], u16),
    hook: &'static str,
) -> Way {
    Way {
        name,
        program: Program::Python,
        what,
        address,
        told,
        port,
        hook,
        lacks: None,
    }
}

const BOTH: &[&str] = &["tcp connect 1", "udp sendmsg 1"];

const WAYS: [Way; 40] = [
    way(
        "nonblocking",
        "TCP, not waiting for connect()",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4",
    ),
    way(
        "nonblocking",
        "the same over IPv6",
        V6,
        (&["tcp connect 1"], 7),
        "connect6",
    ),
    way(
        "mapped_tcp",
        "TCP to an IPv4-mapped address",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect6",
    ),
    way(
        "fast_open",
        "TCP Fast Open by sendto()",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4",
    ),
    way(
        "mptcp",
        "MPTCP",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4",
    ),
    way(
        "uring",
        "TCP by io_uring, which makes the socket too",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4",
    ),
    way(
        "uring_send",
        "UDP by io_uring, connected",
        SERVER,
        (&["udp udp-connect 1"], 7),
        "connect4, datagram_egress",
    ),
    way(
        "uring_sendmsg",
        "UDP by io_uring's sendmsg",
        SERVER,
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "little",
        "TCP and UDP of a 32-bit program",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4, sendmsg4",
    )
    .by(Program::Little("-m32"))
    .telling(BOTH),
    way(
        "little",
        "TCP and UDP of a static program without a C library",
        SERVER,
        (&["tcp connect 1"], 7),
        "connect4, sendmsg4",
    )
    .by(Program::Little("-m64"))
    .telling(BOTH),
    way(
        "docker",
        "TCP of a static Go program",
        SERVER,
        (&["tcp connect n"], 80),
        "connect4",
    )
    .by(Program::Go),
    way(
        "sctp",
        "SCTP, one-to-one",
        SERVER,
        (&["sctp connect 1"], 7),
        "connect4",
    )
    .lacks("no SCTP"),
    way("dccp", "DCCP", SERVER, (&["dccp connect 1"], 7), "none")
        .telling(&[])
        .lacks("no DCCP since 6.16"),
    way(
        "passed",
        "a socket that was passed on by SCM_RIGHTS",
        SERVER,
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "mapped",
        "UDP to an IPv4-mapped address",
        SERVER,
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "udp_gso",
        "UDP with segmentation offload",
        SERVER,
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "multicast",
        "UDP to a multicast group",
        "239.1.2.3",
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "multicast",
        "the same over IPv6",
        "ff05::1:3",
        (&["udp sendmsg 1"], 7),
        "sendmsg6",
    ),
    way(
        "link_local",
        "UDP to a link-local address, with its interface",
        "fe80::7",
        (&["udp sendmsg 1"], 7),
        "sendmsg6",
    ),
    way(
        "broadcast",
        "UDP to the broadcast address",
        "255.255.255.255",
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "other_namespace",
        "a process that goes to another network namespace",
        "127.0.0.9",
        (&["udp sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "udp_lite",
        "UDP-Lite, with an address",
        SERVER,
        (&["udplite sendmsg 1"], 7),
        "sendmsg4",
    ),
    way(
        "udp_lite",
        "the same over IPv6",
        V6,
        (&["udplite sendmsg 1"], 7),
        "sendmsg6",
    ),
    way(
        "udp_lite_connected",
        "UDP-Lite, connected",
        // Nobody says that it is not wanted.
        HOLE,
        (&["udplite udp-lite 2"], 7),
        "sock_create, datagram_egress",
    ),
    way(
        "ping",
        "ICMP by a ping socket",
        SERVER,
        (&["icmp ping 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "ping",
        "ICMPv6 by a ping socket",
        V6,
        (&["icmpv6 ping 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "ping_connected",
        "the same, connected",
        SERVER,
        (&["icmp ping 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "raw",
        "ICMP by a raw socket",
        SERVER,
        (&["icmp raw 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "raw",
        "ICMPv6 by a raw socket",
        V6,
        (&["icmpv6 raw 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "raw_gre",
        "another protocol by a raw socket",
        SERVER,
        (&["gre raw 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "raw_gre",
        "the same over IPv6",
        V6,
        (&["gre raw 1"], 0),
        "sock_create, datagram_egress",
    ),
    way(
        "raw_own_header",
        "raw IP with own headers",
        SERVER,
        (&["udp raw 1"], 4321),
        "sock_create, datagram_egress",
    ),
    way(
        "packet",
        "AF_PACKET",
        "-",
        (&["ip-0 packet 1"], 0),
        "sock_send_length",
    ),
    way(
        "tun",
        "a TUN or TAP device",
        "-",
        (&["ip-0 tun 1"], 0),
        "device_opened",
    ),
    way(
        "xdp",
        "AF_XDP",
        "-",
        (&["ip-0 xdp 1"], 0),
        "sock_send_length",
    ),
    way(
        "vsock",
        "AF_VSOCK",
        "-",
        (&["ip-0 vsock 1"], 0),
        "sock_send_length",
    )
    .lacks("no loopback of vsock"),
    way(
        "unix",
        "a Unix socket that somebody outside listens at",
        "path",
        (&["ip-0 unix 2"], 0),
        "sock_send_length",
    ),
    way(
        "unix",
        "the same with an abstract name",
        "abstract",
        (&["ip-0 unix 2"], 0),
        "sock_send_length",
    ),
    way(
        "unix_datagram",
        "the same of a datagram socket",
        "datagram",
        (&["ip-0 unix 1"], 0),
        "sock_send_length",
    ),
    way(
        "netlink",
        "netlink, bluetooth and other families that carry nothing outside",
        "-",
        (&["- - 0"], 0),
        "ignored",
    )
    .telling(&[]),
];

impl World {
    /// Records `ways.py`. Returns what it printed, and the log.
    pub(crate) fn go(&self, way: &str, address: &str, port: u16) -> (String, Log) {
        let script = path_text(&self.client_script());
        self.go_by(&format!("python3 {script} {way} {address} {port}"))
    }

    /// Records a command. Returns what it printed, and the log.
    fn go_by(&self, command: &str) -> (String, Log) {
        // Recording into the same directory would add to the log.
        let _absent = fs::remove_dir_all(self.path("out"));
        let said = self.path("said");
        let line = format!("exec {command} > {}", path_text(&said));
        let log = self.run_to_its_end(&["sh", "-c", &line]);
        (fs::read_to_string(said).unwrap(), log)
    }

    pub(crate) fn client_script(&self) -> PathBuf {
        let script = self.path("ways.py");
        fs::write(&script, CLIENT).unwrap();
        script
    }

    /// Compiles `little.c`; `None` where the compiler cannot.
    fn little(&self, width: &str) -> Option<PathBuf> {
        let (source, program) = (self.path("little.c"), self.path("little"));
        fs::write(&source, LITTLE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args([width, "-O1", "-static", "-nostdlib", "-ffreestanding"]);
        compiler.args(["-fno-stack-protector", "-fno-pie", "-no-pie", "-o"]);
        let compiled = compiler.arg(&program).arg(&source).output().unwrap();
        compiled.status.success().then_some(program)
    }

    /// Uses one way out. Returns why it cannot, or the log.
    fn use_way(&self, way: &Way, services: &Services) -> Result<Log, String> {
        let port = if way.port == 0 { 4000 } else { way.port };
        let (said, log) = match way.program {
            Program::Python => self.go(way.name, &services.address(way.address), port),
            Program::Little(width) => {
                let program = self.little(width).ok_or("cannot be compiled here")?;
                let ip: Ipv4Addr = way.address.parse().unwrap();
                let ip = u32::from(ip);
                self.go_by(&format!("{} {ip:08x} {port}", path_text(&program)))
            }
            Program::Go => {
                let client = "docker -H tcp";
                self.go_by(&format!("{client}://{}:{port} version 2>&1", way.address))
            }
        };
        match said.contains("not here") || said.contains("not found") {
            true => Err(said),
            false => Ok(log),
        }
    }
}

/// Services of the machine, outside of whatever is recorded.
struct Services {
    path: PathBuf,
    abstract_name: String,
    datagram: PathBuf,
    _sockets: (UnixListener, UnixListener, UnixDatagram),
}

impl Services {
    fn start(world: &World) -> Self {
        let (path, datagram) = (world.path("service.sock"), world.path("datagram.sock"));
        let abstract_name = format!("ways-{}", process::id());
        let unnamed = net::SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let sockets = (
            UnixListener::bind(&path).unwrap(),
            in_network_of(world, move || UnixListener::bind_addr(&unnamed).unwrap()),
            UnixDatagram::bind(&datagram).unwrap(),
        );
        Self {
            path,
            abstract_name,
            datagram,
            _sockets: sockets,
        }
    }

    /// What a way's `address` stands for.
    fn address(&self, address: &str) -> String {
        match address {
            "path" => path_text(&self.path),
            "abstract" => format!("@{}", self.abstract_name),
            "datagram" => path_text(&self.datagram),
            other => other.to_owned(),
        }
    }
}

/// Abstract names are a network namespace's own.
pub(crate) fn in_network_of<T: Send>(world: &World, make: impl FnOnce() -> T + Send) -> T {
    let network = File::open(world.client().path()).unwrap();
    thread::scope(|scope| {
        let made = scope.spawn(|| {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            make()
        });
        made.join().unwrap()
    })
}

/// The records of one way, as `PROTOCOL CHANNEL COUNT` each. What the program does besides is not
/// among them.
fn told(log: &Log, way: &Way, services: &Services) -> Vec<String> {
    let address = services.address(way.address);
    let is_there = |flow: &&Value| match way.address {
        "-" => flow["dest_ip"].is_null() && flow["dest_path"].is_null(),
        "path" | "abstract" | "datagram" => flow["dest_path"] == address.as_str(),
        address => flow["dest_ip"] == address,
    };
    let text = |flow: &Value| {
        let word = |key: &str| flow[key].as_str().unwrap_or("?").to_owned();
        let count = match way.program {
            // It asks until it is content.
            Program::Go => "n".to_owned(),
            Program::Python | Program::Little(_) => flow["count"].to_string(),
        };
        [word("protocol"), word("channel"), count].join(" ")
    };
    let flows: Vec<&Value> = log.flows().filter(is_there).collect();
    for flow in &flows {
        let port = flow["dest_port"].as_u64().unwrap_or(0);
        assert_eq!(port, u64::from(way.port), "{}: {flow}", way.name);
        let exe = flow["exe"].as_str().unwrap_or_default();
        assert!(exe.contains(way.program.exe()), "{}: {flow}", way.name);
        assert_eq!(flow["direction"], "egress", "{}: {flow}", way.name);
    }
    let mut told: Vec<String> = flows.into_iter().map(text).collect();
    told.sort();
    told
}

#[test]
fn every_channel_is_seen_as_the_table_says() {
    needs_root!();
    let world = World::new();
    let services = Services::start(&world);
    let mut wrong = Vec::new();
    for way in &WAYS {
        let log = match (world.use_way(way, &services), way.lacks) {
            (Ok(log), _) => log,
            (Err(said), Some(why)) => {
                eprintln!("skipped {}: {why}: {said}", way.what);
                continue;
            }
            (Err(said), None) => {
                wrong.push(format!("{}: {said}", way.what));
                continue;
            }
        };
        let found = told(&log, way, &services);
        if found != way.told {
            wrong.push(format!("{}: {found:?}", way.what));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The table, one line a channel.
fn table() -> String {
    let mut text =
        String::from("| channel | recorded as | by | on Linux 6.18 |\n|---|---|---|---|\n");
    for way in &WAYS {
        let told: Vec<String> = way.told.iter().map(|told| record_of(told)).collect();
        let told = match told.is_empty() {
            true => "-".to_owned(),
            false => told.join("; "),
        };
        let seen = match (way.lacks, way.told.is_empty()) {
            (Some(why), _) => format!("not tried: {why}"),
            (None, true) => "ignored".to_owned(),
            (None, false) => "seen".to_owned(),
        };
        text += &format!("| {} | {told} | {} | {seen} |\n", way.what, way.hook);
    }
    text
}

fn record_of(told: &str) -> String {
    let words: Vec<&str> = told.split(' ').collect();
    format!("`{}`, `channel: \"{}\"`", words[0], words[1])
}

#[test]
fn the_document_holds_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/channels.md");
    let document = fs::read_to_string(path).unwrap();
    let table = table();
    assert!(
        document.contains(&table),
        "docs/channels.md is to hold:\n{table}"
    );
}

#[test]
fn what_the_kernel_refuses_harms_nothing() {
    needs_root!();
    let world = World::new();
    let (said, log) = world.go("wrong", SERVER, 7);
    assert!(said.contains("wrong: done"), "{said}");
    let sums = crate::world::sums(&log, SERVER, 7);
    assert_eq!(
        (sums.count, sums.outcomes),
        (2, vec!["established 2".to_owned()]),
        "{log:?}"
    );
    assert_eq!(log.of_type("gap").count(), 0, "{log:?}");
}

#[test]
fn ways_without_an_address_are_listed_apart() {
    needs_root!();
    let world = World::new();
    world.go("packet", "-", 7);
    let evidence = fs::read(world.path("out/policy.evidence.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let [way] = &evidence["unaddressed"].as_array().unwrap()[..] else {
        panic!("{evidence}");
    };
    assert_eq!(
        (way["channel"].as_str(), way["count"].as_u64()),
        (Some("packet"), Some(1))
    );
    assert_eq!(
        evidence["destinations"].as_array().unwrap().len(),
        0,
        "{evidence}"
    );
}
