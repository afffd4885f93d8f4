//! `report`: one page, the same every time, in which nothing that a workload wrote does anything;
//! and the page in a real browser.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::world::{World, flow, gap, record, stop, whole};

const POLICY: &str = "schema = \"egress-tracer/policy/1\"\nworkload = \"w\"\n\
    [[allow]]\nto = \"192.0.2.1\"\nports = [\"443/tcp\"]\nstatus = \"approved\"\n\
    reason = \"some reason\"\nowner = \"o\"\nexpires = 2027-06-01\n\
    [[allow]]\nto = \"192.0.2.3\"\nports = [\"443/tcp\"]\nstatus = \"denied\"\n\
    reason = \"not \\\"this\\\" <b>one</b>\"\nowner = \"o\"\n";

/// What people would try to bring into a page. The last cannot be a name on the wire, and is all the
/// same tried.
const HOSTILE: [&str; 9] = [
    "<script>hostile=1</script>",
    "\\\"><img src=http://127.0.0.1:9/x onerror=hostile=1>",
    "</title></style><script>hostile=1</script>",
    "'\\\"><svg onload=hostile=1>",
    "javascript:hostile=1",
    "<!-- --><a href=javascript:hostile=1>x</a>",
    "]]><iframe srcdoc=x>",
    "a\\u001b[31m\\u202eb\\u2028c\\u0000d",
    "&lt;b&gt;{{7*7}}${7*7}",
];

fn in_run(run: u32, line: &str) -> String {
    line.replace("\"run\":\"r1\"", &format!("\"run\":\"r{run}\""))
}

/// Eight runs of one workload, some destinations rarer than others, and one of another.
fn world() -> World {
    let world = World::new();
    let mut log = String::new();
    for run in 1..=8 {
        let mut flows = flow("w", "192.0.2.1", 443, NAMED);
        if run % 2 == 0 {
            flows += &flow("w", "192.0.2.2", 80, ",\"comm\":\"curl\"");
        }
        if run == 3 {
            flows += &flow("w", "192.0.2.3", 443, ",\"comm\":\"curl\"");
            flows += &flow("w", "169.254.169.254", 80, ",\"exe\":\"/tmp/x\"");
        }
        log += &in_run(run, &whole("w", &flows));
    }
    world.write("w.jsonl", log);
    world.write(
        "other.jsonl",
        whole("other", &flow("other", "2001:db8::1", 53, "")),
    );
    world.write("policy.toml", POLICY);
    world
}

const NAMED: &str = ",\"exe\":\"/usr/bin/python3\",\"names\":[{\"name\":\"api.example.com\",\
    \"source\":\"dns\",\"confidence\":\"proven\"}]";

/// Every text that a workload can choose, hostile.
fn hostile() -> World {
    let world = World::new();
    let mut flows = String::new();
    for (number, text) in HOSTILE.iter().enumerate() {
        let more = format!(
            ",\"comm\":\"{text}\",\"exe\":\"/bin/{text}\",\"cmdline\":[\"{text}\"],\
             \"names\":[{{\"name\":\"{text}\",\"source\":\"sni\",\"confidence\":\"proven\"}}],\
             \"container\":{{\"id\":\"{text}\",\"runtime\":\"{text}\",\"name\":\"{text}\"}}"
        );
        let port = u16::try_from(number).unwrap() + 1;
        flows += &flow(HOSTILE[0], "203.0.113.9", port, &more);
    }
    let missing = format!(
        ",\"version\":\"0\",\"pid\":1,\"hooks\":[],\"missing\":{{\"{}\":\"{}\"}}",
        HOSTILE[0], HOSTILE[1]
    );
    let log = record("start", HOSTILE[0], &missing) + &flows + &stop(HOSTILE[0]);
    world.write("hostile.jsonl", log.clone() + &in_run(2, &log));
    world
}

fn page(world: &World, arguments: &[&str]) -> String {
    world
        .run(&[&["report", "-o", "report.html"], arguments].concat())
        .exits(0);
    world.read("report.html")
}

#[test]
fn the_page_tells_what_happened_and_is_the_same_every_time() {
    let world = world();
    let arguments = ["w.jsonl", "other.jsonl", "--policy", "policy.toml"];
    let text = page(&world, &arguments);
    for expected in [
        "api.example.com (DNS, proven)",
        "169.254.169.254",
        "metadata-service",
        "writable-path",
        "cloud metadata",
        "documentation",
        ">denied<",
        "not &quot;this&quot; &lt;b&gt;one&lt;/b&gt;",
        "as approvals stood on 2026-11-22",
        "the estimate of how many there are, 0.9 of them unseen",
        "One run says nothing about others",
    ] {
        assert!(text.contains(expected), "{expected} is not in the page");
    }
    assert_eq!(page(&world, &arguments), text);
    let turned = ["other.jsonl", "w.jsonl", "--policy", "policy.toml"];
    assert_eq!(page(&world, &turned), text);
    let out = world.run(&[
        "report",
        "w.jsonl",
        "other.jsonl",
        "--policy",
        "policy.toml",
    ]);
    assert_eq!(out.exits(0).out, text);
    let dated = page(&world, &[&arguments[..], &["--now", "2027-06-02"]].concat());
    assert!(dated.contains("on 2027-06-02T00:00:00Z") && dated.contains(">expired<"));
}

#[test]
fn a_folder_of_policies_is_a_policy_for_each_workload() {
    let world = world();
    world.write("policies/a.toml", POLICY);
    world.write(
        "policies/b/policy.toml",
        POLICY.replace("\"w\"", "\"other\""),
    );
    let ran = world.run(&[
        "report",
        "w.jsonl",
        "other.jsonl",
        "--policy",
        "policies",
        "-o",
        "x",
    ]);
    ran.exits(0);
    assert_eq!(world.read("x").matches("as approvals stood on").count(), 2);
    world.write("policies/c.toml", POLICY);
    let ran = world.run(&["report", "w.jsonl", "--policy", "policies", "-o", "y"]);
    ran.exits(2).says("are both for workload w");
    assert!(!world.exists("y"));
}

