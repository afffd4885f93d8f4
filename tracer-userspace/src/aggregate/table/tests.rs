//! What is told, and when.

use bytemuck::Zeroable as _;

use super::*;

fn key(channel: u8) -> FlowKey {
    FlowKey {
        channel,
        ..FlowKey::zeroed()
    }
}

fn value(count: u64, connects: u64, at: u64) -> FlowValue {
    FlowValue {
        count,
        connects,
        first_ns: at,
        last_ns: at + 1,
        ..FlowValue::zeroed()
    }
}

fn told(table: &mut Table) -> Vec<(Channel, u64, u64, u64)> {
    let mut all = Vec::new();
    table.tell(|_, _, told| {
        all.extend(
            told.iter()
                .map(|t| (t.channel, t.count, t.first_ns, t.last_ns)),
        );
        true
    });
    all
}

#[test]
fn sums_are_totals_and_nothing_new_tells_nothing() {
    let mut table = Table::default();
    table.absorb(&key(channel::CONNECT), &value(2, 0, 10));
    table.absorb(&key(channel::CONNECT), &value(3, 0, 20));
    assert_eq!(told(&mut table), [(Channel::Connect, 5, 10, 21)]);
    assert_eq!(told(&mut table), []);
    table.absorb(&key(channel::CONNECT), &value(1, 0, 30));
    assert_eq!(told(&mut table), [(Channel::Connect, 1, 30, 31)]);
}

#[test]
fn a_connect_is_a_probe_until_a_datagram_leaves() {
    let mut table = Table::default();
    let connected = key(channel::CONNECTED_DATAGRAM);
    table.absorb(&connected, &value(0, 2, 10));
    assert_eq!(told(&mut table), [(Channel::UdpProbe, 2, 10, 11)]);
    table.absorb(&connected, &value(1, 0, 20));
    assert_eq!(told(&mut table), [(Channel::UdpConnect, 1, 20, 21)]);
}

#[test]
fn a_connect_that_sends_at_once_is_no_probe() {
    let mut table = Table::default();
    table.absorb(&key(channel::CONNECTED_DATAGRAM), &value(1, 1, 10));
    assert_eq!(told(&mut table), [(Channel::UdpConnect, 1, 10, 11)]);
}

#[test]
fn what_was_not_told_is_told_later() {
    let mut table = Table::default();
    table.absorb(&key(channel::SENDMSG), &value(4, 0, 10));
    table.tell(|_, _, _| false);
    table.absorb(&key(channel::SENDMSG), &value(1, 0, 20));
    assert_eq!(told(&mut table), [(Channel::Sendmsg, 5, 10, 21)]);
}

fn left(last: u8, port: u16) -> Translation {
    let mut translation = Translation {
        key: key(channel::CONNECT),
        port,
        ..Translation::zeroed()
    };
    translation.address[15] = last;
    translation
}

#[test]
fn each_place_that_packets_went_to_is_a_record() {
    let mut table = Table::default();
    table.absorb(&key(channel::CONNECT), &value(3, 0, 10));
    for translation in [left(9, 80), left(7, 80), left(7, 80), left(0, 0)] {
        table.translate(&translation);
    }
    let mut all = Vec::new();
    table.tell(|_, _, told| {
        all.extend(
            told.iter()
                .map(|t| (t.count, t.translated.map(|l| l.address[15]))),
        );
        true
    });
    // What was asked for left as well: a record without a translation says so.
    assert_eq!(all, [(3, None), (0, Some(7)), (0, Some(9))]);
    table.translate(&left(7, 80));
    assert_eq!(told(&mut table), [(Channel::Connect, 0, 11, 11)]);
    assert_eq!(table.take_turned_away(), 0);
}

#[test]
fn what_the_host_rewrites_comes_after_what_left_the_namespace() {
    let mut table = Table::default();
    let flow = key(channel::CONNECT);
    table.absorb(&flow, &value(3, 0, 10));
    for last in [8, 7] {
        let mut address = [0; 16];
        address[15] = last;
        assert!(table.translate_by_host(&flow, address, 80));
    }
    let places = |table: &mut Table| {
        let mut all = Vec::new();
        table.tell(|_, _, told| {
            let place = |t: &Told| {
                let left = t.translated.map(|l| (l.by_host, l.address[15]));
                (t.count, left)
            };
            all.extend(told.iter().map(place));
            true
        });
        all
    };
    let by_host = [(3, Some((true, 7))), (0, Some((true, 8)))];
    assert_eq!(places(&mut table), by_host);
    table.absorb(&flow, &value(1, 0, 20));
    table.translate(&left(9, 80));
    assert!(table.translate_by_host(&flow, [1; 16], 80));
    let both = [(1, Some((false, 9))), (0, Some((true, 1)))];
    assert_eq!(places(&mut table), both);
    assert!(!table.translate_by_host(&key(channel::SENDMSG), [1; 16], 80));
}

