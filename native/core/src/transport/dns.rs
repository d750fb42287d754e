//! Questions to one name server, for sites that name it (`CVMFS_DNS_SERVER`): addresses and how long they hold.
//!
//! Messages are those of RFC 1035 over UDP, both families asked at once. An answer is believed if it comes from the
//! server's address and repeats number and question; a cut one counts for the addresses that it holds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::origin::roll;

/// What fits into a datagram that nobody splits.
const MAX_MESSAGE_BYTES: usize = 4096;
/// A name has no more bytes, and its parts no more than `MAX_LABEL_BYTES`.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_INTERNET: u16 = 1;
const NO_SUCH_NAME: u8 = 3;

/// Addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// In the order of the answer, IPv4 first.
    pub(super) addresses: Vec<IpAddr>,
    /// The least time to live of what the answer holds; none where it is not known.
    pub(super) holds: Option<Duration>,
}

/// Asks `server` for all addresses of `name`: waits `limit` for an answer, and as long again for each of `retries`.
pub(super) async fn ask(server: SocketAddr, name: &str, limit: Duration, retries: u32) -> Result<Found, String> {
    let (v4, v6) =
        tokio::join!(ask_one(server, name, TYPE_A, limit, retries), ask_one(server, name, TYPE_AAAA, limit, retries));
    match (v4, v6) {
        (Err(error), Err(_)) => Err(format!("name server {server}: {error}")),
        (v4, v6) => {
            let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
            let addresses = v4.addresses.into_iter().chain(v6.addresses).collect();
            Ok(Found { addresses, holds: v4.holds.into_iter().chain(v6.holds).min() })
        }
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: u16, limit: Duration, retries: u32) -> Result<Found, String> {
    let question = question(name, kind).ok_or("it is no name")?;
    let text = |e: io::Error| e.to_string();
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(text)?;
    socket.connect(server).await.map_err(text)?;
    let mut answer = vec![0; MAX_MESSAGE_BYTES];
    for _ in 0..=retries {
        let number = (roll(u64::from(u16::MAX)) as u16).to_be_bytes();
        let message = [&number[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &question].concat();
        socket.send(&message).await.map_err(text)?;
        let deadline = Instant::now() + limit;
        while let Ok(received) = timeout_at(deadline, socket.recv(&mut answer)).await {
            let length = received.map_err(text)?;
            if let Some(answered) = read(answer.get(..length).unwrap_or_default(), number, &question) {
                return answered;
            }
        }
    }
    Err(format!("no answer within {} s (CVMFS_DNS_TIMEOUT, CVMFS_DNS_RETRIES)", limit.as_secs_f32()))
}

/// Returns the question for `name`; nothing if it is no name.
fn question(name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = name.trim_end_matches('.');
    let is_label = |label: &str| (1..=MAX_LABEL_BYTES).contains(&label.len());
    if name.len() > MAX_NAME_BYTES || !name.is_ascii() || !name.split('.').all(is_label) {
        return None;
    }
    let mut question = Vec::with_capacity(name.len() + 6);
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.push(0);
    question.extend_from_slice(&kind.to_be_bytes());
    question.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    Some(question)
}

/// Reads an answer; nothing if it is none to this question.
fn read(message: &[u8], number: [u8; 2], question: &[u8]) -> Option<Result<Found, String>> {
    let (head, body) = message.split_at_checked(12)?;
    let is_answer = head[..2] == number && head[2] & 0x80 != 0 && head[4..6] == [0, 1];
    let (repeated, mut rest) = body.split_at_checked(question.len())?;
    if !is_answer || !repeated.eq_ignore_ascii_case(question) {
        return None;
    }
    match head[3] & 0x0f {
        0 => {}
        NO_SUCH_NAME => return Some(Err("there is no such name".to_owned())),
        code => return Some(Err(format!("it refuses with code {code}"))),
    }
    let mut found = Found::default();
    for _ in 0..u16::from_be_bytes([head[6], head[7]]) {
        let Some((record, after)) = record(rest) else { break };
        rest = after;
        let holds = Duration::from_secs(u64::from(record.ttl_s));
        found.holds = Some(found.holds.map_or(holds, |least| least.min(holds)));
        found.addresses.extend(record.address);
    }
    Some(Ok(found))
}

struct Record {
    ttl_s: u32,
    address: Option<IpAddr>,
}

/// Splits the first record off; nothing if it is not whole.
fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let rest = after_name(bytes)?;
    let (fixed, rest) = rest.split_at_checked(10)?;
    let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
    let address = match u16::from_be_bytes([fixed[0], fixed[1]]) {
        TYPE_A => <[u8; 4]>::try_from(content).ok().map(IpAddr::from),
        TYPE_AAAA => <[u8; 16]>::try_from(content).ok().map(IpAddr::from),
        _ => None,
    };
    // A time with the highest bit set counts as none (RFC 2181).
    let ttl_s = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    Some((Record { ttl_s: if ttl_s >> 31 == 0 { ttl_s } else { 0 }, address }, rest))
}

/// Returns what follows a name: it ends with an empty label, or with a pointer, which is not followed.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            0xc0.. => return rest.get(1..),
            1..=63 => bytes = rest.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: [u8; 2] = [7, 9];

    fn message(code: u8, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = vec![7, 9, 0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        message.extend(question("a.example.org", TYPE_A).unwrap());
        for (kind, ttl_s, content) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend(CLASS_INTERNET.to_be_bytes());
            message.extend(ttl_s.to_be_bytes());
            message.extend((content.len() as u16).to_be_bytes());
            message.extend_from_slice(content);
        }
        message
    }

    fn read_it(message: &[u8]) -> Option<Result<Found, String>> {
        read(message, NUMBER, &question("a.example.org", TYPE_A).unwrap())
    }

    #[test]
    fn addresses_come_with_the_least_time_to_live() {
        let records: [(u16, u32, &[u8]); 4] =
            [(5, 30, b"\x01b\xc0\x0e"), (1, 300, &[10, 0, 0, 1]), (1, 600, &[10, 0, 0, 2]), (28, 600, &[0; 16])];
        let found = read_it(&message(0, &records)).unwrap().unwrap();
        assert_eq!(found.addresses, ["10.0.0.1", "10.0.0.2", "::"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(found.holds, Some(Duration::from_secs(30)));
        assert_eq!(read_it(&message(0, &[])), Some(Ok(Found::default())));
    }

    #[test]
    fn refusals_are_told_and_strangers_ignored() {
        assert!(read_it(&message(3, &[])).unwrap().unwrap_err().contains("no such name"));
        assert!(read_it(&message(2, &[])).unwrap().unwrap_err().contains("code 2"));
        let mut other_number = message(0, &[]);
        other_number[0] = 8;
        assert_eq!(read_it(&other_number), None);
        let mut no_answer = message(0, &[]);
        no_answer[2] = 1;
        assert_eq!(read_it(&no_answer), None);
        let other_question = question("b.example.org", TYPE_A).unwrap();
        assert_eq!(read(&message(0, &[]), NUMBER, &other_question), None);
    }

    #[test]
    fn a_message_cut_anywhere_is_read_as_far_as_it_goes() {
        let whole = message(0, &[(1, 300, &[10, 0, 0, 1]), (1, 300, &[10, 0, 0, 2])]);
        for length in 0..whole.len() {
            if let Some(Ok(found)) = read_it(&whole[..length]) {
                assert!(found.addresses.len() < 2);
            }
        }
        let mut endless = message(0, &[]);
        endless[7] = 255;
        endless.extend([1; 100]);
        assert_eq!(read_it(&endless), Some(Ok(Found::default())));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(tail in proptest::collection::vec(0u8.., 0..200), count in 0u8..) {
            let mut any = message(0, &[]);
            any[7] = count;
            any.extend(tail);
            let found = read_it(&any).unwrap().unwrap();
            proptest::prop_assert!(found.addresses.len() <= usize::from(count));
        }
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", "a..b", "ä.org", &"a".repeat(64), &"a.".repeat(200)] {
            assert_eq!(question(name, TYPE_A), None, "{name}");
        }
        assert_eq!(question("ab.c.", TYPE_A).unwrap(), b"\x02ab\x01c\0\0\x01\0\x01");
    }
}
