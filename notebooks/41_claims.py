# %% [markdown]
# # The ledger of claims
#
# What the paper claims, its number, ours, and whether the claim holds at this scale. A claim is a statement about
# cases: backbones, cells of a table, matrices. In each case it has a margin, positive where the claim is true, and the
# margin has a standard error, which tells how far other inputs of the same kind would have moved it. The error is that
# of a bootstrap that draws sources (notebook 01), not inputs, and draws the same ones for all that is compared.
# P-values are one-sided, by the normal distribution, and corrected by Holm for the number of cases at 5 %.
#
# A claim *holds* if it is significantly true in every case, it *does not hold here* if it is significantly false in at
# least one, and otherwise it is *undecided at this size*, as is one on which ten seeds of the bootstrap do not agree.
# Beside it stands the smallest effect that could have been seen in every case. Where nothing was sampled, cases are
# exact. What no seed of fine-tuning can change counts once for each backbone; where there are several seeds, a case is
# the mean over them.
#
# The rules are part of `compendium.paper.claims`. They were written down before any number of the world that they
# judge existed, though with those of an earlier one in view; the CHANGELOG lists what changed and why.
#
# | | |
# |---|---|
# | Reads | `{spectra,interference,procrustes,merge,compress,ablation,alpha,test_time,sources}.csv`, published numbers |
# | Writes | `figures/<profile>/claims.{csv,md,tex}` |
# | Paper item | abstract, contributions, captions |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are judged
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
from compendium import profiles, provenance, published
from compendium.paper import claims, results, successors, tables

# %% [markdown]
# Nothing is computed anew: the numbers are those of the result tables.

# %%
settings = profiles.load(profile, backbones, suites)
found = {
    "spectra": results.load("spectra", profile),
    "interference": results.load("interference", profile),
    "procrustes": results.load("procrustes", profile),
    "merge": results.load("merge", profile),
    "compress": results.load("compress", profile),
    "ablation": results.load("ablation", profile),
    "alpha": results.load("alpha", profile),
    "test_time": results.load("test_time", profile),
    "sources": results.load("sources", profile),
}
{name: len(frame) for name, frame in found.items()}

# %% [markdown]
# Numbers are means over the cases of a backbone ± their standard error, then the standard deviation over seeds of
# fine-tuning where there are several; of exact cases, the smallest and the largest. What nobody ran says so.

# %%
labels = {backbone.name: backbone.label for backbone in profiles.whole(settings).backbones}
ledger = claims.ledger(published.load("claims"), found, labels)
caption = (
    f"The paper's claims on {settings.title}: mean over the cases of each backbone ± its standard error, or the range "
    "of cases that are exact; in how many cases a claim is true; the smallest effect that could have been seen in "
    "every case; the verdict; and the rule, with the number of cases that Holm corrects for. "
    f"{tables.sampling(found['sources'])}{results.stated('merge', profile)}{profiles.left_out(settings)} "
    f"{successors.told()}"
)
results.save_table("claims", ledger, profile, caption)
ledger

# %% [markdown]
# A claim is judged as it was made. That TSV-M leads was true of the methods that the paper compares; others came since,
# and the published numbers say who leads now:

# %%
print(successors.told())

# %% [markdown]
# All of that is about image encoders. For large language models Hitit, Girrbach and Akata (arXiv 2511.21437, 2025) find
# that only task arithmetic helps reliably, and that TSV-M, Iso-C and Subspace Boosting do not.
#
# A claim that does not hold at small scale is a result, not a failure of the build, and one that is undecided says that
# this world is too small to tell. Some numbers need a second look:
#
# - Storage grows with the number of tasks because vectors (biases, normalisation) are kept whole for every task. They
#   weigh more in small models; the sizes that follow from the paper's own rule grow as well, more slowly.
# - Part of what TSV-M leads by can be what a poorly chosen alpha costs task arithmetic (see notebook 13).
# - Truncated factors of small blocks are nearly orthogonal by chance, so what has to be met is what chance gives.
# - That interference falls as accuracy rises would not tell which of the two steps of TSV-M does what: notebook 27
#   takes them apart.

# %%
print(ledger.Verdict.value_counts().to_dict())
assert len(ledger) == len(published.load("claims"))
print(provenance.versions_line())
