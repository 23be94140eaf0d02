"""Fits on a CUDA GPU, beside what others need there, and beside what the device can do at most."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import xem
from benchmarks.cases.accelerator import Ceilings, ceilings, cost, reason_for_none, seconds
from benchmarks.peers import installed
from benchmarks.report import Row, UnavailableError, absent, failed

CASE = "gpu"
FEW, MANY = 2, 12
"""An iteration's time is that of so many less so few of them, so that the start drops out."""


@dataclass(frozen=True)
class Trial:
    """A batch of problems, their components, and the numbers that an iteration must touch."""

    name: str
    problems: int
    n: int
    d: int
    """0 for numbers."""
    n_components: int
    kind: str = "full"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data."""
        batch = (self.problems,) if self.problems > 1 else ()
        return (*batch, self.n, self.d) if self.d else (*batch, self.n)

    @property
    def model(self) -> xem.Mixture:
        """What is fitted, without a floor."""
        if not self.d:
            return xem.Mixture(xem.Normal(variance_floor=0), self.n_components)
        return xem.Mixture(xem.MultivariateNormal(self.kind, 0), self.n_components)

    @property
    def products(self) -> int:
        """Floating-point operations of the two matrix products of an iteration."""
        if not self.d:
            return 0
        square = self.d * (self.d + 1) // 2 if self.kind in ("full", "tied") else self.d
        return 4 * self.problems * self.n * self.n_components * (square + self.d + 1)

    def small(self) -> Trial:
        """Return a trial of the same kind that takes no time."""
        d, k = min(self.d, 4), min(self.n_components, 4)
        return Trial(self.name, min(self.problems, 3), min(self.n, 200), d, k, self.kind)


TRIALS = (
    Trial("1,000,000 series of 100, K=2", 1_000_000, 100, 0, 2),
    Trial("100,000 series of 1,000, K=2", 100_000, 1_000, 0, 2),
    Trial("1,000,000 × 16, K=32, full", 1, 1_000_000, 16, 32),
    Trial(
        "1,000,000 × 128, K=1024, spherical, float32 products", 1, 1_000_000, 128, 1024, "spherical"
    ),
)


def run(smoke: bool) -> Iterator[Row]:
    """Measure the device, then xem on PyTorch and CuPy, then the others."""
    if why := reason_for_none():
        raise UnavailableError(why)
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read when SciPy is first imported
    import torch

    device, most = torch.cuda.get_device_name(), ceilings(small=smoke)
    yield Row(CASE, device, "bandwidth of a copy", most.bandwidth / 1e9, "GB/s")
    for dtype, rate in most.products.items():
        yield Row(CASE, device, f"matrix products, {dtype}", rate / 1e12, "TFLOP/s")
    for trial in TRIALS:
        yield from _ours(trial.small() if smoke else trial, most)
    yield from _against_sklearn(smoke)
    yield from _against_batches(smoke)


def _data(trial: Trial) -> Any:
    """Draw two groups on the device, in float32."""
    import torch

    draw = torch.Generator(device="cuda").manual_seed(0)
    x = torch.randn(trial.shape, generator=draw, device="cuda")
    half = trial.n // 2
    x[(..., slice(half), *(slice(None),) * bool(trial.d))] += 6
    return x


def _libraries() -> dict[str, Callable[[Any], Any]]:
    """Return what makes an array of each library of a tensor, without a copy."""
    found: dict[str, Callable[[Any], Any]] = {"torch": lambda x: x}
    if installed("cupy"):
        import cupy

        found["cupy"] = cupy.from_dlpack
    return found


def _ours(trial: Trial, most: Ceilings) -> Iterator[Row]:
    """Tell what an iteration of xem costs, and what part of the ceilings it reaches."""
    tensor = _data(trial)
    for library, convert in _libraries().items():
        name = f"xem, {library} float32"
        try:
            yield from _iteration(trial, name, convert(tensor), most)
        except Exception as error:
            yield failed(CASE, name, f"{trial.name}: time an iteration", error)


def _iteration(trial: Trial, name: str, x: Any, most: Ceilings) -> Iterator[Row]:
    start = xem.fit(trial.model, x, init="random_from_data", seed=0, max_iter=0).params
    fit = partial(xem.fit, trial.model, x, init=start, tol=0, check_every=MANY)
    first, last = (cost(partial(fit, max_iter=count)) for count in (FEW, MANY))
    each = (last.seconds - first.seconds) / (MANY - FEW)
    n_bytes = 4 * trial.problems * trial.n * max(trial.d, 1)
    yield Row(CASE, name, f"{trial.name}: time an iteration", 1e3 * each, "ms")
    share = n_bytes / each / most.bandwidth
    yield Row(CASE, name, f"{trial.name}: data read, of the bandwidth", 100 * share, "%")
    if trial.products:
        share = trial.products / each / most.products["float32"]
        yield Row(CASE, name, f"{trial.name}: products, of the ceiling", 100 * share, "%")
    launches = (last.launches - first.launches) / (MANY - FEW)
    yield Row(CASE, name, f"{trial.name}: kernels an iteration", launches, "")
    peak = last.peak_bytes / 2**20
    yield Row(CASE, name, f"{trial.name}: peak memory beyond the input", peak, "MiB")


def _against_sklearn(smoke: bool) -> Iterator[Row]:
    """Fit what scikit-learn's array API was first measured on: 100,000 × 30, K=30."""
    n, d, k = (500, 3, 3) if smoke else (100_000, 30, 30)
    for kind in ("spherical", "tied", "diag", "full"):
        trial = Trial(f"{n:,} × {d}, K={k}, {kind}", 1, n, d, k, kind)
        x, what = _data(trial), f"{trial.name}: one fit, defaults, random_from_data"
        peers = {
            "xem.sklearn, torch float32": partial(_class("xem.sklearn"), x, k, kind),
            "scikit-learn, torch float32": partial(_class("sklearn.mixture"), x, k, kind),
            "pomegranate, torch float32": partial(_pomegranate, x, k, kind),
            "torchgmm, torch float32": partial(_torchgmm, x, k, kind),
        }
        yield from _compared(peers, what)


