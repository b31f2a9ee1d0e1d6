"""float16 with a loss scaler, by the scaler and fused kernels of a GPU, on a CPU; and who must not take which."""

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from retrace import numerics
from retrace.config.machine import Machine
from retrace.config.steps import AdamW, Sgd
from retrace.errors import UserError
from retrace.training import launch
from retrace.training.epoch_metrics import Ledger
from retrace.training.loop import step
from retrace.training.monitor import Monitor
from retrace.training.optimizers import build_optimizer, clip


def setup(params, scale=None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = build_optimizer(params, model, precision="16-mixed", device="cuda")
    scaler = scale and torch.amp.GradScaler("cpu", init_scale=scale)
    plugin = scaler and MixedPrecision("16-mixed", "cpu", scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
    return fabric, *fabric.setup(model, optimizer)


def run(fabric, model, optimizer, bad=(), limit=0.5):
    """Norms and skips of five steps; the gradient of steps in `bad` overflows."""
    found = []
    for index in range(5):
        loss = model.module.weight.square().sum() + model.module.bias.sum()
        fabric.backward(loss * (float("inf") if index in bad else 1.0))
        found.append((clip(fabric, model, optimizer, limit), step(fabric, optimizer)))
        optimizer.zero_grad()
    return found


@pytest.mark.parametrize("params", [AdamW(lr=0.1, weight_decay=0.1), Sgd(name="sgd", lr=0.1)])
@pytest.mark.parametrize("limit", [None, 0.5])
def test_fused_steps_under_a_scaler_are_those_without(params, limit):
    plain, scaled = setup(params), setup(params, 1024.0)
    assert scaled[2].optimizer.defaults["fused"]
    without, under = run(*plain, limit=limit), run(*scaled, limit=limit)
    torch.testing.assert_close(scaled[1].module.weight, plain[1].module.weight)
    for (norm, none), (other, skipped) in zip(without, under, strict=True):
        torch.testing.assert_close(norm, other)
        assert none is None and not skipped


def test_an_overflow_is_skipped_counted_and_in_history():
    scaled, plain = setup(AdamW(lr=0.1), 1024.0), setup(AdamW(lr=0.1))
    found = run(*scaled, bad=(1, 3))
    assert [bool(skipped) for _, skipped in found] == [False, True, False, True, False]
    for _ in range(3):
        run_one = plain[1].module.weight.square().sum() + plain[1].module.bias.sum()
        plain[0].backward(run_one)
        clip(*plain, 0.5)
        step(plain[0], plain[2])
        plain[2].zero_grad()
    torch.testing.assert_close(scaled[1].module.weight, plain[1].module.weight)
    with Monitor("s", "p", active=False) as monitor:
        ledger = Ledger(monitor, 1, 0, torch.device("cpu"), scaled=True)
        for norm, skipped in found:
            ledger.add({"loss": torch.tensor(1.0)}, norm, {"lr": 0.1}, [], skipped)
        ledger.require_a_step()
        assert ledger.means()["skipped_steps"] == 2 and ledger.means()["grad_norm"] > 0


def test_an_epoch_without_a_step_is_an_error():
    found = run(*setup(AdamW(lr=0.1), 1024.0), bad=range(5))
    with Monitor("s", "p", active=False) as monitor:
        ledger = Ledger(monitor, 3, 0, torch.device("cpu"), scaled=True)
        for norm, skipped in found:
            ledger.add({"loss": torch.tensor(1.0)}, norm, {"lr": 0.1}, [], skipped)
        with pytest.raises(UserError, match="epoch 3: .* all 5 steps"):
            ledger.require_a_step()


def test_bfloat16_is_refused_before_sm_80(monkeypatch):
    monkeypatch.setattr(launch, "choose_device", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(UserError, match="bf16-mixed needs .*Tesla T4 is sm_75.*16-mixed"):
        launch.launch(Machine(device="cuda"), "bf16-mixed")


@pytest.mark.parametrize(
    ("flags", "precision"), [("avx2 avx512f", "32-true"), ("avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed")]
)
def test_a_cpu_takes_bfloat16_only_if_it_has_it(monkeypatch, tmp_path, capsys, flags, precision):
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
    has = numerics.has_bfloat16
    monkeypatch.setattr(numerics, "architecture", lambda: "x86_64")
    monkeypatch.setattr(numerics, "has_bfloat16", lambda: has(tmp_path / "cpuinfo"))
    monkeypatch.setattr(numerics, "is_portable", lambda: False)
    fabric = launch.launch(Machine(device="cpu"), "16-mixed")
    assert getattr(fabric.strategy.precision, "precision", None) == precision
    assert ("float32" in capsys.readouterr().err) == (precision == "32-true")
