//! Where a publisher keeps objects.
