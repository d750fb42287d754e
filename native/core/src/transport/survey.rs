//! A survey of all ways: which pairs of a host and a proxy answer, tried side by side.
//!
//! It begins when a request has heard nothing for a quarter of its time-out, and ends when the time-out does: what is
//! dead costs the request one time-out in all, however many hosts and proxies are dead. Each way is asked for the
//! manifest, by connections of the survey's own; ways past the proxies are touched only once all proxies have failed.
//! One survey runs at a time, and what it found holds for two time-outs.
//!
//! Threads: a task of the runtime; the route's lock is held for one step, never across I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_format::manifest::ManifestFields;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::failure::FailureClass;
use super::groups::ProxyFault;
use super::memory::MemorySink;
use super::route::{Attempt, Route, Verdict};
use super::switch::announce;
use super::timeouts::Timeouts;
use super::{Request, Transport};

/// More ways are not tried side by side.
const MAX_WAYS: usize = 32;
/// What every host of a repository has.
const MANIFEST: &str = ".cvmfspublished";
/// A larger answer is no manifest.
const MANIFEST_LIMIT_BYTES: u64 = 64 << 10;

/// What is known of surveys.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    is_running: bool,
    /// When the last one ended, and whether any way answered.
    last: Option<(Instant, bool)>,
}

/// Holds surveys.
#[derive(Debug)]
pub(super) struct Surveyor {
    route: Arc<Mutex<Route>>,
    transport: Arc<dyn Transport>,
    timeouts: Arc<Timeouts>,
    runtime: Handle,
    state: watch::Sender<State>,
}

impl Surveyor {
    /// Builds a surveyor that asks by `transport`; it must not share its limits with the demand path.
    pub(super) fn new(
        route: Arc<Mutex<Route>>,
        transport: Arc<dyn Transport>,
        timeouts: Arc<Timeouts>,
        runtime: Handle,
    ) -> Self {
        Self { route, transport, timeouts, runtime, state: watch::Sender::default() }
    }

    /// Begins a survey, unless there is nothing to choose from, one is running, or one has just ended.
    pub(super) fn start(self: &Arc<Self>) {
        let ways = self.route.lock().ways(MAX_WAYS).len();
        let rest = self.limit() * 2;
        let is_claimed = ways > 1
            && self.state.send_if_modified(|state| {
                let is_free = !state.is_running && state.last.is_none_or(|(ended, _)| ended.elapsed() >= rest);
                state.is_running |= is_free;
                is_free
            });
        if is_claimed {
            let running = Running(Arc::clone(self));
            self.runtime.spawn(async move { running.survey().await });
        }
    }

    /// Waits for the survey that is running, if one is. Returns whether any way answered; nothing if no survey ended
    /// after `since` or less than two time-outs ago.
    pub(super) async fn outcome(&self, since: Instant) -> Option<bool> {
        let mut state = self.state.subscribe();
        // The sender is ours: it cannot be gone.
        let ended = tokio::time::timeout(self.limit() * 3, state.wait_for(|state| !state.is_running)).await;
        let last = ended.ok()?.ok()?.last;
        last.filter(|(at, _)| *at >= since || at.elapsed() < self.limit() * 2).map(|(_, has_found)| has_found)
    }

    /// Asks every host by the proxy in use, and leaves the active one if another has a newer revision.
    pub(super) async fn compare(&self) -> Option<Arc<str>> {
        let mut ways = self.ways_by_active_proxy();
        ways.truncate(MAX_WAYS);
        let found = self.ask(ways, self.limit(), false).await;
        let mut route = self.route.lock();
        let before = route.next_attempt(MANIFEST)?;
        let newer = route.leave_stale(&found, Instant::now())?;
        announce(
            &before.target,
            &route.next_attempt(MANIFEST)?.target,
            "it is stale, another one has a newer revision",
        );
        Some(newer)
    }

