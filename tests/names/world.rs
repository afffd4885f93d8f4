//! Two namespaces with a wire between them: a workload, and everything that it may talk to.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::dns::{self, Given, labels};

/// The resolver that is approved.
pub(crate) const RESOLVER: &str = "198.51.100.53:53";
/// One that is reached over IPv6.
pub(crate) const RESOLVER_V6: &str = "[2001:db8:53::53]:53";
/// The workload's address.
pub(crate) const CLIENT: &str = "192.0.2.2";
/// What no name ever leads to.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const PATIENCE: Duration = Duration::from_secs(60);

/// A workload's namespace and the network beyond; gone with the test.
pub(crate) struct World {
    client: String,
    server: String,
    folder: TempDir,
}

/// A process that is killed when the test ends.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Guarded {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self {
            client: format!("names-c-{number}"),
            server: format!("names-s-{number}"),
            folder: tempfile::tempdir().unwrap(),
        };
        let (client, server) = (&world.client, &world.server);
        for line in [
            format!("netns add {client}"),
            format!("netns add {server}"),
            format!("-n {client} link add wire type veth peer name wire netns {server}"),
            format!("-n {client} addr add {CLIENT}/30 dev wire"),
            format!("-n {server} addr add 192.0.2.1/30 dev wire"),
            format!("-n {client} link set lo up"),
            format!("-n {client} link set wire up"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set wire up"),
            format!("-n {client} route add default via 192.0.2.1"),
            format!("-n {client} addr add 2001:db8:1::2/64 dev wire nodad"),
            format!("-n {server} addr add 2001:db8:1::1/64 dev wire nodad"),
            format!("-n {client} -6 route add default via 2001:db8:1::1"),
            format!("-n {server} addr add 2001:db8:53::53/128 dev lo nodad"),
            format!("-n {server} route add local 198.51.100.0/24 dev lo"),
            format!("-n {server} route add local 203.0.113.0/24 dev lo"),
            format!("-n {server} route add local 198.18.0.0/15 dev lo"),
        ] {
            let output = Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {line}: {output:?}");
        }
        world.inside(server, || {
            accept_everything();
            dns::serve(RESOLVER.parse().unwrap(), &Given::default()).unwrap();
            // One that nobody has approved.
            dns::serve("198.51.100.54:53".parse().unwrap(), &Given::default()).unwrap();
        });
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `work` on a thread whose sockets are the workload's.
    pub(crate) fn as_workload<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside(&self.client, work)
    }

    /// Runs `work` on a thread whose sockets are those of the network beyond.
    pub(crate) fn as_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside(&self.server, work)
    }

    fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            worker.join().unwrap()
        })
    }

    /// Asks for a name and connects to what it is told, as a workload does.
    pub(crate) fn visit(&self, name: &str) -> Option<Ipv4Addr> {
        self.as_workload(|| visit(name))
    }

    /// A command inside the workload's namespace.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.client))
            .arg(program.as_ref());
        command
    }

    pub(crate) fn tracer(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egress-tracer"));
        command.args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Like [`Self::tracer`], for what has to succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.tracer(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Loads a file of rules, in place of what was loaded before.
    pub(crate) fn load(&self, rules: &str) {
        let output = self.command("nft").arg("-f").arg(self.path(rules)).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Records everything on the wire while `work` goes on.
    pub(crate) fn record(&self, file: &str, work: impl FnOnce()) {
        let mut command = self.command("dumpcap");
        command
            .args(["-q", "-i", "wire", "-w"])
            .arg(self.path(file));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut recorder = Guarded(child);
        // It says so when packets are taken.
        let begun = told.by_ref().map_while(Result::ok);
        assert!(begun.into_iter().any(|line| line.starts_with("File:")));
        let rest = thread::spawn(move || told.for_each(drop));
        work();
        // What the kernel has taken reaches the file within a moment.
        thread::sleep(Duration::from_millis(500));
        recorder.signal(Signal::SIGINT);
        recorder.0.wait().unwrap();
        rest.join().unwrap();
    }

    /// Starts the companion, and waits until answers are held.
    pub(crate) fn companion(&self, arguments: &[&str]) -> Guarded {
        let ready = self.path("ready");
        let mut command = self.command(env!("CARGO_BIN_EXE_egress-tracer"));
        command
            .arg("names")
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready);
        command.current_dir(self.folder.path());
        let log = File::create(self.path("names.log")).unwrap();
        let mut companion = Guarded(command.stderr(log).spawn().unwrap());
        let start = Instant::now();
        while !ready.exists() {
            let ended = companion.0.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "{}",
                self.companion_said()
            );
            thread::sleep(Duration::from_millis(20));
        }
        companion
    }

    pub(crate) fn companion_said(&self) -> String {
        fs::read_to_string(self.path("names.log")).unwrap()
    }

    /// The packets that a named counter has counted.
    pub(crate) fn counted(&self, table: &str, counter: &str) -> u64 {
        let mut command = self.command("nft");
        let output = command
            .args(["list", "counter", "inet", table, counter])
            .output();
        let text = said(&output.unwrap());
        let packets = text
            .split("packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        packets.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    /// TCP segments that the workload sent again.
    pub(crate) fn retransmitted(&self) -> u64 {
        let snmp = self.as_workload(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names
            .split(' ')
            .position(|name| name == "RetransSegs")
            .unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            let _gone = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

/// Takes connections on port 443 of every address. The queue is long, so that a busy machine drops
/// no SYN of its own accord.
fn accept_everything() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443));
    socket.bind(&at.into()).unwrap();
    socket.listen(4096).unwrap();
    let listener = TcpListener::from(socket);
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
}

/// On the workload's thread: what a name led to, if it could be reached.
pub(crate) fn visit(name: &str) -> Option<Ipv4Addr> {
    let address = dns::ask(RESOLVER.parse().unwrap(), 4711, &labels(name))?;
    connects(address).then_some(address)
}

/// On the workload's thread: whether a connection comes about. The first SYN has to pass.
pub(crate) fn connects(address: Ipv4Addr) -> bool {
    connects_within(address, Duration::from_millis(800))
}

/// The same with more patience, where something else tells whether a SYN was sent again.
pub(crate) fn connects_within(address: Ipv4Addr, limit: Duration) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, 443)), limit).is_ok()
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
