"""The publisher: repositories on this machine, their transactions, tags and revisions."""
