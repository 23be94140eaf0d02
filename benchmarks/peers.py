"""The other libraries, each called as its users call it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.data import Floats, Params
from benchmarks.report import Row, absent

Case = Callable[[bool], Iterator[Row]]


def installed(module: str) -> bool:
    """Whether a peer can be imported."""
    return find_spec(module) is not None


def requires(module: str, case: str) -> Callable[[Case], Case]:
    """Let a case that is nothing without a module say so, where it is not installed."""

    def decorate(run: Case) -> Case:
        @wraps(run)
        def checked(smoke: bool) -> Iterator[Row]:
            if installed(module):
                yield from run(smoke)
            else:
                yield absent(case, module, "everything")

        return checked

    return decorate


def sklearn_loop(series: Iterable[Floats], options: Iterable[dict[str, Any]]) -> list[Any]:
    """Fit scikit-learn's mixture to one series after the other, each with its options."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            GaussianMixture(random_state=0, **chosen).fit(x[:, None])
            for x, chosen in zip(series, options, strict=True)
        ]


def sklearn_defaults(series: Sequence[Floats], n_components: int = 2) -> list[Any]:
    """Fit scikit-learn's mixture, with its defaults, to one series after the other."""
    return sklearn_loop(series, [{"n_components": n_components}] * len(series))


def sklearn_started(series: Floats, start: Params, iterations: int) -> list[Any]:
    """Make a given number of iterations from a given start, one series after the other."""
    common = {
        "n_components": start.weights.shape[-1],
        "covariance_type": "spherical",
        "reg_covar": 0.0,
        "tol": 0.0,
        "max_iter": iterations,
    }
    starts = [
        {"weights_init": w, "means_init": m[:, None], "precisions_init": s**-2.0}
        for w, m, s in zip(*start, strict=True)
    ]
    return sklearn_loop(series, [common | given for given in starts])


def sklearn_params(models: Sequence[Any]) -> Params:
    """Return the parameters that scikit-learn's models reached."""
    weights = np.stack([model.weights_ for model in models])
    loc = np.stack([model.means_[:, 0] for model in models])
    variance = np.stack([model.covariances_.reshape(-1) for model in models])
    return Params(weights, loc, np.sqrt(variance))


def gmm_gpu(series: Floats, n_components: int = 2) -> Any:
    """Fit gmm-gpu's mixture on the CPU, with its defaults, float32 among them."""
    import torch
    from gmm_gpu.gmm import GMM

    model = GMM(n_components, device="cpu", random_seed=1)
    model.fit(torch.from_numpy(np.asarray(series, np.float32))[..., None])
    return model


def gmm_gpu_params(model: Any) -> Params:
    """Return the parameters that gmm-gpu's model reached."""
    columns = (model._pi, model.means, model.covs)
    weights, loc, variance = (
        np.stack([np.asarray(part, np.float64).reshape(-1) for part in column], axis=1)
        for column in columns
    )
    return Params(weights, loc, np.sqrt(variance))
