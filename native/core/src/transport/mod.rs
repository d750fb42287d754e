//! How bytes come from a host: requests, time-outs, routes.
