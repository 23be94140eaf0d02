"""Draw the README's picture: one aircraft's delays with their mixture, and all aircraft."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

import xem

HERE = Path(__file__).parent
SHOWN = "N725MQ"

table = pq.read_table(HERE / "flights.parquet")
tail, delay = (table[name].to_numpy(zero_copy_only=False) for name in table.column_names)
names, first = np.unique(tail, return_index=True)
series = np.split(delay.astype(np.float64), first[1:])
fit = xem.fit(xem.Mixture(xem.Normal(), 2), series, seed=0).sorted()

plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
colours = ("#1b7f9e", "#d1603d")

one = int(np.flatnonzero(names == SHOWN)[0])
grid = np.linspace(-75, 225, 601)
left.hist(series[one], bins=np.arange(-75, 226, 7.5), density=True, color="#d9dde1")
weights, (loc, scale) = fit.params.weights[one], (p[one] for p in fit.params.components)
for k, colour in enumerate(colours):
    density = np.exp(-(((grid - loc[k]) / scale[k]) ** 2) / 2) / (scale[k] * np.sqrt(2 * np.pi))
    left.fill_between(grid, weights[k] * density, color=colour, alpha=0.35, lw=0)
left.plot(grid, np.exp(fit[one].log_prob(grid)), color="#222222", lw=1.6)
left.set(title=f"{SHOWN}: {len(series[one])} arrivals", xlabel="arrival delay, minutes", yticks=[])

sound = (fit.status == xem.Status.CONVERGED) & (np.array([len(s) for s in series]) >= 30)
for k, (colour, label) in enumerate(zip(colours, ("on time", "late"), strict=True)):
    right.scatter(
        fit.params.components.loc[sound, k],
        fit.params.components.scale[sound, k],
        s=18 * fit.params.weights[sound, k],
        color=colour,
        alpha=0.35,
        lw=0,
        label=label,
    )
right.set(
    title=f"{sound.sum():,} aircraft, one call",
    xlabel="mean delay, minutes",
    ylabel="standard deviation, minutes",
    xlim=(-30, 200),
    yscale="log",
    ylim=(3, 200),
)
right.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
right.legend(title="component (size: its weight)", frameon=False, markerscale=2, loc="lower right")
figure.savefig(HERE.parent / "images" / "flights.png", dpi=150)
