"""Pictures as tests look at them: new axes, what is written in them, and drawing it all."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import xem


def standing(model: xem.Mixture, x: np.ndarray, weights: Any = None, **components: Any) -> xem.Fit:
    """Return a fit of observations that stands at these parameters; weights are equal if none."""
    own = {name: np.asarray(p) for name, p in components.items()}
    mass = np.ones(model.n_components) if weights is None else np.asarray(weights)
    return xem.fit(model, x, init=model.params(mass, **own), max_iter=0)


def new_axes() -> Axes:
    return Figure(layout="constrained").add_subplot()


def words(ax: Axes) -> str:
    """Return all that is written in axes, the titles and the legend included."""
    texts = [*ax.texts, *(ax.get_legend().get_texts() if ax.get_legend() else [])]
    return "\n".join([ax.get_title("left"), *(text.get_text() for text in texts)])


def save(figure: Figure) -> None:
    """Draw everything; a warning of matplotlib is an error here."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
