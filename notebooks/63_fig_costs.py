# %% [markdown]
# # Beyond the paper: accuracy against cost
#
# What does one get for seconds, for bytes, and for validation inputs? Every method is a point.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/beyond.csv`, `data/results/<profile>/measured/seconds.csv` |
# | Writes | `figures/<profile>/accuracy_cost.{pdf,svg,png}` |
# | Paper item | none |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import leads, plotting, results, tables

plotting.use_style()

# %% [markdown]
# The largest backbone with its first and its last suite.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
largest = settings.backbones[-1]
costs = leads.costs(results.load("beyond", profile), results.load("measured/seconds", profile)).loc[largest.name]
shown = list(dict.fromkeys((settings.suites[0], settings.suites[-1])))
costs.loc[shown[-1]].round(2).rename(index=tables.TITLES)

# %% [markdown]
# A method is worth its cost when no other is more accurate for the same or less; a line goes through these.

# %%
labels = {"seconds": "seconds to merge", "bytes": "megabytes stored", "inputs": "validation inputs"}
worth = {(n, cost): leads.frontier(costs.loc[n], cost) for n in shown for cost in labels}
for (n, cost), names in worth.items():
    print(f"{n} tasks, {labels[cost]}: {', '.join(tables.TITLES[name] for name in names)}")

# %% [markdown]
# Letters tell methods apart; the scales of the horizontal axes grow by powers of ten.

# %%
fig, axes = plt.subplots(len(shown), 3, figsize=(6.75, 2.3 * len(shown) + 2.1), sharey="row", squeeze=False)
plotting.scatter_costs(axes.flat, costs, worth, labels)
axes[0, 0].set_ylabel("normalised accuracy (%)")
handles, names = axes[0, 0].get_legend_handles_labels()
fig.legend(handles, names, ncols=4, fontsize=5.5, loc="outside lower center")
alt = (
    f"Normalised accuracy of every method for {largest.label} against seconds, bytes and validation inputs. "
    + " ".join(
        f"With {n} tasks, worth their {labels[cost]}: "
        + ", ".join(f"{tables.TITLES[name]} ({costs.accuracy[n, name]:.1f} %)" for name in names)
        + "."
        for (n, cost), names in worth.items()
    )
)
plotting.save_figure(fig, "accuracy_cost", profile, alt=f"{alt}{profiles.left_out(settings)}", source="63_fig_costs")

# %% [markdown]
# Along a line accuracy rises.

# %%
for (n, _), names in worth.items():
    assert costs.accuracy[n][names].is_monotonic_increasing
print(provenance.versions_line())
