//! The picture from process to destination to network. Small screens and screen readers get the
//! tables instead, which say the same.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{counted, cut, facts::Facts, facts::Row, said};

/// Destinations in the picture; the table has all.
const MAX_ROWS: usize = 32;
/// Characters of a label; the whole of it is in the node's title.
const MAX_LABEL: usize = 34;
const HEIGHT: usize = 30;
const BOX: usize = 24;

/// The columns: where they begin, and how wide they are, of 1000.
const PROCESS: Column = Column { x: 0, width: 210 };
const DESTINATION: Column = Column { x: 330, width: 330 };
const NETWORK: Column = Column { x: 780, width: 220 };

struct Column {
    x: usize,
    width: usize,
}

/// Labels from top to bottom, by the order in which they are first named.
#[derive(Default)]
struct Nodes {
    places: BTreeMap<String, usize>,
    /// The label, and whether it has a sign.
    labels: Vec<(String, bool)>,
}

impl Nodes {
    fn place(&mut self, label: &str, is_bad: bool) -> usize {
        if let Some(&place) = self.places.get(label) {
            self.labels[place].1 |= is_bad;
            return place;
        }
        self.places.insert(label.to_owned(), self.labels.len());
        self.labels.push((label.to_owned(), is_bad));
        self.labels.len() - 1
    }
}

/// A line from a node of one column to one of the next.
struct Link {
    from: usize,
    to: usize,
    connections: u64,
    is_bad: bool,
}

#[derive(Default)]
struct Picture {
    processes: Nodes,
    destinations: Nodes,
    networks: Nodes,
    sent: Vec<Link>,
    went: Vec<Link>,
}

impl Picture {
    fn add(&mut self, row: &Row) {
        let is_bad = row.is_bad();
        let label = format!("{} {}", row.label, row.seen.service);
        let to = self.destinations.place(&label, is_bad);
        let network = self.networks.place(&row.network, false);
        let link = |from, to| Link {
            from,
            to,
            connections: row.seen.connections,
            is_bad,
        };
        self.went.push(link(to, network));
        let unknown = ["unknown process".to_owned()];
        let processes = match row.seen.processes.as_slice() {
            [] => &unknown[..],
            processes => processes,
        };
        for process in processes {
            let from = self.processes.place(process, false);
            self.sent.push(link(from, to));
        }
    }

    fn height(&self) -> usize {
        let columns = [&self.processes, &self.destinations, &self.networks];
        let most = columns.map(|nodes| nodes.labels.len()).into_iter().max();
        most.unwrap_or(0) * HEIGHT
    }
}

/// The picture, with a caption that says what it means.
pub(super) fn figure(number: usize, facts: &Facts) -> Markup {
    let mut picture = Picture::default();
    let shown = facts.rows.iter().take(MAX_ROWS);
    shown.for_each(|row| picture.add(row));
    let height = picture.height();
    let left_out = facts.rows.len().saturating_sub(MAX_ROWS);
    html! {
        h3 { "What it talked to" }
        figure.wide {
            svg.flow role="img" aria-labelledby={ "f" (number) } viewBox={ "0 0 1000 " (height) } {
                title #{ "f" (number) } {
                    (counted(picture.processes.labels.len(), "process")) " to "
                    (counted(picture.destinations.labels.len(), "destination")) " in "
                    (counted(picture.networks.labels.len(), "network"))
                    "; the table of destinations says the same"
                }
                g fill="none" {
                    (links(&picture.sent, &picture, (&PROCESS, &picture.processes), (&DESTINATION, &picture.destinations)))
                    (links(&picture.went, &picture, (&DESTINATION, &picture.destinations), (&NETWORK, &picture.networks)))
                }
                (nodes(&PROCESS, &picture.processes, height))
                (nodes(&DESTINATION, &picture.destinations, height))
                (nodes(&NETWORK, &picture.networks, height))
            }
            figcaption {
                "Process, destination, network. The more connections to a destination, the wider its \
                 lines; where several processes went there, each has its whole width. ▲ marks a \
                 finding of severity high or critical."
                @if left_out > 0 {
                    " " (counted(left_out, "destination")) " more are in the table only."
                }
            }
        }
    }
}

/// The middle of a node. Columns with few nodes spread over the whole height.
fn middle(place: usize, nodes: &Nodes, height: usize) -> usize {
    let share = height / nodes.labels.len().max(1);
    place * share + share / 2
}

fn links(
    links: &[Link],
    picture: &Picture,
    (left, from): (&Column, &Nodes),
    (right, to): (&Column, &Nodes),
) -> Markup {
    let height = picture.height();
    let (begin, end) = (left.x + left.width, right.x);
    let half = usize::midpoint(begin, end);
    html! {
        @for link in links {
            @let (up, down) = (middle(link.from, from, height), middle(link.to, to, height));
            path.link.bad[link.is_bad] stroke-width=(width(link.connections))
                d={ "M" (begin) " " (up) "C" (half) " " (up) " " (half) " " (down) " " (end) " " (down) } {}
        }
    }
}

/// Wider by one for each factor of four, so that one busy destination leaves the others visible.
fn width(connections: u64) -> u32 {
    (1 + connections.max(1).ilog2() / 2).min(9)
}

fn nodes(column: &Column, nodes: &Nodes, height: usize) -> Markup {
    html! {
        @for (place, (label, is_bad)) in nodes.labels.iter().enumerate() {
            @let y = middle(place, nodes, height) - BOX / 2;
            @let shown = cut(&said(label), MAX_LABEL * column.width / DESTINATION.width);
            g {
                title { (said(label)) }
                rect.node.bad[*is_bad] x=(column.x) y=(y) width=(column.width) height=(BOX) rx="4" {}
                text x=(column.x + 8) y=(y + 17) {
                    @if *is_bad { "▲ " }
                    (shown)
                }
            }
        }
    }
}
