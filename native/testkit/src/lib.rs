//! Development only: hosts that misbehave by script.

#![forbid(unsafe_code)]

pub mod host;
