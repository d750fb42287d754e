"""What the server tells of itself and of its repositories: the status page, its JSON, and metrics."""
