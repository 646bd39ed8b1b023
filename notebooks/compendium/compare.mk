# What shows several worlds, from the results that the checkout has; included by the Makefile at the root.

##@ All worlds

COMPARED := $(addprefix figures/compare/,$(addsuffix .svg,gaps curves) overview.md)
$(COMPARED) notebooks/compare/50_carry_over.ipynb &: notebooks/compare/50_carry_over.py $(wildcard data/results/*/*.csv) | intact-environment
	$(compendium) run $<
	$(compendium) page --profile compare

.PHONY: compare
compare: $(COMPARED)  ## all worlds side by side: a page, and the table in README.md
	@$(compendium) readme
