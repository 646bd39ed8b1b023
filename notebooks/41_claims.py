# %% [markdown]
# # The ledger of claims
#
# What the paper claims, its number, ours, and whether the claim holds at this scale. A claim is a statement about
# cases (runs, cells of a table, matrices). It *holds* if it is true in all of them, *holds in part* if in at least
# half, and otherwise *does not hold here*. The rules are part of `compendium.paper.claims`. Those for the low-rank
# curve, TSV-C, storage and task arithmetic came after the first numbers; they take the paper's own thresholds, except
# the margin of one point and the factor of 1.2 for storage, which are ours. All others were written
# before their numbers existed.
#
# | | |
# |---|---|
# | Reads | `{spectra,interference,procrustes,merge,compress,ablation,alpha}.csv`, `data/published/claims.csv` |
# | Writes | `figures/<profile>/claims.{csv,md,tex}` |
# | Paper item | abstract, contributions, captions |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are judged

# %%
from compendium import profiles, provenance, published
from compendium.paper import claims, results

# %% [markdown]
# Nothing is computed anew: the numbers are those of the result tables.

# %%
settings = profiles.load(profile)
tables = {
    "spectra": results.load("spectra", profile),
    "interference": results.load("interference", profile),
    "procrustes": results.load("procrustes", profile),
    "merge": results.load("merge", profile),
    "compress": results.load("compress", profile),
    "ablation": results.load("ablation", profile),
    "alpha": results.load("alpha", profile),
}
{name: len(frame) for name, frame in tables.items()}

# %% [markdown]
# Numbers are means over the cases of a backbone, ± the standard deviation over seeds where there are several. What
# nobody ran says so.

# %%
labels = {backbone.name: backbone.label for backbone in settings.backbones}
ledger = claims.ledger(published.load("claims"), tables, labels)
caption = f"The paper's claims on {settings.title}. The rule that decides stands in the last column."
results.save_table("claims", ledger, profile, caption)
ledger

# %% [markdown]
# A claim that does not hold at small scale is a result, not a failure of the build. On mini, storage grows because
# vectors (biases, normalisation) are kept whole for every task and weigh more in small models; the published models
# show the same in weaker form. Runs beyond the threshold at 3 % of the components miss it by little, and so does a
# cell of TSV-C below 99 %; which ones these are has changed with each number of test images (see
# `data/mini/README.md`). Part of what TSV-M leads by is what a poorly chosen alpha costs task arithmetic (see notebook
# 13). Alpha = 1 loses up to some points here, since the best value differs more from subset to subset than among large
# models. That interference falls as accuracy rises rests on the gap between the two methods: within task arithmetic,
# more tasks mean more interference without always meaning less accuracy.

# %%
print(ledger.Verdict.value_counts().to_dict())
assert len(ledger) == len(published.load("claims"))
print(provenance.versions_line())
