"""Data frames: rows in groups, and a row for each group and component."""

from xem.frames.fits import GroupFits, fit_groups

__all__ = ["GroupFits", "fit_groups"]
