//! Chooses the transport by the scheme of a host's base URL.

use std::sync::Arc;

use super::counters::Counters;
use super::failure::{Failure, FailureClass};
use super::file::FileTransport;
use super::http::{HttpOptions, HttpTransport};
use super::{BoxFuture, Fetched, Request, Sink, Target, Transport, url};
use crate::error::{Error, ErrorKind, Result};

/// HTTP and local files behind one face, with common counters.
#[derive(Debug)]
pub struct SchemeTransport {
    http: HttpTransport,
    file: FileTransport,
}

impl SchemeTransport {
    /// Builds both transports; opens nothing.
    pub fn new(options: HttpOptions) -> Self {
        let counters = Arc::new(Counters::default());
        Self { http: HttpTransport::new(options, counters.clone()), file: FileTransport::new(counters) }
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
            Some("http") => self.http.fetch(target, request, sink),
            Some("file") => self.file.fetch(target, request, sink),
            Some("https") => Box::pin(async {
                Err(Failure::new(FailureClass::Unsupported, url::https_unsupported(&target.base_url)))
            }),
            _ => Box::pin(async {
                let subject = format!("{}: unknown scheme", target.base_url);
                Err(Failure::new(FailureClass::Unsupported, Error::new(ErrorKind::Unsupported, "use host", subject)))
            }),
        }
    }

    fn counters(&self) -> &Counters {
        self.http.counters()
    }
}
