"""Replicas: making one, bringing it up to date, keeping it so on a schedule (stratum 1)."""
