# The paper's table of contents: which notebook makes which file from which.
# PROFILE chooses the world (mini, minilm, clip, smoke), OUT another folder for everything that is written, JOBS how many notebooks run
# side by side: most of them wait for one CPU at times; ENGINE=dask is a cluster; LAB are options of JupyterLab's own.
PROFILE ?= mini
VENV ?= .venv
THREADS ?= 2
JOBS ?= 2
FURTHER_SEEDS ?= 0
C := notebooks/compendium
include $(C)/settings.mk
include $(C)/cluster.mk

# What a notebook writes: result tables, figures, printed tables; and its executed copy.
table = $(foreach name,$(1),$(R)/$(name).csv $(R)/$(name).json)
figure = $(foreach name,$(1),$(addprefix $(F)/$(name).,pdf svg png txt))
printed = $(foreach name,$(1),$(addprefix $(F)/$(name).,csv md tex))
compendium = $(PYTHON) -m compendium
working = @$(eval WORKED := yes)$(compendium)
train = $(working) train $(ASKED)
train_all = $(train)$(if $(FURTHER), --further-seeds $(FURTHER_SEEDS))
# From the root, so that links between folders work and tsvlib can be read beside the notebooks. Files hold no sliders.
open_lab = $(PYTHON) -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb --ContentsManager.pre_save_hook=compendium.views.before_saving $(LAB)

# $(call chapter,NOTEBOOK,what it writes,what it reads,the code it rests on,what must come before)
define chapter
COPIES += $(N)/$(1).ipynb
MADE += $(2)
$(2) $(N)/$(1).ipynb &: notebooks/$(1).py $(3) $(4) $(if $(5),| $(5))
	$$(working) run $$< -p profile=$(PROFILE) $(call given,notebooks/$(1).py)
endef

