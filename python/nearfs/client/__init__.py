"""The client: the life of a mount."""
