# Where a run of make reads and writes, and what could change a number; included by the Makefile at the root.

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

# The folder of the module that the profile names, if it is one of ours.
HOME_OF_WORLD := $(shell sed -n 's|^world = "compendium\.worlds\.\(.*\)\.world"|$(C)/worlds/\1|p' data/$(PROFILE)/profile.toml)

# BACKBONES and SUITES are those of a part of the profile; empty: all.
BACKBONES ?=
SUITES ?=
# What is chosen of the profile, as an option of commands and as the end of names, in which profiles.py and paths.py agree.
comma := ,
empty :=
once = $(if $(strip $(1)),$(firstword $(1)) $(call once,$(filter-out $(firstword $(1)),$(1))))
joined = $(subst $(empty) $(empty),$(comma),$(strip $(call once,$(subst $(comma), ,$(1)))))
CHOSEN := $(addprefix backbones=,$(call joined,$(BACKBONES))) $(addprefix suites=,$(call joined,$(SUITES)))
ASKED := $(strip --profile $(PROFILE) $(addprefix --,$(CHOSEN)))
PART := $(addprefix +backbones-,$(call joined,$(BACKBONES)))$(addprefix +suites-,$(call joined,$(SUITES)))

# The checkout holds what its own parameters give. The test profile goes to build, as compendium.paths has it, and so do runs
# with further seeds and of parts, which share the cache.
OWN := $(if $(filter smoke,$(PROFILE)),build/smoke,.)
FURTHER := $(if $(filter-out 0,$(FURTHER_SEEDS)),-further_seeds-$(FURTHER_SEEDS))
CACHE := $(or $(OUT),$(OWN))/data/cache
unexport TSV_OUTPUT TSV_CACHE TSV_STAGE TSV_CLIP_SOURCE TSV_CLIP_CHECKPOINTS TSV_CLIP_GENERATION
ifneq ($(OUT)$(PART)$(FURTHER),)
OUT ?= build/$(PROFILE)$(FURTHER)$(PART)
export TSV_OUTPUT := $(abspath $(OUT))
export TSV_CACHE := $(abspath $(CACHE))
endif
OUT ?= $(OWN)
R := $(OUT)/data/results/$(PROFILE)
F := $(OUT)/figures/$(PROFILE)
N := $(OUT)/notebooks$(if $(filter-out mini,$(PROFILE)),/$(PROFILE))
EXPERTS := $(CACHE)/$(PROFILE)/experts$(FURTHER)$(PART).json
FIRST_SUITE := $(CACHE)/$(PROFILE)/experts-first_suite$(PART).json
PYTHON := $(VENV)/bin/python
# The notebooks that take further seeds, those that take a part, and what one of them is given.
SEEDED := $(if $(FURTHER),$(shell grep -l '^further_seeds = ' notebooks/*.py))
PARTED := $(if $(PART),$(shell grep -l '^backbones = ' notebooks/*.py))
given = $(addprefix -p$(empty) ,$(if $(filter $(1),$(PARTED)),$(CHOSEN)) $(if $(filter $(1),$(SEEDED)),further_seeds=$(FURTHER_SEEDS)))

# One place for everything that could change a number, and for folders that tools would make in the home directory.
export PYTHONPATH := $(CURDIR):$(CURDIR)/notebooks
export OMP_NUM_THREADS := $(THREADS)
export OMP_WAIT_POLICY := passive
TOOL_FOLDERS := JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR MPLCONFIGDIR HF_HOME TORCH_HOME \
  SKIMAGE_DATADIR SCIKIT_LEARN_DATA HYPOTHESIS_STORAGE_DIRECTORY
$(foreach folder,$(TOOL_FOLDERS),$(eval export $(folder) := $(CURDIR)/build/home/$(folder)))
