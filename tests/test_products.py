"""Products: observations of several kinds, each with a family of its own."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from numpy.testing import assert_allclose, assert_array_equal

import xem
import xem.frames
from tests.lanes import Lane, NumpyLane, TorchLane, lane_params
from xem.backends.arrays import to_numpy
from xem.backends.tree import named_leaves
from xem.sklearn import Mixture as Estimator

TRIP = xem.Product(delay=xem.Normal(), stops=xem.Poisson())
TWO = xem.Mixture(TRIP, 2)
WIDE = xem.Mixture(
    xem.Product(delay=xem.Normal(), stops=xem.Poisson(), place=xem.MultivariateNormal()), 2
)
VECTORS = xem.Mixture(xem.Product(delay=xem.Normal(), stops=xem.Independent(xem.Poisson())), 2)


def trips(batch: int = 3, n: int = 250) -> dict[str, np.ndarray]:
    """Draw delays in milliseconds since some time, counts of stops, and places."""
    rng = np.random.default_rng(0)
    late = rng.random((batch, n)) < 0.4
    return {
        "delay": rng.normal(np.where(late, 0.0, 5.0), 1.5) * 1000 + 1e6,
        "stops": rng.poisson(np.where(late, 2.0, 9.0)),
        "place": rng.normal(size=(batch, n, 2)) * [1.0, 20.0] + 2.0 * late[..., None],
    }


def pair(**options: int) -> dict[str, np.ndarray]:
    own = trips(**options)
    return {name: own[name] for name in ("delay", "stops")}


def log_joint(params, x: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Return the log joint density of one component of one problem, by SciPy."""
    own = params.components
    logs = np.log(params.weights[k])
    logs = logs + st.norm(own.delay.loc[k], own.delay.scale[k]).logpdf(x["delay"])
    logs = logs + st.poisson(own.stops.rate[k]).logpmf(x["stops"])
    place = st.multivariate_normal(own.place.loc[k], own.place.covariance[k])
    return logs + place.logpdf(x["place"])


def one(x: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: own[i] for name, own in x.items()}


def test_a_step_is_that_of_separate_m_steps_on_joint_responsibilities() -> None:
    x = trips()
    before = xem.fit(WIDE, x, seed=0, max_iter=3, tol=0)
    after, log_likelihood = xem.em_step(WIDE, before.params, x)
    for i in range(3):
        own, part = before[i].params, one(x, i)
        logs = np.stack([log_joint(own, part, k) for k in range(2)])
        total = np.logaddexp(*logs)
        assert_allclose(log_likelihood[i], total.sum(), rtol=1e-12)
        share = np.exp(logs - total)
        count = share.sum(-1)
        new = after.components
        assert_allclose(after.weights[i], count / count.sum(), rtol=1e-10)
        mean = share @ part["delay"] / count
        variance = (share * (part["delay"] - mean[:, None]) ** 2).sum(-1) / count
        assert_allclose(new.delay.loc[i], mean, rtol=1e-10)
        assert_allclose(new.delay.scale[i], np.sqrt(variance), rtol=1e-8)
        assert_allclose(new.stops.rate[i], share @ part["stops"] / count, rtol=1e-10)
        centre = share @ part["place"] / count[:, None]
        assert_allclose(new.place.loc[i], centre, rtol=1e-8)
        away = part["place"] - centre[:, None, :]
        scatter = np.einsum("kn,kni,knj->kij", share, away, away) / count[:, None, None]
        assert_allclose(new.place.covariance[i], scatter, rtol=1e-8)


def test_densities_are_scipys() -> None:
    x = trips()
    fitted = xem.fit(WIDE, x, seed=0)
    logs = [
        np.stack([log_joint(fitted[i].params, one(x, i), k) for k in range(2)]) for i in range(3)
    ]
    total = np.stack([np.logaddexp(*own) for own in logs])
    assert_allclose(fitted.log_prob(x), total, rtol=1e-12)
    assert_allclose(fitted.log_likelihood, total.sum(-1), rtol=1e-12)
    assert_allclose(
        fitted.posterior(x), np.exp(np.stack(logs) - total[:, None]).swapaxes(1, 2), atol=1e-12
    )
    assert_array_equal(fitted.predict(x), np.argmax(np.stack(logs), axis=1))


