# make repro | test [SLOW=1] | lint | lock | image-cpu | image-cuda | docker-repro | clean
# A machine that reaches PyTorch's own CPU wheel index can take the small CPU build of torch instead of the CUDA wheels:
#   make repro TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX_URL ?=
SLOW ?=
JOBS ?= 2
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
PIP := .venv/bin/python -m pip --disable-pip-version-check

.PHONY: repro test lint lock venv clean image-cpu image-cuda docker-repro

repro: .venv/runtime.done
	dvc repro

venv: .venv/dev.done

test: .venv/dev.done
	python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(SLOW),,-m "not slow")

lint: .venv/dev.done
	ruff check .
	ruff format --check .
	mypy

.venv/runtime.done: requirements/runtime.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v[:2] == (3, 11) else "error: Python %d.%d found; the lock is made for 3.11: make PYTHON=/path/to/python3.11" % v[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: this Python lacks venv; on Debian/Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
ifeq ($(TORCH_INDEX_URL),)
	$(PIP) install -q --no-deps --require-hashes -r requirements/runtime.txt
else
	$(PYTHON) requirements/cpu_torch.py split requirements/runtime.txt .venv
	$(PIP) install -q --no-deps --require-hashes -r .venv/without-torch.txt
	$(PIP) install -q --no-deps --index-url $(TORCH_INDEX_URL) -r .venv/torch.txt
endif
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.done: .venv/runtime.done requirements/dev.txt
	$(PIP) install -q --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# about 7 minutes; needs the dev environment
COMPILE := pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links
lock: .venv/dev.done
	cd requirements && $(COMPILE) -o runtime.txt runtime.in && $(COMPILE) -o dev.txt dev.in && $(COMPILE) -o ray.txt ray.in

# DIGEST=@sha256:... pins the base image by content; TORCH_INDEX_URL (image-cpu only) replaces PyTorch's CPU wheel index,
# `make image-cpu TORCH_INDEX_URL=` takes the hash-locked CUDA wheels, which run on a CPU too
DIGEST ?=
BAKED = --build-arg PYTHON_DIGEST=$(DIGEST) \
	--build-arg RETRACE_LOCK_SHA256=$$(sha256sum requirements/runtime.txt | cut -d' ' -f1) \
	--build-arg RETRACE_GIT_REVISION=$$(git rev-parse HEAD)
TORCH_WHEELS = $(if $(filter file,$(origin TORCH_INDEX_URL)),,--build-arg TORCH_INDEX_URL=$(TORCH_INDEX_URL))

image-cpu:
	docker build -f Dockerfile.cpu -t retrace:cpu $(BAKED) $(TORCH_WHEELS) .

image-cuda:
	docker build -f Dockerfile.cuda -t retrace:cuda $(BAKED) .

docker-repro: image-cpu
	docker run --rm --user "$$(id -u):$$(id -g)" -v "$(CURDIR)":/work retrace:cpu dvc repro

clean:
	rm -rf .venv .retrace build *.egg-info
