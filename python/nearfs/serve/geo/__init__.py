"""Where clients and servers are, and which server is nearest: the geo API of a stratum 1 (format.md 8.8)."""
