"""An NVIDIA device that torch cannot use is an error with its cause; one that was kept from the process is not.

The machine is a folder that looks like /proc, /sys and /dev, an `nvidia-smi` that prints what the real one does, and
the texts of torch's own exceptions (c10/cuda/CUDAFunctions.cpp).
"""

import warnings
from types import SimpleNamespace

import pytest
import torch

from retrace import nvidia
from retrace.errors import UserError
from retrace.models.predict import choose_device

MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Feb 22 01:44:30 UTC 2024\nGCC version: gcc 12\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U16-A24-9-2)\n"
ADVICE = (
    ". Please update your GPU driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a PyTorch version "
    "that has been compiled with your version of the CUDA driver."
)
TOO_OLD = f"The NVIDIA driver on your system is too old (found version 12040){ADVICE}"
NO_LIBRARY = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
    "http://www.nvidia.com/Download/index.aspx"
)
UNEXPECTED = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that "
    "might have already set an error? Error {}"
)
NONE = "No CUDA GPUs are available"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\\nNVML library version: 580.65"
CPU = "machine.device: cpu"
CUDA_BUILD = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
OTHER_BUILD = "make repro CUDA=12.6"


class Machine:
    """A machine to be put together; at first it has no NVIDIA device, and torch sees none."""

    def __init__(self, folder, monkeypatch):
        self.root, self.patch = folder / "root", monkeypatch
        self.root.mkdir()
        self.programs = folder / "programs"
        self.programs.mkdir()
        monkeypatch.setattr(nvidia, "ROOT", self.root)
        monkeypatch.setenv("PATH", str(self.programs))
        for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "KUBERNETES_SERVICE_HOST", "RETRACE_IMAGE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        self.torch_says(NONE)

    def file(self, path, text=""):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def module(self, version, text=MODULE):
        """A loaded kernel module that found one card."""
        self.file("proc/driver/nvidia/version", text.format(version))
        self.file("proc/driver/nvidia/gpus/0000:00:04.0/information")

    def card(self, kernel_driver=None):
        """A T4 on the PCI bus."""
        self.file("sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n")
        self.file("sys/bus/pci/devices/0000:00:04.0/class", "0x030200\n")
        if kernel_driver:
            (self.root / f"sys/bus/pci/drivers/{kernel_driver}").mkdir(parents=True)
            link = self.root / "sys/bus/pci/devices/0000:00:04.0/driver"
            link.symlink_to(f"../../drivers/{kernel_driver}")

    def node(self):
        self.file("dev/nvidia0")

    def smi(self, text, code=0, old=False):
        """An nvidia-smi; an old one does not know `compute_cap`."""
        refuse = "" if not old else 'case "$1" in *compute_cap*) echo "Field is not a valid field"; exit 2;; esac\n'
        program = self.programs / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{refuse}printf '{text}\\n'\nexit {code}\n")
        program.chmod(0o755)

    def torch_says(self, text):
        def fail():
            raise RuntimeError(text)

        self.patch.setattr(torch.cuda, "init", fail)

    def torch_sees(self, *capabilities, codes=CUDA_BUILD):
        cards = [SimpleNamespace(name=f"Card {c}", major=c[0], minor=c[1]) for c in capabilities]
        self.patch.setattr(torch.cuda, "is_available", lambda: True)
        self.patch.setattr(torch.cuda, "device_count", lambda: len(cards))
        self.patch.setattr(torch.cuda, "get_device_properties", lambda index: cards[index])
        self.patch.setattr(torch.cuda, "get_arch_list", lambda: codes)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def t4(machine, version="550.54.15", says=TOO_OLD, **smi):
    """A T4 with its driver as a normal installation leaves it."""
    machine.card("nvidia")
    machine.node()
    machine.module(version)
    machine.smi(f"{version}, 7.5", **smi)
    machine.torch_says(says)


def old_driver(machine):
    t4(machine)


def old_driver_without_nvidia_smi(machine):
    machine.node()
    machine.module("550.54.15", OPEN)
    machine.torch_says(TOO_OLD)


def very_old_driver(machine):
    t4(machine, "450.80.02")
    machine.smi("450.80.02", old=True)


def old_driver_new_card(machine):
    t4(machine, "570.86.10")
    machine.smi("570.86.10, 12.0")


def driver_without_a_number(machine):
    t4(machine, "550.54.15")
    machine.file("proc/driver/nvidia/version")
    machine.smi("[N/A], 7.5")


def build_for_12(machine):
    t4(machine, "510.47.03")
    machine.patch.setattr(torch.version, "cuda", "12.6")


def cpu_build(machine):
    t4(machine, "580.65.06")
    machine.patch.setattr(torch.version, "cuda", None)


