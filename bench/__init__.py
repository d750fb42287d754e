"""Measurements: workloads, the machine block that goes with every figure, and kept results."""