def test_the_density_integrates_to_one() -> None:
    x = one(pair(), 0)
    fitted = xem.fit(TWO, x, seed=0)
    delays = np.linspace(1e6 - 2e4, 1e6 + 3e4, 4001)
    counts = np.arange(60)
    grid = {"delay": np.repeat(delays, 60), "stops": np.tile(counts, len(delays))}
    mass = np.exp(fitted.log_prob(grid)).sum() * (delays[1] - delays[0])
    assert_allclose(mass, 1, rtol=1e-9)


def test_draws_are_of_the_components() -> None:
    fitted = xem.fit(WIDE, one(trips(), 0), seed=0)
    drawn, labels = fitted.sample(4000, seed=1)
    assert {name: own.shape for name, own in drawn.items()} == {
        "delay": (4000,),
        "stops": (4000,),
        "place": (4000, 2),
    }
    own = fitted.params.components
    for k in range(2):
        mine = labels == k
        normal = st.norm(own.delay.loc[k], own.delay.scale[k])
        assert st.kstest(drawn["delay"][mine], normal.cdf).pvalue > 1e-3
        assert abs(drawn["stops"][mine].mean() / own.stops.rate[k] - 1) < 0.08
        assert_allclose(np.cov(drawn["place"][mine].T), own.place.covariance[k], rtol=0.25, atol=2)
    assert np.isfinite(fitted.log_prob(drawn)).all()


def test_a_product_by_itself_is_a_fit_of_each_family() -> None:
    x = pair()
    together = xem.fit(TRIP, x)
    delay, stops = xem.fit(xem.Normal(), x["delay"]), xem.fit(xem.Poisson(), x["stops"])
    for found, expected in zip(together.params, (delay.params, stops.params), strict=True):
        for ours, theirs in zip(found, expected, strict=True):
            assert_allclose(ours, theirs, rtol=1e-10)
    assert_allclose(
        together.log_likelihood, delay.log_likelihood + stops.log_likelihood, rtol=1e-12
    )
    assert set(together.sample(5, seed=0)) == {"delay", "stops"}


def test_columns_have_units_of_their_own() -> None:
    x = pair()
    moved = {**x, "delay": (x["delay"] - 1e6) / 1000}
    one, other = xem.fit(TWO, x, seed=0), xem.fit(TWO, moved, seed=0)
    ours, theirs = one.params.components, other.params.components
    assert_allclose(ours.stops.rate, theirs.stops.rate, rtol=1e-8)
    assert_allclose(ours.delay.loc, theirs.delay.loc * 1000 + 1e6, rtol=1e-10)
    assert_allclose(ours.delay.scale, theirs.delay.scale * 1000, rtol=1e-8)
    jacobian = x["delay"].shape[-1] * np.log(1000)
    assert_allclose(one.log_likelihood, other.log_likelihood - jacobian, rtol=1e-10)


@pytest.mark.parametrize("lane", lane_params(), indirect=True)
def test_all_lanes_agree(lane: Lane) -> None:
    x = trips(batch=2, n=80)
    options = {"seed": 0, "max_iter": 5, "tol": 0}
    here = {name: lane.asarray(own.astype(float)) for name, own in x.items()}
    ours, theirs = xem.fit(WIDE, here, **options), xem.fit(WIDE, x, **options)
    rtol = 1e-8 if lane.dtype_name == "float64" else 5e-3
    for (name, own), (_, expected) in zip(
        named_leaves(ours.params), named_leaves(theirs.params), strict=True
    ):
        size = np.abs(expected).max()
        assert_allclose(to_numpy(own), expected, rtol=rtol, atol=rtol * size, err_msg=name)


def test_float32_beside_integers_is_float64() -> None:
    x = pair()
    fitted = xem.fit(TWO, {**x, "delay": x["delay"].astype(np.float32)}, seed=0)
    assert fitted.log_likelihood.dtype == np.float64
    single = {name: own.astype(np.float32) for name, own in x.items()}
    assert xem.fit(TWO, single, seed=0).log_likelihood.dtype == np.float32


