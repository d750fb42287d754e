//! A line between two machines: every packet of a TUN device comes out of another one a fixed time later.
//!
//! Owns delay, rate, queue and loss of one line. The devices are standard input and standard output, opened and
//! configured by whoever starts this (`bench/lab/line.py`). Usage: `nearfs-relay CONTROL_NAME RATE_BPS QUEUE_BYTES
//! LOSS_PPM SEED`. Commands on the control socket (an abstract one of that name), one a connection: `counts` and `delay NANOSECONDS` (one way).
//!
//! Threads: two a direction. The receiver stamps a packet with the moment when it is due, the sender sleeps until
//! then. Both directions have a queue of their own, as the two directions of a real line have.

mod counts;
mod direction;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs, io, process};

use counts::Counts;
use direction::{Direction, Shape};

/// A control connection that says nothing is closed after this time.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);

/// What both directions share with the control socket.
struct Line {
    delay_ns: Arc<AtomicU64>,
    up: Arc<Counts>,
    down: Arc<Counts>,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("nearfs-relay: {error}");
        process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [socket, rate_bps, queue_bytes, loss_ppm, seed] = arguments.as_slice() else {
        return Err(io::Error::other("usage: nearfs-relay CONTROL_NAME RATE_BPS QUEUE_BYTES LOSS_PPM SEED"));
    };
    let shape = Shape { rate_bps: number(rate_bps)?, queue_bytes: number(queue_bytes)?, loss_ppm: number(loss_ppm)? };
    let seed = number(seed)?;
    let near = io::stdin().as_fd().try_clone_to_owned()?;
    let far = io::stdout().as_fd().try_clone_to_owned()?;
    let line = Line { delay_ns: Arc::default(), up: Arc::default(), down: Arc::default() };
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(socket)?)?;
    for (from, to, counts, seed) in [(&near, &far, &line.up, seed), (&far, &near, &line.down, seed ^ u64::MAX)] {
        let devices = (fs::File::from(from.try_clone()?), fs::File::from(to.try_clone()?));
        Direction::new(shape, Arc::clone(&line.delay_ns), Arc::clone(counts), seed).start(devices.0, devices.1)?;
    }
    for connection in listener.incoming() {
        // A broken connection is its asker's trouble.
        let _ = answer(&line, connection?);
    }
    Ok(())
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("not a number: {text}")))
}

fn answer(line: &Line, connection: UnixStream) -> io::Result<()> {
    connection.set_read_timeout(Some(CONTROL_TIMEOUT))?;
    let mut asked = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut asked)?;
    let mut connection = connection;
    let words: Vec<&str> = asked.split_whitespace().collect();
    match words.as_slice() {
        ["counts"] => writeln!(connection, "{{\"up\": {}, \"down\": {}}}", line.up, line.down),
        ["delay", ns] => {
            line.delay_ns.store(number(ns)?, Ordering::Relaxed);
            writeln!(connection, "{{}}")
        }
        _ => writeln!(connection, "{{\"error\": \"unknown command\"}}"),
    }
}

/// Makes this thread's sleeps as exact as the kernel can: by default it adds 50 microseconds.
fn sleep_exactly() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
