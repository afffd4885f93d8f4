//! From a pod's name and labels to what made the pod. Pure.
//!
//! The container runtime does not know a pod's owner, and the tracer does not ask the API server.
//! But each controller of Kubernetes leaves its mark on the pods that it makes:
//!
//! | label or annotation | written by | pod's name |
//! |---|---|---|
//! | `pod-template-hash` | the Deployment's controller (`DefaultDeploymentUniqueLabelKey`) | `<deployment>-<hash>-<5 random>` |
//! | `statefulset.kubernetes.io/pod-name` | the StatefulSet's | `<set>-<ordinal>` |
//! | `controller-revision-hash` | the StatefulSet's and the DaemonSet's | `<set>-<ordinal>`, `<set>-<5 random>` |
//! | `batch.kubernetes.io/job-name`, before 1.27 `job-name` | the Job's; a CronJob's jobs are `<cronjob>-<minutes since 1970>` | `<job>-<5 random>` |
//! | `kubernetes.io/config.source` = `file`, `http` | the kubelet, for static pods | `<name>-<node>` |
//!
//! Sources: "Well-Known Labels, Annotations and Taints" and the pages of the controllers on
//! kubernetes.io, `pkg/controller/controller_utils.go` and `apimachinery`'s name generator in
//! kubernetes/kubernetes. A pod whose labels fit none of these is its own owner.

use std::collections::BTreeMap;

use crate::record::PodOwner;

/// What made the pod called `pod`. `kind` is Kubernetes' own word, or `StaticPod`.
#[must_use]
pub fn pod_owner(
    pod: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> PodOwner {
    let label = |key: &str| labels.get(key).map(String::as_str);
    let (kind, name) = deployment(pod, label("pod-template-hash"))
        .or_else(|| job(label("batch.kubernetes.io/job-name").or_else(|| label("job-name"))))
        .or_else(|| stateful(pod, label("statefulset.kubernetes.io/pod-name")))
        .or_else(|| revision(pod, label("controller-revision-hash")))
        .or_else(|| static_pod(pod, annotations))
        .unwrap_or(("Pod", pod));
    PodOwner {
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

type Found<'a> = (&'static str, &'a str);

fn deployment<'a>(pod: &'a str, hash: Option<&str>) -> Option<Found<'a>> {
    let (replica_set, _suffix) = pod.rsplit_once('-')?;
    let name = replica_set.strip_suffix(hash?)?.strip_suffix('-')?;
    (!name.is_empty()).then_some(("Deployment", name))
}

fn job(name: Option<&str>) -> Option<Found<'_>> {
    let name = name.filter(|name| !name.is_empty())?;
    let scheduled = name.rsplit_once('-').filter(|(cron_job, minutes)| {
        // Minutes since 1970 have eight digits from 1989 to 2160.
        let is_time = minutes.len() == 8 && minutes.bytes().all(|byte| byte.is_ascii_digit());
        is_time && !cron_job.is_empty()
    });
    match scheduled {
        Some((cron_job, _)) => Some(("CronJob", cron_job)),
        None => Some(("Job", name)),
    }
}

fn stateful<'a>(pod: &'a str, own_name: Option<&str>) -> Option<Found<'a>> {
    (own_name? == pod).then(|| ordinal(pod)).flatten()
}

fn ordinal(pod: &str) -> Option<Found<'_>> {
    let (set, number) = pod.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !set.is_empty()).then_some(("StatefulSet", set))
}

/// A StatefulSet's revision is `<set>-<hash>`, a DaemonSet's the hash alone.
fn revision<'a>(pod: &'a str, hash: Option<&str>) -> Option<Found<'a>> {
    let hash = hash?;
    if let Some(found @ (_, set)) = ordinal(pod)
        && hash.starts_with(&format!("{set}-"))
    {
        return Some(found);
    }
    let (set, _suffix) = pod.rsplit_once('-')?;
    (!set.is_empty()).then_some(("DaemonSet", set))
}