def test_lists_lengths_and_weights() -> None:
    x, lengths = trips(), np.asarray([100, 180, 250])
    series = [{name: own[i, :n] for name, own in x.items()} for i, n in enumerate(lengths)]
    listed, padded = xem.fit(WIDE, series, seed=0), xem.fit(WIDE, x, lengths=lengths, seed=0)
    alone = xem.fit(WIDE, series[1], seed=0)
    behind = {**x, "delay": np.where(np.arange(250) < lengths[:, None], x["delay"], np.nan)}
    weights = (np.arange(250) < lengths[:, None]).astype(float)
    for other in (
        padded,
        xem.fit(WIDE, behind, lengths=lengths, seed=0),
        xem.fit(WIDE, behind, weights=weights, seed=0),
    ):
        assert_allclose(listed.log_likelihood, other.log_likelihood, rtol=1e-10)
    assert_allclose(alone.log_likelihood, listed.log_likelihood[1], rtol=1e-12)
    logs = padded.log_prob(x, lengths=lengths)
    assert_allclose(logs.sum(-1), padded.log_likelihood, rtol=1e-10)
    assert not logs[0, 100:].any()


def test_tiles_are_alike() -> None:
    x = trips(batch=1, n=3000)
    whole, cut = xem.fit(WIDE, x, seed=0), xem.fit(WIDE, x, seed=0, memory=1)
    assert_allclose(whole.log_likelihood, cut.log_likelihood, rtol=1e-10)


def test_each_column_can_make_a_problem_hopeless() -> None:
    x = trips(batch=6)
    x["delay"][1, 3] = np.nan
    x["place"][2, 5, 1] = np.inf
    x["stops"][3, 7] = -1
    x["delay"][4] = 7.0
    fitted, sound = xem.fit(WIDE, x, seed=0), xem.fit(WIDE, one(x, 5), seed=0)
    assert [xem.Status(code).name for code in fitted.status[1:5]] == [
        "NOT_FINITE",
        "NOT_FINITE",
        "OUT_OF_SUPPORT",
        "CONSTANT",
    ]
    assert_array_equal(fitted.params.components.delay.loc[5], sound.params.components.delay.loc)
    assert np.isnan(fitted.params.components.stops.rate[1:5]).all()


def test_a_count_that_is_constant_is_no_hopeless_problem() -> None:
    x = {**pair(), "stops": np.full((3, 250), 4)}
    fitted = xem.fit(TWO, x, seed=0)
    assert_allclose(fitted.params.components.stops.rate, 4, rtol=1e-12)


def test_names_are_paths() -> None:
    x = pair()
    model = xem.Mixture(TRIP, 2, fixed={"components.stops.rate"}, tied={"components.delay.scale"})
    assert model.n_parameters() == 1 + 2 + 1
    fitted = xem.fit(model, x, init=model.params(stops={"rate": [2.0, 9.0]}), seed=0)
    own = fitted.params.components
    assert_array_equal(own.stops.rate, np.broadcast_to([2.0, 9.0], (3, 2)))
    assert own.delay.scale.shape == (3,)
    assert fitted.n_parameters == 4
    again = xem.fit(model, x, init=fitted.params, max_iter=0)
    assert_allclose(again.log_likelihood, fitted.log_likelihood, rtol=1e-12)
    with pytest.raises(ValueError, match=r"the model has .*'components.stops.rate'"):
        xem.Mixture(TRIP, 2, fixed={"components.rate"})
    with pytest.raises(ValueError, match=r"fixed names .'components.stops.rate'."):
        xem.fit(model, x)


def test_parameters_that_are_left_out_are_started() -> None:
    x = pair()
    start = TWO.params(delay={"loc": [1e6, 1.005e6]})
    assert_allclose(
        xem.fit(TWO, x, init=start, seed=0).log_likelihood,
        xem.fit(TWO, x, seed=0).log_likelihood,
        rtol=1e-6,
    )


