//! Chooses the transport by the scheme of a host's base URL.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::failure::{Failure, FailureClass};
use super::file::FileTransport;
use super::http::{HttpOptions, HttpTransport};
use super::timeouts::Timeouts;
use super::{BoxFuture, Fetched, Request, Sink, Target, Transport, url};
use crate::error::Result;

/// HTTP and local files behind one face, with common counters.
#[derive(Debug)]
pub struct SchemeTransport {
    http: HttpTransport,
    file: FileTransport,
}

impl SchemeTransport {
    /// Builds both transports; opens nothing.
    pub fn new(options: HttpOptions) -> Self {
        let timeouts = Arc::new(Timeouts::new(options.timeout, options.proxy_timeout));
        Self::with_timeouts(options, timeouts)
    }

    /// Builds both transports; those of `options` give way to `timeouts`, which may change.
    pub fn with_timeouts(options: HttpOptions, timeouts: Arc<Timeouts>) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            http: HttpTransport::with_timeouts(options, timeouts, counters.clone()),
            file: FileTransport::new(counters),
        }
    }
}

impl Transport for SchemeTransport {
    fn fetch<'a>(
        &'a self,
        target: &'a Target,
        request: &'a Request,
        sink: &'a mut (dyn Sink + Send),
    ) -> BoxFuture<'a, Result<Fetched, Failure>> {
        match target.base_url.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => self.http.fetch(target, request, sink),
            Some("file") => self.file.fetch(target, request, sink),
            _ => {
                Box::pin(async { Err(Failure::new(FailureClass::Unsupported, url::unknown_scheme(&target.base_url))) })
            }
        }
    }

    fn connect_ahead<'a>(&'a self, target: &'a Target, count: usize) -> BoxFuture<'a, ()> {
        match target.base_url.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => self.http.connect_ahead(target, count),
            _ => Box::pin(async {}),
        }
    }

    fn connect_time(&self, target: &Target) -> Option<Duration> {
        let scheme = target.base_url.split_once("://").map(|(scheme, _)| scheme);
        matches!(scheme, Some("http" | "https")).then(|| self.http.connect_time(target)).flatten()
    }

    fn counters(&self) -> &Counters {
        self.http.counters()
    }
}
