# make repro | test [SLOW=1] | lint | lock [UPGRADE=1] | image-cpu | image-cuda | docker-repro | gpu-wheels | clean
# Another torch than the lock's CUDA 13.0 wheels, from PyTorch's own index:
#   make repro CUDA=12.6                                              an NVIDIA driver older than 580
#   make repro TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu   the small CPU build
# .venv remembers it; `make repro CUDA=13.0` goes back to the lock's wheels.
PYTHON ?=
CUDA ?=
TORCH_INDEX_URL ?=
SLOW ?=
UPGRADE ?=
JOBS ?= 2
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
# where it is set, every start of a stage would compile torch's modules anew: 13 s instead of 4
unexport PYTHONDONTWRITEBYTECODE

ifneq ($(filter-out 12.6 13.0,$(CUDA)),)
$(error CUDA=$(CUDA): allowed: 13.0 (the lock's wheels), 12.6 (from PyTorch's index))
endif
CUDA_INDEX_URL := $(if $(filter 12.6,$(CUDA)),https://download.pytorch.org/whl/cu126)
TORCH_INDEX := $(or $(TORCH_INDEX_URL),$(CUDA_INDEX_URL))
TORCH_HERE := $(shell cat .venv/torch-index 2>/dev/null)
TORCH_WANTED := $(or $(TORCH_INDEX),$(if $(CUDA),lock),$(TORCH_HERE),lock)

.PHONY: repro test lint lock venv clean image-cpu image-cuda docker-repro gpu-wheels FORCE

repro: .venv/runtime.done
	dvc repro

venv: .venv/dev.done

test: .venv/dev.done
	python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(SLOW),,-m "not slow")

lint: .venv/dev.done
	ruff check .
	ruff format --check .
	mypy

# wheels for `python benchmarks/gpu_check.py` on a machine without a network (Python 3.12, x86-64)
gpu-wheels: .venv/tools.done
	.venv/bin/python -m benchmarks.gpu.wheels .gpu-wheels

# pip installs uv, uv installs the rest; .venv is made anew for another uv or another build of torch
.venv/tools.done: requirements/tools.txt $(if $(filter $(TORCH_WANTED),$(TORCH_HERE)),,FORCE)
	@python=$$(sh requirements/python.sh $(PYTHON)) && "$$python" -m venv --clear .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r $<
	@touch $@

.venv/runtime.done: .venv/tools.done requirements/runtime.txt
ifeq ($(TORCH_WANTED),lock)
	.venv/bin/python requirements/install.py locks requirements/runtime.txt
else
	.venv/bin/python requirements/install.py split requirements/runtime.txt .venv/lock
	.venv/bin/python requirements/install.py torch .venv/lock/torch --index $(TORCH_WANTED)
	.venv/bin/python requirements/install.py locks .venv/lock/rest.txt
endif
	.venv/bin/python requirements/install.py project .
	@echo $(TORCH_WANTED) > .venv/torch-index
	@touch $@

.venv/dev.done: .venv/runtime.done requirements/dev.txt
	.venv/bin/python requirements/install.py locks requirements/dev.txt
	@touch $@

# under a minute; keeps the versions that are there but with UPGRADE=1
lock: .venv/tools.done
	.venv/bin/python requirements/lock.py $(if $(UPGRADE),--upgrade)

# DIGEST=@sha256:... pins the base image by content, PYTHON_VERSION=3.13 takes another Python; TORCH_INDEX_URL replaces
# PyTorch's index, `make image-cpu TORCH_INDEX_URL=` takes the hash-locked CUDA wheels, which run on a CPU too
DIGEST ?=
PYTHON_VERSION ?= 3.11
locked = $(shell sed -n 's/^$(1)==\([^ ]*\).*/\1/p' requirements/runtime.txt)
BAKED = --build-arg PYTHON_VERSION=$(PYTHON_VERSION) --build-arg PYTHON_DIGEST=$(DIGEST) \
	--build-arg RETRACE_VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' retrace/__init__.py) \
	--build-arg RETRACE_LOCK_SHA256=$$(sha256sum requirements/runtime.txt | cut -d' ' -f1) \
	--build-arg RETRACE_GIT_REVISION=$$(git rev-parse HEAD)
CPU_TORCH = $(if $(filter file,$(origin TORCH_INDEX_URL)),,--build-arg TORCH_INDEX_URL=$(TORCH_INDEX_URL))
# labels of the locked wheels; another build's libraries are in its image's /opt/retrace/torch.txt alone
CUDA_TORCH = $(if $(filter 12.6,$(CUDA)),--build-arg CUDA=12.6 --build-arg TORCH_INDEX_URL=$(TORCH_INDEX),\
	--build-arg CUDNN=$(call locked,nvidia-cudnn-cu13) --build-arg NCCL=$(call locked,nvidia-nccl-cu13))
CUDA_IMAGE = retrace:cuda$(if $(filter 12.6,$(CUDA)),-12.6)

image-cpu:
	docker build -f Dockerfile.cpu -t retrace:cpu $(BAKED) $(CPU_TORCH) .

image-cuda:
	docker build -f Dockerfile.cuda -t $(CUDA_IMAGE) --build-arg RETRACE_IMAGE=$(CUDA_IMAGE) $(BAKED) $(CUDA_TORCH) .

docker-repro: image-cpu
	docker run --rm --user "$$(id -u):$$(id -g)" -v "$(CURDIR)":/work retrace:cpu dvc repro

clean:
	rm -rf .venv .retrace build *.egg-info