def cpu_build_old_driver(machine):
    t4(machine)
    machine.patch.setattr(torch.version, "cuda", None)


def cpu_image(machine):
    cpu_build(machine)
    machine.file(".dockerenv")
    machine.patch.setenv("RETRACE_IMAGE", "retrace:cpu")


def cuda_image_without_gpus(machine):
    machine.module("580.65.06")  # of the host, and visible in any container
    machine.file(".dockerenv")
    machine.patch.setenv("NVIDIA_VISIBLE_DEVICES", "all")


def image_without_the_compute_library(machine):
    t4(machine, "580.65.06", NO_LIBRARY)
    machine.file(".dockerenv")


def container_with_old_driver(machine):
    t4(machine)
    machine.file("run/.containerenv")
    machine.patch.setenv("NVIDIA_VISIBLE_DEVICES", "void")  # so it is where the devices came in by CDI


def cuda_image_old_driver(machine):
    container_with_old_driver(machine)
    machine.patch.setenv("RETRACE_IMAGE", "retrace:cuda")


def updated_without_reboot(machine):
    t4(machine, "550.54.15", UNEXPECTED.format("803: system has unsupported display driver / cuda driver combination"))
    machine.smi(MISMATCH, code=18)


def forward_compatibility(machine):
    t4(machine, "580.65.06", UNEXPECTED.format("804: forward compatibility was attempted on non supported HW"))


def no_fabric_manager(machine):
    t4(machine, "580.65.06", UNEXPECTED.format("802: system not yet initialized"))


def nothing_loaded(machine):
    machine.card()


def nouveau(machine):
    machine.card("nouveau")


def module_lost(machine):
    machine.card()
    machine.smi("NVIDIA-SMI has failed because it couldn\\047t communicate with the NVIDIA driver.", code=9)


def no_node(machine):
    machine.module("580.65.06")
    machine.smi("580.65.06, 7.5")


def wrong_number(machine):
    t4(machine, "580.65.06", NONE)
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", "7")


def not_given_by_slurm(machine):
    t4(machine, "580.65.06", NONE)
    machine.smi("No devices were found", code=6)


def wsl(machine):
    machine.file("dev/dxg")
    machine.file("usr/lib/wsl/lib/libcuda.so.1")
    machine.smi("552.22, 8.6")
    machine.torch_says(TOO_OLD)


def old_card(machine):
    machine.torch_sees((7, 0))


def ancient_card(machine):
    machine.torch_sees((3, 7))


def new_card(machine):
    machine.torch_sees((12, 0), codes=["sm_50", "sm_90"])
    machine.patch.setattr(torch.version, "cuda", "12.6")


UNUSABLE = [
    (old_driver, ["550.54.15", "needs 580 or newer", "update", OTHER_BUILD]),
    (old_driver_without_nvidia_smi, ["550.54.15", "needs 580", OTHER_BUILD]),
    (very_old_driver, ["450.80.02", "needs 580", "update"]),
    (old_driver_new_card, ["570.86.10", "needs 580", "update"]),
    (driver_without_a_number, ["CUDA 12.4 at most", "580 or newer", OTHER_BUILD]),
    (build_for_12, ["510.47.03", "needs 525 or newer"]),
    (cpu_build, ["without CUDA", "make repro CUDA=13.0"]),
    (cpu_build_old_driver, ["without CUDA", OTHER_BUILD]),
    (cpu_image, ["without CUDA", "make image-cuda"]),
    (cuda_image_without_gpus, ["container", "--gpus all"]),
    (image_without_the_compute_library, ["libcuda.so.1", "NVIDIA_DRIVER_CAPABILITIES"]),
    (container_with_old_driver, ["550.54.15", "needs 580 or newer", "of the host", OTHER_BUILD]),
    (cuda_image_old_driver, ["550.54.15", "make image-cuda CUDA=12.6"]),
    (updated_without_reboot, ["550.54.15", "different versions", "reboot"]),
    (forward_compatibility, ["804: forward compatibility", "LD_LIBRARY_PATH"]),
    (no_fabric_manager, ["802: system not yet initialized", "nvidia-fabricmanager"]),
    (nothing_loaded, ["no NVIDIA driver is loaded", "install", "580"]),
    (nouveau, ["nouveau", "install", "580"]),
    (module_lost, ["no NVIDIA driver is loaded", "couldn't communicate", "reboot"]),
    (no_node, ["580.65.06", "/dev/nvidia0"]),
    (wrong_number, ["CUDA_VISIBLE_DEVICES = '7'"]),
    (not_given_by_slurm, ["No CUDA GPUs are available", "No devices were found", "Slurm"]),
    (wsl, ["552.22", "needs 580", "in Windows", OTHER_BUILD]),
    (old_card, ["sm_70", "sm_75", OTHER_BUILD]),
    (ancient_card, ["sm_37", "sm_75"]),
    (new_card, ["sm_120", "sm_90", "12.6"]),
]


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize(("make", "said"), UNUSABLE, ids=[make.__name__ for make, _ in UNUSABLE])
def test_a_device_that_torch_cannot_use_is_an_error_that_names_cause_and_remedy(machine, make, said, name):
    make(machine)
    with pytest.raises(UserError) as stopped:
        choose_device(name)
    message = str(stopped.value)
    for part in [f"machine.device = {name!r}", *said, CPU]:
        assert part in message
    assert "\n" not in message and "pytorch.org" not in message and "  " not in message
    assert (OTHER_BUILD in message) == (OTHER_BUILD in said)  # offered only to a machine that can run it
    assert choose_device("cpu") == torch.device("cpu")


