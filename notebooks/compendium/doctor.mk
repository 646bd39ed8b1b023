# What a run needs beside code, and where that is to be had; included by the Makefile at the root.

##@ Before a run

# What comes after the first suite need not be there for the tour.
tour: TOUR := yes

.PHONY: doctor fetch
doctor: | intact-environment  ## tell in seconds what a run needs, whether it is there, and how long it takes
	@$(compendium) doctor $(ASKED)
fetch: | intact-environment  ## download what the doctor says is missing, where that is possible (WHAT=checkpoints or images)
	@$(compendium) fetch $(ASKED)$(if $(WHAT), --what $(WHAT))
