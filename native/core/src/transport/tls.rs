//! TLS to hosts: whose certificates are believed.
//!
//! Source: client.md 1.4 (`CVMFS_USE_SSL_SYSTEM_CA`) and 3.4. Content is verified by signature and hash whatever the
//! way it came; TLS only hides what is asked for, and keeps strangers out. Authorities are read when the first host is
//! asked over TLS, and kept once reading succeeded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::error::{Error, ErrorKind, Result};

/// Where systems keep their authorities, in the order in which they are looked for.
const SYSTEM_DIRECTORIES: [&str; 5] =
    ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ssl", "/etc/pki/tls", "/etc/pki/ca-trust/extracted/pem"];
/// Where grid sites keep theirs.
const GRID_DIRECTORY: &str = "/etc/grid-security/certificates";
/// More files of a directory are not looked at.
const MAX_FILES: usize = 20_000;
/// A larger file is no bundle of certificates.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Believes the system's authorities (`CVMFS_USE_SSL_SYSTEM_CA`).
    pub use_system: bool,
    /// Directory of certificates (environment `X509_CERT_DIR`).
    pub directory: Option<PathBuf>,
    /// File of certificates (environment `X509_CERT_BUNDLE`).
    pub bundle: Option<PathBuf>,
}

/// Speaks TLS.
#[derive(Debug)]
pub(super) struct Tls {
    options: TlsOptions,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Builds one that has read nothing.
    pub(super) fn new(options: TlsOptions) -> Self {
        Self { options, config: OnceCell::new() }
    }

    /// Returns what opens TLS on a connection, reading the authorities if need be.
    pub(super) async fn connector(&self) -> Result<TlsConnector> {
        let options = self.options.clone();
        let read = || async {
            let reading = tokio::task::spawn_blocking(move || client_config(&options)).await;
            reading.map_err(|e| Error::new(ErrorKind::Internal, "read", "certificates").with_source(e))?
        };
        Ok(TlsConnector::from(Arc::clone(self.config.get_or_try_init(read).await?)))
    }

    /// Returns the name that the certificate of `host` has to bear.
    pub(super) fn server_name(host: &str) -> Result<ServerName<'static>> {
        ServerName::try_from(host.to_owned())
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "use host", format!("https://{host}")).with_source(e))
    }
}

fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let places = options.places();
    for place in &places {
        // Some of a system's files are no certificates, and some certificates are of no use.
        roots.add_parsable_certificates(certificates(place));
        if !roots.is_empty() {
            break;
        }
    }
    if roots.is_empty() {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        let subject = format!(
            "certificates in {}: none found; install ca-certificates and set CVMFS_USE_SSL_SYSTEM_CA=yes, or X509_CERT_DIR",
            looked.join(", ")
        );
        return Err(Error::new(ErrorKind::NotFound, "read", subject));
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(ErrorKind::Internal, "begin", "TLS").with_source(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl TlsOptions {
    /// Returns where to look for authorities: the first place that has any counts.
    fn places(&self) -> Vec<PathBuf> {
        let system = SYSTEM_DIRECTORIES.iter().map(PathBuf::from);
        if self.use_system {
            return system.chain(self.directory.clone()).collect();
        }
        let named: Vec<PathBuf> = self.bundle.iter().chain(&self.directory).cloned().collect();
        if named.is_empty() {
            return std::iter::once(PathBuf::from(GRID_DIRECTORY)).chain(system).collect();
        }
        named
    }
}

/// Returns the certificates of a PEM file, or of all PEM files of a directory.
fn certificates(place: &Path) -> Vec<CertificateDer<'static>> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(place) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).take(MAX_FILES).collect(),
        Err(_) => vec![place.to_owned()],
    };
    // A system's directory holds each certificate by several names, and all of them in one bundle besides.
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    for file in files {
        let is_small = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE_BYTES);
        let Some(pem) = is_small.then(|| std::fs::read(&file).ok()).flatten() else { continue };
        found.extend(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    found.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_looked_for_where_the_configuration_says() {
        let named = TlsOptions { directory: Some("/d".into()), bundle: Some("/b".into()), ..TlsOptions::default() };
        assert_eq!(named.places(), [PathBuf::from("/b"), PathBuf::from("/d")]);
        let system = TlsOptions { use_system: true, ..named };
        assert_eq!(system.places().first(), Some(&PathBuf::from("/etc/ssl/certs")));
        assert_eq!(system.places().last(), Some(&PathBuf::from("/d")));
        assert_eq!(TlsOptions::default().places().first(), Some(&PathBuf::from(GRID_DIRECTORY)));
    }

    #[test]
    fn without_authorities_the_error_says_where_none_was_found() {
        let empty = tempfile::tempdir().unwrap();
        std::fs::write(empty.path().join("README"), "no certificate").unwrap();
        let options = TlsOptions { directory: Some(empty.path().to_owned()), ..TlsOptions::default() };
        let error = client_config(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&empty.path().display().to_string()), "{error}");
    }
}
