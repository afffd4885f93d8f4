//! The workflow of `docs/ci.md`, step by step, as the runner would.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

use lab::egress_tracer;
use serde_json::Value;

use crate::world::{World, agent, needs_root};

const DOCUMENT: &str = include_str!("../../docs/ci.md");

/// The names of the workflow's steps that run something, and what they run.
fn steps() -> Vec<(String, String)> {
    let text = DOCUMENT.split("```yaml\n").nth(1).unwrap();
    let text = text.split("\n```").next().unwrap();
    let workflow: Value = serde_saphyr::from_str(text).unwrap();
    let steps = workflow["jobs"]["egress"]["steps"].as_array().unwrap();
    let text = |step: &Value, key: &str| step[key].as_str().map(str::to_owned);
    let runs = steps
        .iter()
        .filter_map(|step| Some((text(step, "name")?, text(step, "run")?)));
    runs.collect()
}

/// Runs one step in the network, in the folder of the checkout.
fn run(world: &World, script: &str) -> Output {
    let tools = egress_tracer().unwrap().parent().unwrap().to_owned();
    let path = format!(
        "{}:{}:{}",
        world.path("bin").display(),
        tools.display(),
        env!("PATH")
    );
    let mut bash = world.net().command("bash");
    bash.args(["-e", "-o", "pipefail", "-c", script])
        .current_dir(world.path("checkout"))
        .env("PATH", path)
        .env("GITHUB_STEP_SUMMARY", world.path("summary.md"));
    bash.output().unwrap()
}

fn executable(world: &World, name: &str, text: &str) {
    let path = world.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The exit code of each step, up to the first that fails, and what all of them printed.
fn job(world: &World) -> (Vec<Option<i32>>, String) {
    let (mut codes, mut said) = (Vec::new(), String::new());
    for (_, script) in steps() {
        let output = run(world, &script);
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
        codes.push(output.status.code());
        if !output.status.success() {
            break;
        }
    }
    (codes, said)
}

#[test]
fn the_workflow_of_the_document_passes_and_fails_as_it_says() {
    needs_root!();
    let names: Vec<String> = steps().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Record", "Show", "Judge"]);
    let world = World::new();
    // The test runs as root already.
    executable(&world, "bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
    let agent = agent();
    let test = |steps: &str| {
        let text = format!("#!/bin/sh\nexec {agent} {steps}\n");
        executable(&world, "checkout/integration-test.sh", &text);
    };
    let policy = "schema = \"egress-tracer/policy/1\"\nworkload = \"shop_agent\"\n[[allow]]\n\
        to = \"203.0.113.1\"\nports = [\"1/udp\"]\nstatus = \"approved\"\nreason = \"some reason\"\n\
        owner = \"o\"\nexpires = 2999-01-01\n";
    test("flood 203.0.113.1 1 1");
    fs::write(world.path("checkout/policy.toml"), policy).unwrap();
    let (codes, said) = job(&world);
    assert_eq!(codes, [Some(0); 3], "{said}");
    let summary = || fs::read_to_string(world.path("summary.md")).unwrap();
    assert!(summary().contains("No drift: everything observed is approved."));
    let page = fs::read_to_string(world.path("checkout/report.html")).unwrap();
    assert!(page.contains("203.0.113.1"));

    test("flood 203.0.113.2 1 1");
    let (codes, said) = job(&world);
    assert_eq!(codes, [Some(0), Some(0), Some(1)], "{said}");
    assert!(said.contains("::error file=policy.toml,line=1"), "{said}");
    assert!(
        summary().contains("| **new** | `203.0.113.2` |"),
        "{}",
        summary()
    );
}