def test_priors_are_those_of_the_families() -> None:
    x = one(pair(), 0)
    prior = TWO.prior(2.0, stops={"concentration": 3.0, "rate": 0.5})
    fitted = xem.fit(TWO, x, prior=prior, seed=0)
    rates, weights = fitted.params.components.stops.rate, fitted.params.weights
    density = st.gamma(3.0, scale=2.0).logpdf(rates).sum() + st.dirichlet([2, 2]).logpdf(weights)
    assert_allclose(fitted.objective - fitted.log_likelihood, density, rtol=1e-8)
    assert (np.diff(fitted.history) > -1e-9).all()
    alone = xem.fit(TRIP, x, prior=TRIP.prior(stops={"concentration": 3.0, "rate": 0.5}))
    mode = (2.0 + x["stops"].sum()) / (0.5 + 250)
    assert_allclose(alone.params.stops.rate, mode, rtol=1e-12)
    delay = xem.fit(xem.Normal(), x["delay"], prior=xem.Normal().prior(df=7.0))
    both = xem.fit(TRIP, x, prior=TRIP.prior(delay={"df": 7.0}))
    assert_allclose(both.params.delay.scale, delay.params.scale, rtol=1e-10)
    with pytest.raises(TypeError, match="stops is 3; pass a mapping"):
        TWO.prior(stops=3)
    with pytest.raises(ValueError, match=r"prior stops.rate is -1.0; expected finite numbers"):
        xem.fit(TWO, x, prior=TWO.prior(stops={"concentration": 3.0, "rate": -1.0}))
    with pytest.raises(ValueError, match="follows from the data for no parameters of Poisson"):
        xem.fit(TWO, x, prior="fraley-raftery")


def test_all_parameters_of_one_family_can_be_tied() -> None:
    rng = np.random.default_rng(0)
    late = rng.random(300) < 0.4
    x = {"a": rng.normal(size=300) + 4 * late, "g": rng.gamma(2 + 5 * late)}
    for family in (xem.Gamma(), xem.Normal(), xem.StudentT()):
        names = {f"components.g.{name}" for name in family.fields}
        model = xem.Mixture(xem.Product(a=xem.Normal(), g=family), 2, tied=names)
        fitted, alone = xem.fit(model, x, seed=0, tol=1e-9), xem.fit(family, x["g"], tol=1e-9)
        assert_allclose(fitted.log_prob(x).sum(), fitted.log_likelihood, rtol=1e-10)
        for ours, theirs in zip(fitted.params.components.g, alone.params, strict=True):
            assert_allclose(ours, theirs, rtol=2e-3)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_starts_at_given_means_are_those_of_vectors(k: int) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)) + 4 * np.arange(200)[:, None] % (3 * k)
    model = xem.Mixture(xem.Product(a=xem.Normal(), b=xem.Normal(), c=xem.Normal()), k)
    other = xem.Mixture(xem.MultivariateNormal("diag"), k)
    loc, data = x[:k] + 0.1, dict(zip("abc", x.T, strict=True))
    start = model.params(**{name: {"loc": loc[:, j]} for j, name in enumerate("abc")})
    ours = xem.fit(model, data, init=start, max_iter=3, tol=0)
    theirs = xem.fit(other, x, init=other.params(loc=loc), max_iter=3, tol=0)
    assert_allclose(ours.history[:, None], theirs.history[:, None], rtol=1e-10)
    explored = xem.fit(model, data, seed=0), xem.fit(other, x, seed=0)
    assert_allclose(explored[0].log_likelihood, explored[1].log_likelihood, rtol=1e-8)


def test_means_of_one_array_are_beside_their_clusters() -> None:
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 5, 400)
    x = {"a": rng.normal(size=400) + 8 * kind, "b": rng.poisson(2 + 20 * kind)}
    model = xem.Mixture(xem.Product(a=xem.Normal(), b=xem.Poisson()), 5, fixed={"components.a.loc"})
    start = model.params(a={"loc": 8.0 * np.arange(5)})
    for seed in range(4):
        fitted = xem.fit(model, x, init=start, seed=seed)
        assert_allclose(fitted.params.components.b.rate, 2 + 20 * np.arange(5), rtol=0.15)


