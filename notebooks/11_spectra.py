# %% [markdown]
# # Task matrices are low-rank
#
# The paper's first claim: of what fine-tuning changes in a layer, a small share of the singular components carries
# nearly all of the task. Here every expert is rebuilt from its leading components and measured again.
#
# | | |
# |---|---|
# | Reads | `checkpoints.csv` and the experts |
# | Writes | `data/results/<profile>/spectra.csv` |
# | Paper item | Figure 2 (and 11, 12 for the other backbones) |
# | Run time | mini: about 3 minutes on 2 CPU cores; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: which models and tasks
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results
from compendium.study import runs
from tsvlib import progress

# %% [markdown]
# ## Rebuild and measure
#
# Each task matrix is decomposed once. For every share of components, the leading ones are multiplied back and added
# to the base; parameters that are not matrices keep their fine-tuned values. At least one component is always kept.

# %%
settings = profiles.load(profile).with_further_seeds(further_seeds)
rows = []
with progress.track(settings.tasks * sum(len(b.seeds) for b in settings.backbones), "low-rank experts") as bar:
    for run in runs.of(settings):
        for task in run.tasks(settings.tasks):
            measured = run.truncated(task, settings.fractions)
            found = dict(zip(settings.fractions, measured, strict=True))
            found[1.0] = run.individual("test", [task])[task], run.task_vector(task).stored_bytes
            key = (run.backbone, run.seed, task)
            rows += [(*key, round(100 * share), accuracy, float(size)) for share, (accuracy, size) in found.items()]
            bar.update()

# %% [markdown]
# The row with 100 % is the expert itself.

# %%
columns = {
    "backbone": "model that was fine-tuned",
    "seed": "seed of the expert's fine-tuning",
    "task": "task of the expert, on which it is measured",
    "percent": "share of the singular components of each task matrix that is kept, in percent",
    "accuracy": "share of correct test images in [0, 1]",
    "bytes": "what the task vector takes, in float32: as factors (TSV-C), or whole in the row with 100 %",
}
frame = pd.DataFrame(rows, columns=list(columns))
checkpoints = results.load("checkpoints", profile)
results.save("spectra", frame, profile, columns)
frame.head()

# %% [markdown]
# ## What is kept
#
# The mean accuracy over all tasks (and seeds) at each share, relative to the experts themselves.

# %%
mean = frame.pivot_table(index="backbone", columns="percent", values="accuracy")
kept = mean.div(mean[100], axis=0)
(100 * kept).round(1)

# %% [markdown]
# The abstract's claim and that of Section 3.2, with the rules of the ledger (notebook 41).

# %%
found = {"spectra": frame}
print(f"A tenth of the components: {claims.told('low_rank_10', found)}")
print(f"3 % of the components: {claims.told('low_rank_3', found)}")

# %% [markdown]
# Experts measured here must be those of notebook 10, and the build stops if the low rank is not there at all where
# it should be: a tenth of the components must keep 95 % of the accuracy. That was fixed before the first measurement.

# %%
individual = checkpoints[checkpoints.method == "individual"].value.mean()
assert abs(frame[frame.percent == 100].accuracy.mean() - individual) < 1e-5
assert not settings.assert_claims or (kept[10] >= 0.95).all(), "10 % of the components keep less than 95 %"
print(provenance.versions_line())