fn static_pod<'a>(pod: &'a str, annotations: &BTreeMap<String, String>) -> Option<Found<'a>> {
    let source = annotations.get("kubernetes.io/config.source")?;
    // The name ends in the node's, which may have dashes: only the whole of it is certain.
    ["file", "http"]
        .contains(&source.as_str())
        .then_some(("StaticPod", pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn owner(pod: &str, labels: &[(&str, &str)]) -> (String, String) {
        let PodOwner { kind, name } = pod_owner(pod, &map(labels), &BTreeMap::new());
        (kind, name)
    }

    /// Names and labels as the controllers write them.
    #[test]
    fn each_controller_is_known_by_its_marks() {
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, Labels<'_>, &str, &str); 10] = [
            (
                "agent-6d4cf56db6-x7k2p",
                &[("pod-template-hash", "6d4cf56db6")],
                "Deployment",
                "agent",
            ),
            (
                "a-b-6d4cf56db6-x7k2p",
                &[("pod-template-hash", "6d4cf56db6")],
                "Deployment",
                "a-b",
            ),
            (
                "db-0",
                &[
                    ("statefulset.kubernetes.io/pod-name", "db-0"),
                    ("controller-revision-hash", "db-5f4b7c8d9"),
                ],
                "StatefulSet",
                "db",
            ),
            (
                "my-db-12",
                &[("controller-revision-hash", "my-db-5f4b7c8d9")],
                "StatefulSet",
                "my-db",
            ),
            (
                "kube-proxy-9xk2p",
                &[
                    ("controller-revision-hash", "5b9f6d7c8"),
                    ("pod-template-generation", "1"),
                ],
                "DaemonSet",
                "kube-proxy",
            ),
            (
                "logs-22222",
                &[("controller-revision-hash", "5b9f6d7c8")],
                "DaemonSet",
                "logs",
            ),
            (
                "migrate-abcde",
                &[("batch.kubernetes.io/job-name", "migrate")],
                "Job",
                "migrate",
            ),
            (
                "migrate-abcde",
                &[("job-name", "migrate")],
                "Job",
                "migrate",
            ),
            (
                "nightly-28473120-abcde",
                &[("job-name", "nightly-28473120")],
                "CronJob",
                "nightly",
            ),
            ("alone", &[("app", "alone")], "Pod", "alone"),
        ];
        for (pod, labels, kind, name) in cases {
            assert_eq!(
                owner(pod, labels),
                (kind.to_owned(), name.to_owned()),
                "{pod}"
            );
        }
    }

    #[test]
    fn labels_that_do_not_fit_the_name_prove_nothing() {
        for (pod, key, value) in [
            ("alone", "pod-template-hash", "6d4cf56db6"),
            ("agent-x-y", "pod-template-hash", "6d4cf56db6"),
            ("-6d4cf56db6-y", "pod-template-hash", "6d4cf56db6"),
            ("alone", "statefulset.kubernetes.io/pod-name", "alone"),
            ("alone", "controller-revision-hash", "x"),
            ("alone", "job-name", ""),
            ("", "job-name", ""),
        ] {
            assert_eq!(
                owner(pod, &[(key, value)]),
                ("Pod".to_owned(), pod.to_owned())
            );
        }
    }

    #[test]
    fn static_pods_are_the_kubelets() {
        let annotations = map(&[("kubernetes.io/config.source", "file")]);
        let owner = pod_owner("etcd-node-1", &BTreeMap::new(), &annotations);
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str()),
            ("StaticPod", "etcd-node-1")
        );
        let from_api = map(&[("kubernetes.io/config.source", "api")]);
        assert_eq!(pod_owner("etcd", &BTreeMap::new(), &from_api).kind, "Pod");
    }

    proptest::proptest! {
        #[test]
        fn any_pod_has_an_owner_whose_name_is_not_made_up(pod in ".{0,40}", hash in ".{0,12}") {
            for key in ["pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"] {
                let (_, name) = owner(&pod, &[(key, &hash)]);
                proptest::prop_assert!(pod.starts_with(&name));
            }
        }
    }
}
