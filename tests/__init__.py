"""Tests of nearfs, one folder a kind; see docs/architecture.md."""