def _against_batches(smoke: bool) -> Iterator[Row]:
    """Fit many small problems, as gmm-gpu does."""
    trial = Trial("1,000 fits of 400 × 2, K=2, full", 1_000, 400, 2, 2)
    trial = trial.small() if smoke else trial
    x = _data(trial)
    model = xem.Mixture(xem.MultivariateNormal(), trial.n_components)
    peers = {
        "xem, torch float32, tol=0.001": partial(xem.fit, model, x, seed=0, tol=1e-3),
        "gmm-gpu, torch float32": partial(_gmm_gpu, x),
    }
    yield from _compared(peers, f"{trial.name}: all fits, defaults")


def _compared(peers: Mapping[str, Callable[[], Any]], what: str) -> Iterator[Row]:
    """Tell the time of each, and xem's ratio to each of the others."""
    times: dict[str, float] = {}
    for name, fit in peers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                times[name] = seconds(fit)
        except ImportError:
            yield absent(CASE, name, what)
        except Exception as error:
            yield failed(CASE, name, what, error)
    ours = next((value for name, value in times.items() if name.startswith("xem")), None)
    for name, value in times.items():
        other = ours is not None and not name.startswith("xem")
        measure = f"{what}; xem's ratio of speeds" if other else what
        yield Row(CASE, name, measure, 1e3 * value, "ms", value / ours if other and ours else None)


def _class(module: str) -> Callable[[Any, int, str], Any]:
    """Return what fits the mixture class of a module, with its defaults."""

    def fit(x: Any, n_components: int, kind: str) -> Any:
        import importlib

        import sklearn

        mixture = importlib.import_module(module).GaussianMixture
        options = {"covariance_type": kind, "init_params": "random_from_data", "random_state": 0}
        with sklearn.config_context(array_api_dispatch=module != "xem.sklearn"):
            return mixture(n_components, **options).fit(x)

    return fit


def _pomegranate(x: Any, n_components: int, kind: str) -> Any:
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    name = {"spherical": "sphere"}.get(kind, kind)
    parts = [Normal(covariance_type=name).to(x.device) for _ in range(n_components)]
    return GeneralMixtureModel(parts, max_iter=100, tol=1e-3).to(x.device).fit(x)


def _torchgmm(x: Any, n_components: int, kind: str) -> Any:
    from torchgmm.bayes import GaussianMixture

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = {
        "accelerator": "gpu",
        "max_epochs": 100,
        "enable_progress_bar": False,
    }
    model = GaussianMixture(n_components, covariance_type=kind, trainer_params=trainer)
    return model.fit(x)


def _gmm_gpu(x: Any) -> Any:
    from gmm_gpu.gmm import GMM

    model = GMM(2, device="cuda", random_seed=1)
    model.fit(x)
    return model
