//! Names that a machine's own files know: `/etc/hosts`, and the aliases that `HOST_ALIASES` names (client.md 3.7).
//!
//! Only where a name server is named in the configuration: the system's resolver reads its files itself. Blocks for the
//! reading of two small files.

use std::net::IpAddr;
use std::path::Path;

const HOSTS: &str = "/etc/hosts";
/// A larger file is not read.
const MAX_BYTES: u64 = 4 << 20;

/// Returns the name for which `name` stands, and its addresses where the machine knows them.
pub(super) fn look_up(name: &str, aliases: Option<&Path>) -> (String, Vec<IpAddr>) {
    let name = aliases.and_then(|file| alias(&text(file), name)).unwrap_or_else(|| name.to_owned());
    let addresses = addresses(&text(Path::new(HOSTS)), &name);
    (name, addresses)
}

fn text(file: &Path) -> String {
    let is_small = std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
    is_small.then(|| std::fs::read_to_string(file).ok()).flatten().unwrap_or_default()
}

fn addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

fn alias(aliases: &str, name: &str) -> Option<String> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let is_it = words.next().is_some_and(|word| word.eq_ignore_ascii_case(name));
        is_it.then(|| words.next()).flatten().map(str::to_owned)
    };
    aliases.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_aliases_are_read_as_the_system_reads_them() {
        let hosts = "# c\n10.0.0.1 a.org a # x.org\n\nfd00::1\tA.org\nnonsense a.org\n10.0.0.2 b.org\n";
        let ips = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(addresses(hosts, "a.org"), ips(&["10.0.0.1", "fd00::1"]));
        assert_eq!(addresses(hosts, "a"), ips(&["10.0.0.1"]));
        assert!(addresses(hosts, "x.org").is_empty());
        assert_eq!(alias("p proxy.example.org\nq\n", "P"), Some("proxy.example.org".to_owned()));
        assert_eq!(alias("p proxy.example.org\nq\n", "q"), None);
    }
}
