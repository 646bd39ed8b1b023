# Where units of work run: on this machine, or with ENGINE=dask on a Dask cluster; included by the Makefile at the root.
# SCHEDULER is the address of one, or a file that names it; without it one is started, of as many WORKERS as CPUs. SLURM are
# directives, such as SLURM="partition=gpu gres=gpu:1 time=02:00:00": then workers are jobs, WORKERS of them at most.
ENGINE ?= local

ifeq ($(filter local dask,$(ENGINE)),)
$(error There is no engine "$(ENGINE)"; choose local or dask)
endif
unexport TSV_SCHEDULER
ifeq ($(ENGINE),dask)
export TSV_SCHEDULER := $(or $(SCHEDULER),$(CURDIR)/build/cluster.json)
CLUSTER := intact-cluster
endif

##@ With ENGINE=dask

.PHONY: intact-cluster worker
intact-cluster: intact-environment
	@$(compendium) cluster $(if $(SCHEDULER),,--start) $(addprefix --workers ,$(WORKERS)) $(addprefix --slurm ,$(SLURM))
worker: | intact-environment  ## work for the Dask scheduler SCHEDULER, from any machine that shares this folder
	@$(PYTHON) -m distributed.cli.dask_worker $(if $(findstring ://,$(SCHEDULER)),,--scheduler-file) $(SCHEDULER) --nworkers $(or $(WORKERS),-1) --nthreads 1 --memory-limit 0
