//! What the tests share: the little internet, a client in it, and what the log says of names.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command, time::Duration};

use lab::{DNS, Internet, Kind, Log, Namespace, Plan, Process, binary, egress_tracer, wait_until};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the servers are.
pub(crate) const SERVER: &str = "198.51.100.7";
pub(crate) const RESOLVER: &str = "203.0.113.53";

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

/// The little internet, a client that asks its resolver for names, and a folder.
pub(crate) struct World {
    // Servers go before the namespaces that they are in.
    servers: Vec<Process>,
    client: Namespace,
    internet: Internet,
    folder: TempDir,
}

impl World {
    /// `api.example`, `other.example` and `alias.example` are at [`SERVER`], `six.example` at
    /// 2001:db8::7.
    pub(crate) fn new() -> Self {
        let plan = Plan::new()
            .server(Kind::Http, "198.51.100.7:80")
            .server(Kind::TcpEcho, "198.51.100.7:3128")
            .server(Kind::TcpEcho, "198.51.100.9:443")
            .server(Kind::UdpEcho, "198.51.100.7:443")
            .server(Kind::UdpEcho, "198.51.100.8:53")
            .server(Kind::Http, "[2001:db8::7]:80")
            .name("api.example", &[SERVER])
            .name("other.example", &[SERVER])
            .name("six.example", &["2001:db8::7"])
            .alias("alias.example", "api.example")
            .alias("loop.example", "loop.example");
        let internet = Internet::start(&plan).unwrap();
        let client = internet.client("names").unwrap();
        Self {
            servers: Vec::new(),
            client,
            internet,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn client(&self) -> &Namespace {
        &self.client
    }

    /// Another client, which asks `resolver`.
    pub(crate) fn another(&self, resolver: &str) -> Namespace {
        let mut client = self.internet.client("another").unwrap();
        client.set_resolver(resolver).unwrap();
        client
    }

    pub(crate) fn ask(&mut self, resolver: &str) {
        self.client.set_resolver(resolver).unwrap();
    }

    /// A file for dnsmasq, which serves at `address`.
    pub(crate) fn dnsmasq_file(&self, address: &str, lines: &str) -> PathBuf {
        let path = self.path(&format!("dnsmasq-{address}.conf"));
        let text = format!(
            "no-resolv\nno-hosts\nlisten-address={address}\nbind-interfaces\nuser=root\n\
             pid-file=\n{lines}\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// A resolver in the internet.
    pub(crate) fn serve_names(&mut self, address: &str, lines: &str) {
        let file = self.dnsmasq_file(address, lines);
        let mut dnsmasq = self.internet.namespace().command("dnsmasq");
        let dnsmasq = dnsmasq.arg("-k").arg("-C").arg(file);
        self.servers.push(Process::spawn(dnsmasq).unwrap());
        self.await_port("-lun", 53, address);
    }

    /// A resolver beside the client.
    pub(crate) fn serve_names_to_client(&mut self, address: &str, lines: &str) {
        let file = self.dnsmasq_file(address, lines);
        let mut dnsmasq = self.client.command("dnsmasq");
        let dnsmasq = dnsmasq.arg("-k").arg("-C").arg(file);
        self.servers.push(Process::spawn(dnsmasq).unwrap());
        await_port(&self.client, "-lun", 53, address);
    }

    /// A key and a certificate for these names.
    fn certify(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let (key, certificate) = (self.path("key.pem"), self.path("certificate.pem"));
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let request = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ];
        let mut openssl = Command::new("openssl");
        openssl.args(request).args(["-subj", "/CN=lab", "-keyout"]);
        openssl.arg(&key).arg("-out").arg(&certificate);
        openssl.args(["-addext", &format!("subjectAltName={}", names.join(","))]);
        lab::output(&mut openssl).unwrap();
        (key, certificate)
    }

    /// A TLS server at [`SERVER`], port 443, for these names, and the file of its CA.
    pub(crate) fn serve_tls(&mut self, names: &[&str]) -> String {
        let (key, certificate) = self.certify(names);
        let mut server = self.internet.namespace().command("openssl");
        server.args(["s_server", "-quiet", "-www", "-accept"]);
        server.arg(format!("{SERVER}:443"));
        server.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        self.servers.push(Process::spawn(&mut server).unwrap());
        self.await_port("-ltn", 443, SERVER);
        certificate.display().to_string()
    }

    /// HTTP/3 in the internet, with the certificate of a TLS server's.
    pub(crate) fn serve_http3(&mut self, program: &[&str], address: &str, port: u16) {
        let (key, certificate) = self.certify(&["api.example"]);
        let mut server = self.internet.namespace().command(program[0]);
        server.args(&program[1..]).args(["serve", address]);
        server.arg(port.to_string()).arg(certificate).arg(key);
        self.servers.push(Process::spawn(&mut server).unwrap());
        self.await_port("-lun", port, address);
    }

    /// A proxy in the internet.
    pub(crate) fn serve_squid(&mut self, address: &str, port: u16) {
        let file = self.path("squid.conf");
        let text = format!(
            "http_port {address}:{port}\nhttp_access allow all\ncache deny all\naccess_log none\n\
             cache_log /dev/null\npid_filename none\n\
             dns_nameservers {DNS}\nnetdb_filename none\n"
        );
        fs::write(&file, text).unwrap();
        // What it shares by name would outlive it.
        let alone = "mount -t tmpfs tmpfs /dev/shm && exec squid --foreground -N -f \"$0\"";
        let mut squid = self.internet.namespace().command("unshare");
        let squid = squid.args(["--mount", "--", "sh", "-c", alone]).arg(file);
        self.servers.push(Process::spawn(squid).unwrap());
        self.await_port("-ltn", port, address);
    }

    fn await_port(&self, kind: &str, port: u16, address: &str) {
        await_port(self.internet.namespace(), kind, port, address);
    }

    /// Records `command`, and returns the log.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Log {
        let out = self.path("out");
        let mut tracer = self.client.command(egress_tracer().unwrap());
        tracer.args(["run", "-o"]).arg(&out).args(options);
        tracer.arg("--").args(command);
        // A proxy of this machine's would speak in the client's place.
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            tracer.env_remove(name).env_remove(name.to_uppercase());
        }
        lab::output(&mut tracer).unwrap();
        Log::read(&out.join("flows.jsonl")).unwrap()
    }

    /// Records the agent.
    pub(crate) fn record(&self, steps: &str) -> Log {
        self.record_with(&[], steps)
    }

    pub(crate) fn record_with(&self, options: &[&str], steps: &str) -> Log {
        let agent = agent();
        let steps = steps.split_whitespace();
        let command: Vec<&str> = std::iter::once(agent.as_str()).chain(steps).collect();
        self.run(options, &command)
    }
}

fn await_port(inside: &Namespace, kind: &str, port: u16, address: &str) {
    let wanted = format!("{address}:{port}");
    let listens = || {
        let listening = lab::output(inside.command("ss").arg(kind))?;
        Ok(listening.contains(&wanted).then_some(()))
    };
    wait_until(&format!("{wanted} listens"), PATIENCE, listens).unwrap();
}

pub(crate) fn agent() -> String {
    binary("sample-agent").unwrap().display().to_string()
}

/// The names of a destination as `NAME SOURCE CONFIDENCE`, each once, sorted.
pub(crate) fn names(log: &Log, ip: &str, port: u16) -> Vec<String> {
    let mut names: Vec<String> = log
        .later_too(ip, Some(port))
        .filter_map(|flow| flow["names"].as_array())
        .flatten()
        .map(|name| {
            let text = |key: &str| name[key].as_str().unwrap_or("?").to_owned();
            [text("name"), text("source"), text("confidence")].join(" ")
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// DNS records as `NAME KIND TRANSPORT RCODE`, in order.
pub(crate) fn exchanges(log: &Log) -> Vec<String> {
    let shown = log.of_type("dns").map(|dns| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let question = &dns["question"];
        let words = [
            &question["name"],
            &question["kind"],
            &dns["transport"],
            &dns["rcode"],
        ];
        words.map(text).join(" ")
    });
    shown.collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}

/// A TLS hello with a server's name, and so much padding.
pub(crate) fn hello(name: &[u8], padding: usize) -> Vec<u8> {
    const PADDING: u16 = 21;
    hello_with(name, PADDING, &vec![0; padding])
}

/// Likewise, offering to speak one protocol.
pub(crate) fn hello_offering(name: &[u8], protocol: &[u8]) -> Vec<u8> {
    const ALPN: u16 = 16;
    let offer = [&[protocol.len() as u8][..], protocol].concat();
    hello_with(name, ALPN, &[&two(offer.len())[..], &offer].concat())
}

/// Likewise, with one more extension before the name.
pub(crate) fn hello_with(name: &[u8], extension: u16, content: &[u8]) -> Vec<u8> {
    let server = [&[0][..], &two(name.len()), name].concat();
    let names = [&two(server.len())[..], &server].concat();
    let sni = [&[0, 0][..], &two(names.len()), &names].concat();
    let first = [&extension.to_be_bytes()[..], &two(content.len()), content].concat();
    let extensions = [first, sni].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &two(extensions.len()),
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &two(body.len()), &body].concat();
    [&[22, 3, 1][..], &two(message.len()), &message].concat()
}

fn two(length: usize) -> [u8; 2] {
    (length as u16).to_be_bytes()
}
