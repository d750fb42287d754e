//! An HTTP host on a local port that does what a script says: the network's faults, at will and in order.
//!
//! One thread per connection. Dropping the host closes its port and every connection.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What the host does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers 200 with these bytes.
    Body(Vec<u8>),
    /// Answers 200 with these bytes and no `Content-Length`, in chunks of this size.
    Chunked(Vec<u8>, usize),
    /// Announces a length, sends these bytes and closes the connection.
    Announce(u64, Vec<u8>),
    /// Sends these bytes of an answer without length, one after the other with a pause, then closes.
    Trickle(Vec<u8>, Duration),
    /// Answers 200 and closes the connection without having said so.
    BodyThenClose(Vec<u8>),
    /// Answers with this status and a short text.
    Status(u16),
    /// Answers 302 with this `Location`.
    Redirect(String),
    /// Answers with these status and header lines, to which it adds the length, and these bytes.
    Head(String, Vec<u8>),
    /// Sends these raw bytes and closes.
    Raw(Vec<u8>),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
    /// Waits, then does the other.
    After(Duration, Box<Reply>),
}

impl Reply {
    /// Answers from `whole` as hosts do that send byte ranges: with the part that is asked for, or with all of it.
    pub fn ranged(asked: &Asked, whole: &[u8]) -> Self {
        let range = asked.header("range").and_then(|value| value.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        else {
            return Self::Head("200 OK\r\nAccept-Ranges: bytes".to_owned(), whole.to_vec());
        };
        let (first, last): (usize, usize) = (first, usize::min(last, whole.len().saturating_sub(1)));
        if first > last {
            return Self::Head(format!("416 No\r\nContent-Range: bytes */{}", whole.len()), Vec::new());
        }
        let head = format!("206 Part\r\nContent-Range: bytes {first}-{last}/{}", whole.len());
        Self::Head(head, whole[first..=last].to_vec())
    }
}

/// A request as the host saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request target, as it was sent.
    pub target: String,
    /// Header lines as they were sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How often this target was asked for before.
    pub before: usize,
    /// Number of the connection, from 0.
    pub connection: usize,
}

impl Asked {
    /// Returns the value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

type Script = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct Shared {
    script: Script,
    asked: Mutex<Vec<Asked>>,
    streams: Mutex<Vec<TcpStream>>,
    open: AtomicUsize,
    stopped: AtomicBool,
}

/// The host.
pub struct ScriptedHost {
    port: u16,
    shared: Arc<Shared>,
}

impl fmt::Debug for ScriptedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedHost({})", self.url())
    }
}

impl ScriptedHost {
    /// Starts a host on a free port of the loopback address.
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::default(),
            streams: Mutex::default(),
            open: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { port, shared })
    }

    /// Starts a host that serves `files` by their path below the root, and 404 for all others.
    pub fn serving(files: HashMap<String, Vec<u8>>) -> io::Result<Self> {
        Self::start(move |asked| {
            files
                .get(asked.target.trim_start_matches('/'))
                .map_or(Reply::Status(404), |bytes| Reply::Body(bytes.clone()))
        })
    }

    /// Returns the base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns all requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        lock(&self.shared.streams).len()
    }

    /// Returns the number of connections that nobody has closed.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedHost {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        for stream in lock(&self.shared.streams).iter() {
            // One that is closed already needs no closing.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(clone) = stream.try_clone() else { continue };
            let connection = {
                let mut streams = lock(&self.streams);
                streams.push(clone);
                streams.len() - 1
            };
            let shared = self.clone();
            shared.open.fetch_add(1, Ordering::SeqCst);
            // A connection that breaks is the client's doing and shows on its side.
            thread::spawn(move || {
                let _ = shared.converse(&stream, connection);
                let _ = stream.shutdown(Shutdown::Both);
                shared.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn converse(&self, stream: &TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(asked) = self.next_request(&mut reader, connection)? {
            let reply = (self.script)(&asked);
            if !answer(stream, reply)? {
                break;
            }
        }
        Ok(())
    }

    fn next_request(&self, reader: &mut BufReader<&TcpStream>, connection: usize) -> io::Result<Option<Asked>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut all = lock(&self.asked);
        let before = all.iter().filter(|earlier| earlier.target == target).count();
        let asked = Asked { target, headers, before, connection };
        all.push(asked.clone());
        Ok(Some(asked))
    }
}

/// Answers; returns whether the connection stays open.
fn answer(mut stream: &TcpStream, reply: Reply) -> io::Result<bool> {
    match reply {
        Reply::Body(bytes) => send(stream, 200, bytes.len() as u64, &bytes).map(|()| true),
        Reply::BodyThenClose(bytes) => send(stream, 200, bytes.len() as u64, &bytes).map(|()| false),
        Reply::Announce(length, bytes) => send(stream, 200, length, &bytes).map(|()| false),
        Reply::Status(status) => send(stream, status, 5, b"sorry").map(|()| true),
        Reply::Redirect(to) => {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").map(|()| true)
        }
        Reply::Chunked(bytes, step) => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in bytes.chunks(step.max(1)) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n").map(|()| true)
        }
        Reply::Trickle(bytes, pause) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            for byte in bytes {
                thread::sleep(pause);
                stream.write_all(&[byte])?;
            }
            Ok(false)
        }
        Reply::Head(lines, bytes) => {
            write!(stream, "HTTP/1.1 {lines}\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            stream.write_all(&bytes).map(|()| true)
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).map(|()| false),
        Reply::Close => Ok(false),
        Reply::Hang => {
            // Ends when the client, or the host's owner, closes the connection.
            while stream.read(&mut [0; 64])? > 0 {}
            Ok(false)
        }
        Reply::After(pause, then) => {
            thread::sleep(pause);
            answer(stream, *then)
        }
    }
}

fn send(mut stream: &TcpStream, status: u16, length: u64, body: &[u8]) -> io::Result<()> {
    // One write for the head and its body, as real hosts do it for small objects.
    let mut answer = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    stream.write_all(&answer)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
