# What shows several worlds, from the results that the checkout has; included by the Makefile at the root.

##@ All worlds

# CHECKPOINTS is a folder, SOURCE tells whose they are and GENERATION which expert of DTD they have, other than
# data/clip/local.toml says; BACKBONES and SUITES name another column of Table 2.
ROW := $(addprefix backbone=,$(BACKBONES)) $(addprefix n_tasks=,$(SUITES)) $(addprefix source=,$(SOURCE)) $(addprefix generation=,$(GENERATION))
real-row: | intact-environment  ## one row of Table 2 from published checkpoints, if they are here (CHECKPOINTS, SOURCE)
	@$(compendium) run notebooks/compare/51_real_row.py --show$(addprefix $(empty) -p ,$(ROW))$(if $(CHECKPOINTS), -p "checkpoints=$(CHECKPOINTS)")

.PHONY: compare real-row
# It takes seconds, and names no tables that it reads: make would compute them anew, for hours, where a notebook is younger.
compare: | intact-environment  ## all worlds side by side: a page, and the table in README.md
	$(compendium) run notebooks/compare/50_carry_over.py
	$(compendium) page --profile compare
	@$(compendium) readme
