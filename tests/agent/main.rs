//! `sample-agent`: a client that does what its arguments say, one step after the other.
//!
//! Without arguments it plays a believable agent session against the names of
//! `lab::agent_plan`. Each step prints one line; a step that fails says so and the next one
//! follows, as in an agent that handles its errors. Few dependencies: it goes into a container
//! image.

mod bytes;
mod socket;

use std::{
    env,
    io::{Error, ErrorKind, Read as _, Result, Write as _, stdin},
    mem,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitCode},
    thread::{self, sleep},
    time::Duration,
};

const USAGE: &str = "\
usage: sample-agent [STEP…]
  tcp ADDR:PORT            connect, send a line, read the answer
  tcp-abandon ADDR:PORT MS connect, give up after MS milliseconds
  tcp-idle ADDR:PORT MS    the same as tcp, and close after MS milliseconds
  tcp-start ADDR:PORT      connect without waiting for the outcome
  udp ADDR:PORT            sendto on an unconnected socket, read the answer
  udp-connected ADDR:PORT  connect, send, read the answer
  udp-keep ADDR:PORT       connect, send, stay connected to the end
  udp-probe ADDR:PORT      connect only: nothing leaves
  socket 4|6 OP…           one UDP socket of that family: connect ADDR:PORT, send N, to ADDR:PORT N
                           (sendto), msg ADDR:PORT N (sendmsg), mmsg ADDR:PORT N (sendmmsg), wait
  say tcp|udp ADDR:PORT HEX[,HEX]… send these bytes, each in a packet of its own, read the answer
  flood IP FROM TO         a datagram to each port of a range, from one socket
  hold udp|tcp ADDR:PORT   listen to the end, and never answer
  lookup NAME PORT         getaddrinfo, then TCP to the first address that works
  resolve NAME             getaddrinfo only
  ntp ADDR:PORT            ask for the time
  sleep MS                 pause
  wait                     until a line comes on stdin
  exec PROGRAM [ARG…]      run PROGRAM with the rest of the line, wait for it
  become PROGRAM [ARG…]    turn into PROGRAM: nothing follows
  remark WORD…             nothing: nothing follows
  threads N STEP…          N threads do the rest of the line at once, wait for them
  fork N STEP…             N copies of itself do the rest of the line at once, wait for them
  repeat N STEP…           do the rest of the line N times
ADDR may be a name. `::` ends the steps of socket, threads, fork, repeat and exec.";

