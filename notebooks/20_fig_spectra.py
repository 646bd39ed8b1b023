# %% [markdown]
# # Figure 2: accuracy against the share of singular components
#
# Mean accuracy over all tasks when every task matrix is rebuilt from its leading singular components. The paper shows
# one panel per backbone, with a line for the full matrices.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{spectra,sources}.csv`, `data/published/low_rank.csv` |
# | Writes | `figures/<profile>/spectra.{pdf,svg,png}` |
# | Paper item | Figure 2 (and 11, 12) |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance, published
from compendium.paper import errors, plotting, results, tables

plotting.use_style()

# %% [markdown]
# Tasks are averaged first; where there are several seeds, the line is their mean and the band spans the lowest and
# the highest seed. Bars at the marks are standard errors of what is lost against whole experts, paired over the same
# inputs; shares are rounded to the nearest number of components, which the table lists.

# %%
settings = profiles.load(profile, backbones, suites)
frame = results.load("spectra", profile)
sources = results.load("sources", profile)
runs = 100 * frame.pivot_table(index="percent", columns=["backbone", "seed"], values="accuracy")
means = errors.over_tasks(errors.accuracies(frame, sources, ["backbone", "seed", "percent"]))
drawn = errors.over_seeds(means)
whole = drawn.xs(100, level="percent").reindex(drawn.index, level="backbone")
error = 100 * errors.standard_error(whole - drawn)
counts = frame.groupby(["backbone", "percent"]).components.unique().map(lambda found: ", ".join(map(str, found)))
kept = runs.T.groupby(level="backbone").mean().T.unstack().round(1).rename("accuracy").to_frame()
kept.assign(error=error.round(2), components=counts)

# %% [markdown]
# The paper's text gives one loss for each of its backbones: so many points below whole experts at so few components. An
# open mark shows that loss below our own experts, since the tasks are others.

# %%
printed = published.load("low_rank").pivot_table(index="backbone", columns="fraction", values="percent")
losses = {backbone: row[1.0] - row.drop(1.0).dropna() for backbone, row in printed.iterrows()}
losses

# %% [markdown]
# The dashed line of each panel is the accuracy of the experts themselves.

# %%
fig, axes = plt.subplots(1, len(settings.backbones), figsize=(6.75, 2.4), squeeze=False)
for axis, backbone in zip(axes[0], settings.backbones, strict=True):
    seeds = runs[backbone.name]
    full, curve = seeds.loc[100].mean(), seeds.drop(index=100)
    style = plotting.backbone_style(settings, backbone.name)
    look = {"color": style.colour, "marker": style.marker, "capsize": 2}
    axis.errorbar(curve.index, curve.mean(axis=1), error[backbone.name].drop(100), **look)
    axis.fill_between(curve.index, curve.min(axis=1), curve.max(axis=1), color=style.colour, alpha=0.2)
    axis.axhline(full, color="black", linestyle="--")
    for fraction, loss in losses[backbone.counterpart].items():
        ring = {"marker": "o", "ms": 6, "mfc": "none", "mec": "#666666", "linestyle": "none", "zorder": 3}
        axis.plot(100 * fraction, full - loss, **ring, label="loss in the paper")
    axis.annotate(
        f"full rank {full:.1f} %", (1, full), (0, -12), ("axes fraction", "data"), "offset points", ha="right", va="top"
    )
    axis.set(title=backbone.label, xlabel="kept singular components (%)", xlim=(0, None))
axes[0, 0].set_ylabel("mean accuracy (%)")
axes[0, 0].legend(loc="lower right")
at_ten = {b.label: 100 * runs[b.name].loc[10].mean() / runs[b.name].loc[100].mean() for b in settings.backbones}
alt = "Accuracy rises steeply with the share of kept singular components. At 10 % it reaches " + ", ".join(
    f"{share:.1f} % of the full value for {label}" for label, share in at_ten.items()
)
alt += f". Open marks show the losses that the paper states. {tables.sampling(sources)}"
plotting.save_figure(fig, "spectra", profile, alt=f"{alt}{profiles.left_out(settings)}", source="20_fig_spectra")

# %% [markdown]
# How much 3 and 10 % keep is judged in notebook 11, by the rules of the ledger (notebook 41). The vertical axes differ,
# because the losses are small against the differences between backbones.

# %%
assert set(runs.columns.get_level_values("backbone")) == {backbone.name for backbone in settings.backbones}
print(provenance.versions_line())
