//! `load-generator`: makes exactly as many connections and datagrams as it is told to, over
//! loopback, and says how long that took. What `cargo xtask bench` measures with.

mod cost;
mod marks;
mod processes;
mod quantity;
mod tls;

use std::{
    env,
    io::{Error, ErrorKind, Result},
    net::Ipv4Addr,
    path::Path,
    process::ExitCode,
    str::FromStr,
};

const USAGE: &str = "\
usage: load-generator cost CORE SALT [CALL…]
         on core CORE: nanoseconds of one TCP connection (tcp), one sendto(), one send(), one TLS
         connection (tls), one process that connects once and ends (process), or of those named;
         of several calls with a destination each, SALT from 0 to 9999 chooses different ones
       load-generator across CORE ADDR NETNS CGROUP
         tcp, sendto and send with the servers here at ADDR, and the clients in that network
         namespace and that cgroup, by their paths
       load-generator connects COUNT DESTINATIONS THREADS RATE
         COUNT TCP connections in all, DESTINATIONS addresses in turn, each thread at most RATE a
         second (0: no limit)
       load-generator packets COUNT
         COUNT bytes over one TCP connection and back, one by one
       load-generator datagrams COUNT FIRST RATE ROUNDS
         one datagram to each of COUNT addresses from the FIRST of 127.0.0.0/8 on, at most RATE a
         second, all of it ROUNDS times
       load-generator storm COUNT ADDR:PORT TAG
         COUNT processes, each of which runs `load-generator once ADDR:PORT TAG NUMBER`
       load-generator once ADDR:PORT WORD…
         one TCP connection, which may be refused
       load-generator marks SOCKET
         nanoseconds of the begin and end of a tool call, told to the daemon that listens there
       load-generator bomb COUNT THREADS
         COUNT processes that end at once";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match follow(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load-generator: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn follow(words: &[&str]) -> Result<()> {
    match words {
        ["cost", core, salt, chosen @ ..] => cost::measure(number(core)?, number(salt)?, chosen),
        ["across", core, address, network, cgroup] => cost::across(
            number(core)?,
            number(address)?,
            Path::new(network),
            Path::new(cgroup),
        ),
        ["connects", count, destinations, threads, rate] => quantity::connects(
            number(count)?,
            number(destinations)?,
            number(threads)?,
            number(rate)?,
        ),
        ["packets", count] => quantity::packets(number(count)?),
        ["datagrams", count, first, rate, rounds] => quantity::datagrams(
            number(count)?,
            number(first)?,
            number(rate)?,
            number(rounds)?,
        ),
        ["storm", count, at, tag] => processes::storm(number(count)?, at, tag),
        ["once", at, ..] => processes::once(at),
        ["marks", socket] => marks::measure(socket),
        ["bomb", count, threads] => processes::bomb(number(count)?, number(threads)?),
        _unknown => Err(usage("unknown words")),
    }
}

fn number<N: FromStr>(word: &str) -> Result<N> {
    word.parse()
        .map_err(|_| usage(&format!("{word} is not a number that fits")))
}

fn usage(text: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

/// The `n`-th address of 127.0.0.0/8. The kernel answers for all of them.
fn loopback(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x7f00_0000 | (n & 0x00ff_ffff))
}
