//! How far a name is to be believed: a workload says what it likes.

use lab::{Cgroup, Daemon};

use crate::world::{RESOLVER, SERVER, World, agent, exchanges, hex, names, needs_root};

const NONE: [&str; 0] = [];

#[test]
fn a_name_said_to_another_address_is_only_claimed() {
    needs_root!();
    let world = World::new();
    let script = format!(
        "{} resolve api.example; \
         curl -sS -o /dev/null --resolve api.example:80:[2001:db8::7] http://api.example/",
        agent()
    );
    let log = world.run(&[], &["sh", "-c", &script]);
    let found = names(&log, "2001:db8::7", 80);
    assert_eq!(found, ["api.example http claimed"]);
}

#[test]
fn the_workloads_own_resolver_proves_nothing() {
    needs_root!();
    let mut world = World::new();
    world.ask("127.0.0.1");
    let file = world.dnsmasq_file("127.0.0.1", "address=/api.example/198.51.100.9");
    let script = format!(
        "dnsmasq -k -C {} & sleep 1; {} lookup api.example 443; kill $!; wait",
        file.display(),
        agent()
    );
    let log = world.run(&[], &["sh", "-c", &script]);
    let told = exchanges(&log);
    let answered = "api.example A udp NOERROR";
    assert!(told.iter().any(|one| one == answered), "{told:?}");
    assert!(log.of_type("dns").all(|dns| dns["own_server"] == true));
    assert_eq!(log.count("198.51.100.9", 443), 1);
    assert_eq!(names(&log, "198.51.100.9", 443), NONE);
}

#[test]
fn answers_that_nobody_asked_for_prove_nothing() {
    needs_root!();
    let world = World::new();
    // The echo at port 53 sends it back: an answer, from outside, from where answers come.
    let answer = hex(
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03api\x07example\0\0\x01\0\x01\
          \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x33\x64\x09",
    );
    let log = world.record(&format!(
        "say udp 198.51.100.8:53 {answer} tcp 198.51.100.9:443"
    ));
    assert_eq!(exchanges(&log), NONE);
    assert_eq!(names(&log, "198.51.100.9", 443), NONE);
    let stats = log.of_type("stats").last().unwrap();
    assert_eq!(stats["counters"]["dns_unasked"], 2, "{stats}");
}

#[test]
fn what_one_workload_resolves_is_no_name_for_another() {
    needs_root!();
    let mut world = World::new();
    world.serve_names(RESOLVER, "address=/one.example/198.51.100.7");
    world.serve_names("203.0.113.54", "address=/two.example/198.51.100.7");
    let (one, two) = (world.another(RESOLVER), world.another("203.0.113.54"));
    let cgroups = [Cgroup::new("one").unwrap(), Cgroup::new("two").unwrap()];
    let paths = cgroups.each_ref().map(Cgroup::relative);
    let options = ["--cgroup", &paths[0], "--cgroup", &paths[1]];
    let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    for ((client, cgroup), name) in [one, two].iter().zip(&cgroups).zip(["one", "two"]) {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec {} lookup {name}.example 80",
            cgroup.path().display(),
            agent()
        );
        let mut shell = client.command("sh");
        lab::output(shell.args(["-c", &script])).unwrap();
    }
    for (path, name) in paths.iter().zip(["one", "two"]) {
        let is_there = |log: &lab::Log| log.count(SERVER, 80) == 1;
        let log = daemon.log_until(&path[1..], is_there).unwrap();
        let expected = format!("{name}.example dns resolved");
        assert_eq!(names(&log, SERVER, 80), [expected]);
    }
    daemon.stop().unwrap();
}
