# All methods on equal terms, those that came after the paper among them; included by the Makefile at the root, after all
# that `make paper` makes: what these chapters add to its lists is no part of it.

##@ Beyond the paper

# Asked for together with the paper, they wait for it: what is decomposed first is the same then, and nothing else runs
# while times are measured.
AFTER_PAPER := $(if $(filter paper,$(MAKECMDGOALS)),$(COPIES) $(PAGE))
MADE_BEFORE := $(MADE)
LEADS := $(JUDGE) $(C)/paper/leads.py
$(eval $(call chapter,60_beyond,$(call table,beyond),$(EXPERTS_SEEN),$(STUDY) $(LEADS),$(AFTER_PAPER)))
$(eval $(call chapter,61_merge_times,$(call table,measured/seconds),$(EXPERTS),$(STUDY),$(call table,beyond)))
$(eval $(call chapter,62_tab_beyond,$(call printed,beyond beyond_costs),$(call table,beyond measured/seconds sources),$(PRINT) $(LEADS)))
$(eval $(call chapter,63_fig_costs,$(call figure,accuracy_cost),$(call table,beyond measured/seconds),$(DRAW) $(LEADS)))
BEYOND := $(addprefix $(N)/,$(addsuffix .ipynb,60_beyond 61_merge_times 62_tab_beyond 63_fig_costs)) $(filter-out $(MADE_BEFORE),$(MADE))

.PRECIOUS: $(BEYOND)
$(BEYOND): | intact-experts $(CLUSTER)

.PHONY: beyond
beyond: $(BEYOND)  ## all methods on equal terms: accuracy, time, bytes, inputs; then the page anew
	@$(if $(WORKED),$(compendium) page $(ASKED))
	@echo "$(if $(WORKED),Built,Nothing to do): all methods of profile $(PROFILE) are compared."
