# What shows several worlds, from the results that the checkout has; included by the Makefile at the root.

##@ All worlds

COMPARED := $(addprefix figures/compare/,$(addsuffix .svg,gaps curves) overview.md)
$(COMPARED) notebooks/compare/50_carry_over.ipynb &: notebooks/compare/50_carry_over.py $(wildcard data/results/*/*.csv) | intact-environment
	$(compendium) run $<
	$(compendium) page --profile compare

# CHECKPOINTS is a folder and SOURCE tells whose they are, other than data/clip/local.toml says.
real-row: | intact-environment  ## one row of Table 2 from published checkpoints, if they are here (CHECKPOINTS, SOURCE)
	$(compendium) run notebooks/compare/51_real_row.py$(if $(CHECKPOINTS), -p checkpoints=$(CHECKPOINTS))$(if $(SOURCE), -p source=$(SOURCE))

.PHONY: compare real-row
compare: $(COMPARED)  ## all worlds side by side: a page, and the table in README.md
	@$(compendium) readme
