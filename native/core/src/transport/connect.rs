//! Opening connections: all addresses of a name raced, tunnels through proxies, TLS.
//!
//! Addresses are tried in order, each one a quarter of a second after the one before it or as soon as that one failed;
//! the first that answers is taken. One that is dead costs that quarter, not a time-out. A host that is asked over
//! TLS by a proxy is reached by `CONNECT`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::{Failure, FailureClass};
use super::resolver::{Party, Resolver};
use super::tls::Tls;
use crate::error::{Error, ErrorKind};

/// A connection that takes one request at a time.
pub(super) type Sender = http1::SendRequest<Empty<Bytes>>;

/// The next address is tried after this time.
const HEAD_START: Duration = Duration::from_millis(250);

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Whose name `host` is.
    pub(super) party: Party,
    /// Name or address, IPv6 without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// The host to which TLS is spoken, and its port; through a tunnel if it is not `host` itself.
    pub(super) tls: Option<(String, u16)>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An open connection.
pub(super) struct Connection {
    /// Takes requests.
    pub(super) sender: Sender,
    /// The address it leads to.
    pub(super) address: IpAddr,
}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Connector {
    resolver: Arc<Resolver>,
    tls: Tls,
}

impl Connector {
    /// Builds one that has not opened any.
    pub(super) fn new(resolver: Arc<Resolver>, tls: Tls) -> Self {
        Self { resolver, tls }
    }

    /// Opens a connection within `limit`, name look-up and TLS included. `url` is for messages.
    pub(super) async fn open(&self, endpoint: &Endpoint, limit: Duration, url: &str) -> Result<Connection, Failure> {
        let opened = timeout(limit, self.open_unbounded(endpoint, url)).await;
        opened.unwrap_or_else(|_| {
            self.resolver.doubt(endpoint.party, &endpoint.host);
            let parameter = if endpoint.party == Party::Proxy { "CVMFS_TIMEOUT" } else { "CVMFS_TIMEOUT_DIRECT" };
            let reason = format!("no connection to {endpoint} within {} s ({parameter})", limit.as_secs_f32());
            Err(Failure::unreachable(FailureClass::Connection, url, reason))
        })
    }

    async fn open_unbounded(&self, endpoint: &Endpoint, url: &str) -> Result<Connection, Failure> {
        let addresses = self.resolver.addresses(endpoint.party, &endpoint.host).await.map_err(|e| {
            Failure::unreachable(FailureClass::Resolve, url, format!("{} has no address: {e}", endpoint.host))
        })?;
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port)).collect();
        let failed = |e: io::Error| {
            self.resolver.doubt(endpoint.party, &endpoint.host);
            Failure::unreachable(FailureClass::Connection, url, format!("cannot connect to {endpoint}: {e}"))
        };
        let (stream, address) = race(addresses).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let Some((host, port)) = &endpoint.tls else {
            return Ok(Connection { sender: handshake(TokioIo::new(stream), url).await?, address });
        };
        let connector = self.tls.connector().await.map_err(|e| Failure::new(FailureClass::Tls, e))?;
        let name = Tls::server_name(host).map_err(|e| Failure::new(FailureClass::Tls, e))?;
        let is_tunnel = endpoint.party == Party::Proxy;
        let refused = |e: io::Error| {
            let kind = if e.get_ref().is_some() { ErrorKind::Untrusted } else { ErrorKind::Unreachable };
            let error = Error::new(kind, "fetch", format!("{url}: no TLS with {host}")).with_source(e);
            Failure::new(FailureClass::Tls, error)
        };
        let sender = if is_tunnel {
            let tunnel = TokioIo::new(tunnel(stream, host, *port, url).await?);
            handshake(TokioIo::new(connector.connect(name, tunnel).await.map_err(refused)?), url).await?
        } else {
            handshake(TokioIo::new(connector.connect(name, stream).await.map_err(refused)?), url).await?
        };
        Ok(Connection { sender, address })
    }
}

/// Connects to the first address that answers.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, IpAddr)> {
    if let [only] = addresses[..] {
        return Ok((TcpStream::connect(only).await?, only.ip()));
    }
    let mut waiting = addresses.into_iter();
    let mut racing = JoinSet::new();
    let mut last = io::Error::other("no address");
    let start = |racing: &mut JoinSet<_>, address: Option<SocketAddr>| match address {
        Some(address) => {
            racing.spawn(async move { TcpStream::connect(address).await.map(|stream| (stream, address.ip())) });
            true
        }
        None => false,
    };
    start(&mut racing, waiting.next());
    let mut next_at = Instant::now() + HEAD_START;
    let mut has_more = true;
    loop {
        let won = if has_more { timeout_at(next_at, racing.join_next()).await } else { Ok(racing.join_next().await) };
        match won {
            Ok(Some(Ok(Ok(winner)))) => return Ok(winner),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(None) if !has_more => return Err(last),
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
        has_more = start(&mut racing, waiting.next());
        next_at = Instant::now() + HEAD_START;
    }
}

/// Asks a proxy for a tunnel to `host`.
async fn tunnel(stream: TcpStream, host: &str, port: u16, url: &str) -> Result<hyper::upgrade::Upgraded, Failure> {
    let refuse = |e: &dyn fmt::Display| {
        Failure::unreachable(FailureClass::Connection, url, format!("the proxy opens no tunnel to {host}: {e}"))
    };
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|e| refuse(&e))?;
    tokio::spawn(connection.with_upgrades());
    let request = hyper::Request::connect(authority.as_str()).header(hyper::header::HOST, authority.as_str());
    let request = request.body(Empty::new()).map_err(|e| refuse(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| refuse(&e))?;
    if !answer.status().is_success() {
        return Err(refuse(&format!("HTTP status {}", answer.status())));
    }
    hyper::upgrade::on(answer).await.map_err(|e| refuse(&e))
}

async fn handshake<T>(stream: T, url: &str) -> Result<Sender, Failure>
where
    T: Read + Write + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(|e| {
        Failure::unreachable(FailureClass::Connection, url, format!("the connection broke at once: {e}"))
    })?;
    // Ends by itself when the sender is dropped or the host closes; its errors reach the request over the sender.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Returns an address that lets nobody in: its queue of connections is full. It lasts as long as the rest does.
    async fn black_hole() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (address, mut queue) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        (address, (listener, queue))
    }

    #[tokio::test]
    async fn a_black_hole_and_a_refusal_cost_less_than_a_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let refusing = "127.0.0.1:1".parse().unwrap();
        let (hole, _full) = black_hole().await;
        let begun = Instant::now();
        let (stream, _) = race(vec![hole, refusing, hole, live]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn where_all_refuse_the_refusal_is_reported() {
        let refusing: Vec<SocketAddr> = ["127.0.0.1:1", "127.0.0.2:1"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(race(refusing).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