/// What an agent does in one session: ask a model, use its tools, report.
const SESSION: &str = "\
lookup api.model.example 443 \
lookup vectors.example 6333 \
udp statsd.telemetry.example:8125 \
fork 2 lookup docs.example 443 :: \
lookup api.model.example 443 \
tcp [2001:db8::30]:443 \
ntp time.example:123 \
repeat 3 lookup search.example 443 sleep 20 :: \
lookup api.model.example 443 \
lookup otel.telemetry.example 4317";

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut steps: Vec<String> = env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if steps.is_empty() {
        steps = SESSION.split_whitespace().map(str::to_owned).collect();
    }
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    match follow(&steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sample-agent: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Does all of `steps`. Fails only when they cannot be understood.
fn follow(mut steps: &[&str]) -> Result<()> {
    while !steps.is_empty() {
        steps = step(steps)?;
    }
    Ok(())
}

/// Does the first of `steps` and returns the others.
fn step<'a, 'b>(steps: &'a [&'b str]) -> Result<&'a [&'b str]> {
    let rest = match steps {
        ["tcp", at, rest @ ..] => told("tcp", at, tcp(at), rest),
        ["tcp-abandon", at, ms, rest @ ..] => {
            told("tcp-abandon", at, tcp_abandon(at, number(ms)?), rest)
        }
        ["tcp-idle", at, ms, rest @ ..] => told("tcp-idle", at, tcp_idle(at, number(ms)?), rest),
        ["tcp-start", at, rest @ ..] => told("tcp-start", at, tcp_start(at), rest),
        ["socket", family, rest @ ..] => {
            let (line, rest) = until_end(rest);
            told("socket", family, socket::follow(family, line), rest)
        }
        ["say", kind, at, pieces, rest @ ..] => told("say", at, bytes::say(kind, at, pieces), rest),
        ["flood", ip, from, to, rest @ ..] => told("flood", ip, flood(ip, from, to), rest),
        ["hold", kind, at, rest @ ..] => told("hold", at, hold(kind, at), rest),
        ["udp", at, rest @ ..] => told("udp", at, udp(at), rest),
        ["udp-connected", at, rest @ ..] => told("udp-connected", at, udp_connected(at), rest),
        ["udp-keep", at, rest @ ..] => told("udp-keep", at, udp_keep(at), rest),
        ["udp-probe", at, rest @ ..] => told("udp-probe", at, udp_probe(at), rest),
        ["lookup", name, port, rest @ ..] => told("lookup", name, lookup(name, port), rest),
        ["resolve", name, rest @ ..] => told("resolve", name, resolve(name), rest),
        ["ntp", at, rest @ ..] => told("ntp", at, ntp(at), rest),
        ["sleep", ms, rest @ ..] => {
            sleep(Duration::from_millis(number(ms)?));
            rest
        }
        ["wait", rest @ ..] => {
            wait()?;
            rest
        }
        ["become", program, rest @ ..] => told("become", program, r#become(program, rest), &[]),
        ["remark", ..] => &[],
        ["threads", n, rest @ ..] => {
            let (line, rest) = until_end(rest);
            told("threads", n, threads(number(n)?, line), rest)
        }
        ["exec", rest @ ..] => {
            let (line, rest) = until_end(rest);
            let (program, arguments) = line.split_first().ok_or_else(|| unknown(steps))?;
            told("exec", program, exec(program, arguments), rest)
        }
        ["fork", n, rest @ ..] => {
            let (line, rest) = until_end(rest);
            told("fork", n, fork(number(n)?, line), rest)
        }
        ["repeat", n, rest @ ..] => {
            let (line, rest) = until_end(rest);
            for _ in 0..number(n)? {
                follow(line)?;
            }
            rest
        }
        ["::", rest @ ..] => rest,
        _ => return Err(unknown(steps)),
    };
    Ok(rest)
}

/// Splits at the `::` that belongs to this step; inner ones belong to inner steps.
fn until_end<'a, 'b>(steps: &'a [&'b str]) -> (&'a [&'b str], &'a [&'b str]) {
    let mut depth = 0_usize;
    for (i, word) in steps.iter().enumerate() {
        match *word {
            "fork" | "repeat" | "exec" | "socket" | "threads" => depth += 1,
            "::" if depth == 0 => return (&steps[..i], &steps[i + 1..]),
            "::" => depth -= 1,
            _ => {}
        }
    }
    (steps, &[])
}

/// Prints how a step went and returns what is left to do.
fn told<'a, 'b>(
    step: &str,
    at: &str,
    result: Result<String>,
    rest: &'a [&'b str],
) -> &'a [&'b str] {
    match result {
        Ok(text) => println!("{step} {at}: ok {text}"),
        Err(error) => println!("{step} {at}: {error}"),
    }
    rest
}

fn tcp(at: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    converse(&mut stream)?;
    Ok(stream.peer_addr()?.to_string())
}

fn converse(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 1024];
    stream.read(&mut answer).map(drop)
}

fn tcp_abandon(at: &str, ms: u64) -> Result<String> {
    let stream = TcpStream::connect_timeout(&first(at)?, Duration::from_millis(ms))?;
    Ok(stream.peer_addr()?.to_string())
}

fn tcp_idle(at: &str, ms: u64) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    converse(&mut stream)?;
    sleep(Duration::from_millis(ms));
    Ok(stream.peer_addr()?.to_string())
}

fn udp_keep(at: &str) -> Result<String> {
    let to = first(at)?;
    let socket = socket_for(to)?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    // Connected until this process ends.
    mem::forget(socket);
    Ok(to.to_string())
}

