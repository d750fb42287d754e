//! Magic attributes about the mount: its repository, its way to the hosts, its cache, what it did.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nearfs_format::object::{ObjectId, ObjectKind};

use super::counter_lines;
use crate::cache::Quota;
use crate::cache::{Place, Want};
use crate::client::ops::Client;

/// Version that scripts of the reference system compare: the release whose behaviour is followed, patch level 0.
pub const COMPATIBLE_VERSION: &str = "2.12.0.0";
/// Longest repository metainfo that is shown.
const METAINFO_LIMIT_BYTES: u64 = 64 << 10;
const DAY: Duration = Duration::from_secs(86_400);
/// What the reference says where a list of hosts is empty.
const NO_HOSTS: &str = "internal error: no hosts defined";

/// Names that are valid on every entry.
pub(super) const NAMES: &[&str] = &[
    "user.catalog_counters",
    "user.expires",
    "user.external_host",
    "user.external_timeout",
    "user.fqrn",
    "user.hitrate",
    "user.host",
    "user.host_list",
    "user.inode_max",
    "user.logbuffer",
    "user.maxfd",
    "user.ncleanup24",
    "user.nclg",
    "user.ndiropen",
    "user.ndownload",
    "user.nioerr",
    "user.nopen",
    "user.pid",
    "user.proxy",
    "user.proxy_list",
    "user.proxy_list_external",
    "user.pubkeys",
    "user.repo_counters",
    "user.repo_metainfo",
    "user.revision",
    "user.root_hash",
    "user.rx",
    "user.speed",
    "user.tag",
    "user.timeout",
    "user.timeout_direct",
    "user.timestamp_last_ioerr",
    "user.uptime",
    "user.usedfd",
    "user.useddirp",
    "user.version",
];

/// Returns the value of one of [`NAMES`], but for `user.catalog_counters`, which depends on the entry.
pub(super) fn value(client: &Client, name: &str) -> Option<Vec<u8>> {
    let of_repository = repository(client, name).or_else(|| network(client, name));
    of_repository.or_else(|| activity(client, name)).map(String::into_bytes)
}

fn repository(client: &Client, name: &str) -> Option<String> {
    let (tree, options) = (client.tree(), client.options());
    Some(match name {
        "user.fqrn" => options.fqrn.clone(),
        "user.revision" => tree.root().index.revision().to_string(),
        "user.root_hash" => tree.root().catalog.hash.to_string(),
        "user.tag" => options.tag.clone(),
        "user.repo_counters" => counter_lines(tree.root()),
        "user.repo_metainfo" => metainfo(client),
        "user.pubkeys" => options.public_keys.clone(),
        "user.expires" if client.is_fixed() => "never (fixed root catalog)".to_owned(),
        "user.expires" => client.minutes_to_expiry().to_string(),
        "user.nclg" => tree.loaded_count().to_string(),
        "user.inode_max" => (tree.next_number() - 1).to_string(),
        _ => return None,
    })
}

fn network(client: &Client, name: &str) -> Option<String> {
    let origin = client.origin();
    let (external, (by_proxy, direct)) = (client.cache().external(), origin.timeouts());
    Some(match name {
        "user.host" if origin.hosts().is_empty() => NO_HOSTS.to_owned(),
        "user.host" => origin.active_host().to_string(),
        "user.host_list" => origin.hosts().join(";"),
        "user.proxy" => origin.active_proxy().to_string(),
        "user.proxy_list" => lines(origin.proxies().concat()),
        "user.timeout" => by_proxy.as_secs().to_string(),
        "user.timeout_direct" => direct.as_secs().to_string(),
        "user.external_timeout" => external.map_or(direct, |origin| origin.timeouts().1).as_secs().to_string(),
        "user.external_host" => match external {
            Some(origin) if !origin.hosts().is_empty() => origin.active_host().to_string(),
            _ => NO_HOSTS.to_owned(),
        },
        "user.proxy_list_external" => external.map_or_else(String::new, |origin| lines(origin.proxies().concat())),
        "user.rx" => (client.fetched_bytes() / 1024).to_string(),
        "user.speed" => speed(client),
        _ => return None,
    })
}

fn activity(client: &Client, name: &str) -> Option<String> {
    let counters = client.counters();
    Some(match name {
        "user.ndownload" => client.fetches().to_string(),
        "user.hitrate" => hit_rate(client),
        "user.ncleanup24" => cleanups(client).to_string(),
        "user.nopen" => counters.opens.load(Ordering::Relaxed).to_string(),
        "user.ndiropen" => counted(client, "upcall_opendir").to_string(),
        "user.nioerr" => counters.io_errors.load(Ordering::Relaxed).to_string(),
        "user.timestamp_last_ioerr" => counters.last_io_error_s.load(Ordering::Relaxed).to_string(),
        "user.usedfd" => client.open_files().to_string(),
        // Directories are listed without being opened.
        "user.useddirp" => "0".to_owned(),
        "user.maxfd" => file_limit(),
        "user.pid" => std::process::id().to_string(),
        "user.uptime" => (client.uptime().as_secs() / 60).to_string(),
        "user.logbuffer" => crate::journal::newest_first(),
        "user.version" => COMPATIBLE_VERSION.to_owned(),
        _ => return None,
    })
}

fn lines(items: Vec<impl ToString>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn speed(client: &Client) -> String {
    let transport = client.origin().counters();
    let milliseconds = transport.time_us / 1000;
    match transport.bytes {
        0 => "n/a".to_owned(),
        bytes => (u128::from(bytes) * 1000 / 1024 / u128::from(milliseconds.max(1))).to_string(),
    }
}

/// Percent of the requests for objects that needed no download.
fn hit_rate(client: &Client) -> String {
    let counters = client.cache().counters();
    match counters.hits + counters.fetches {
        0 => "n/a".to_owned(),
        all => format!("{:.2}", 100.0 * counters.hits as f64 / all as f64),
    }
}

fn cleanups(client: &Client) -> i64 {
    let made = client.cache().quota().map(|quota: &Quota| quota.cleanups_within(DAY));
    made.and_then(Result::ok).and_then(|made| i64::try_from(made).ok()).unwrap_or(-1)
}

fn counted(client: &Client, name: &str) -> u64 {
    client.all_counters().iter().find(|(counter, _)| counter == name).map_or(0, |(_, value)| *value)
}

fn file_limit() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or_else(|| "unlimited".to_owned(), |files| files.to_string())
}

fn metainfo(client: &Client) -> String {
    let Some(manifest) = client.manifest() else { return "manifest not available".to_owned() };
    let Some(hash) = manifest.metainfo.filter(|hash| !hash.is_null()) else {
        return "metainfo not available".to_owned();
    };
    let want = Want {
        place: Place::in_repository(manifest.has_alternative_paths),
        ..Want::bounded(ObjectId::new(hash, ObjectKind::Metainfo), METAINFO_LIMIT_BYTES)
    };
    match client.cache().read_small(&want) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("Failed to open metadata file: {error}"),
    }
}
