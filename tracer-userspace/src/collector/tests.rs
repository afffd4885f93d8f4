//! A real collector, spoken to by curl, by garbage and by nobody.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message as _;
use tempfile::TempDir;

use super::{Collector, Place};
use crate::spans::{Decoded, protobuf::ExportTraceServiceRequest};

const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"01","name":"x",
    "startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[
    {"key":"gen_ai.operation.name","value":{"stringValue":"execute_tool"}},
    {"key":"gen_ai.tool.name","value":{"stringValue":"search"}}]}]}]}]}"#;

struct World {
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
    collector: Collector,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Unix(folder.path().join("otlp.sock"));
        let collector = runtime.block_on(async { Collector::listen(&[place]).unwrap() });
        Self {
            runtime,
            folder,
            collector,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("otlp.sock")
    }

    /// The status of an answer to a POST of these bytes.
    fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> String {
        let file = self.folder.path().join("body");
        fs::write(&file, body).unwrap();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        curl.arg("--unix-socket").arg(self.socket());
        for header in headers {
            curl.args(["--header", header]);
        }
        curl.arg("--data-binary")
            .arg(format!("@{}", file.display()));
        let output = curl
            .arg(format!("http://localhost{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn taken(&mut self) -> Option<Decoded> {
        self.collector.take()
    }
}

const JSON: &str = "Content-Type: application/json; charset=utf-8";
const PROTOBUF: &str = "Content-Type: application/x-protobuf";

#[test]
fn json_and_protobuf_are_taken_packed_and_not() {
    let mut world = World::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(SPAN.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(world.post("/v1/traces", &[JSON], SPAN.as_bytes()), "200");
    let gzip = "Content-Encoding: gzip";
    assert_eq!(world.post("/v1/traces", &[JSON, gzip], &packed), "200");
    for _ in 0..2 {
        assert_eq!(world.taken().unwrap().spans[0].name, "search");
    }
    let empty = ExportTraceServiceRequest::default().encode_to_vec();
    assert_eq!(world.post("/v1/traces", &[PROTOBUF], &empty), "200");
    assert_eq!(world.taken(), Some(Decoded::default()));
    assert_eq!(world.taken(), None);
}

#[test]
fn anything_else_is_refused_and_counted() {
    let world = World::new();
    let long = vec![b' '; super::http::LONGEST + 1];
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&long).unwrap();
    let bomb = bomb.finish().unwrap();
    let cases: [(&str, &[&str], &[u8], &str); 8] = [
        ("/v1/metrics", &[JSON], b"{}", "404"),
        ("/v1/traces", &["Content-Type: text/plain"], b"{}", "415"),
        ("/v1/traces", &[JSON, "Content-Encoding: br"], b"{}", "415"),
        (
            "/v1/traces",
            &[JSON, "Content-Encoding: gzip"],
            b"{}",
            "415",
        ),
        ("/v1/traces", &[JSON], b"{", "400"),
        ("/v1/traces", &[PROTOBUF], b"\xff\xff", "400"),
        ("/v1/traces", &[JSON], &long, "413"),
        (
            "/v1/traces",
            &[JSON, "Content-Encoding: gzip"],
            &bomb,
            "413",
        ),
    ];
    for (path, headers, body, status) in cases {
        assert_eq!(
            world.post(path, headers, body),
            status,
            "{path} {headers:?}"
        );
    }
    let refused = &world.collector.counts().refused;
    assert_eq!(refused.load(std::sync::atomic::Ordering::Relaxed), 8);
}

#[test]
fn too_many_at_once_are_told_to_try_again() {
    let mut world = World::new();
    let all: Vec<String> = (0..super::QUEUE + 2)
        .map(|_| world.post("/v1/traces", &[JSON], SPAN.as_bytes()))
        .collect();
    assert_eq!(
        all.iter().filter(|status| *status == "200").count(),
        super::QUEUE
    );
    assert_eq!(all.last().unwrap(), "503");
    assert!(world.taken().is_some());
    assert_eq!(world.post("/v1/traces", &[JSON], SPAN.as_bytes()), "200");
}

#[test]
fn garbage_ends_a_connection_and_nothing_else() {
    let world = World::new();
    for garbage in [
        &b"\x00\xff\x16\x03\x01"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ended = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(world.post("/v1/traces", &[JSON], SPAN.as_bytes()), "200");
}

#[test]
fn a_socket_goes_with_its_listener_and_nobodys_file_does() {
    let world = World::new();
    let World {
        runtime,
        folder,
        collector,
    } = world;
    let path = folder.path().join("otlp.sock");
    let listen = |path: &Path| {
        let place = Place::Unix(path.to_owned());
        runtime.block_on(async { Collector::listen(&[place]) })
    };
    // Left behind by one that was killed.
    std::os::unix::net::UnixListener::bind(folder.path().join("left.sock")).unwrap();
    listen(&folder.path().join("left.sock")).unwrap();
    // Somebody listens there.
    listen(&path).unwrap_err();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    listen(&file).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    drop(collector);
    drop(runtime);
    assert!(!path.exists());
}

#[test]
fn places() {
    let place = |text: &str| text.parse::<Place>();
    assert_eq!(
        place("127.0.0.1:4318").unwrap().to_string(),
        "127.0.0.1:4318"
    );
    assert_eq!(place("unix:/a/b").unwrap(), Place::Unix("/a/b".into()));
    for wrong in ["", "4318", "localhost:4318", "unix:", "unix:a"] {
        place(wrong).unwrap_err();
    }
}
