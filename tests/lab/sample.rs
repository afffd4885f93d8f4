//! The sample agent: its image, and the internet it expects.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::Result;

use crate::{
    docker::{Docker, Image, ImageSpec},
    plan::{Kind, Plan},
    process::{binary, run},
};

/// What the agent's default session talks to.
#[must_use]
pub fn agent_plan() -> Plan {
    let docs = [
        "203.0.113.1",
        "203.0.113.2",
        "203.0.113.3",
        "203.0.113.4",
        "203.0.113.5",
        "203.0.113.6",
        "203.0.113.7",
        "203.0.113.8",
    ];
    let plan = Plan::new()
        .name("api.model.example", &["198.51.100.20", "2001:db8::20"])
        .name("vectors.example", &["198.51.100.30"])
        .name("statsd.telemetry.example", &["198.51.100.40"])
        .name("otel.telemetry.example", &["198.51.100.41"])
        .name("time.example", &["198.51.100.123"])
        .name("docs.example", &docs)
        .alias("search.example", "search.cdn.example")
        .name("search.cdn.example", &["203.0.113.80"])
        .server(Kind::TcpEcho, "198.51.100.20:443")
        .server(Kind::TcpEcho, "[2001:db8::20]:443")
        .server(Kind::Http, "198.51.100.30:6333")
        .server(Kind::TcpEcho, "[2001:db8::30]:443")
        .server(Kind::UdpSink, "198.51.100.40:8125")
        .server(Kind::TcpEcho, "198.51.100.41:4317")
        .server(Kind::Ntp, "198.51.100.123:123")
        .server(Kind::TcpEcho, "203.0.113.80:443");
    docs.iter().fold(plan, |plan, ip| {
        plan.server(Kind::TcpEcho, &format!("{ip}:443"))
    })
}

/// The image: the agent with its libraries and what glibc reads to resolve names; a busybox as
/// its shell where the host has a static one. The entry point is the agent.
///
/// # Errors
/// When the agent is not built, or the image cannot be.
pub fn agent_image(docker: &Docker) -> Result<Image> {
    let spec = ImageSpec::default()
        .program(&binary("sample-agent")?, "/sample-agent")?
        .text("/etc/nsswitch.conf", "hosts: files dns\n")
        .text(
            "/etc/passwd",
            "root:x:0:0::/:/bin/sh\nagent:x:1000:1000::/:/bin/sh\n",
        )
        .line("ENTRYPOINT [\"/sample-agent\"]");
    docker.build(&with_busybox(with_resolver(spec)))
}

/// Adds what a glibc before 2.34 loads to resolve names.
fn with_resolver(spec: ImageSpec) -> ImageSpec {
    let libraries = run("ldconfig", &["-p"]).unwrap_or_default();
    libraries
        .lines()
        .filter_map(|line| line.split("=> ").nth(1))
        .filter(|path| {
            let name = Path::new(path).file_name().and_then(OsStr::to_str);
            matches!(
                name,
                Some("libnss_dns.so.2" | "libnss_files.so.2" | "libresolv.so.2")
            )
        })
        .fold(spec, |spec, path| spec.file(path, path))
}

fn with_busybox(spec: ImageSpec) -> ImageSpec {
    const BUSYBOX: &str = "/usr/bin/busybox";
    let dynamic = run("ldd", &[BUSYBOX]).is_ok();
    if dynamic || fs::metadata(BUSYBOX).is_err() {
        return spec;
    }
    spec.file(BUSYBOX, "/bin/busybox").file(BUSYBOX, "/bin/sh")
}
