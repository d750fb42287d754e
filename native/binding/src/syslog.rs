//! The engine's lines for the system's log: warnings, errors and notices, in the form of the client's own lines.
//!
//! Owns the datagrams to the system's log. Writing never waits: where the log is slow or gone, lines are lost.
//! Threading: any thread writes; a lock is held for one datagram.

use std::os::unix::net::UnixDatagram;

use nearfs_core::journal::NOTICE;
use parking_lot::Mutex;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::text_of;

const SOCKET: &str = "/dev/log";
const IDENT: &str = "cvmfs2";
/// Longest datagram that every log takes.
const LINE_MAX: usize = 1024;
const SEVERITY_ERROR: u8 = 3;
const SEVERITY_WARNING: u8 = 4;

/// Writes to the system's log.
pub(crate) struct Syslog {
    /// Facility, shifted as the protocol has it.
    pub(crate) facility: u8,
    /// Severity of what is neither a warning nor an error.
    pub(crate) normal: u8,
    /// What every line begins with, in brackets.
    pub(crate) prefix: String,
    socket: Mutex<Option<UnixDatagram>>,
}

impl Syslog {
    pub(crate) fn new(facility: u8, normal: u8, prefix: String) -> Self {
        Self { facility, normal, prefix, socket: Mutex::default() }
    }

    fn write(&self, severity: u8, text: &str) {
        let mut line = format!("<{}>{IDENT}: ({}) {text}", self.facility | severity, self.prefix).replace('\n', " ");
        let end = (0..=LINE_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or_default());
        let mut socket = self.socket.lock();
        // Twice: a log that was started anew has another socket.
        for _ in 0..2 {
            if socket.is_none() {
                *socket = connect().ok();
            }
            match socket.as_ref().map(|open| open.send(line.as_bytes())) {
                Some(Err(error)) if error.kind() != std::io::ErrorKind::WouldBlock => *socket = None,
                _ => return,
            }
        }
    }
}

fn connect() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

impl<S: Subscriber> Layer<S> for Syslog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::ERROR => SEVERITY_ERROR,
            Level::WARN => SEVERITY_WARNING,
            _ if event.metadata().target() == NOTICE => self.normal,
            _ => return,
        };
        self.write(severity, &text_of(event));
    }
}