fn tcp_start(at: &str) -> Result<String> {
    let to = first(at)?;
    // Kept, or closing it would end the attempt.
    mem::forget(socket::connect_at_once(to)?);
    Ok(to.to_string())
}

fn flood(ip: &str, from: &str, to: &str) -> Result<String> {
    let ports = number(from)?..=number(to)?;
    let at = |port| format!("{}:{port}", bracketed(ip));
    let socket = socket_for(first(&at(1))?)?;
    for port in ports.clone() {
        socket.send_to(b"flood", first(&at(port))?)?;
    }
    Ok(format!("{} datagrams", ports.count()))
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

fn hold(kind: &str, at: &str) -> Result<String> {
    // Forgotten: open until this process ends.
    match kind {
        "tcp" => mem::forget(TcpListener::bind(at)?),
        "udp" => mem::forget(UdpSocket::bind(at)?),
        _ => return Err(unknown(&["hold", kind])),
    }
    Ok(kind.to_owned())
}

fn wait() -> Result<()> {
    stdin().read_line(&mut String::new()).map(drop)
}

fn r#become(program: &str, arguments: &[&str]) -> Result<String> {
    Err(Command::new(program).args(arguments).exec())
}

fn threads(copies: u64, steps: &[&str]) -> Result<String> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..copies).map(|_| scope.spawn(|| follow(steps))).collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(Error::other("a thread panicked")))
        })
    })?;
    Ok("all ended".to_owned())
}

fn udp(at: &str) -> Result<String> {
    ask(at, b"hello", |socket, to, text| socket.send_to(text, to))
}

fn udp_connected(at: &str) -> Result<String> {
    ask(at, b"hello", |socket, to, text| {
        socket.connect(to)?;
        socket.send(text)
    })
}

fn udp_probe(at: &str) -> Result<String> {
    let to = first(at)?;
    socket_for(to)?.connect(to)?;
    Ok(to.to_string())
}

fn ntp(at: &str) -> Result<String> {
    const VERSION_4_CLIENT: u8 = 0b00_100_011;
    let mut question = [0; 48];
    question[0] = VERSION_4_CLIENT;
    ask(at, &question, |socket, to, text| socket.send_to(text, to))
}

/// Sends `text` by `send` and waits for an answer; silence is no failure, as in statsd.
fn ask(
    at: &str,
    text: &[u8],
    send: impl Fn(&UdpSocket, SocketAddr, &[u8]) -> Result<usize>,
) -> Result<String> {
    let to = first(at)?;
    let socket = socket_for(to)?;
    socket.set_read_timeout(Some(PATIENCE / 10))?;
    send(&socket, to, text)?;
    match socket.recv(&mut [0; 1024]) {
        Ok(_) => Ok(to.to_string()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(format!("{to} (no answer)")),
        Err(error) => Err(error),
    }
}

fn lookup(name: &str, port: &str) -> Result<String> {
    tcp(&format!("{name}:{port}"))
}

fn resolve(name: &str) -> Result<String> {
    let addresses = (name, 0).to_socket_addrs()?;
    let addresses: Vec<String> = addresses.map(|to| to.ip().to_string()).collect();
    Ok(addresses.join(" "))
}

fn exec(program: &str, arguments: &[&str]) -> Result<String> {
    let status = Command::new(program).args(arguments).status()?;
    Ok(status.to_string())
}

fn fork(copies: u64, steps: &[&str]) -> Result<String> {
    let myself = env::current_exe()?;
    let children: Vec<Child> = (0..copies)
        .map(|_| Command::new(&myself).args(steps).spawn())
        .collect::<Result<_>>()?;
    for mut child in children {
        child.wait()?;
    }
    Ok("all ended".to_owned())
}

fn first(at: &str) -> Result<SocketAddr> {
    let none = || Error::other("no address");
    at.to_socket_addrs()?.next().ok_or_else(none)
}

fn socket_for(to: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::other(format!("`{text}` is no number")))
}

fn unknown(steps: &[&str]) -> Error {
    Error::other(format!("cannot understand `{}`", steps.join(" ")))
}
