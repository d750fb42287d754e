//! Tests of the trust chain with keys made here.
