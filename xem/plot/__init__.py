"""Pictures of fits."""

from xem.plot.pictures import densities, overview, population, responsibilities, traces

__all__ = ["densities", "overview", "population", "responsibilities", "traces"]
