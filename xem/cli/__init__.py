"""The program `xem`."""

from xem.cli.program import main

__all__ = ["main"]
