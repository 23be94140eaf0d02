"""The other libraries on mixtures of vectors: given iterations from a given start, or defaults.

Each returns the parameters that it reached, on the host. They were written against
scikit-learn 1.9, pomegranate 1.1, gmmx 0.7, torchgmm 0.1.4 and gmm-gpu 0.2.8.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.data import Floats
from benchmarks.gaussian_data import Params, Problem, precisions
from benchmarks.peers import installed

THREADS = 2
"""What every competitor may use."""

Iterate = Callable[[Problem, int], Params]


@dataclass(frozen=True)
class Peer:
    """A library that makes a given number of iterations from a given start."""

    name: str
    modules: tuple[str, ...]
    kinds: frozenset[str]
    iterate: Iterate
    apart: bool = False
    """Whether it needs a process of `isolated`."""

    @property
    def installed(self) -> bool:
        """Whether all that it needs can be imported."""
        return all(map(installed, self.modules))


def sklearn_numpy(problem: Problem, iterations: int) -> Params:
    """Iterate scikit-learn on NumPy arrays."""
    return _sklearn(problem, iterations, np.asarray)


def sklearn_torch(problem: Problem, iterations: int) -> Params:
    """Iterate scikit-learn on PyTorch's tensors, in a process of `isolated`."""
    import sklearn
    import torch

    with threadpool_limits(THREADS), sklearn.config_context(array_api_dispatch=True):
        return _sklearn(problem, iterations, torch.from_numpy)


def _sklearn(problem: Problem, iterations: int, array: Callable[[Floats], Any]) -> Params:
    from sklearn.mixture import GaussianMixture

    kind, x, _, start = problem
    model = GaussianMixture(
        len(start.weights),
        covariance_type=kind,
        weights_init=array(start.weights),
        means_init=array(start.loc),
        precisions_init=array(precisions(kind, start.covariance)),
        init_params="random",  # unused, but the default is refused with tensors
        reg_covar=0.0,
        tol=0.0,
        max_iter=iterations,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(array(x))
    return Params(*map(np.asarray, (model.weights_, model.means_, model.covariances_)))


@contextmanager
def isolated() -> Iterator[Callable[[Iterate], Iterate]]:
    """Yield what puts a function into a process where SciPy's array API is on.

    It is on or off for a whole process, and on it slows small arrays down. The data travel
    with each call: a constant, that drops out of the time an iteration.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _switch_on) as pool:

        def put(iterate: Iterate) -> Iterate:
            return lambda *args: pool.submit(iterate, *args).result()

        yield put


def _switch_on() -> None:
    """Ask for the array API, before SciPy is imported."""
    os.environ["SCIPY_ARRAY_API"] = "1"


def pomegranate(problem: Problem, iterations: int) -> Params:
    """Iterate pomegranate, whose spherical components are made of equal variances."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    kind, x, _, (weights, loc, covariance) = problem
    if kind == "spherical":
        covariance = np.repeat(covariance[:, None], loc.shape[1], axis=1)
    name = {"spherical": "sphere"}.get(kind, kind)
    parts = [Normal(*own, covariance_type=name) for own in zip(loc, covariance, strict=True)]
    model = GeneralMixtureModel(parts, priors=weights, max_iter=iterations, tol=-np.inf)
    model.fit(torch.from_numpy(x))
    covariance = np.stack([part.covs.numpy() for part in parts])
    loc = np.stack([part.means.numpy() for part in parts])
    return Params(
        model.priors.numpy(), loc, covariance[:, 0] if kind == "spherical" else covariance
    )


def gmmx(problem: Problem, iterations: int) -> Params:
    """Iterate gmmx, which has float32 only."""
    os.environ.setdefault("NPROC", str(THREADS))  # the size of XLA's pool, before it starts
    import jax
    from gmmx import EMFitter, GaussianMixtureModelJax

    kind, x, _, (weights, loc, covariance) = problem
    with jax.enable_x64(x.dtype == np.float64):
        arrays = map(jax.numpy.asarray, (loc, covariance, weights))
        start = GaussianMixtureModelJax.from_squeezed(*arrays, covariance_type=kind)
        fitter = EMFitter(max_iter=iterations, tol=0.0, reg_covar=0.0)
        model = fitter.fit(jax.numpy.asarray(x), start).gmm
    return Params(model.weights_numpy, model.means_numpy, model.covariances.values_numpy)


def torchgmm(problem: Problem, iterations: int) -> Params:
    """Iterate torchgmm, which makes the same start from the centres."""
    import torch
    from torchgmm.bayes import GaussianMixture

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = {
        "max_epochs": iterations,
        "precision": 64 if problem.x.dtype == np.float64 else 32,
        "accelerator": "cpu",
        "enable_progress_bar": False,
    }
    model = GaussianMixture(
        len(problem.centres),
        covariance_type=problem.kind,
        init_means=torch.from_numpy(problem.centres),
        convergence_tolerance=0,
        covariance_regularization=0,
        trainer_params=trainer,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = model.fit(torch.from_numpy(problem.x)).model_
    return Params(*(field.numpy() for field in (own.component_probs, own.means, own.covariances)))


def sklearn_defaults(x: Floats) -> list[Any]:
    """Fit scikit-learn's mixture of two, with its defaults, to one problem after the other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [GaussianMixture(2, random_state=0).fit(own) for own in x]


def sklearn_params(models: Sequence[Any]) -> list[Params]:
    """Return the parameters that scikit-learn's models reached."""
    return [Params(model.weights_, model.means_, model.covariances_) for model in models]


def gmm_gpu_defaults(x: Floats) -> Any:
    """Fit gmm-gpu's mixture of two on the CPU, with its defaults, float32 among them."""
    import torch
    from gmm_gpu.gmm import GMM

    model = GMM(2, device="cpu", random_seed=1)
    model.fit(torch.from_numpy(np.asarray(x, np.float32)))
    return model


def gmm_gpu_params(model: Any) -> list[Params]:
    """Return the parameters that gmm-gpu's model reached, for each problem."""
    columns = (model._pi, model.means, model.covs)
    fields = (np.stack([np.asarray(part) for part in column], axis=1) for column in columns)
    return [Params(*own) for own in zip(*fields, strict=True)]


ALL = frozenset({"full", "tied", "diag", "spherical"})
SKLEARN = Peer("scikit-learn, numpy", ("sklearn",), ALL, sklearn_numpy)
PEERS = (
    SKLEARN,
    Peer("scikit-learn, torch", ("sklearn", "torch"), ALL, sklearn_torch, apart=True),
    Peer("pomegranate, torch", ("pomegranate",), ALL - {"tied"}, pomegranate),
    Peer("gmmx, jax", ("gmmx",), frozenset({"full", "diag"}), gmmx),
    Peer("torchgmm, torch", ("torchgmm",), ALL, torchgmm),
)
