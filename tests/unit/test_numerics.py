"""The same bits on every x86-64 processor: settings, replaced operations, and the probe against its digests."""

import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from retrace import numerics
from retrace.config.machine import Machine, Runtime
from retrace.errors import UserError
from retrace.numerics import BEYOND, MARK, PORTABLE
from retrace.provenance.verify.probe import DIGESTS, differing, recorded
from retrace.seeds import make_deterministic
from retrace.training.launch import launch
from tests.support.projects import ROOT

HAS_AVX2 = platform.machine() == "x86_64" and {"avx2", "fma"} <= numerics.processor_flags()
needs_avx2 = pytest.mark.skipif(not HAS_AVX2, reason="portable numerics need an x86-64 processor with AVX2 and FMA")


def python(code, folder, **variables):
    """What a fresh interpreter in `folder` prints, without the settings of this one."""
    ours = {*PORTABLE, *BEYOND, MARK, "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = "import retrace, os; print({k: os.environ.get(k) for k in ('MKL_CBWR', 'OMP_WAIT_POLICY')})"


@needs_avx2
def test_importing_the_package_sets_the_instructions_before_a_library_loads(tmp_path):
    code = (
        "import retrace, numpy, torch; found = numpy.show_config('dicts')['SIMD Extensions'].get('found', []); "
        "print(torch.backends.cpu.get_cpu_capability(), any('AVX512' in x or 'V4' in x for x in found))"
    )
    assert python(code, tmp_path) == "AVX2 False"


@needs_avx2
@pytest.mark.parametrize(
    "text", ["runtime:\n  numerics: native\n", "runtime: {threads: 2, numerics: 'native'}  # fast\n"]
)
def test_native_numerics_leave_the_choice_to_the_libraries(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    assert "'MKL_CBWR': None" in python(SHOW, tmp_path)
    assert "'MKL_CBWR': 'AVX2'" in python(SHOW, tmp_path, MKL_CBWR="AVX2")  # the user's own
    assert "'MKL_CBWR': None" in python(SHOW, tmp_path, MKL_CBWR="COMPATIBLE", **{MARK: "portable"})  # a parent's


@needs_avx2
@pytest.mark.parametrize(
    "text",
    ["runtime: {threads: 2}\n", "# numerics: native\n", "note: of numerics: native\n", "\x00", "numerics: portable\n"],
)
def test_portable_numerics_hold_where_native_is_not_asked_for(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    assert "'MKL_CBWR': 'COMPATIBLE'" in python(SHOW, tmp_path, MKL_CBWR="AVX2")


def test_waiting_threads_do_not_spin_unless_the_user_says_so(tmp_path):
    assert "'OMP_WAIT_POLICY': 'PASSIVE'" in python(SHOW, tmp_path)
    assert "'OMP_WAIT_POLICY': 'ACTIVE'" in python(SHOW, tmp_path, OMP_WAIT_POLICY="ACTIVE")


def test_a_processor_without_avx2_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, "portable")
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags : fpu sse2 avx fma\n\nprocessor : 1\nflags : fpu avx2 fma\n")
    with pytest.raises(UserError, match="no AVX2"):
        numerics.require_processor(file)
    file.write_text("flags : fpu avx2 fma\n")
    numerics.require_processor(file)
    numerics.require_processor(tmp_path / "missing")  # a system that does not say
    monkeypatch.delenv(MARK)
    file.write_text("flags : fpu\n")
    numerics.require_processor(file)


@needs_avx2
def test_parameters_and_process_must_agree():
    with pytest.raises(RuntimeError, match="native"):
        numerics.use("native")


@needs_avx2
def test_half_precision_on_a_cpu_is_computed_in_float32_or_refused():
    fabric = launch(Machine(device="cpu"), "16-mixed")
    with fabric.autocast():
        assert (torch.ones(3, 3) @ torch.ones(3, 3)).dtype == torch.float32
    with pytest.raises(UserError, match="bf16-mixed"):
        launch(Machine(device="cpu"), "bf16-mixed")


@needs_avx2
def test_the_probe_gives_the_recorded_bits():
    code = "from retrace.provenance.verify.probe import main; main(True)"
    text = python(code, ROOT)
    assert re.search(r"all \d+ operations give the recorded bits", text)
    assert len(recorded()) > 150


def test_the_probe_names_what_differs():
    wanted = recorded(DIGESTS)
    first = next(iter(wanted))
    assert differing(wanted | {first: "0" * 16, "new": "1"}, wanted) == [first, "new"]
    assert differing({}, {"lost": "1"}) == ["lost"]


# the replaced operations, against NumPy; `make_deterministic` puts them in place


@pytest.fixture(autouse=True)
def replaced():
    threads = torch.get_num_threads()
    make_deterministic(Runtime(threads=1))
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@needs_avx2
@given(st.lists(st.floats(2.0**-40, 2.0**40, width=32), min_size=1, max_size=40))
def test_square_roots_in_optimizers_are_correctly_rounded(gradients):
    """Without memory Adam moves by the gradient over the root of its square: by exactly one, in their direction."""
    weight = torch.nn.Parameter(torch.zeros(len(gradients)))
    weight.grad = torch.tensor(gradients, dtype=torch.float32)
    torch.optim.Adam([weight], lr=1.0, betas=(0.0, 0.0), eps=0.0, foreach=True).step()
    assert weight.tolist() == [-1.0] * len(gradients)


@needs_avx2
@given(st.lists(st.floats(0, 2.0**100, width=32), max_size=40), st.booleans())
def test_square_roots_are_correctly_rounded(values, strided):
    x = torch.tensor(values, dtype=torch.float32).repeat_interleave(2)
    x = x[::2] if strided else x.contiguous()
    wanted = np.sqrt(x.numpy())
    out = torch.empty(0)
    torch.sqrt(x, out=out)
    for result in (x.sqrt(), x**0.5, x.clone().sqrt_(), x.clone().pow_(0.5), out):
        assert result.dtype == torch.float32
        np.testing.assert_array_equal(result.numpy(), wanted)


@pytest.mark.parametrize("name", ["sqrt", "atan", "asin", "acos", "tan", "log10"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_replaced_functions_agree_with_numpy_in_value_shape_and_type(name, dtype):
    x = (torch.linspace(0.01, 0.99, 60).reshape(5, 12) * (1 if dtype.is_floating_point else 9)).to(dtype)
    if dtype == torch.int64 and name in ("asin", "acos"):
        x = x % 2
    reference = getattr(np, {"atan": "arctan", "asin": "arcsin", "acos": "arccos"}.get(name, name))
    with np.errstate(divide="ignore"):
        wanted = torch.from_numpy(reference(x.double().numpy()))
    for source, target in ((x, wanted), (x.t(), wanted.t())):
        result = getattr(torch, name)(source)
        assert result.shape == source.shape
        assert result.dtype == (dtype if dtype.is_floating_point else torch.float32)
        assert torch.allclose(result, target.to(result.dtype), rtol=4 * torch.finfo(result.dtype).eps, atol=0)


@pytest.mark.parametrize("name", ["sqrt", "atan", "asin", "acos", "tan", "log10"])
def test_gradients_of_replaced_functions_are_the_derivatives(name):
    x = torch.tensor([0.1, 0.35, 0.6, 0.85], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(torch, name), (x,))


@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 9), st.booleans(), st.integers(0, 99))
def test_products_agree_with_numpy(n, k, m, turned, seed):
    generator = np.random.default_rng(seed)
    a, b, x = (generator.normal(size=size).astype(np.float32) for size in ((n, k), (k, m), (n, m)))
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    if turned:
        left, right = left.t().contiguous().t(), right.t().contiguous().t()
    exact = a.astype(np.float64) @ b.astype(np.float64)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose((left @ right).numpy(), exact, **close)
    bias = torch.from_numpy(x[:1].sum(0, dtype=np.float32)) if n else torch.zeros(m)
    np.testing.assert_allclose(torch.addmm(bias, left, right).numpy(), exact + bias.numpy(), **close)
    result = torch.addmm(torch.from_numpy(x), left, right, beta=0.5, alpha=2)
    np.testing.assert_allclose(result.numpy(), 0.5 * x + 2 * exact, **close)
    unknown = torch.full((n, m), torch.nan)
    np.testing.assert_allclose(torch.addmm(unknown, left, right, beta=0).numpy(), exact, **close)


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 7), (2, 3, 4, 7), (7,)])
def test_linear_layers_and_their_gradients_agree_with_float64(shape):
    torch.manual_seed(0)
    single, double = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5).double()
    double.load_state_dict({name: value.double() for name, value in single.state_dict().items()})
    results = []
    x = torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    for layer, source in ((single, x.clone().requires_grad_()), (double, x.double().requires_grad_())):
        y = layer(source)
        F.gelu(y).square().sum().backward()
        results.append([y, source.grad, layer.weight.grad, layer.bias.grad])
    for found, wanted in zip(*results, strict=True):
        assert torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-6)


def test_products_of_shapes_that_do_not_fit_are_errors():
    with pytest.raises(RuntimeError):
        torch.mm(torch.ones(2, 3), torch.ones(4, 5))
