//! What an engine says of a container, bounded: names and labels are chosen by whoever starts it.

use std::collections::BTreeMap;

use crate::record::{Container, PodOwner};

/// Bytes that a name may have: container, image, pod, namespace.
const NAME_BYTES: usize = 1024;

/// Labels that are kept, and the bytes of all their keys and values.
const LABELS: usize = 64;
const LABEL_BYTES: usize = 8 * 1024;

/// What compose and Kubernetes write: naming and selecting depend on it.
const WELL_KNOWN: [&str; 2] = ["com.docker.compose.", "io.kubernetes."];

/// What the engine says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// `docker`, `podman`, `containerd`, `crio`: who answered.
    pub engine: String,
    pub name: String,
    /// As the user gave it.
    pub image: Option<String>,
    /// `sha256:…`, or `name@sha256:…` where the image came from a registry.
    pub image_digest: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub labels_cut: bool,
    /// What the engine starts it with: `runc`, `kata-runtime`, `io.containerd.runsc.v1`.
    pub oci_runtime: Option<String>,
    pub pod: Option<PodInfo>,
}

/// The pod that a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub owner: PodOwner,
}

impl ContainerInfo {
    /// With everything cut to its bounds. Labels called in `wanted` are the last to go.
    #[must_use]
    pub fn bounded(mut self, wanted: &[String]) -> Self {
        cut(&mut self.name);
        if let Some(image) = &mut self.image {
            cut(image);
        }
        if let Some(pod) = &mut self.pod {
            cut(&mut pod.name);
            cut(&mut pod.namespace);
            cut(&mut pod.owner.name);
        }
        let (labels, labels_cut) = bounded_labels(std::mem::take(&mut self.labels), wanted);
        Self {
            labels,
            labels_cut,
            ..self
        }
    }

    /// Writes what is known into a record.
    pub fn describe(self, container: &mut Container) {
        container.runtime = self.engine;
        container.name = Some(self.name);
        container.image = self.image;
        container.image_digest = self.image_digest;
        container.labels = self.labels;
        container.labels_cut = self.labels_cut;
        if let Some(pod) = self.pod {
            container.pod = Some(pod.name);
            container.namespace = Some(pod.namespace);
            container.pod_uid = Some(pod.uid);
            container.owner = Some(pod.owner);
        }
    }
}

fn cut(text: &mut String) {
    let mut end = NAME_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// Whole labels only, the ones that something depends on first; and whether any is missing.
fn bounded_labels(
    labels: BTreeMap<String, String>,
    wanted: &[String],
) -> (BTreeMap<String, String>, bool) {
    let all = labels.len();
    let rank = |key: &String| {
        let is_known = WELL_KNOWN.iter().any(|prefix| key.starts_with(prefix));
        (!wanted.contains(key), !is_known)
    };
    let mut ordered: Vec<_> = labels.into_iter().collect();
    ordered.sort_by_key(|(key, _)| rank(key));
    let mut room = LABEL_BYTES;
    let kept: BTreeMap<_, _> = ordered
        .into_iter()
        .filter(|(key, value)| {
            let size = key.len() + value.len();
            let fits = size <= room;
            room -= if fits { size } else { 0 };
            fits
        })
        .take(LABELS)
        .collect();
    let is_cut = kept.len() < all;
    (kept, is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize, value: &str) -> BTreeMap<String, String> {
        (0..count)
            .map(|number| (format!("a{number:04}"), value.to_owned()))
            .collect()
    }

    #[test]
    fn labels_are_bounded_in_number_and_size() {
        let (kept, is_cut) = bounded_labels(labels(3, "x"), &[]);
        assert_eq!((kept.len(), is_cut), (3, false));
        let (kept, is_cut) = bounded_labels(labels(LABELS + 1, "x"), &[]);
        assert_eq!((kept.len(), is_cut), (LABELS, true));
        let (kept, is_cut) = bounded_labels(labels(10, &"x".repeat(4096)), &[]);
        assert_eq!((kept.len(), is_cut), (1, true));
    }

    #[test]
    fn what_naming_depends_on_is_the_last_to_go() {
        let mut all = labels(200, &"x".repeat(200));
        all.insert("com.docker.compose.service".into(), "agent".into());
        all.insert("team".into(), "search".into());
        let (kept, is_cut) = bounded_labels(all, &["team".into()]);
        assert!(is_cut);
        assert_eq!(kept["team"], "search");
        assert_eq!(kept["com.docker.compose.service"], "agent");
    }

    #[test]
    fn names_are_cut_between_characters() {
        let info = ContainerInfo {
            name: "é".repeat(4000),
            image: Some(format!("a{}", "é".repeat(4000))),
            ..ContainerInfo::default()
        };
        let info = info.bounded(&[]);
        assert_eq!(info.name.len(), NAME_BYTES);
        assert_eq!(info.image.map(|image| image.len()), Some(NAME_BYTES - 1));
    }
}
