//! Rules for one cgroup: they judge its sockets and no others, until it is made anew.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::id,
};

use tracer_userspace::render::{Format, Scope, Verdict};

use crate::{
    load::follow,
    netns::{Netns, Said, ready},
    render,
    traffic::{ALLOWED, OTHER, SERVER, Tool, Wire, allowlist, socket_address},
};

/// Two levels of cgroup of our own, removed when dropped.
struct Cgroup {
    mount: PathBuf,
    path: String,
}

impl Cgroup {
    /// `None`, with the reason printed, where cgroup v2 is not mounted.
    fn new(test: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4));
        let Some(mount) = mount else {
            eprintln!("SKIPPED {test}: cgroup v2 is not mounted");
            return None;
        };
        // A unit's name, with the backslash that systemd writes for a dash.
        let path = format!(r"rules-test-{}/agent\x2d{test}.service", id());
        let cgroup = Self {
            mount: PathBuf::from(mount),
            path,
        };
        fs::create_dir_all(cgroup.folder()).unwrap();
        Some(cgroup)
    }

    fn folder(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// Connects from a process that entered the cgroup first.
    fn connect(&self, netns: &Netns, to: &str, port: u16) -> Said {
        let folder = self.folder();
        netns.shell(&format!(
            "echo $$ >'{}/cgroup.procs' && exec timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/{port}'",
            folder.display()
        ))
    }

    /// nft looks for cgroups below `/sys/fs/cgroup` only: shows it v2 there, in a mount
    /// namespace of its own, where v2 is mounted elsewhere.
    fn shown(&self, command: &str) -> String {
        if self.mount == Path::new("/sys/fs/cgroup") {
            return command.to_owned();
        }
        let mount = self.mount.display();
        format!("unshare -m sh -c 'mount --bind {mount} /sys/fs/cgroup && {command}'")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let folder = self.folder();
        // May be gone already: a test makes it anew.
        let _ = fs::remove_dir(&folder);
        let _ = folder.parent().map(fs::remove_dir);
    }
}

#[test]
fn a_cgroup_is_judged_alone_and_not_after_it_is_made_anew() {
    if !ready("a_cgroup_is_judged_alone_and_not_after_it_is_made_anew") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let Some(cgroup) = Cgroup::new(&format!("{tool:?}")) else {
            return;
        };
        let wire = Wire::new();
        load(tool, &cgroup, &wire.client);
        for [first, _, _] in SERVER {
            let _listening = [ALLOWED, OTHER].map(|port| {
                wire.server
                    .inside(|| TcpListener::bind(socket_address(first, port)).unwrap())
            });
            let said = cgroup.connect(&wire.client, first, ALLOWED);
            assert!(said.ok, "{tool:?}: {}", said.err);
            assert!(
                !cgroup.connect(&wire.client, first, OTHER).ok,
                "{tool:?}: not judged"
            );
            wire.client.must(&format!(
                "timeout 1 bash -c 'exec 3<>/dev/tcp/{first}/{OTHER}'"
            ));
        }
        assert_ne!(tool.not_allowed(&wire.client), 0);
        // A restart: the same path with another id.
        fs::remove_dir(cgroup.folder()).unwrap();
        fs::create_dir(cgroup.folder()).unwrap();
        let to = SERVER[0][0];
        let _listening = wire
            .server
            .inside(|| TcpListener::bind(socket_address(to, OTHER)).unwrap());
        let said = cgroup.connect(&wire.client, to, OTHER);
        assert!(
            said.ok,
            "{tool:?}: the header says that it passes: {}",
            said.err
        );
        fs::remove_dir(cgroup.folder()).unwrap();
        undo(tool, &cgroup, &wire.client);
    }
}

fn texts(tool: Tool, cgroup: &Cgroup) -> Vec<(Format, &'static str, String)> {
    let scope = || Scope::Cgroup {
        path: cgroup.path.clone(),
    };
    let made = |format| render(format, &allowlist(), Verdict::Drop, scope()).text;
    tool.commands()
        .into_iter()
        .map(|(format, command)| (format, command, made(format)))
        .collect()
}

fn load(tool: Tool, cgroup: &Cgroup, netns: &Netns) {
    for (_, command, text) in texts(tool, cgroup) {
        netns.must_with(&cgroup.shown(command), &text);
    }
}

/// The rules of a cgroup that is gone can still be undone.
fn undo(tool: Tool, cgroup: &Cgroup, netns: &Netns) {
    let legacy = match tool {
        Tool::Nft | Tool::Iptables => false,
        Tool::IptablesLegacy => true,
    };
    for (format, _, text) in texts(tool, cgroup) {
        follow(netns, format, &text, "Undo", legacy);
    }
}
