//! Following the publisher: when the time to live is over, looks for a new revision and switches to it.
//!
//! Owns the thread that waits for that time, the one way to switch, and what is said about it in the log. A switch is
//! whole: manifest, trust, root catalog and every nested catalog that was entered and changed are there before anything
//! is shown, so that nobody waits afterwards and nobody sees a mixture; a failure leaves the old revision, and it is
//! tried again. Files that are open keep their content. What the kernel keeps and is no longer true it is told to forget,
//! name by name.
//!
//! Threading: one thread that sleeps until the time to live is over; a call of [`Updates::remount`] does the same work
//! on the caller's thread. One of them at a time. Source: client.md 3.9, 5.4.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::ops::Client;
use super::types::Ino;
use crate::catalog::succession::{Changes, Succession};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::NOTICE;
use crate::repo::snapshot::{Shown, Snapshot, TrustSource, refuse_blacklisted};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(180);
/// How long answers that were under way at a switch may take to reach the kernel, which is then told to forget them.
const SETTLING: Duration = Duration::from_millis(20);
/// Catalogs that are entered while a tree is compared make it incomplete; then it is compared again.
const COMPARISONS_MAX: u32 = 20;

/// What keeps answers of the file system, and can be told to forget them. Calls come from one thread at a time and never
/// from one that answers a request.
pub trait Kept: Send + Sync {
    /// Forgets attributes, listing, pages and target of an inode.
    fn forget_inode(&self, ino: Ino);

    /// Forgets where a name leads, also that it leads nowhere.
    fn forget_name(&self, directory: Ino, name: &[u8]);

    /// Ends the mount: what it shows must not be shown any more.
    fn give_up(&self);
}

/// What came of looking for a new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is none, or the mount is fixed to its revision.
    UpToDate,
    /// It is shown from now on.
    Switched,
}

/// How updates are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpdatePolicy {
    /// Never looks by itself (`CVMFS_AUTO_UPDATE=no`).
    pub is_manual: bool,
    /// No revision is believed for longer (`CVMFS_MAX_TTL`).
    pub max_ttl: Option<Duration>,
}

/// Follows a repository for one client, until [`Updates::stop`].
pub struct Updates {
    client: Arc<Client>,
    trust: TrustSource,
    is_manual: bool,
    kept: Mutex<Option<Arc<dyn Kept>>>,
    /// Held by whoever looks.
    looking: Mutex<()>,
    plan: Mutex<Plan>,
    woken: Condvar,
    is_offline: AtomicBool,
}

#[derive(Debug)]
struct Plan {
    next_look: Option<Instant>,
    is_over: bool,
}

impl std::fmt::Debug for Updates {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Updates").field("trust", &self.trust.fqrn).field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Client {
    /// Shows another revision from now on, once all of its catalogs are there that are needed; returns what whoever
    /// keeps answers must forget. A failure changes nothing.
    pub fn switch(&self, snapshot: &Snapshot) -> Result<Changes> {
        for _ in 0..COMPARISONS_MAX {
            let old = self.tree();
            let Succession { tree, changes, compared } = old.succeed(snapshot.root_hash, snapshot.root_size_bytes)?;
            if self.revisions.replace(&old, tree, compared) {
                self.set_manifest(snapshot.manifest.clone());
                return Ok(changes);
            }
        }
        let reason = format!("{}: more and more catalogs are entered meanwhile", self.options().fqrn);
        Err(Error::new(ErrorKind::Busy, "switch to a revision of", reason))
    }
}

impl Updates {
    /// Prepares to follow; [`Updates::start`] begins. `is_offline` says that the client shows the last known revision.
    pub fn new(client: Arc<Client>, trust: TrustSource, policy: UpdatePolicy, is_offline: bool) -> Arc<Self> {
        client.validity.set_max_ttl(policy.max_ttl);
        let is_manual = policy.is_manual || client.is_fixed();
        let first = if is_offline { RETRY.min(client.ttl()) } else { client.ttl() };
        let next_look = (!is_manual).then(|| Instant::now() + first);
        if is_offline {
            tracing::warn!("{}: no host answers, entering offline mode with the last known revision", trust.fqrn);
        }
        Arc::new(Self {
            client,
            trust,
            is_manual,
            kept: Mutex::default(),
            looking: Mutex::default(),
            plan: Mutex::new(Plan { next_look, is_over: false }),
            woken: Condvar::new(),
            is_offline: AtomicBool::new(is_offline),
        })
    }

