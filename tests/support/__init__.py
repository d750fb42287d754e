"""What tests stand on: bounded waiting, processes, mounts, golden repositories, and the check that nothing is left.

Owns no assertion about nearfs. Everything started here is ended here, with a deadline.
"""
