//! Real clients, each with its own way of saying whom it wants.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Log, egress_tracer};

use crate::world::{SERVER, World, names, needs_root};

const URL: &str = "https://api.example/";
const PROVEN: [&str; 2] = ["api.example dns proven", "api.example sni proven"];

/// A program of the virtual environment.
fn python(program: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/.venv/bin");
    folder.join(program).display().to_string()
}

/// Records a shell's script beside a TLS server; whether it is content with the answer is all one.
fn names_said_by(script: &str) -> Vec<String> {
    let mut world = World::new();
    world.serve_tls(&["api.example"]);
    let log = world.run(
        &[],
        &["sh", "-c", &format!("{script} >/dev/null 2>&1 || true")],
    );
    names(&log, SERVER, 443)
}

#[test]
fn openssl_by_curl() {
    needs_root!();
    assert_eq!(names_said_by(&format!("curl -k {URL}")), PROVEN);
}

#[test]
fn gnutls_by_wget() {
    needs_root!();
    let wget = format!("wget --no-check-certificate -t 1 -O /dev/null {URL}");
    assert_eq!(names_said_by(&wget), PROVEN);
}

#[test]
fn go_by_podman() {
    needs_root!();
    let podman = "podman pull --tls-verify=false api.example/nothing:1";
    assert_eq!(names_said_by(podman), PROVEN);
}

#[test]
fn rustls_by_uv() {
    needs_root!();
    let target = tempfile::tempdir().unwrap();
    let uv = format!(
        "{} pip install --no-cache --target {} --allow-insecure-host api.example \
         --index-url {URL} nothing",
        python("uv"),
        target.path().display()
    );
    assert_eq!(names_said_by(&uv), PROVEN);
}

#[test]
fn node() {
    needs_root!();
    let script = "require('https').get({host: 'api.example', rejectUnauthorized: false}, \
                  answer => answer.resume())";
    assert_eq!(names_said_by(&format!("node -e \"{script}\"")), PROVEN);
}

#[test]
fn pythons_requests() {
    needs_root!();
    let script = format!("import requests; requests.get('{URL}', verify=False)");
    let python = python("python");
    assert_eq!(names_said_by(&format!("{python} -c \"{script}\"")), PROVEN);
}

#[test]
fn pythons_httpx() {
    needs_root!();
    let script = format!("import httpx; httpx.get('{URL}', verify=False)");
    let python = python("python");
    assert_eq!(names_said_by(&format!("{python} -c \"{script}\"")), PROVEN);
}

#[test]
fn http3_by_aioquic() {
    needs_root!();
    let mut world = World::new();
    let client = [
        &python("python"),
        &http3_script(),
        "get",
        "api.example",
        "8443",
    ];
    world.serve_http3(&[&python("python"), &http3_script()], SERVER, 8443);
    let log = world.run(&[], &client);
    let found = names(&log, SERVER, 8443);
    assert_eq!(found, ["api.example dns proven", "api.example quic proven"]);
}

fn http3_script() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/http3.py");
    script.display().to_string()
}

/// The proxy's address, and where it is asked to go; the name is not looked up by the workload.
#[test]
fn curl_by_way_of_squid() {
    needs_root!();
    let mut world = World::new();
    world.serve_tls(&["api.example"]);
    world.serve_squid(SERVER, 8888);
    let proxy = format!("http://{SERVER}:8888");
    let log = world.run(&[], &["curl", "-sSk", "-o", "/dev/null", "-x", &proxy, URL]);
    let expected = ["api.example proxy claimed", "api.example sni claimed"];
    assert_eq!(names(&log, SERVER, 8888), expected);
}

/// Package managers against their registries, on the machine's own network.
#[test]
fn every_connection_of_package_managers_has_its_name() {
    needs_root!();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pip = python("pip");
    let (to, cache) = (at("pip"), at("npm").display().to_string());
    let to = to.display().to_string();
    let arguments = ["download", "-q", "--no-deps", "--no-cache-dir", "-d", &to];
    let pip = [&[&*pip][..], &arguments, &["httpx==0.28.1"]].concat();
    let npm = ["npm", "view", "is-odd", "version", "--cache", &cache];
    let cargo = cargo(&at("crate"));
    for (name, command) in [
        ("pip", &pip[..]),
        ("npm", &npm),
        ("cargo", &["sh", "-c", &cargo]),
    ] {
        let log = recorded(&at(name).with_extension("log"), command);
        let said: Vec<_> = log
            .flows()
            .filter(|flow| flow["protocol"] == "tcp")
            .collect();
        assert!(!said.is_empty(), "{name} connected to nothing");
        for flow in said {
            let names = flow["names"].as_array().map_or(&[][..], Vec::as_slice);
            let is_from = |source: &str| names.iter().any(|name| name["source"] == source);
            // A machine behind a proxy says where that is to go.
            let is_told = is_from("dns") && is_from("sni") || is_from("proxy");
            assert!(is_told, "{name}: {flow}");
        }
    }
}

/// Resolves a crate's dependency, with nothing at hand that earlier runs have fetched.
fn cargo(folder: &Path) -> String {
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    let manifest =
        "[package]\nname = \"asks\"\nedition = \"2021\"\n[dependencies]\ncfg-if = \"1\"\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    format!(
        "cd {} && CARGO_HOME={} cargo generate-lockfile -q",
        folder.display(),
        folder.join("home").display()
    )
}

fn recorded(out: &PathBuf, command: &[&str]) -> Log {
    let mut tracer = Command::new(egress_tracer().unwrap());
    tracer.args(["run", "-o"]).arg(out).arg("--").args(command);
    lab::output(&mut tracer).unwrap();
    Log::read(&out.join("flows.jsonl")).unwrap()
}