def test_a_prior_from_the_data_looks_at_its_array_alone() -> None:
    x = one(pair(), 0)
    model = xem.Product(delay=xem.Normal(), stops=xem.Mixture(xem.Poisson(), 3))
    together = xem.fit(model, x, prior=model.prior(delay={"df": 5.0}), seed=0)
    alone = xem.fit(xem.Normal(), x["delay"], prior=xem.Normal().prior(df=5.0))
    assert_allclose(together.params.delay.scale, alone.params.scale, rtol=1e-10)


@pytest.mark.parametrize("given", [{}, {"delay": None}, {"delay": {}}], ids=str)
def test_a_prior_of_nothing_is_none(given: dict) -> None:
    x = one(pair(), 0)
    for model in (TRIP, TWO):
        prior = model.prior(**given)
        found = xem.fit(model, x, prior=prior, seed=0)
        assert_allclose(found.objective, xem.fit(model, x, seed=0).log_likelihood, rtol=1e-12)


def test_a_product_in_a_product() -> None:
    x = trips()
    inner = xem.Product(trip=TRIP, place=xem.MultivariateNormal())
    nested = {"trip": {name: x[name] for name in ("delay", "stops")}, "place": x["place"]}
    ours, theirs = xem.fit(xem.Mixture(inner, 2), nested, seed=0), xem.fit(WIDE, x, seed=0)
    assert_allclose(ours.log_likelihood, theirs.log_likelihood, rtol=1e-12)
    drawn, _ = ours.sample(4, seed=0)
    assert drawn["trip"]["stops"].shape == (3, 4)


def test_mixtures_inside_and_blocks_outside() -> None:
    rng = np.random.default_rng(1)
    late = rng.random((2, 400)) < 0.5
    x = {
        "size": rng.normal(np.where(rng.random((2, 400)) < 0.3, 0.0, 8.0), 1.0),
        "zeros": np.where(rng.random((2, 400)) < 0.3, 0, rng.poisson(np.where(late, 3.0, 12.0))),
    }
    inflated = xem.Mixture([(xem.PointMass(), 1), (xem.Poisson(), 1)])
    model = xem.Product(size=xem.Mixture(xem.Normal(), 2), zeros=inflated)
    together = xem.fit(model, x, seed=0)
    size, zeros = xem.fit(model.families[0], x["size"]), xem.fit(inflated, x["zeros"])
    apart = size.log_likelihood + zeros.log_likelihood
    assert_allclose(together.log_likelihood, apart, atol=1e-2)
    blocks = xem.Mixture(
        [
            (xem.Product(size=xem.Normal(), zeros=xem.Poisson()), 2),
            (xem.Product(size=xem.Uniform(), zeros=xem.PointMass()), 1),
        ]
    )
    fitted = xem.fit(blocks, x, seed=0)
    assert_allclose(fitted.log_prob(x).sum(-1), fitted.log_likelihood, rtol=1e-10)
    drawn, labels = fitted.sample(50, seed=0)
    assert (drawn["zeros"][labels == 2] == 0).all()
    with pytest.raises(ValueError, match="different arrays"):
        xem.Mixture([(TRIP, 1), (xem.Product(other=xem.Normal()), 1)])


def test_fits_go_where_fits_go(tmp_path) -> None:
    x = trips()
    fitted = xem.fit(WIDE, x, seed=0)
    xem.save(fitted, tmp_path / "fit.npz")
    others = [
        xem.load(tmp_path / "fit.npz"),
        pickle.loads(pickle.dumps(fitted)),
        copy.deepcopy(fitted),
        xem.concat([fitted[:1], fitted[1:]]),
    ]
    for other in others:
        assert other.model == fitted.model
        for (name, ours), (_, theirs) in zip(
            named_leaves(other.params), named_leaves(fitted.params), strict=True
        ):
            assert_array_equal(ours, theirs, err_msg=name)
        assert_allclose(other.log_prob(x), fitted.log_prob(x))
    ordered = fitted.sorted().params.components.delay.loc
    assert (np.diff(ordered, axis=-1) > 0).all()
    assert type(pickle.loads(pickle.dumps(fitted.params.components))) is WIDE.component.Params


