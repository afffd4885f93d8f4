//! Which tests run in the guest.

/// The targets whose tests can.
pub(crate) const TARGETS: [&str; 3] = ["live", "ways", "wire"];

/// Shows that every program loads or is told to be refused, and that `run` and `daemon` record
/// flows, names, processes and outcomes as they do on this machine.
const CORE: [(&str, &[&str]); 3] = [
    (
        "live",
        &[
            "counting::every_tcp_connect_counts_accepted_or_not",
            "counting::every_unconnected_datagram_counts",
            "counting::a_connected_datagram_socket_counts_once_a_connect",
            "counting::ipv6_counts_alike",
            "counting::ipv4_by_an_ipv6_socket_is_written_as_ipv4",
            "counting::two_processes_to_one_place_are_two_flows",
            "daemon::sigterm_ends_every_run_and_takes_the_ready_file_away",
            "foreign::what_another_program_denied_before_is_blocked",
            "losses::what_a_tiny_table_refuses_is_told_to_the_last_datagram",
            "pins::what_happened_while_no_daemon_ran_is_told_by_the_next",
            "preexisting::what_was_open_is_told_once_with_who_holds_it",
            "processes::a_process_that_lives_two_milliseconds_is_told_in_full",
            "processes::a_parent_that_is_gone_is_an_ancestor_all_the_same",
            "processes::a_flow_names_what_its_process_ran_at_that_moment",
            "run::nothing_stays_in_the_kernel",
            "run::two_runs_and_a_daemon_each_see_everything",
            "translated::nat_in_the_namespace_is_told_beside_what_was_asked_for",
        ],
    ),
    (
        "ways",
        &[
            "channels::every_channel_is_seen_as_the_table_says",
            "direction::a_client_that_spoke_first_is_no_server",
            "outcomes::every_outcome_of_a_connection_is_told_with_what_was_said",
        ],
    ),
    (
        "wire",
        &[
            "connections::curl_over_tls_proves_the_name",
            "connections::a_hello_in_many_segments_is_put_together",
            "connections::quic_says_whom_it_wants",
            "dns::every_question_is_told_with_its_answer",
            "dns::an_address_has_the_name_that_was_asked_for",
        ],
    ),
];

/// Those of the core that also run in a cgroup namespace below the root.
const NESTED: [&str; 4] = [
    "counting::every_tcp_connect_counts_accepted_or_not",
    "daemon::sigterm_ends_every_run_and_takes_the_ready_file_away",
    "processes::a_process_that_lives_two_milliseconds_is_told_in_full",
    "run::nothing_stays_in_the_kernel",
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
        "/tests/egress-tracer doctor | sed 's/^/doctor /'",
    )];
    if !chosen.is_empty() {
        steps.extend(chosen.iter().filter_map(|test| {
            let (target, name) = test.split_once("::")?;
            Some(Step::of_target(target, "", name))
        }));
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

/// All of a target, but what cannot run there.
fn skipping(target: &str) -> String {
    let of_it = NOT_THERE.iter().filter(|(of, _, _)| *of == target);
    let skipped: Vec<String> = of_it.map(|(_, name, _)| format!("--skip {name}")).collect();
    skipped.join(" ")
}
