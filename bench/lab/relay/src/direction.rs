//! One direction of the line: a queue in front of a rate, then a fixed time of flight.
//!
//! Owns when a packet leaves, and which ones are lost. A packet that finds the queue full is dropped at its tail, as
//! at the bottleneck of a real line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::counts::Counts;
use crate::sleep_exactly;

/// The header that the device puts before each packet (`IFF_VNET_HDR`), which never crosses a line.
const VNET_HEADER_BYTES: usize = 10;
/// The largest packet with segmentation left to the device, and its header.
const PACKET_LIMIT_BYTES: usize = 65_536 + VNET_HEADER_BYTES;
const PARTS_PER_MILLION: u64 = 1_000_000;

/// What a direction does to packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bits a second; 0 is no limit.
    pub(crate) rate_bps: u64,
    /// Bytes that may wait for the rate.
    pub(crate) queue_bytes: u64,
    /// Packets lost at random, of a million.
    pub(crate) loss_ppm: u64,
}

impl Shape {
    /// Returns how long `bytes` occupy the line.
    fn occupies(self, bytes: u64) -> Duration {
        if self.rate_bps == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.rate_bps)) as u64)
    }
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Flight {
    packets: Mutex<VecDeque<Packet>>,
    arrived: Condvar,
}

/// One direction, before it is started.
pub(crate) struct Direction {
    shape: Shape,
    delay_ns: Arc<AtomicU64>,
    counts: Arc<Counts>,
    random: u64,
}

impl Direction {
    pub(crate) fn new(shape: Shape, delay_ns: Arc<AtomicU64>, counts: Arc<Counts>, seed: u64) -> Self {
        Self { shape, delay_ns, counts, random: seed | 1 }
    }

    /// Starts the two threads; they end with the process, when a device fails.
    pub(crate) fn start(mut self, from: File, to: File) -> io::Result<()> {
        let flight = Arc::new(Flight::default());
        let sender = Arc::clone(&flight);
        let ended = |error: io::Error| {
            eprintln!("nearfs-relay: {error}");
            std::process::exit(1);
        };
        thread::Builder::new().name("receive".into()).spawn(move || {
            self.receive(from, &flight).unwrap_or_else(ended);
        })?;
        thread::Builder::new().name("send".into()).spawn(move || send(to, &sender).unwrap_or_else(ended))?;
        Ok(())
    }

    fn receive(&mut self, mut from: File, flight: &Flight) -> io::Result<()> {
        let mut buffer = vec![0; PACKET_LIMIT_BYTES];
        let mut free_at = Instant::now();
        loop {
            let length = match from.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            let on_the_line = length.saturating_sub(VNET_HEADER_BYTES) as u64;
            free_at = free_at.max(now);
            if self.shape.rate_bps > 0 && free_at - now > self.shape.occupies(self.shape.queue_bytes) {
                Counts::add(&self.counts.overflowed, 1);
                continue;
            }
            free_at += self.shape.occupies(on_the_line);
            Counts::add(&self.counts.packets, 1);
            Counts::add(&self.counts.bytes, on_the_line);
            if self.is_lost() {
                Counts::add(&self.counts.lost, 1);
                continue;
            }
            let due = free_at + Duration::from_nanos(self.delay_ns.load(Ordering::Relaxed));
            let mut packets = flight.packets.lock();
            packets.push_back(Packet { due, bytes: buffer[..length].to_vec() });
            if packets.len() == 1 {
                flight.arrived.notify_one();
            }
        }
    }

    /// Draws whether the next packet is lost (xorshift: any even spread does, and a seed repeats it).
    fn is_lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % PARTS_PER_MILLION < self.shape.loss_ppm
    }
}

fn send(mut to: File, flight: &Flight) -> io::Result<()> {
    sleep_exactly();
    loop {
        let packet = {
            let mut packets = flight.packets.lock();
            loop {
                match packets.pop_front() {
                    Some(packet) => break packet,
                    None => flight.arrived.wait(&mut packets),
                }
            }
        };
        let now = Instant::now();
        if packet.due > now {
            thread::sleep(packet.due - now);
        }
        match to.write(&packet.bytes) {
            Ok(_) => {}
            // The device is down, or refuses a malformed packet: a line loses those.
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == INPUT_OUTPUT || code == INVALID) => {}
            Err(error) => return Err(error),
        }
    }
}

const INPUT_OUTPUT: i32 = 5;
const INVALID: i32 = 22;