# The code, by what it is for.
WORLD := $(wildcard $(C)/worlds/*.py $(addprefix $(HOME_OF_WORLD)/,*.py datasets/*.py local/*.py sources/*.py))
METHOD := $(wildcard tsvlib/*.py tsvlib/methods/*.py tsvlib/selection/*.py)
STUDY := $(METHOD) $(wildcard $(C)/study/*.py)
TABLES_OF := $(addprefix $(C)/paper/,tables.py errors.py evidence.py)
JUDGE := $(TABLES_OF) $(C)/paper/claims.py
DRAW := $(addprefix $(C)/paper/,plotting.py tsv.mplstyle) $(TABLES_OF)
PUBLISHED := $(C)/published.py $(wildcard data/published/*.csv)
PRINT := $(PUBLISHED) $(JUDGE) $(addprefix $(C)/paper/,audit.py requirements.py successors.py)
BASES := $(wildcard $(addprefix data/$(PROFILE)/,*.toml *.txt models/*.json weights/*.safetensors texts/*.csv))

# The experts are never committed, so a fresh clone recomputes everything, whatever times its checkout gave to files.
$(FIRST_SUITE): $(WORLD) $(BASES)
	$(train) --first-suite$(if $(TOUR),, --then-all)
	@touch $@
$(EXPERTS): $(FIRST_SUITE)
	$(train_all)
	@touch $@

# Two notebooks side by side could measure the same weights, or decompose the same matrices with other numbers of threads:
# what is in the stores would depend on who came first. So some follow 13_merge, which fills both.
EXPERTS_SEEN := $(call table,checkpoints sources)
AFTER_MERGE := $(call table,merge)
$(eval $(call chapter,00_tour,,$(FIRST_SUITE),$(STUDY) $(DRAW) $(addprefix $(C)/,views.py paper/sliders.py paper/maps.py)))
$(eval $(call chapter,01_tasks,$(call figure,tasks),$(EXPERTS),$(DRAW)))
$(eval $(call chapter,10_checkpoints,$(call table,checkpoints sources),$(EXPERTS),$(STUDY) $(TABLES_OF)))
$(eval $(call chapter,11_spectra,$(call table,spectra),$(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,12_interference,$(call table,interference procrustes),$(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,13_merge,$(call table,merge),$(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,14_compress,$(call table,compress),$(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,15_ablation,$(call table,ablation),$(AFTER_MERGE) $(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,16_alpha,$(call table,alpha alpha_search),$(EXPERTS_SEEN),$(STUDY) $(PUBLISHED) $(JUDGE),$(AFTER_MERGE)))
$(eval $(call chapter,17_test_time,$(call table,test_time),$(EXPERTS_SEEN),$(STUDY) $(JUDGE)))
$(eval $(call chapter,18_similarity,$(call table,similarity),$(EXPERTS_SEEN),$(STUDY),$(AFTER_MERGE)))
$(eval $(call chapter,19_confusion,$(call table,confusion),$(AFTER_MERGE),$(STUDY)))
$(eval $(call chapter,20_fig_spectra,$(call figure,spectra),$(call table,spectra sources),$(DRAW) $(PRINT)))
$(eval $(call chapter,21_fig_interference,$(call figure,interference_blocks interference_matrices procrustes),$(call table,interference procrustes),$(DRAW)))
$(eval $(call chapter,22_fig_scaling,$(call figure,scaling),$(call table,merge sources),$(DRAW) $(PRINT)))
$(eval $(call chapter,23_fig_radar,$(call figure,radar),$(call table,merge compress),$(DRAW)))
$(eval $(call chapter,24_fig_spectra_tasks,$(call figure,spectra_tasks),$(call table,spectra),$(DRAW)))
$(eval $(call chapter,25_fig_alpha,$(call figure,alpha),$(call table,alpha sources),$(DRAW) $(PRINT)))
$(eval $(call chapter,26_fig_similarity,$(call figure,similarity),$(call table,similarity),$(DRAW)))
$(eval $(call chapter,27_fig_interference_accuracy,$(call figure,interference_accuracy),$(call table,interference merge ablation sources),$(DRAW) $(PRINT) $(C)/paper/factorial.py))
$(eval $(call chapter,28_fig_storage,$(call figure,storage),$(call table,spectra compress sources),$(DRAW)))
$(eval $(call chapter,29_fig_confusion,$(call figure,confusion),$(call table,confusion),$(DRAW)))
$(eval $(call chapter,30_tab_merge,$(call printed,merge),$(call table,merge sources),$(PRINT)))
$(eval $(call chapter,31_tab_compress,$(call printed,compress),$(call table,compress sources),$(PRINT)))
$(eval $(call chapter,32_tab_ablation,$(call printed,ablation),$(call table,merge ablation sources),$(PRINT)))
$(eval $(call chapter,33_tab_requirements,$(call printed,requirements),$(call table,compress),$(METHOD) $(PRINT)))
$(eval $(call chapter,34_tab_test_time,$(call printed,test_time),$(call table,merge test_time sources),$(PRINT)))
$(eval $(call chapter,40_audit,$(call printed,audit_sizes audit_means audit_cells),$(EXPERTS),$(PRINT)))
$(eval $(call chapter,41_claims,$(call printed,claims),$(call table,spectra interference procrustes merge compress ablation alpha test_time sources),$(PRINT)))
$(eval $(call chapter,42_theory,$(call printed,theory),$(EXPERTS),$(STUDY),$(AFTER_MERGE)))

# Last of all, what the figures folder holds, on one page in the paper's order.
PAGE := $(addprefix $(F)/paper.,html pdf)
$(PAGE) &: $(addprefix $(C)/paper/,items.toml contents.py page.py page.html.j2 sheets.py) data/$(PROFILE)/profile.toml $(COPIES) $(MADE)
	$(working) page $(ASKED)

##@ The paper

.PHONY: paper tour figures tables experts pretrain intact-experts intact-environment smoke test test-slow fuzz lint check verify bench help env lab notebooks clean distclean
paper: $(N)/13_merge.ipynb $(COPIES) $(MADE) $(PAGE)  ## everything: experts, results, figures, tables, one page of all
	@echo "$(if $(WORKED),Built,Nothing to do): every result, figure and table of profile $(PROFILE) is up to date."
tour: $(FIRST_SUITE)  ## train the few experts that the tour needs and open it in JupyterLab
	$(open_lab)
figures: $(filter $(F)/%.svg,$(MADE))  ## the figures and what they need
tables: $(filter $(F)/%.md,$(MADE))  ## the printed tables and what they need
experts: | intact-environment  ## train the experts that are missing or damaged
	$(train_all)
pretrain: | intact-environment  ## train the shipped base models anew (hours)
	$(compendium) pretrain --profile $(PROFILE)

# The runner replaces files only when a notebook has succeeded, so an interrupt must not delete what was there before.
.PRECIOUS: $(COPIES) $(MADE) $(PAGE) $(EXPERTS) $(FIRST_SUITE)
$(COPIES) $(MADE) $(EXPERTS) $(FIRST_SUITE): | intact-experts $(CLUSTER)

intact-experts: intact-environment
	@$(compendium) check-experts --profile $(PROFILE)

##@ Checks

smoke:  ## run every notebook on the tiny profile, in build/smoke
	@$(MAKE) --no-print-directory paper beyond PROFILE=smoke
test: smoke  ## smoke, then all tests but the slow ones
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses=$(THREADS) -m "not slow" $(ARGS)
test-slow: | intact-environment  ## the slow tests: browsers, killed processes, long notebooks
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses=$(THREADS) --dist=loadfile -m slow $(ARGS)
fuzz: | intact-environment  ## damage files at random for FUZZ_MINUTES (10): no traceback, no hang, no stray file
	FUZZ_MINUTES=$(or $(FUZZ_MINUTES),10) OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/tsvlib/cli/test_mutated_files.py $(ARGS)
lint: | intact-environment  ## ruff and mypy
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
check: lint  ## lint, then test with coverage
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report=term $(ARGS)"
verify:  ## rebuild in build/verify and compare with the tables of this checkout
	@$(MAKE) --no-print-directory paper $(if $(wildcard $(R)/beyond.csv),beyond) OUT=build/verify
	@$(compendium) check-tables $(R) || true  # told; whether numbers agree is what decides
	@$(compendium) compare $(R) build/verify/data/results/$(PROFILE)
bench: | intact-environment  ## measure speed, memory and precision against the published algorithm (50 GB of disk)
	$(PYTHON) -m bench.run merge methods paper memory storage models figure --device cpu && $(PYTHON) -m bench.summary

##@ Workshop

help:  ## this list
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  Profiles: $(PROFILES) (make paper PROFILE=mini is the default)"
env: intact-environment  ## build or repair the environment in .venv
lab: | intact-environment  ## open the notebooks in JupyterLab
	$(open_lab)
notebooks: | intact-environment  ## bring changed prose into executed copies and README without running them
	@$(compendium) prose
	@$(compendium) readme
clean:  ## delete build: drafts, logs, tool caches, smoke, runs with other parameters
	rm -rf build
distclean: clean  ## delete also .venv and the cache with the experts, never what is committed
	rm -rf .venv data/cache
include $(C)/beyond.mk $(C)/environment.mk $(C)/doctor.mk $(C)/compare.mk $(C)/course.mk
