//! From a cgroup path to the container, pod or unit that it belongs to. Pure.

use serde::{Deserialize, Serialize};

/// Who made a cgroup, as its path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Owner {
    Container(ContainerRef),
    /// A systemd service or scope that is no container.
    Unit(String),
    /// The root, slices, and everything else: the host itself.
    Host,
}

/// A container as far as its cgroup path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerRef {
    pub runtime: Runtime,
    /// 64 hex digits for the OCI runtimes, the name for LXC and nspawn.
    pub id: String,
    /// The pod's UID, with dashes, under Kubernetes.
    pub pod_uid: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Runtime {
    Docker,
    Podman,
    Containerd,
    Crio,
    Lxc,
    Nspawn,
    /// A pod's container whose path does not name the runtime (cgroupfs driver).
    Kubernetes,
    /// Some container by its id, whose path does not name the runtime: Docker's
    /// `--cgroup-parent`, a user's runc.
    Oci,
}

impl Runtime {
    /// As written to the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
            Self::Kubernetes => "kubernetes",
            Self::Oci => "oci",
        }
    }
}

impl Runtime {
    /// Whether somebody can be asked. Machines of LXC and nspawn have no other name.
    #[must_use]
    pub fn has_engine(self) -> bool {
        match self {
            Self::Lxc | Self::Nspawn => false,
            Self::Docker
            | Self::Podman
            | Self::Containerd
            | Self::Crio
            | Self::Kubernetes
            | Self::Oci => true,
        }
    }
}

impl ContainerRef {
    /// The name of a container that nobody has named yet: `<runtime>-<12 hex>`.
    #[must_use]
    pub fn provisional_name(&self) -> String {
        let short: String = self.id.chars().take(12).collect();
        match self.runtime {
            Runtime::Lxc | Runtime::Nspawn => format!("{}-{}", self.runtime.name(), self.id),
            Runtime::Docker
            | Runtime::Podman
            | Runtime::Containerd
            | Runtime::Crio
            | Runtime::Kubernetes
            | Runtime::Oci => format!("{}-{short}", self.runtime.name()),
        }
    }
}

/// Scope names as the systemd cgroup driver of each runtime writes them: `PREFIX<id>.scope`.
const SCOPES: [(&str, Runtime); 6] = [
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    ("cri-containerd-", Runtime::Containerd),
    ("containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
];

/// The innermost owner that a path names: a container inside a container is itself.
///
/// `path` is relative to the hierarchy's root and starts with a slash.
#[must_use]
pub fn owner(path: &str) -> Owner {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (0..parts.len())
        .rev()
        .find_map(|at| container_at(&parts, at))
        .map_or_else(|| unit(&parts), Owner::Container)
}

fn container_at(parts: &[&str], at: usize) -> Option<ContainerRef> {
    let part = parts[at];
    let parent = at.checked_sub(1).map(|above| parts[above]);
    let (runtime, id) = by_scope(part)
        .or_else(|| by_parent(part, parent?, at >= 2))
        .or_else(|| by_machine(part, parent))?;
    Some(ContainerRef {
        runtime,
        id,
        pod_uid: parts[..at].iter().rev().find_map(|p| pod_uid(p)),
    })
}

/// `docker-<id>.scope` and its like, also without `.scope` (podman's cgroupfs driver) and in
/// containerd's `slice:prefix:id` form.
fn by_scope(part: &str) -> Option<(Runtime, String)> {
    if let Some((_, rest)) = part.split_once(".slice:") {
        let (prefix, id) = rest.split_once(':')?;
        let (_, runtime) = SCOPES
            .iter()
            .find(|(name, _)| name.trim_end_matches('-') == prefix)?;
        return is_id(id).then(|| (*runtime, id.to_owned()));
    }
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    SCOPES.iter().find_map(|(prefix, runtime)| {
        let id = bare.strip_prefix(prefix)?;
        is_id(id).then(|| (*runtime, id.to_owned()))
    })
}

/// A bare id below a directory that tells the runtime (the cgroupfs driver).
fn by_parent(id: &str, parent: &str, nested: bool) -> Option<(Runtime, String)> {
    let is_pod = pod_uid(parent).is_some();
    let runtime = match parent {
        "lxc" | "lxc.payload" => return Some((Runtime::Lxc, id.to_owned())),
        _ if !is_id(id) => return None,
        "docker" => Runtime::Docker,
        "libpod_parent" => Runtime::Podman,
        "buildkit" => Runtime::Docker,
        _ if is_pod => Runtime::Kubernetes,
        // containerd's cgroupfs driver: /<containerd namespace>/<id>.
        _ if !nested => Runtime::Containerd,
        _ => Runtime::Oci,
    };
    Some((runtime, id.to_owned()))
}

/// LXC's and nspawn's machines, which have names rather than ids.
fn by_machine(part: &str, parent: Option<&str>) -> Option<(Runtime, String)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some((Runtime::Lxc, name.to_owned()));
    }
    let nspawn = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"));
    let machine = (parent == Some("machine.slice"))
        .then(|| part.strip_prefix("machine-")?.strip_suffix(".scope"))
        .flatten();
    nspawn
        .or(machine)
        .map(|name| (Runtime::Nspawn, unescape_unit(name)))
}

