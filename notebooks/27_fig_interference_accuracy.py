# %% [markdown]
# # Figures 8, 13 and 15: interference against accuracy
#
# What makes TSV-M work: fewer components, vectors without interference, or only both? Each of its two steps alone and
# with the other, by the interference that is left and by the accuracy of the merged model.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{interference,merge,ablation,sources}.csv` |
# | Writes | `figures/<profile>/interference_accuracy.{pdf,svg,png}` |
# | Paper item | Figures 8, 13 and 15 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import itertools

import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import claims, evidence, factorial, plotting, results

plotting.use_style()

# %% [markdown]
# ## Interference that is left
#
# Merging with none of the two steps is task arithmetic, with both it is TSV-M, and notebook 15 merged with each alone.
# Interference is that of what each adds up (notebook 12): sums of absolute entries over all matrices, as a share of
# what task arithmetic adds up, before alpha scales the sum. Less than 0.0001 counts as none: that is rounding, or a
# small matrix that TSV-M averages. Accuracies are normalised, in percent, of the first seed; errors are standard errors
# by the bootstrap over independent sources of the test inputs.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
tables = {
    "interference": results.load("interference", profile),
    "merge": results.load("merge", profile),
    "ablation": results.load("ablation", profile),
    "sources": results.load("sources", profile),
}
drawn = evidence.Evidence(tables)
points, order = factorial.points(drawn), [backbone.name for backbone in settings.backbones]
left = points.reset_index().pivot_table(index=["backbone", "n_tasks"], columns="form", values="left")
left.loc[order].map("{:.2g}".format)

# %% [markdown]
# ## What each step is worth
#
# Gains over task arithmetic in points of normalised accuracy, paired over the same inputs. The interaction is what both
# steps are worth together beyond the sum of what each is worth alone: zero if they merely add up. A gain in parentheses
# may be zero: its sign is not significant at 5 % after Holm's correction for all gains of the table.

# %%
gained = factorial.gains(drawn)
plain = gained.gain.round(1).add(0.0).map("{:.1f}".format) + " ± " + gained.error.map("{:.1f}".format)
shown = plain.where(gained.sure, "(" + plain + ")").unstack("step").loc[order, list(factorial.STEPS)]
print(f"Holm's correction for {len(gained)} gains")
shown

# %% [markdown]
# The same over all backbones and suites: mean, range, and in how many of them the sign is significant.

# %%
words = factorial.told(gained)
for step, text in words.items():
    print(f"{step}: {text}")
alt = (
    "Normalised accuracy against the interference left, a panel for each backbone and suite, with four marks: task "
    "arithmetic, low rank only, interference reduction only and TSV-M, which leaves none. Mean gain over task "
    "arithmetic: " + ", ".join(f"{step.replace('_', ' ')} {text}" for step, text in words.items())
)
alt += f".{profiles.left_out(settings)}"

# %% [markdown]
# ## The picture
#
# One panel for each backbone and suite. Lines lead from task arithmetic over each step alone to both. The horizontal
# axis is logarithmic; what has no interference left but rounding stands at 0. Bars are standard errors.

# %%
ZERO = points.left[points.left > 0].min() / 5
ticks = [tick for tick in (0.001, 0.01, 0.1, 1) if tick > 2 * ZERO]
methods = {form: plotting.METHOD_STYLE[method] for method, form in evidence.FORMS.items()}
size = (6.75, 0.8 + 1.7 * len(settings.suites))
fig, axes = plt.subplots(
    len(settings.suites), len(settings.backbones), figsize=size, squeeze=False, sharex=True, sharey=True
)
panels = itertools.product(settings.suites, settings.backbones)
for axis, (n_tasks, backbone) in zip(axes.flat, panels, strict=True):
    here = points.loc[backbone.name, n_tasks]
    at = here.left.clip(lower=ZERO)
    for step in ("low_rank", "interference_reduction"):
        path = ["none", step, "both"]
        axis.plot(at[path], here.accuracy[path], color="0.6", linewidth=0.8, zorder=1)
    for form, style in methods.items():
        look = {"color": style.colour, "marker": style.marker, "linestyle": "", "elinewidth": 0.8, "capsize": 2}
        axis.errorbar(at[form], here.accuracy[form], here.error[form], label=style.title, **look)
    axis.axvline(1.8 * ZERO, color="0.6", linestyle=":", linewidth=0.6)
    axis.set(xscale="log", title=f"{backbone.label}, {n_tasks} tasks")
    axis.set_xticks([ZERO, *ticks], ["0", *map("{:g}".format, ticks)])
    axis.minorticks_off()
fig.supxlabel("interference left, as a share of that of task arithmetic", fontsize=8)
fig.supylabel("normalised accuracy (%)", fontsize=8)
fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper center")
plotting.save_figure(fig, "interference_accuracy", profile, alt=alt, source="27_fig_interference_accuracy")

# %% [markdown]
# ## How to read it, and how the paper reads it
#
# The paper draws two of the four forms, task arithmetic and TSV-M, and reads from them that accuracy rises as
# interference falls. Which interference its marks of TSV-M have is not known to us. Of what TSV-M adds up it is zero,
# but for rounding; of the truncated factors before they are orthogonalised it is that of *low rank only*, which is
# small because few components are added up, and whose accuracy is another one. So two forms cannot tell whether less
# interference is the cause. The two between them tell which step takes an effect: were low interference enough, low
# rank alone would be worth nearly as much as both; were the steps independent, the interaction would be zero.
#
# By the rules of the ledger (notebook 41), which were fixed before these numbers:

# %%
print(claims.told("interference_accuracy", tables))
print(claims.told("complementary", tables))

# %% [markdown]
# A rank correlation over the forms and suites of one backbone is no proof of a cause. What must hold is that no mark is
# missing.

# %%
assert len(points) == len(settings.backbones) * len(settings.suites) * len(methods)
assert points.notna().all(axis=None)
assert (points.xs("none", level="form").left == 1).all()
print(provenance.versions_line())
