# What shows several worlds, from the results that the checkout has; included by the Makefile at the root.

##@ All worlds

COMPARED := $(addprefix figures/compare/,$(addsuffix .svg,gaps curves) overview.md)
$(COMPARED) notebooks/compare/50_carry_over.ipynb &: notebooks/compare/50_carry_over.py $(wildcard data/results/*/*.csv) | intact-environment
	$(compendium) run $<
	$(compendium) page --profile compare

# CHECKPOINTS is a folder, SOURCE tells whose they are and GENERATION which expert of DTD they have, other than
# data/clip/local.toml says; BACKBONES and SUITES name another column of Table 2.
ROW := $(addprefix backbone=,$(BACKBONES)) $(addprefix n_tasks=,$(SUITES)) $(addprefix source=,$(SOURCE)) $(addprefix generation=,$(GENERATION))
real-row: | intact-environment  ## one row of Table 2 from published checkpoints, if they are here (CHECKPOINTS, SOURCE)
	@$(compendium) run notebooks/compare/51_real_row.py --show$(addprefix $(empty) -p ,$(ROW))$(if $(CHECKPOINTS), -p "checkpoints=$(CHECKPOINTS)")

.PHONY: compare real-row
compare: $(COMPARED)  ## all worlds side by side: a page, and the table in README.md
	@$(compendium) readme