/// The pod UID in `kubepods-burstable-pod<uid with underscores>.slice` or `pod<uid>`.
fn pod_uid(part: &str) -> Option<String> {
    let bare = part.strip_suffix(".slice").unwrap_or(part);
    // In kind's nodes `kubelet-kubepods-…`.
    let uid = if bare.contains("kubepods") {
        bare.rsplit_once("-pod")?.1
    } else {
        bare.strip_prefix("pod")?
    };
    let uid = uid.replace('_', "-");
    let hex_or_dash = uid
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (uid.len() >= 32 && hex_or_dash).then_some(uid)
}

fn unit(parts: &[&str]) -> Owner {
    parts
        .iter()
        .rev()
        .find(|part| part.ends_with(".service") || part.ends_with(".scope"))
        .map_or(Owner::Host, |part| Owner::Unit((*part).to_owned()))
}

/// Container ids of the OCI runtimes: 64 hex digits. (`conmon` scopes do not match.)
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// systemd writes `-` in a unit name's part as `\x2d`.
fn unescape_unit(name: &str) -> String {
    name.replace("\\x2d", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const POD: &str = "7f0c3d7e-6b2a-4a61-9d6e-2a3b4c5d6e7f";

    fn container(path: &str) -> (Runtime, String, Option<String>) {
        match owner(path) {
            Owner::Container(found) => (found.runtime, found.id, found.pod_uid),
            other @ (Owner::Unit(_) | Owner::Host) => panic!("{path}: {other:?}"),
        }
    }

    /// The shapes that each runtime's cgroup drivers write.
    #[test]
    fn knows_every_runtimes_path() {
        let pod_slice = format!("pod{}", POD.replace('-', "_"));
        let cases = [
            (format!("/docker/{ID}"), Runtime::Docker, false),
            (
                format!("/system.slice/docker-{ID}.scope"),
                Runtime::Docker,
                false,
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"
                ),
                Runtime::Docker,
                false,
            ),
            (format!("/docker/buildkit/{ID}"), Runtime::Docker, false),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Runtime::Podman,
                false,
            ),
            (
                format!("/libpod_parent/libpod-{ID}"),
                Runtime::Podman,
                false,
            ),
            (
                format!("/system.slice/nerdctl-{ID}.scope"),
                Runtime::Containerd,
                false,
            ),
            (format!("/default/{ID}"), Runtime::Containerd, false),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod_slice}.slice/cri-containerd-{ID}.scope"
                ),
                Runtime::Containerd,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-{pod_slice}.slice/crio-{ID}.scope"),
                Runtime::Crio,
                true,
            ),
            (
                format!("/kubepods/besteffort/pod{POD}/{ID}"),
                Runtime::Kubernetes,
                true,
            ),
            (
                format!("/kubepods-{pod_slice}.slice:cri-containerd:{ID}"),
                Runtime::Containerd,
                false,
            ),
            (
                format!(
                    "/docker/{INNER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-{pod_slice}.slice/cri-containerd-{ID}.scope"
                ),
                Runtime::Containerd,
                true,
            ),
            (
                format!("/docker/{INNER}/kubelet/kubepods/burstable/pod{POD}/{ID}"),
                Runtime::Kubernetes,
                true,
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{INNER}.slice/libpod-{ID}.scope/container"
                ),
                Runtime::Podman,
                false,
            ),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/{ID}"),
                Runtime::Oci,
                false,
            ),
            (
                format!("/machine.slice/machine-libpod_pod_{INNER}.slice/libpod-{ID}.scope"),
                Runtime::Podman,
                false,
            ),
        ];
        for (path, runtime, in_pod) in cases {
            let pod = in_pod.then(|| POD.to_owned());
            assert_eq!(container(&path), (runtime, ID.to_owned(), pod), "{path}");
        }
    }

    #[test]
    fn machines_have_names() {
        assert_eq!(container("/lxc.payload.web/init.scope").1, "web");
        assert_eq!(container("/lxc/web").1, "web");
        assert_eq!(
            container("/machine.slice/machine-my\\x2dbox.scope/payload").1,
            "my-box"
        );
        assert_eq!(
            container("/machine.slice/systemd-nspawn@box.service").1,
            "box"
        );
    }

    #[test]
    fn the_innermost_container_counts() {
        let nested = format!("/docker/{ID}/docker/{INNER}/init.scope");
        assert_eq!(container(&nested).1, INNER);
    }

    #[test]
    fn units_and_the_host() {
        assert_eq!(
            owner("/system.slice/ssh.service"),
            Owner::Unit("ssh.service".into())
        );
        assert_eq!(
            owner("/machine.slice/libpod-conmon-abc.scope"),
            Owner::Unit("libpod-conmon-abc.scope".into())
        );
        assert_eq!(owner("/user.slice"), Owner::Host);
        assert_eq!(owner("/"), Owner::Host);
        assert_eq!(owner(""), Owner::Host);
    }

    /// Where a runtime's driver puts a container, below whatever is above it.
    fn shape(number: usize, id: &str, pod: &str) -> (Runtime, String) {
        let slice = pod.replace('-', "_");
        match number % 9 {
            0 => (Runtime::Docker, format!("/docker/{id}")),
            1 => (Runtime::Docker, format!("/system.slice/docker-{id}.scope")),
            2 => (Runtime::Podman, format!("/libpod_parent/libpod-{id}")),
            3 => (
                Runtime::Podman,
                format!("/machine.slice/libpod-{id}.scope/container"),
            ),
            4 => (
                Runtime::Podman,
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"
                ),
            ),
            5 => (
                Runtime::Kubernetes,
                format!("/kubepods/burstable/pod{pod}/{id}"),
            ),
            6 => (
                Runtime::Containerd,
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/cri-containerd-{id}.scope"
                ),
            ),
            7 => (
                Runtime::Crio,
                format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{id}.scope"),
            ),
            _ => (
                Runtime::Containerd,
                format!("/system.slice/nerdctl-{id}.scope"),
            ),
        }
    }

    proptest::proptest! {
        #[test]
        fn the_innermost_counts_however_deep_and_whatever_is_inside(
            levels in proptest::collection::vec((0_usize..9, "[0-9a-f]{64}"), 1..5),
            pod in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            inside in "(/[a-z][a-z.-]{0,12}){0,3}",
        ) {
            let shapes = levels.iter().map(|(number, id)| shape(*number, id, &pod));
            let path: String = shapes.map(|(_, path)| path).collect();
            let (number, id) = levels.last().expect("at least one");
            let (runtime, _) = shape(*number, id, &pod);
            let (found, found_id, found_pod) = container(&format!("{path}{inside}"));
            proptest::prop_assert_eq!((found, &found_id), (runtime, id));
            let in_pod = levels.iter().any(|(number, _)| (5..=7).contains(&(number % 9)));
            proptest::prop_assert_eq!(found_pod, in_pod.then_some(pod));
        }

        #[test]
        fn any_path_has_an_owner(path in ".{0,200}") {
            let _owner = owner(&path);
        }

        #[test]
        fn what_has_no_container_in_it_is_no_container(parts in "(/[a-z][a-z0-9_.@-]{0,20}){0,6}") {
            let named = ["lxc", "machine", "nspawn"].iter().any(|word| parts.contains(word));
            proptest::prop_assert!(named || !matches!(owner(&parts), Owner::Container(_)));
        }
    }
}
