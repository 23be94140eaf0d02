"""Benchmarks of xem against its peers: ``python -m benchmarks`` from the top of the repository."""