#[test]
fn translations_are_bounded_and_counted() {
    let mut table = Table::default();
    table.absorb(&key(channel::CONNECT), &value(1, 0, 10));
    (0..100).for_each(|port| table.translate(&left(1, port)));
    assert_eq!(table.take_turned_away(), 100 - TRANSLATIONS as u64);
    assert_eq!(table.take_turned_away(), 0);
}

#[test]
fn a_translation_waits_one_sweep_for_its_flow() {
    let mut table = Table::default();
    table.translate(&left(1, 1));
    table.swept();
    table.absorb(&key(channel::CONNECT), &value(1, 0, 10));
    table.swept();
    assert_eq!(table.take_turned_away(), 0);
    let mut places = 0;
    table.tell(|_, _, told| {
        places += told.iter().filter(|told| told.translated.is_some()).count();
        true
    });
    assert_eq!(places, 1);
    let mut table = Table::default();
    table.translate(&left(1, 1));
    table.swept();
    table.swept();
    assert_eq!(table.take_turned_away(), 1);
}

#[test]
fn denied_attempts_are_told_with_the_attempts() {
    let mut table = Table::default();
    let denied = |count, connects, blocked| FlowValue {
        blocked,
        ..value(count, connects, 10)
    };
    table.absorb(&key(channel::CONNECT), &denied(5, 0, 2));
    table.absorb(&key(channel::CONNECTED_DATAGRAM), &denied(1, 3, 2));
    let mut all = Vec::new();
    table.tell(|_, _, told| {
        all.extend(
            told.iter()
                .map(|t| (t.channel, t.count, t.outcomes.blocked)),
        );
        true
    });
    all.sort_unstable();
    let expected = [
        (Channel::Connect, 5, 2),
        (Channel::UdpConnect, 1, 0),
        (Channel::UdpProbe, 2, 2),
    ];
    assert_eq!(all, expected);
}

#[test]
fn idle_flows_are_forgotten() {
    let mut table = Table::default();
    table.absorb(&key(channel::CONNECT), &value(1, 0, 10));
    assert_eq!(told(&mut table).len(), 1);
    assert_eq!(table.len(), 1);
    assert_eq!(told(&mut table).len(), 0);
    assert!(table.is_empty());
}

fn udp(port: u16) -> FlowKey {
    FlowKey {
        cgroup_id: 5,
        protocol: 17,
        port,
        ..key(channel::SENDMSG)
    }
}

fn answered(table: &mut Table) -> Vec<(u64, Option<bool>)> {
    let mut all = Vec::new();
    table.tell(|_, _, told| {
        all.extend(told.iter().map(|t| (t.count, t.answered)));
        true
    });
    all
}

#[test]
fn datagrams_are_answered_or_not() {
    let mut table = Table::default();
    let answer = answer_from(&udp(53), [0; 16], 53);
    table.absorb(&udp(514), &value(1, 0, 10));
    table.answer(&[answer]);
    table.swept();
    assert_eq!(answered(&mut table), [(1, Some(false))]);
    // Its answer came before the counts did.
    table.absorb(&udp(53), &value(2, 0, 10));
    table.swept();
    assert_eq!(answered(&mut table), [(2, Some(true))]);
    table.swept();
    assert_eq!(answered(&mut table), []);
}

#[test]
fn an_answer_that_comes_late_is_told_once() {
    let mut table = Table::default();
    let answer = answer_from(&udp(53), [0; 16], 53);
    table.absorb(&udp(53), &value(2, 0, 10));
    table.swept();
    assert_eq!(answered(&mut table), [(2, Some(false))]);
    table.answer(&[answer]);
    table.swept();
    assert_eq!(answered(&mut table), [(0, Some(true))]);
    table.answer(&[answer]);
    table.swept();
    assert_eq!(answered(&mut table), []);
}

#[test]
fn of_groups_and_streams_and_by_the_deaf_no_answer_is_told() {
    let mut table = Table::default();
    let group = FlowKey {
        address: [0xff; 16],
        ..udp(5353)
    };
    let stream = FlowKey {
        protocol: 6,
        ..key(channel::CONNECT)
    };
    for key in [group, stream] {
        table.absorb(&key, &value(1, 0, 10));
        assert_eq!(answered(&mut table), [(1, None)]);
    }
    let mut table = Table::new(false, true);
    table.absorb(&udp(53), &value(1, 0, 10));
    assert_eq!(answered(&mut table), [(1, None)]);
}