def test_structured_arrays_are_mappings() -> None:
    x = one(pair(), 0)
    table = np.zeros(250, [("delay", float), ("stops", int)])
    table["delay"], table["stops"] = x["delay"], x["stops"]
    assert_array_equal(
        xem.fit(TWO, table, seed=0).log_likelihood, xem.fit(TWO, x, seed=0).log_likelihood
    )


def test_the_estimator_knows_columns_by_name_and_in_order() -> None:
    x = one(pair(), 0)
    frame = pd.DataFrame({"stops": x["stops"], "delay": x["delay"]})
    named = Estimator(TWO, random_state=0).fit(frame)
    rows = frame[["delay", "stops"]].to_numpy()
    ordered = Estimator(TWO, random_state=0).fit(rows)
    assert_allclose(named.score(frame), ordered.score(rows), rtol=1e-12)
    assert_array_equal(named.predict(frame), ordered.predict(rows))
    drawn, _ = named.sample(20)
    assert_array_equal(drawn[:, 0], np.round(drawn[:, 0]))
    with pytest.raises(ValueError, match="there are 3 columns"):
        Estimator(TWO).fit(frame.assign(more=1.0))
    with pytest.raises(ValueError, match="are in both"):
        Estimator(TWO).fit(frame.rename(columns={"stops": "Stops"}))
    wide = np.column_stack([rows, one(trips(), 0)["place"]])
    assert Estimator(WIDE, random_state=0).fit(wide).fit_.event == (4,)


@pytest.mark.parametrize(
    "lane", [NumpyLane("float64"), TorchLane("float64")], ids=["numpy", "torch"]
)
def test_arrays_that_do_not_go_with_the_model(lane: Lane) -> None:
    x = {name: lane.asarray(own) for name, own in pair().items()}
    for wrong, error, message in (
        (x["delay"], TypeError, "a mapping of arrays named .'delay', 'stops'."),
        ({"delay": x["delay"]}, ValueError, "a mapping of .'delay'.; this model"),
        ({**x, "more": x["stops"]}, ValueError, "'more'"),
        ({**x, "stops": x["stops"][:, :9]}, ValueError, r"x\['stops'\] has shape \(3, 9\)"),
        ({**x, "stops": 3}, TypeError, r"x\['stops'\] is a builtins.int"),
        ([x["delay"]], TypeError, r"x\[0\] is "),
        ([{"delay": x["delay"][0], "stops": x["stops"][0, :9]}], ValueError, "lengths"),
    ):
        with pytest.raises(error, match=message):
            xem.fit(TWO, wrong)
    with pytest.raises(TypeError, match="this model describes one array"):
        xem.fit(xem.Mixture(xem.Normal(), 2), x)
    fitted = xem.fit(TWO, x, seed=0)
    with pytest.raises(ValueError, match=r"expected \(3, 250\), \(3, 250\) or \(250,\), \(250,\)"):
        fitted.log_prob({name: own[:2] for name, own in x.items()})


@pytest.mark.parametrize(
    ("families", "error", "message"),
    [
        ({}, TypeError, "it has no families"),
        ({"a": 3}, TypeError, "a is 3; pass families by name"),
        ({"a b": xem.Normal()}, ValueError, "'a b' is no name"),
        ({"_a": xem.Normal()}, ValueError, "'_a' is no name"),
        ({"class": xem.Normal()}, ValueError, "'class' is no name"),
    ],
)
def test_products_of_nothing_that_goes(families, error, message) -> None:
    with pytest.raises(error, match=message):
        xem.Product(**families)


def test_how_many_parameters_depends_on_the_vectors() -> None:
    assert WIDE.n_parameters(((), (), (2,))) == 1 + 2 * (2 + 1 + 2 + 3)
    with pytest.raises(ValueError, match=r"vectors .'place'. are not known"):
        WIDE.n_parameters()


def test_unknown_parameters_raise() -> None:
    with pytest.raises(TypeError, match=r"unknown parameters .'stop'.; Product components have"):
        TWO.params(stop={"rate": [1.0, 2.0]})
    with pytest.raises(TypeError, match=r"Poisson has .'rate'."):
        TWO.params(stops={"loc": [1.0, 2.0]})
    with pytest.raises(TypeError, match="stops is 3; pass a mapping"):
        TWO.params(stops=3)
