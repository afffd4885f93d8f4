//! Which tests run in the guest.

/// The targets whose tests can.
pub(crate) const TARGETS: [&str; 3] = ["live", "ways", "wire"];

/// Shows that every program loads or is told to be refused, and that `run` and `daemon` record
/// flows, names, processes and outcomes as they do on this machine. Few, since a start takes half a
/// minute there.
const CORE: [(&str, &[&str]); 3] = [
    (
        "live",
        &[
            "counting::every_tcp_connect_counts_accepted_or_not",
            "daemon::sigterm_ends_every_run_and_takes_the_ready_file_away",
            "processes::a_process_that_lives_two_milliseconds_is_told_in_full",
        ],
    ),
    (
        "ways",
        &["outcomes::every_outcome_of_a_connection_is_told_with_what_was_said"],
    ),
    (
        "wire",
        &[
            "connections::curl_over_tls_proves_the_name",
            "dns::every_question_is_told_with_its_answer",
        ],
    ),
];

/// Those of the core that also run in a cgroup namespace below the root.
const NESTED: [&str; 2] = [
    "counting::every_tcp_connect_counts_accepted_or_not",
    "daemon::sigterm_ends_every_run_and_takes_the_ready_file_away",
];

/// What cannot run in the guest, each with the reason.
const NOT_THERE: [(&str, &str, &str); 0] = [];

/// One line of the guest's plan: a shell command.
#[derive(Debug)]
pub(crate) struct Step(String);

impl Step {
    fn new(words: &str) -> Self {
        Self(words.to_owned())
    }

    fn of_target(target: &str, how: &str, arguments: &str) -> Self {
        let title = if how.is_empty() {
            target.to_owned()
        } else {
            format!("{target} ({how})")
        };
        Self(format!(
            "echo '== {title}'\n{how} tests {target} {arguments}"
        ))
    }

    pub(crate) fn line(&self) -> String {
        format!("{}\n", self.0)
    }
}

/// The steps: of all, of the core, or of those named `TARGET::NAME`.
pub(crate) fn steps(all: bool, chosen: &[String]) -> Vec<Step> {
    let mut steps = vec![Step::new(
        "/tests/egress-tracer doctor --programs | sed 's/^/doctor /'",
    )];
    if !chosen.is_empty() {
        steps.extend(those(chosen));
        return steps;
    }
    for (target, names) in CORE {
        let arguments = if all {
            skipping(target)
        } else {
            format!("--exact {}", names.join(" "))
        };
        steps.push(Step::of_target(target, "", &arguments));
    }
    steps.push(Step::of_target(
        "live",
        "nested",
        &format!("--exact {}", NESTED.join(" ")),
    ));
    steps
}

/// Tests named `TARGET::NAME`, and nothing else.
pub(crate) fn those(chosen: &[String]) -> Vec<Step> {
    let steps = chosen.iter().filter_map(|test| {
        let (target, name) = test.split_once("::")?;
        Some(Step::of_target(target, "", name))
    });
    steps.collect()
}

/// All of a target, but what cannot run there.
fn skipping(target: &str) -> String {
    let of_it = NOT_THERE.iter().filter(|(of, _, _)| *of == target);
    let skipped: Vec<String> = of_it.map(|(_, name, _)| format!("--skip {name}")).collect();
    skipped.join(" ")
}
