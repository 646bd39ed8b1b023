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
endif
