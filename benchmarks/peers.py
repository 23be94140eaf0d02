"""The other libraries, each called as its users call it: given iterations, or defaults.

They were written against scikit-learn 1.9, pomegranate 1.1, gmmx 0.7, torchgmm 0.1.4,
tgmm 0.4.3 and gmm-gpu 0.2.8.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.data import Floats, Numbers, Problem, Vectors, precisions
from benchmarks.report import Row, UnavailableError

THREADS = 2
"""What every competitor may use."""

Case = Callable[[bool], Iterator[Row]]
Iterate = Callable[[Problem, int], Vectors]


def installed(module: str) -> bool:
    """Whether a peer can be imported."""
    return find_spec(module) is not None


def requires(*modules: str) -> Callable[[Case], Case]:
    """Let a case that is nothing without some modules say so, where they are not installed."""

    def decorate(run: Case) -> Case:
        @wraps(run)
        def checked(smoke: bool) -> Iterator[Row]:
            if missing := [module for module in modules if not installed(module)]:
                msg = f"{', '.join(missing)} not installed"
                raise UnavailableError(msg)
            yield from run(smoke)

        return checked

    return decorate


@dataclass(frozen=True)
class Peer:
    """A library that makes a given number of iterations from a given start."""

    name: str
    modules: tuple[str, ...]
    kinds: frozenset[str]
    iterate: Callable[..., Vectors]
    apart: bool = False
    """Whether it needs a process of `isolated`."""

    @property
    def installed(self) -> bool:
        """Whether all that it needs can be imported."""
        return all(map(installed, self.modules))


def sklearn_numpy(problem: Problem, iterations: int) -> Vectors:
    """Iterate scikit-learn on NumPy arrays."""
    return _sklearn(problem, iterations, np.asarray)


def sklearn_torch(problem: Problem, iterations: int) -> Vectors:
    """Iterate scikit-learn on PyTorch's tensors, in a process of `isolated`."""
    import sklearn
    import torch

    with threadpool_limits(THREADS), sklearn.config_context(array_api_dispatch=True):
        return _sklearn(problem, iterations, torch.from_numpy)


def _sklearn(problem: Problem, iterations: int, array: Callable[[Floats], Any]) -> Vectors:
    kind, x, _, start = problem
    options = {
        "n_components": len(start.weights),
        "covariance_type": kind,
        "weights_init": array(start.weights),
        "means_init": array(start.loc),
        "precisions_init": array(precisions(kind, start.covariance)),
        "init_params": "random",  # unused, but the default is refused with tensors
        "reg_covar": 0.0,
        "tol": 0.0,
        "max_iter": iterations,
    }
    [model] = sklearn_fits([array(x)], [options])
    return Vectors(*map(np.asarray, (model.weights_, model.means_, model.covariances_)))


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


def pomegranate(problem: Problem, iterations: int, chunk: int | None = None) -> Vectors:
    """Iterate pomegranate, whose spherical components are made of equal variances.

    With a chunk, it is given so many observations at a time.
    """
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    kind, x, _, (weights, loc, covariance) = problem
    if kind == "spherical":
        covariance = np.repeat(covariance[:, None], loc.shape[1], axis=1)
    name = {"spherical": "sphere"}.get(kind, kind)
    parts = [Normal(*each, covariance_type=name) for each in zip(loc, covariance, strict=True)]
    model = GeneralMixtureModel(parts, priors=weights, max_iter=iterations, tol=-np.inf)
    if chunk is None:
        model.fit(torch.from_numpy(x))
    for _ in range(iterations if chunk else 0):
        for part in torch.from_numpy(x).split(chunk):
            model.summarize(part)
        model.from_summaries()
    covariance = np.stack([part.covs.numpy() for part in parts])
    loc = np.stack([part.means.numpy() for part in parts])
    return Vectors(
        model.priors.numpy(), loc, covariance[:, 0] if kind == "spherical" else covariance
    )


def gmmx(problem: Problem, iterations: int) -> Vectors:
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
    return Vectors(model.weights_numpy, model.means_numpy, model.covariances.values_numpy)


def torchgmm(problem: Problem, iterations: int, chunk: int | None = None) -> Vectors:
    """Iterate torchgmm, which makes the same start from the centres.

    With a chunk, it takes so many observations at a time.
    """
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
        batch_size=chunk,
        trainer_params=trainer,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(torch.from_numpy(problem.x)).model_
    fields = (found.component_probs, found.means, found.covariances)
    return Vectors(*(field.numpy() for field in fields))


