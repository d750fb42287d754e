"""The emulated line between two machines, and the servers and guests at its ends."""