    /// Tells `kept` from now on what changed, and looks for revisions whenever the time to live is over.
    pub fn start(self: &Arc<Self>, kept: Arc<dyn Kept>) -> Result<()> {
        *self.kept.lock() = Some(kept);
        if self.is_manual {
            return Ok(());
        }
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().name("nearfs-updates".to_owned());
        let begun = thread.spawn(move || {
            while this.wait_for_next_look() {
                // What came of it is in the log.
                let _ = this.remount();
            }
        });
        begun.map(drop).map_err(|source| Error::io("start a thread for", "updates", source))
    }

    /// Ends the thread, and the bond to who keeps answers. Does not wait for a look that is under way.
    pub fn stop(&self) {
        self.plan.lock().is_over = true;
        self.woken.notify_all();
        *self.kept.lock() = None;
    }

    /// Looks for a new revision now and switches to it. May take as long as its requests.
    pub fn remount(&self) -> Result<Outcome> {
        let outcome = self.look();
        self.plan_next(outcome.is_err());
        outcome
    }

    /// Changes how long a revision is believed at most; none is what the repository says.
    pub fn set_max_ttl(&self, max_ttl: Option<Duration>) {
        self.client.validity.set_max_ttl(max_ttl);
        if !self.is_manual {
            let mut plan = self.plan.lock();
            let latest = self.client.validity.checked_at() + self.client.ttl();
            plan.next_look = Some(plan.next_look.map_or(latest, |next| next.min(latest)));
        }
        self.woken.notify_all();
    }

    /// Says whether the last look for a new revision failed.
    pub fn is_offline(&self) -> bool {
        self.is_offline.load(Ordering::Relaxed)
    }

    /// Waits until the time to live is over; false at the end.
    fn wait_for_next_look(&self) -> bool {
        let mut plan = self.plan.lock();
        while !plan.is_over {
            match plan.next_look {
                Some(at) if at <= Instant::now() => return true,
                Some(at) => drop(self.woken.wait_until(&mut plan, at)),
                None => self.woken.wait(&mut plan),
            }
        }
        false
    }

    fn plan_next(&self, has_failed: bool) {
        let pause = if has_failed { RETRY.min(self.client.ttl()) } else { self.client.ttl() };
        self.plan.lock().next_look = (!self.is_manual).then(|| Instant::now() + pause);
        self.woken.notify_all();
    }

    fn look(&self) -> Result<Outcome> {
        let _one_at_a_time = self.looking.lock();
        if self.client.is_fixed() {
            return Ok(Outcome::UpToDate);
        }
        self.client.revisions.forget_old();
        let outcome = self.find_and_switch();
        match &outcome {
            Ok(_) => {
                self.client.validity.renew();
                if self.is_offline.swap(false, Ordering::Relaxed) {
                    tracing::info!(target: NOTICE, "{}: recovered from offline mode", self.trust.fqrn);
                }
            }
            Err(error) => {
                self.client.count_io_error();
                if !self.is_offline.swap(true, Ordering::Relaxed) {
                    let fqrn = &self.trust.fqrn;
                    tracing::warn!(
                        "{fqrn}: warning, could not apply updated catalog revision, entering offline mode ({error})"
                    );
                }
            }
        }
        outcome
    }

    fn find_and_switch(&self) -> Result<Outcome> {
        let trust = self.trust.trust()?;
        let tree = self.client.tree();
        let shown = Shown { root_hash: tree.root().catalog.hash, revision: tree.root().index.revision() };
        drop(tree);
        let found = Snapshot::newer(self.client.cache(), &trust, &shown);
        if let Ok(Some(snapshot)) = &found {
            return self.switch(snapshot).map(|()| Outcome::Switched);
        }
        // Not before: the new revision is the way out of a refused one.
        if let Err(error) = refuse_blacklisted(&trust, shown.revision) {
            tracing::error!("{}: repository revision blacklisted, aborting ({error})", self.trust.fqrn);
            if let Some(kept) = self.kept.lock().clone() {
                kept.give_up();
            }
            return Err(error);
        }
        found.map(|_| Outcome::UpToDate)
    }

    fn switch(&self, snapshot: &Snapshot) -> Result<()> {
        let changes = self.client.switch(snapshot)?;
        let revision = self.client.tree().root().index.revision();
        tracing::info!(target: NOTICE, "{}: switched to catalog revision {revision}", self.trust.fqrn);
        self.tell(&changes);
        Ok(())
    }

    /// Tells whoever keeps answers what is not true any more.
    fn tell(&self, changes: &Changes) {
        let Some(kept) = self.kept.lock().clone() else { return };
        std::thread::sleep(SETTLING);
        let ino = |number: &Option<u64>| number.map_or(Ino::ROOT, Ino);
        for (directory, name) in &changes.names {
            kept.forget_name(ino(directory), name);
        }
        for entry in &changes.entries {
            kept.forget_inode(ino(entry));
        }
    }
}