def hidden(machine):
    t4(machine)
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", "")


def hidden_by_minus_one(machine):
    t4(machine)
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def hidden_by_slurm(machine):
    t4(machine)
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")


def plain_container(machine):
    machine.module("550.54.15")
    machine.file("proc/self/mountinfo", "22 27 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/a\n")


def pod(machine):
    machine.card("nvidia")
    machine.patch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


def cpu_image_on_a_gpu_host(machine):
    machine.module("580.65.06")
    machine.file(".dockerenv")
    machine.patch.setattr(torch.version, "cuda", None)


def nothing_wanted(machine):
    cuda_image_without_gpus(machine)
    machine.patch.setenv("NVIDIA_VISIBLE_DEVICES", "none")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (hidden, "CUDA_VISIBLE_DEVICES = ''"),
        (hidden_by_minus_one, "CUDA_VISIBLE_DEVICES = '-1'"),
        (hidden_by_slurm, "CUDA_VISIBLE_DEVICES = 'NoDevFiles'"),
        (plain_container, "--gpus all"),
        (pod, "--gpus all"),
        (cpu_image_on_a_gpu_host, "--gpus all"),
        (nothing_wanted, "--gpus all"),
    ],
)
def test_a_device_kept_from_the_process_is_none_to_auto_and_an_error_to_cuda(machine, make, said):
    make(machine)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="machine.device = 'cuda'") as stopped:
        choose_device("cuda")
    assert said in str(stopped.value) and CPU in str(stopped.value)


def no_device(machine):
    pass


def unused_module(machine):
    machine.file("proc/driver/nvidia/version", MODULE.format("550.54.15"))


def windows_without_nvidia(machine):
    machine.file("dev/dxg")
    machine.file("usr/lib/wsl/lib/libd3d12.so")


def lent_to_a_virtual_machine(machine):
    machine.card("vfio-pci")


def an_audio_device(machine):
    machine.card()
    machine.file("sys/bus/pci/devices/0000:00:04.0/class", "0x040300\n")


@pytest.mark.parametrize(
    "make", [no_device, unused_module, windows_without_nvidia, lent_to_a_virtual_machine, an_audio_device]
)
def test_without_a_device_auto_is_the_cpu_and_cuda_names_what_there_is(machine, make):
    make(machine)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="machine.device = 'cuda': this machine has none; allowed here: auto, cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("codes", [CUDA_BUILD, ["sm_75", "compute_80"], []])
def test_a_card_that_the_build_has_code_for_is_taken(machine, codes):
    machine.torch_sees((8, 9), codes=codes)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")


def test_only_the_cards_that_will_be_used_have_to_be_fit(machine):
    machine.torch_sees((9, 0), (3, 5))  # CUDA lists the fastest first
    assert choose_device("auto", 1) == torch.device("cuda")
    with pytest.raises(UserError, match="sm_35"):
        choose_device("auto", 2)


def test_a_build_for_other_makers_cards_is_none_of_this(machine):
    machine.torch_sees((3, 5))
    machine.patch.setattr(torch.version, "cuda", None)
    assert choose_device("auto") == torch.device("cuda")  # so torch's ROCm build calls an AMD card


def test_torchs_own_warning_does_not_come_on_top_of_the_message(machine):
    def warn():
        warnings.warn(f"CUDA initialization: {TOO_OLD}", stacklevel=2)
        return False

    machine.patch.setattr(torch.cuda, "is_available", warn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert choose_device("cpu") == choose_device("auto") == torch.device("cpu")
    assert not caught


def test_a_driver_that_hangs_is_no_hanging_stage(machine, monkeypatch):
    def hang(command, **options):
        raise nvidia.subprocess.TimeoutExpired(command, options["timeout"])

    t4(machine, "580.65.06", NONE)
    monkeypatch.setattr(nvidia.subprocess, "run", hang)
    with pytest.raises(UserError, match="timed out"):
        choose_device("auto")
