"""The reference system's command names: each parses that tool's options and calls `nearfs.cli`."""
