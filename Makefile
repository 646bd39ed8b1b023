# The paper's table of contents: which notebook makes which file from which.
# PROFILE chooses the size (smoke, mini), OUT another folder for everything that is written, JOBS how many notebooks run
# side by side: most of them wait for one CPU at times.
PROFILE ?= mini
VENV ?= .venv
THREADS ?= 2
JOBS ?= 2
FURTHER_SEEDS ?= 0
# Options of JupyterLab's own, for example --no-browser.
LAB ?=

# The first make decides for those that it starts, and a -j of the user's for all.
ifeq ($(MAKELEVEL)$(filter -j% --jobs%,$(MAKEFLAGS)),0)
MAKEFLAGS += --jobs=$(JOBS)
endif

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

ifeq ($(filter grouped-target,$(.FEATURES)),)
$(error This Makefile needs GNU make 4.3 or newer; on macOS install it with "brew install make" and call gmake)
endif
PROFILES := $(patsubst data/%/profile.toml,%,$(wildcard data/*/profile.toml))
ifeq ($(filter $(PROFILE),$(PROFILES)),)
$(error There is no profile "$(PROFILE)"; choose one of: $(PROFILES))
endif

# The checkout holds what its own parameters give. The test profile goes to build, as compendium.paths has it, and so do runs
# with further seeds, which share the cache.
OWN := $(if $(filter smoke,$(PROFILE)),build/smoke,.)
FURTHER := $(if $(filter-out 0,$(FURTHER_SEEDS)),-further_seeds-$(FURTHER_SEEDS))
CACHE := $(or $(OUT),$(OWN))/data/cache
unexport TSV_OUTPUT TSV_CACHE TSV_STAGE
ifneq ($(OUT)$(FURTHER),)
OUT ?= build/$(PROFILE)$(FURTHER)
export TSV_OUTPUT := $(abspath $(OUT))
export TSV_CACHE := $(abspath $(CACHE))
endif
OUT ?= $(OWN)
R := $(OUT)/data/results/$(PROFILE)
F := $(OUT)/figures/$(PROFILE)
N := $(OUT)/notebooks$(if $(filter-out mini,$(PROFILE)),/$(PROFILE))
EXPERTS := $(CACHE)/$(PROFILE)/experts$(FURTHER).json
FIRST_SUITE := $(CACHE)/$(PROFILE)/experts-first_suite.json
PYTHON := $(VENV)/bin/python

# One place for everything that could change a number, and for folders that tools would make in the home directory.
export PYTHONPATH := $(CURDIR):$(CURDIR)/notebooks
export OMP_NUM_THREADS := $(THREADS)
export OMP_WAIT_POLICY := passive
TOOL_FOLDERS := JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR MPLCONFIGDIR HF_HOME TORCH_HOME \
  SKIMAGE_DATADIR SCIKIT_LEARN_DATA HYPOTHESIS_STORAGE_DIRECTORY
$(foreach folder,$(TOOL_FOLDERS),$(eval export $(folder) := $(CURDIR)/build/home/$(folder)))

# What a notebook writes: a result table, a figure, a printed table; and its executed copy.
table = $(R)/$(1).csv $(R)/$(1).json
figure = $(addprefix $(F)/$(1).,pdf svg png txt)
printed = $(addprefix $(F)/$(1).,csv md tex)
run = @$(eval WORKED := yes)$(PYTHON) -m compendium run $< -p profile=$(PROFILE)
compute = $(run)$(if $(FURTHER), -p further_seeds=$(FURTHER_SEEDS))
train = @$(eval WORKED := yes)$(PYTHON) -m compendium train --profile $(PROFILE)
# From the root, so that links between folders work and tsvlib can be read beside the notebooks.
open_lab = $(PYTHON) -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb $(LAB)
train_all = $(train)$(if $(FURTHER), --further-seeds $(FURTHER_SEEDS))

COPIES := $(patsubst notebooks/%.py,$(N)/%.ipynb,$(wildcard notebooks/*.py))
INTERFERENCE := $(foreach stem,interference_blocks interference_matrices procrustes,$(call figure,$(stem)))
FIGURES := $(foreach stem,tasks spectra scaling radar spectra_tasks alpha similarity interference_accuracy storage confusion,$(call figure,$(stem))) $(INTERFERENCE)
CLAIMS := $(call printed,claims)
AUDIT := $(foreach stem,audit_sizes audit_means audit_cells,$(call printed,$(stem)))
TABLES := $(foreach stem,merge compress ablation requirements test_time theory,$(call printed,$(stem))) $(CLAIMS) $(AUDIT)
PAGE := $(addprefix $(F)/paper.,html pdf)
RESULTS := $(foreach name,checkpoints spectra interference procrustes similarity merge compress ablation alpha alpha_search test_time confusion,$(call table,$(name)))

DATA := $(wildcard notebooks/compendium/worlds/datasets/*.py)
BASES := data/$(PROFILE)/profile.toml $(wildcard data/$(PROFILE)/models/*.json data/$(PROFILE)/weights/*.safetensors)
C := notebooks/compendium
STUDY := $(C)/study/studies.py $(C)/study/evaluation.py tsvlib/taskvectors.py
CORE := $(addprefix tsvlib/,linalg.py sti.py eigen.py precision.py store.py devices.py taskvectors.py merging.py compression.py) $(wildcard tsvlib/methods/*.py)
DRAW := $(C)/paper/plotting.py $(C)/paper/tsv.mplstyle
AUDITING := $(addprefix $(C)/,paper/audit.py published.py paper/tables.py)

##@ The paper

.PHONY: paper tour figures tables experts pretrain
paper: $(N)/13_merge.ipynb $(COPIES) $(FIGURES) $(TABLES) $(RESULTS) $(PAGE)  ## everything: experts, results, figures, tables, one page of all
	@echo "$(if $(WORKED),Built,Nothing to do): every result, figure and table of profile $(PROFILE) is up to date."
tour: $(FIRST_SUITE)  ## train the few experts that the tour needs and open it in JupyterLab
	$(open_lab)
figures: $(FIGURES)  ## the figures and what they need
tables: $(TABLES)  ## the printed tables and what they need
experts: | intact-environment  ## train the experts that are missing or damaged
	$(train_all)
pretrain: | intact-environment  ## train the shipped base models anew (hours)
	$(PYTHON) -m compendium pretrain --profile $(PROFILE)

# The experts are never committed, so a fresh clone recomputes everything, whatever times its checkout gave to files.
$(FIRST_SUITE): $(C)/worlds/training.py $(C)/worlds/models.py $(DATA) $(BASES)
	$(train) --first-suite
	@touch $@
$(EXPERTS): $(FIRST_SUITE)
	$(train_all)
	@touch $@
# Two notebooks side by side could measure the same weights, or decompose the same matrices with other numbers of threads:
# what is in the stores would depend on who came first. So some follow 13_merge, which fills both.
$(N)/00_tour.ipynb: notebooks/00_tour.py $(FIRST_SUITE) $(STUDY) $(CORE) $(DRAW)
	$(run)
$(call figure,tasks) $(N)/01_tasks.ipynb &: notebooks/01_tasks.py $(EXPERTS) $(DATA) $(DRAW)
	$(run)
$(call table,checkpoints) $(N)/10_checkpoints.ipynb &: notebooks/10_checkpoints.py $(EXPERTS) $(STUDY) $(C)/paper/tables.py
	$(compute)
$(call table,spectra) $(N)/11_spectra.ipynb &: notebooks/11_spectra.py $(call table,checkpoints) $(CORE)
	$(compute)
$(call table,interference) $(call table,procrustes) $(N)/12_interference.ipynb &: notebooks/12_interference.py \
  $(call table,checkpoints) $(CORE) $(C)/study/interference.py $(C)/paper/claims.py
	$(compute)
$(call table,merge) $(N)/13_merge.ipynb &: notebooks/13_merge.py $(call table,checkpoints) $(CORE)
	$(compute)
$(call table,compress) $(N)/14_compress.ipynb &: notebooks/14_compress.py $(call table,checkpoints) $(CORE)
	$(compute)
$(call table,ablation) $(N)/15_ablation.ipynb &: notebooks/15_ablation.py $(call table,merge)
	$(run)
$(call table,alpha) $(call table,alpha_search) $(N)/16_alpha.ipynb &: notebooks/16_alpha.py $(call table,checkpoints) $(CORE) \
  $(C)/study/alpha.py $(C)/published.py $(addprefix data/published/,alpha.csv alpha_subsets.csv data_sets.csv) | $(call table,merge)
	$(run)
$(call table,test_time) $(N)/17_test_time.ipynb &: notebooks/17_test_time.py $(call table,checkpoints) $(CORE) \
  $(C)/study/adaptation.py $(C)/paper/plotting.py
	$(run)
$(call table,similarity) $(N)/18_similarity.ipynb &: notebooks/18_similarity.py $(call table,checkpoints) $(CORE) \
  $(C)/study/similarity.py | $(call table,merge)
	$(compute)
$(call table,confusion) $(N)/19_confusion.ipynb &: notebooks/19_confusion.py $(call table,merge)
	$(run)
$(call figure,spectra) $(N)/20_fig_spectra.ipynb &: notebooks/20_fig_spectra.py $(call table,spectra) \
  data/published/low_rank.csv $(C)/published.py $(DRAW)
	$(run)
$(INTERFERENCE) $(N)/21_fig_interference.ipynb &: notebooks/21_fig_interference.py $(call table,interference) \
  $(call table,procrustes) $(DRAW)
	$(run)
$(call figure,scaling) $(N)/22_fig_scaling.ipynb &: notebooks/22_fig_scaling.py $(call table,merge) data/published/merging.csv \
  $(C)/published.py $(DRAW)
	$(run)
$(call figure,radar) $(N)/23_fig_radar.ipynb &: notebooks/23_fig_radar.py $(call table,merge) $(call table,compress) $(DRAW)
	$(run)
$(call figure,spectra_tasks) $(N)/24_fig_spectra_tasks.ipynb &: notebooks/24_fig_spectra_tasks.py $(call table,spectra) $(DRAW)
	$(run)
$(call figure,alpha) $(N)/25_fig_alpha.ipynb &: notebooks/25_fig_alpha.py $(call table,alpha) data/published/alpha.csv \
  $(C)/published.py $(DRAW)
	$(run)
$(call figure,similarity) $(N)/26_fig_similarity.ipynb &: notebooks/26_fig_similarity.py $(call table,similarity) $(DRAW)
	$(run)
$(call figure,interference_accuracy) $(N)/27_fig_interference_accuracy.ipynb &: notebooks/27_fig_interference_accuracy.py \
  $(call table,interference) $(call table,merge) $(C)/paper/claims.py $(DRAW)
	$(run)
$(call figure,storage) $(N)/28_fig_storage.ipynb &: notebooks/28_fig_storage.py $(call table,spectra) $(call table,compress) $(DRAW)
	$(run)
$(call figure,confusion) $(N)/29_fig_confusion.ipynb &: notebooks/29_fig_confusion.py $(call table,confusion) $(DRAW)
	$(run)
$(call printed,merge) $(N)/30_tab_merge.ipynb &: notebooks/30_tab_merge.py $(call table,merge) $(C)/paper/plotting.py \
  $(addprefix data/published/,merging.csv successors.csv) $(C)/published.py
	$(run)
$(call printed,compress) $(N)/31_tab_compress.ipynb &: notebooks/31_tab_compress.py $(call table,compress) $(C)/paper/plotting.py \
  data/published/compression.csv $(C)/published.py
	$(run)
$(call printed,requirements) $(N)/33_tab_requirements.ipynb &: notebooks/33_tab_requirements.py $(EXPERTS) $(CORE) \
  data/published/requirements.csv $(C)/paper/requirements.py $(C)/published.py $(C)/paper/plotting.py
	$(run)
$(call printed,ablation) $(N)/32_tab_ablation.ipynb &: notebooks/32_tab_ablation.py $(call table,merge) $(call table,ablation) \
  data/published/ablation.csv $(C)/published.py
	$(run)
$(call printed,test_time) $(N)/34_tab_test_time.ipynb &: notebooks/34_tab_test_time.py $(call table,merge) \
  $(call table,test_time) data/published/test_time.csv $(C)/paper/plotting.py $(C)/published.py
	$(run)
$(CLAIMS) $(N)/41_claims.ipynb &: notebooks/41_claims.py data/published/claims.csv $(C)/paper/claims.py $(C)/published.py \
  $(foreach name,spectra interference procrustes merge compress ablation alpha,$(call table,$(name)))
	$(run)
$(call printed,theory) $(N)/42_theory.ipynb &: notebooks/42_theory.py $(EXPERTS) $(STUDY) $(CORE) $(C)/study/interference.py $(C)/study/theory.py \
  | $(call table,merge)
	$(run)
$(AUDIT) $(N)/40_audit.ipynb &: notebooks/40_audit.py $(EXPERTS) $(wildcard data/published/*.csv) $(AUDITING)
	$(run)
# Last of all, what the figures folder holds, on one page in the paper's order.
$(PAGE) &: $(C)/paper/items.toml $(addprefix $(C)/paper/,contents.py page.py page.html.j2 sheets.py) data/$(PROFILE)/profile.toml \
  $(COPIES) $(FIGURES) $(TABLES)
	@$(eval WORKED := yes)$(PYTHON) -m compendium page --profile $(PROFILE)

# The runner replaces files only when a notebook has succeeded, so an interrupt must not delete what was there before.
.PRECIOUS: $(COPIES) $(FIGURES) $(TABLES) $(RESULTS) $(PAGE) $(EXPERTS) $(FIRST_SUITE)
$(COPIES) $(FIGURES) $(TABLES) $(RESULTS) $(EXPERTS) $(FIRST_SUITE): | intact-experts

.PHONY: intact-experts intact-environment
intact-experts: intact-environment
	@$(PYTHON) -m compendium check-experts --profile $(PROFILE)

##@ Checks

.PHONY: smoke test test-slow lint check verify bench
smoke:  ## run every notebook on the tiny profile, in build/smoke
	@$(MAKE) --no-print-directory paper PROFILE=smoke
test: smoke  ## smoke, then all tests with coverage but the slow ones
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses=$(THREADS) -m "not slow" --cov --cov-report=term $(ARGS)
test-slow: | intact-environment  ## the slow tests: JupyterLab in a browser, long notebooks
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m slow $(ARGS)
lint: | intact-environment  ## ruff and mypy
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
check: lint  ## lint, then test
	@$(MAKE) --no-print-directory test
verify:  ## rebuild in build/verify and compare with the tables of this checkout
	@$(MAKE) --no-print-directory paper OUT=build/verify
	@$(PYTHON) -m compendium check-tables $(R) || true  # told; whether numbers agree is what decides
	@$(PYTHON) -m compendium compare $(R) build/verify/data/results/$(PROFILE)

bench: | intact-environment  ## measure speed, memory and precision against the published algorithm (40 GB of disk)
	$(PYTHON) -m bench.run merge paper memory storage figure

##@ Workshop

.PHONY: help env lab notebooks clean distclean
help:  ## this list
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo; echo "  Profiles: $(PROFILES) (make paper PROFILE=mini is the default)"
env: intact-environment  ## build or repair the environment in .venv
lab: | intact-environment  ## open the notebooks in JupyterLab
	$(open_lab)
notebooks: | intact-environment  ## bring changed prose into the executed copies without running them
	$(PYTHON) -m jupytext --quiet --update --to notebook notebooks/*.py
clean:  ## delete build: drafts, logs, tool caches, smoke, runs with other parameters
	rm -rf build
distclean: clean  ## delete also .venv and the cache with the experts, never what is committed
	rm -rf .venv data/cache

# The stamp is written last and lies in the environment, so an interrupted installation starts again.
ifeq ($(VENV),.venv)
intact-environment: .venv/complete
.venv/complete: requirements.lock pyproject.toml
	@command -v python3 >/dev/null || { echo "There is no python3; install Python 3.11 or newer." >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$(python3 --version) is too old; put Python 3.11 or newer first in PATH." >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "This python3 cannot make environments; install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing the environment into .venv: a few minutes, once."
	@if [ -e $@ ]; then rm $@; else rm -rf .venv; fi
	@[ -e .venv ] || python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	@.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p "$$IPYTHONDIR" && .venv/bin/python -m ipykernel install --sys-prefix >/dev/null  # a kernel that names its Python, for jupytext --execute
	@.venv/bin/python -m compileall -qq -j 0 .venv/lib || true  # on all CPUs, and whatever Python may write later
	@touch $@
	@echo "The environment is complete."
endif
