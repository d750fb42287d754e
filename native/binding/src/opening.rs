//! Opening a repository for a client: from what Python asks for to a verified snapshot with a client over it.
//!
//! Owns the request and the order of the steps, which every loop shares. Mounts nothing.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nearfs_core::Error;
use nearfs_core::cache::quota::disown;
use nearfs_core::cache::{DiskCache, ObjectCache, Quota, Sharing};
use nearfs_core::client::options::{IdMap, XattrGuard, XattrVisibility};
use nearfs_core::client::updates::{UpdatePolicy, Updates};
use nearfs_core::client::{Client, ClientOptions};
use nearfs_core::prefetch::{self, PrefetchSettings};
use nearfs_core::repo::snapshot::{Selection, Snapshot, TrustSource};
use nearfs_core::transport::{self, Origin};
use nearfs_format::trust::MasterKeys;
use nearfs_fuse::MountSettings;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::errors::Raised;
use crate::network::NetworkRequest;
use crate::values;

/// A client, what drives its sockets, and how it is to be mounted. Dropping it ends the sockets without waiting.
pub(crate) struct Opened {
    pub(crate) client: Arc<Client>,
    pub(crate) settings: MountSettings,
    pub(crate) updates: Arc<Updates>,
    runtime: Option<Runtime>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.updates.stop();
        // Its threads need the sockets.
        self.client.stop_prefetch();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type IdPairs = Option<(HashMap<u32, u32>, Option<u32>)>;

fn id_map(pairs: IdPairs) -> IdMap {
    pairs.map_or_else(IdMap::default, |(exact, default)| IdMap { exact, default })
}

/// What is fetched before it is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct PrefetchRequest {
    neighbours: bool,
    catalogs: bool,
    readahead: bool,
    traces: bool,
    packs: bool,
    bundles: bool,
    budget_bytes: u64,
    requests: usize,
    bundle_requests: usize,
}

impl PrefetchRequest {
    fn settings(&self) -> PrefetchSettings {
        PrefetchSettings {
            neighbours: self.neighbours,
            catalogs: self.catalogs,
            readahead: self.readahead,
            traces: self.traces,
            packs: self.packs,
            bundles: self.bundles,
            budget_bytes: self.budget_bytes,
            requests: self.requests,
            bundle_requests: self.bundle_requests,
        }
    }
}

/// Everything a mount is told; filled by name from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct MountRequest {
    fqrn: String,
    mountpoint: PathBuf,
    server_urls: Vec<String>,
    public_keys: Vec<Vec<u8>>,
    blacklist_files: Vec<PathBuf>,
    auto_update: bool,
    max_ttl_s: Option<u64>,
    catalog_bytes: u64,
    prefetch: PrefetchRequest,
    cache_dir: PathBuf,
    workspace: PathBuf,
    is_shared_cache: bool,
    alien_cache: Option<PathBuf>,
    quota_limit_bytes: Option<u64>,
    root_hash: Option<String>,
    tag: Option<String>,
    date_s: Option<i64>,
    network: NetworkRequest,
    kernel_cache_s: u64,
    claimed_owner: Option<(u32, u32)>,
    world_readable: bool,
    raw_symlinks: bool,
    uid_map: IdPairs,
    gid_map: IdPairs,
    environment: HashMap<String, String>,
    xattr_visibility: String,
    protected_xattrs: HashSet<String>,
    privileged_gids: HashSet<u32>,
    alternative_root: bool,
    check_permissions: bool,
    allow_other: bool,
    suid: bool,
    read_write: bool,
    fsname: String,
    worker_threads: usize,
}

impl MountRequest {
    fn selection(&self) -> Result<Selection, Raised> {
        Ok(match (&self.root_hash, &self.tag, self.date_s) {
            (Some(hash), _, _) => Selection::RootHash(values::hash(hash)?),
            (None, Some(tag), _) => Selection::Tag(tag.clone()),
            (None, None, Some(date_s)) => Selection::Date(date_s),
            (None, None, None) => Selection::Current,
        })
    }

    fn trust(&self) -> Result<TrustSource, Raised> {
        let keys = MasterKeys::parse(&self.public_keys)
            .map_err(|e| Error::format("read key", format!("public key of {}", self.fqrn), e))?;
        Ok(TrustSource { fqrn: self.fqrn.clone(), keys, blacklist_files: self.blacklist_files.clone() })
    }

