# How the environment in .venv is built and repaired; included by the Makefile at the root.

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

# A profile may need packages of its own, such as pretrained weights: the first of its locks that can be had.
OWN_PACKAGES := $(sort $(wildcard data/$(PROFILE)/requirements/*.lock))
ifneq ($(OWN_PACKAGES),)
intact-environment: .venv/complete-$(PROFILE)
.venv/complete-$(PROFILE): .venv/complete $(OWN_PACKAGES)
	@echo "Installing the packages of profile $(PROFILE)."
	@rm -f $@
	@for lock in $(OWN_PACKAGES); do \
	  if .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $$lock; then touch $@; break; fi; \
	done
	@[ -e $@ ] || { echo "Not one of $(OWN_PACKAGES) could be installed; look at what pip said, then run make again." >&2; exit 1; }
endif
endif