def tgmm(problem: Problem, iterations: int, chunk: int | None = None) -> Vectors:
    """Iterate tgmm. With a chunk, it takes so many observations at a time."""
    import torch
    from tgmm import GaussianMixture

    weights, loc, covariance = map(torch.from_numpy, problem.start)
    model = GaussianMixture(
        len(weights),
        problem.x.shape[1],
        covariance_type=problem.kind,
        max_iter=iterations,
        tol=1e-300,  # 0 is refused
        reg_covar=0.0,
        init_weights=weights,
        init_means=loc,
        init_covariances=covariance,
        batch_size=chunk,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(torch.from_numpy(problem.x))
    fields = (model.weights_, model.means_, model.covariances_)
    return Vectors(*(field.numpy() for field in fields))


ALL = frozenset({"full", "tied", "diag", "spherical"})
SKLEARN = Peer("scikit-learn, numpy", ("sklearn",), ALL, sklearn_numpy)
PEERS = (
    SKLEARN,
    Peer("scikit-learn, torch", ("sklearn", "torch"), ALL, sklearn_torch, apart=True),
    Peer("pomegranate, torch", ("pomegranate",), ALL - {"tied"}, pomegranate),
    Peer("gmmx, jax", ("gmmx",), frozenset({"full", "diag"}), gmmx),
    Peer("torchgmm, torch", ("torchgmm",), ALL, torchgmm),
)
STREAMED = (
    Peer("pomegranate, torch", ("pomegranate",), ALL - {"tied"}, pomegranate),
    Peer("torchgmm, torch", ("torchgmm",), ALL, torchgmm),
    Peer("tgmm, torch", ("tgmm",), ALL - {"tied"}, tgmm),
)
"""Those whose ``iterate`` can be given a chunk."""


def sklearn_fits(problems: Iterable[Any], options: Iterable[dict[str, Any]]) -> list[Any]:
    """Fit scikit-learn's mixture to one problem after the other, each with its options.

    Numbers ``(n,)`` are vectors of one.
    """
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fit did not converge
        return [
            GaussianMixture(random_state=0, **chosen).fit(x[:, None] if x.ndim == 1 else x)
            for x, chosen in zip(problems, options, strict=True)
        ]


def sklearn_defaults(problems: Sequence[Floats]) -> list[Any]:
    """Fit scikit-learn's mixture of two, with its defaults, to one problem after the other."""
    return sklearn_fits(problems, [{"n_components": 2}] * len(problems))


def sklearn_started(series: Floats, start: Numbers, iterations: int) -> list[Any]:
    """Make a given number of iterations of numbers from a given start, series by series."""
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
    return sklearn_fits(series, [common | given for given in starts])


def sklearn_started_vectors(
    problems: Floats, start: Vectors, tol: float, max_iter: int
) -> list[Any]:
    """Fit scikit-learn's mixture with full covariances from given starts, problem by problem."""
    precisions_init = np.linalg.inv(start.covariance)
    common = {"n_components": start.weights.shape[-1], "reg_covar": 0.0}
    common |= {"tol": tol, "max_iter": max_iter}
    names = ("weights_init", "means_init", "precisions_init")
    given = zip(start.weights, start.loc, precisions_init, strict=True)
    return sklearn_fits(problems, [common | dict(zip(names, each, strict=True)) for each in given])


def sklearn_params(models: Sequence[Any]) -> list[Vectors]:
    """Return the parameters that scikit-learn's models reached."""
    return [Vectors(model.weights_, model.means_, model.covariances_) for model in models]


def gmm_gpu(problems: Floats) -> Any:
    """Fit gmm-gpu's mixture of two on the CPU, with its defaults, float32 among them."""
    import torch
    from gmm_gpu.gmm import GMM

    model = GMM(2, device="cpu", random_seed=1)
    x = torch.from_numpy(np.asarray(problems, np.float32))
    model.fit(x[..., None] if x.ndim == 2 else x)
    return model


def gmm_gpu_started(problems: Floats, start: Vectors, tol: float, max_iter: int) -> Any:
    """Fit gmm-gpu's mixture on the CPU in float32, from given starts."""
    import torch
    from gmm_gpu.gmm import GMM

    weights, loc, precisions_init = (
        torch.from_numpy(np.asarray(field, np.float32))
        for field in (start.weights, start.loc, np.linalg.inv(start.covariance))
    )
    model = GMM(
        start.weights.shape[-1],
        device="cpu",
        random_seed=1,
        tol=tol,
        max_iter=max_iter,
        weights_init=weights,
        means_init=loc,
        precisions_init=precisions_init,
    )
    x = torch.from_numpy(np.asarray(problems, np.float32))
    model.fit(x[..., None] if x.ndim == 2 else x)
    return model


def gmm_gpu_params(model: Any) -> list[Vectors]:
    """Return the parameters that gmm-gpu's model reached, for each problem."""
    columns = (model._pi, model.means, model.covs)
    fields = (np.stack([np.asarray(part) for part in column], axis=1) for column in columns)
    return [Vectors(*problem) for problem in zip(*fields, strict=True)]


def as_numbers(params: Sequence[Vectors]) -> Numbers:
    """Return the parameters of vectors of one, as those of a batch of numbers."""
    weights = np.stack([each.weights for each in params])
    loc = np.stack([each.loc[:, 0] for each in params])
    return Numbers(weights, loc, np.sqrt(np.stack([each.covariance[:, 0, 0] for each in params])))
