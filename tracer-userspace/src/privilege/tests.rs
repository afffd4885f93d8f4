//! What is given up is gone: tried by processes of their own, which are this test again.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{
    env, fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::{give_up, load_no_more, outside};

/// What the process is to try, and where it may write.
const TRIES: &str = "EGRESS_TRACER_TRIES";
const PLACE: &str = "EGRESS_TRACER_PLACE";

/// What `what` said, and how it ended.
fn tried(what: &str, place: &Path) -> Output {
    let test = "privilege::tests::tries_what_it_is_told";
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(TRIES, what).env(PLACE, place).output().unwrap()
}

fn refusal<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Nothing, unless it is the process of another test.
#[test]
fn tries_what_it_is_told() {
    let (Some(what), Some(place)) = (env::var_os(TRIES), env::var_os(PLACE)) else {
        return;
    };
    let place = PathBuf::from(place);
    let parent = format!("/proc/{}/exe", std::os::unix::process::parent_id());
    let elsewhere = place.with_extension("elsewhere");
    let link = place.join("link");
    let _there = std::os::unix::fs::symlink("/etc/hostname", &link);
    give_up(&[&place]);
    load_no_more();
    match what.to_str().unwrap() {
        "write" => {
            fs::write(place.join("file"), "own").unwrap();
            fs::rename(place.join("file"), place.join("renamed")).unwrap();
            assert_eq!(refusal(fs::write(&elsewhere, "x")), Some(libc::EACCES));
            let opened = fs::OpenOptions::new().write(true).open(link);
            assert_eq!(refusal(opened), Some(libc::EACCES));
        }
        "look" => {
            assert_eq!(refusal(fs::read_link(&parent)), Some(libc::EACCES));
            assert!(outside::read_link(Path::new(&parent)).is_ok());
            assert_eq!(outside::at_length(|| 7).unwrap(), 7);
        }
        "ordinary" => {
            std::thread::spawn(|| fs::read("/etc/hostname"))
                .join()
                .unwrap()
                .unwrap();
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            // A process of its own is as unknown as on a kernel without.
            assert_eq!(refusal(Command::new("true").spawn()), Some(libc::ENOSYS));
            let packets = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::empty(),
                None,
            );
            assert_eq!(packets.err(), Some(nix::errno::Errno::ENOSYS));
        }
        "load" => {
            let loaded = crate::ebpf::sys::may_load();
            assert_eq!(refusal(loaded), Some(libc::EPERM));
        }
        "exec" => {
            let error = Command::new("true").exec();
            println!("not executed: {error}");
        }
        other => panic!("{other}"),
    }
    println!("as expected");
}

#[test]
fn what_is_given_up_is_gone_and_what_is_needed_is_there() {
    if !super::places::is_supported() || !super::calls::is_supported() {
        println!("not tested: this kernel has no Landlock or no seccomp");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("own");
    fs::create_dir(&place).unwrap();
    for what in ["write", "look", "ordinary", "load"] {
        let came = tried(what, &place);
        let said = String::from_utf8_lossy(&came.stdout);
        assert!(
            came.status.success() && said.contains("as expected"),
            "{what}: {came:?}"
        );
    }
    let came = tried("exec", &place);
    assert_eq!(came.status.signal(), Some(libc::SIGSYS), "{came:?}");
}
