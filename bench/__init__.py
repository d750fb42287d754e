"""Measurements and the demonstration: programs that a person starts, each its own process.

Owns no behaviour of nearfs; uses only its commands and its public package. Results are kept in bench/results.
"""
