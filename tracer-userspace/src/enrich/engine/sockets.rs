//! Where engines listen: what is given, and what is usual. Looked for again and again, since an
//! engine may be installed, or a user log in, after the tracer.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// What is spoken at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// Docker's, which Podman speaks too.
    Docker,
    /// Kubernetes' Container Runtime Interface: containerd, CRI-O.
    Cri,
}

/// How far an engine is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is root's: whatever it says of any container.
    Machine,
    /// It is a user's, who may run any program in its place: of containers in that user's
    /// cgroups only.
    User(u32),
}

/// One socket that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub path: PathBuf,
    pub api: Api,
    pub trust: Trust,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// Sockets at which Docker's API is spoken.
    pub docker: Vec<PathBuf>,
    /// Sockets at which CRI is spoken.
    pub cri: Vec<PathBuf>,
    /// `/run/user`: rootless engines listen below it.
    pub users: Option<PathBuf>,
}

/// Where Docker listens unless told otherwise.
pub const DOCKER: &str = "/var/run/docker.sock";

/// Where Podman's service for root listens.
pub const PODMAN: &str = "/run/podman/podman.sock";

/// Where containerd and CRI-O listen.
pub const CRI: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];

/// Where rootless engines' sockets are, a folder a user.
pub const USERS: &str = "/run/user";

/// Below a user's folder.
const ROOTLESS: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// More engines than this are not asked: whoever may make users could make sockets without end.
const MOST: usize = 64;

impl Places {
    /// The sockets that are there now, root's first, each once.
    #[must_use]
    pub fn present(&self) -> Vec<Socket> {
        let given = |paths: &[PathBuf], api| {
            let socket = |path: &PathBuf| socket(path, api);
            paths.iter().filter_map(socket).collect::<Vec<_>>()
        };
        let mut found = BTreeMap::new();
        // A user's link to one of root's sockets must not change what is spoken there.
        for socket in given(&self.docker, Api::Docker)
            .into_iter()
            .chain(given(&self.cri, Api::Cri))
            .chain(self.rootless())
        {
            let Ok(metadata) = fs::metadata(&socket.path) else {
                continue;
            };
            // `/var/run` is `/run` on most machines: the file tells one socket from another.
            let file = (metadata.dev(), metadata.ino());
            found.entry(file).or_insert(socket);
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|socket| socket.trust != Trust::Machine);
        found.truncate(MOST);
        found
    }

    /// Whoever owns the folder is believed for no more than his own, whatever stands there; what a
    /// link leads to is not asked.
    fn rootless(&self) -> Vec<Socket> {
        let users = self
            .users
            .iter()
            .filter_map(|users| fs::read_dir(users).ok());
        users
            .flatten()
            .flatten()
            .filter_map(|user| Some((user.metadata().ok()?.uid(), user.path())))
            .flat_map(|(uid, folder)| ROOTLESS.map(|name| (uid, folder.join(name))))
            .filter(|(_, path)| fs::canonicalize(path).is_ok_and(|real| real == *path))
            .filter_map(|(uid, path)| {
                let found = socket(&path, Api::Docker)?;
                let trust = Trust::User(uid);
                Some(Socket { trust, ..found })
            })
            .collect()
    }
}

fn socket(path: &Path, api: Api) -> Option<Socket> {
    let path = path.to_owned();
    let metadata = fs::metadata(&path).ok()?;
    let trust = match metadata.uid() {
        0 => Trust::Machine,
        uid => Trust::User(uid),
    };
    metadata
        .file_type()
        .is_socket()
        .then_some(Socket { path, api, trust })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn finds_what_is_there_and_what_comes_later() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let places = Places {
            docker: vec![at("docker.sock"), at("link/docker.sock")],
            cri: vec![at("cri.sock")],
            users: Some(at("user")),
        };
        assert_eq!(places.present(), []);
        let _docker = UnixListener::bind(at("docker.sock")).unwrap();
        std::os::unix::fs::symlink(root.path(), at("link")).unwrap();
        fs::write(at("cri.sock"), "no socket").unwrap();
        assert_eq!(places.present().len(), 1);
        fs::create_dir_all(at("user/1000/podman")).unwrap();
        let _podman = UnixListener::bind(at("user/1000/podman/podman.sock")).unwrap();
        assert_eq!(places.present().len(), 2);
        assert!(
            places
                .present()
                .iter()
                .all(|socket| socket.api == Api::Docker)
        );
    }

    #[test]
    fn a_users_socket_is_that_users() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("docker.sock");
        let _listens = UnixListener::bind(&path).unwrap();
        let mine = nix::unistd::geteuid();
        if !mine.is_root() {
            let expected = Trust::User(mine.as_raw());
            assert_eq!(socket(&path, Api::Docker).unwrap().trust, expected);
            return;
        }
        assert_eq!(socket(&path, Api::Docker).unwrap().trust, Trust::Machine);
        std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
        assert_eq!(socket(&path, Api::Docker).unwrap().trust, Trust::User(1234));
    }
}