    fn update_policy(&self) -> UpdatePolicy {
        UpdatePolicy { is_manual: !self.auto_update, max_ttl: self.max_ttl_s.map(Duration::from_secs) }
    }

    fn client_options(self, public_keys: String) -> Result<ClientOptions, Raised> {
        let xattr_visibility = match self.xattr_visibility.as_str() {
            "rootonly" => XattrVisibility::RootOnly,
            "always" => XattrVisibility::Always,
            "never" => XattrVisibility::Never,
            other => return Err(Raised::invalid("mount", format!("visibility `{other}` of attributes"))),
        };
        let process = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Ok(ClientOptions {
            fqrn: self.fqrn,
            claimed_owner: self.claimed_owner,
            process_owner: process,
            uid_map: id_map(self.uid_map),
            gid_map: id_map(self.gid_map),
            world_readable: self.world_readable,
            raw_symlinks: self.raw_symlinks,
            environment: self.environment.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect(),
            catalog_bytes: self.catalog_bytes,
            prefetch: self.prefetch.settings(),
            trace_directories: vec![self.cache_dir, self.workspace],
            kernel_cache: Duration::from_secs(self.kernel_cache_s),
            xattr_visibility,
            xattr_guard: XattrGuard { names: self.protected_xattrs, gids: self.privileged_gids },
            alternative_root: self.alternative_root,
            tag: self.tag.unwrap_or_default(),
            public_keys,
        })
    }

    fn mount_settings(&self) -> MountSettings {
        let mut settings = MountSettings::at(&self.mountpoint);
        settings.source.clone_from(&self.fsname);
        settings.writable = self.read_write;
        settings.suid = self.suid;
        settings.allow_other = self.allow_other;
        settings.default_permissions = self.check_permissions;
        settings.workers = (self.worker_threads > 0).then_some(self.worker_threads);
        settings
    }

    fn object_cache(&self, origin: Arc<Origin>) -> Result<ObjectCache, Raised> {
        let disk = match &self.alien_cache {
            Some(alien) => DiskCache::with_notes(alien, &self.cache_dir, Sharing::Alien)?,
            None if self.is_shared_cache => DiskCache::new(&self.cache_dir, Sharing::Shared)?,
            None => DiskCache::new(&self.cache_dir, Sharing::Exclusive)?,
        };
        if disk.is_read_only() {
            return Ok(ObjectCache::new(disk, origin));
        }
        disk.remove_leftovers();
        let quota = self.quota_limit_bytes.map(|limit| Quota::start(disk.dir(), limit)).transpose()?;
        if quota.is_none() && disk.sharing() != Sharing::Alien {
            disown(disk.dir());
        }
        let cache = ObjectCache::new(disk, origin);
        Ok(match quota {
            Some(quota) => cache.with_quota(quota),
            None => cache,
        })
    }

    /// Removes a dead client's mount, verifies a snapshot and loads its root catalog.
    pub(crate) fn open(self) -> Result<Opened, Raised> {
        nearfs_fuse::stale::clear_stale_mount(&self.mountpoint, &self.fsname)?;
        let (trust, selection, settings) = (self.trust()?, self.selection()?, self.mount_settings());
        let runtime = transport::runtime()?;
        let options = self.network.options()?;
        let origin = Arc::new(Origin::open(&self.server_urls.join(";"), options, runtime.handle().clone())?);
        self.network.arrange_hosts(&origin);
        let external = Arc::new(self.network.external(&runtime)?);
        let cache = Arc::new(self.object_cache(origin)?.with_external(external));
        prefetch::prepare(&cache, &self.prefetch.settings());
        let snapshot = Snapshot::open(&cache, &trust.trust()?, &selection)?;
        if selection == Selection::Current {
            // A host that lags behind the others shows only beside them; nobody waits for it.
            cache.origin().compare_hosts_soon();
        }
        let policy = self.update_policy();
        let client = Arc::new(Client::open(cache, &snapshot, self.client_options(trust.keys.pem_texts().concat())?)?);
        let updates = Updates::new(Arc::clone(&client), trust, policy, snapshot.is_offline);
        Ok(Opened { client, settings, updates, runtime: Some(runtime) })
    }
}