#[test]
fn incomplete_evidence_needs_a_word_and_is_said_on_the_page() {
    let world = world();
    world.write(
        "w.jsonl",
        whole("w", &gap("w", "flow-table", "destinations")),
    );
    let ran = world.run(&["report", "w.jsonl", "-o", "report.html"]);
    ran.exits(3);
    assert!(!world.exists("report.html"));
    let text = page(&world, &["w.jsonl", "--allow-incomplete"]);
    assert!(text.contains("The evidence is incomplete"), "{text}");
}

#[test]
fn lines_without_times_make_a_page_too() {
    let world = World::new();
    world.write("c.jsonl", "{\"dest_ip\":\"192.0.2.1\",\"dest_port\":443}\n");
    assert!(page(&world, &["c.jsonl"]).contains("The records carry no times."));
    world.write("policy.toml", POLICY.replace("\"w\"", "\"c\""));
    let ran = world.run(&["report", "c.jsonl", "--policy", "policy.toml"]);
    ran.exits(2).says("--now");
}

#[test]
fn nothing_hostile_is_markup() {
    let text = page(&hostile(), &["hostile.jsonl"]);
    let steers = |each: char| tracer_userspace::harmless::steers(each) && each != '\n';
    assert!(!text.contains(steers), "something steers");
    assert_eq!(text.matches("<script").count(), 0);
    assert_eq!(text.matches("<img").count(), 0);
    assert_eq!(text.matches("<iframe").count(), 0);
    assert_eq!(text.matches("</style>").count(), 1);
    assert!(text.contains("&lt;script&gt;hostile=1&lt;/script&gt;"));
}

/// What the browser said of a page; `None`, and why, where there is no browser.
fn browse(test: &str, world: &World) -> Option<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser");
    let found = ["chromium-headless-shell", "chromium", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(browser) = found else {
        eprintln!("SKIPPED {test}: no Chromium; `cargo xtask setup --tests` installs one");
        return None;
    };
    if !folder.join("node_modules").is_dir() {
        eprintln!(
            "SKIPPED {test}: tests/browser has no modules; `cargo xtask setup --tests` installs them"
        );
        return None;
    }
    let which = Command::new("which").arg(browser).output().unwrap();
    let browser = String::from_utf8(which.stdout).unwrap();
    let mut node = Command::new("node");
    node.current_dir(&folder)
        .arg("check.mjs")
        .arg(browser.trim())
        .arg(world.path("report.html"));
    if let Some(pictures) = std::env::var_os("EGRESS_TRACER_PICTURES") {
        fs::create_dir_all(&pictures).unwrap();
        node.arg(pictures);
    }
    let output = node.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Nothing is loaded, nothing runs, nothing is wider than the screen, and axe has nothing to say.
fn is_sound(said: &Value) {
    let empty = Value::Array(Vec::new());
    for key in ["requests", "errors", "violations"] {
        assert_eq!(said[key], empty, "{key}");
    }
    assert!(
        said["checked"].as_u64().unwrap() > 60,
        "{}",
        said["checked"]
    );
    assert_eq!((&said["dialogs"], &said["scripts"]), (&0.into(), &0.into()));
    assert_eq!((&said["handlers"], &said["ran"]), (&0.into(), &Value::Null));
    for width in ["360", "768", "1280"] {
        assert_eq!(said["widths"][width].to_string(), width);
    }
    // Every word of the pictures is to be seen, and no shape has swallowed another.
    assert_eq!(
        (&said["swallowed"], &said["unseen"]),
        (&0.into(), &0.into())
    );
    assert!(said["words"].as_u64().unwrap() > 2);
    assert_eq!(said["printed"]["navigation"], "none");
    assert_eq!(said["printed"]["background"], "rgb(255, 255, 255)");
    assert!(said["pages"].as_u64().unwrap() >= 1);
}

#[test]
fn a_browser_shows_the_page_on_every_screen() {
    let world = world();
    page(
        &world,
        &["w.jsonl", "other.jsonl", "--policy", "policy.toml"],
    );
    let Some(said) = browse("a_browser_shows_the_page_on_every_screen", &world) else {
        return;
    };
    is_sound(&said);
    let focus = said["focus"].as_array().unwrap();
    let reached: Vec<&str> = focus
        .iter()
        .map(|at| at["href"].as_str().unwrap())
        .collect();
    assert_eq!(reached[..3], ["#content", "#w0", "#w1"]);
    assert!(focus.iter().all(|at| at["outline"] != "none"), "{focus:?}");
}

#[test]
fn a_browser_finds_nothing_hostile_in_the_page() {
    let world = hostile();
    page(&world, &["hostile.jsonl"]);
    let Some(said) = browse("a_browser_finds_nothing_hostile_in_the_page", &world) else {
        return;
    };
    is_sound(&said);
    let expected = [
        "a",
        "body",
        "dd",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "g",
        "h1",
        "h2",
        "h3",
        "head",
        "header",
        "html",
        "li",
        "main",
        "meta",
        "nav",
        "p",
        "path",
        "rect",
        "section",
        "span",
        "strong",
        "style",
        "svg",
        "table",
        "tbody",
        "td",
        "text",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
    ];
    assert_eq!(said["elements"], Value::from(&expected[..]));
    assert!(
        said["text"]
            .as_str()
            .unwrap()
            .contains("<script>hostile=1</script>")
    );
}
