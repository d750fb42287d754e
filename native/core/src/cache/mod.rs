//! Objects on the local disk of a client: the reference cache layout, filled at most once per object.