    /// Asks every host by the proxy in use, and returns how long each took to answer; nothing where it did not.
    pub(super) async fn probe(&self) -> Vec<(Arc<str>, Option<Duration>)> {
        let ways = self.ways_by_active_proxy();
        let mut times: Vec<(Arc<str>, Option<Duration>)> =
            ways.iter().map(|way| (Arc::clone(&way.target.base_url), None)).collect();
        let mut asking = JoinSet::new();
        for (number, way) in ways.into_iter().enumerate().take(MAX_WAYS) {
            let (transport, begun) = (Arc::clone(&self.transport), Instant::now());
            asking.spawn(async move { (number, ask_one(&*transport, &way.target).await, begun.elapsed()) });
        }
        let deadline = tokio::time::Instant::now() + self.limit();
        while let Ok(Some(answer)) = timeout_at(deadline, asking.join_next()).await {
            if let Ok((number, Verdict::Answered { .. }, took)) = answer
                && let Some((_, time)) = times.get_mut(number)
            {
                *time = Some(took);
            }
        }
        times
    }

    fn ways_by_active_proxy(&self) -> Vec<Attempt> {
        let route = self.route.lock();
        let place = route.proxies().active().1;
        route.ways(usize::MAX).into_iter().filter(|way| way.is_by(place)).collect()
    }

    async fn survey(&self) -> bool {
        let begun = Instant::now();
        let (by_proxy, direct) = self.route.lock().ways_apart(MAX_WAYS);
        let mut found = self.ask(by_proxy, self.limit() * 3 / 4, true).await;
        let is_alive = |(_, verdict): &(Attempt, Verdict)| matches!(verdict, Verdict::Answered { .. });
        if !direct.is_empty() && !found.iter().any(is_alive) {
            let is_slow = found.iter().any(|(_, verdict)| *verdict == Verdict::Slow);
            let fault = if is_slow { ProxyFault::Slow(begun) } else { ProxyFault::Dead };
            let is_allowed = self.route.lock().proxies_mut().may_go_direct(fault, Instant::now());
            if is_allowed {
                found.extend(self.ask(direct, self.timeouts.direct() * 3 / 4, true).await);
            }
        }
        let mut route = self.route.lock();
        let before = route.next_attempt(MANIFEST);
        if route.on_survey(&found, begun, Instant::now())
            && let (Some(from), Some(to)) = (before, route.next_attempt(MANIFEST))
        {
            announce(&from.target, &to.target, "it is silent, others answer");
        }
        found.iter().any(is_alive)
    }

    /// Asks all `ways` side by side. With `is_first_enough`, ends as soon as a way has answered and none before it
    /// still may.
    async fn ask(&self, ways: Vec<Attempt>, limit: Duration, is_first_enough: bool) -> Vec<(Attempt, Verdict)> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut asking = JoinSet::new();
        for (number, way) in ways.iter().enumerate() {
            let (transport, target) = (Arc::clone(&self.transport), way.target.clone());
            asking.spawn(async move { (number, ask_one(&*transport, &target).await) });
        }
        let mut verdicts: Vec<Option<Verdict>> = vec![None; ways.len()];
        while let Ok(Some(answer)) = timeout_at(deadline, asking.join_next()).await {
            if let Ok((number, verdict)) = answer
                && let Some(place) = verdicts.get_mut(number)
            {
                *place = Some(verdict);
            }
            let first = verdicts.iter().find(|verdict| !matches!(verdict, Some(Verdict::Dead | Verdict::Slow)));
            if is_first_enough && matches!(first, Some(Some(_))) {
                break;
            }
        }
        ways.into_iter().zip(verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Slow))).collect()
    }

    fn limit(&self) -> Duration {
        self.timeouts.direct().max(self.timeouts.by_proxy())
    }
}

/// A claimed survey; ends the claim also where its task is dropped.
struct Running(Arc<Surveyor>);

impl Running {
    async fn survey(self) {
        let has_found = self.0.survey().await;
        self.0.state.send_modify(|state| state.last = Some((Instant::now(), has_found)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.is_running = false);
    }
}

async fn ask_one(transport: &dyn Transport, target: &super::Target) -> Verdict {
    let mut sink = MemorySink::default();
    match transport.fetch(target, &Request::new(MANIFEST, MANIFEST_LIMIT_BYTES), &mut sink).await {
        Ok(_) => {
            let fields = ManifestFields::parse_body(&sink.into_bytes());
            Verdict::Answered { revision: fields.ok().map(|fields| fields.revision) }
        }
        // What it says about one key is for the requests to find out: it is there.
        Err(failure) if matches!(failure.class, FailureClass::Http | FailureClass::Busy) && !failure.by_proxy => {
            Verdict::Answered { revision: None }
        }
        Err(failure) if failure.class == FailureClass::TooSlow => Verdict::Slow,
        Err(_) => Verdict::Dead,
    }
}
