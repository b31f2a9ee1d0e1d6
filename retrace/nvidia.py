"""NVIDIA devices as the operating system shows them, without CUDA, and why torch cannot use them.

found = hindrance()    # None: torch can use the device, or the machine has none
"""

import os
import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")  # above /dev, /proc, /sys and /usr
# Oldest driver on Linux for any CUDA of a major version, by "minor version compatibility"; table 1 of
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
NEEDED = {13: 580, 12: 525, 11: 450}
# `make repro CUDA=12.6`: the build of torch for older drivers and cards, and the sm_ numbers it has code for; "PyTorch
# CUDA Support Matrix" in https://github.com/pytorch/pytorch/blob/main/RELEASE.md
OTHER, OTHER_CODES = "12.6", (50, 60, 70, 75, 80, 86, 90)
LOCKED = "13.0"  # the build that the lock names
HIDDEN = ("", "-1", "NoDevFiles")  # CUDA_VISIBLE_DEVICES of a user, or of Slurm, who wants no device
REBOOT = "reboot (the driver was updated, and the old one is still loaded)"
KNOWN = {  # what helps against an error of the CUDA runtime, by its number
    "802": "start the driver's Fabric Manager: systemctl start nvidia-fabricmanager",
    "803": REBOOT,
    "804": f"take CUDA's compat libraries off LD_LIBRARY_PATH, or {REBOOT}",
}


@dataclass(frozen=True)
class Hindrance:
    """Why torch cannot use this machine's NVIDIA device, and what to do about it (besides computing on the CPU)."""

    cause: str
    remedies: tuple[str, ...]
    deliberate: bool = False  # the device was kept from this process; machine.device: auto takes the CPU then


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver; every field is empty where the driver does not say."""

    version: str = ""  # of the loaded kernel module, e.g. "550.54.15"
    trouble: str = ""  # what nvidia-smi complains of
    capability: tuple[int, int] | None = None  # compute capability of the first device

    def branch(self) -> int | None:
        """550 of "550.54.15"."""
        number = re.match(r"\d+", self.version)  # some virtual machines print [N/A]
        return int(number[0]) if number else None


def hindrance(devices: int = 1) -> Hindrance | None:
    """Why torch cannot use the first NVIDIA devices; None if it can, or if the machine has no such device.

    devices: how many of those that torch sees have to be fit, from the first one.
    """
    import torch

    if sees_cuda():
        return _unfit_card(min(devices, torch.cuda.device_count())) if torch.version.cuda else None
    if not is_present():
        return None
    return _withheld() or _cpu_build(torch.version.cuda, torch.__version__) or _driver_trouble(str(torch.version.cuda))


def sees_cuda() -> bool:
    """`torch.cuda.is_available()` without the warning about the driver, which `hindrance` words better."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def is_present() -> bool:
    """Whether the operating system shows an NVIDIA device, usable or not."""
    return _has_node() or any((ROOT / "proc/driver/nvidia/gpus").glob("*")) or any(_pci_cards())


def driver() -> Driver:
    """Ask nvidia-smi, and without an answer the kernel."""
    kernel = _kernel_module()
    program = shutil.which("nvidia-smi", path=f"{os.environ.get('PATH', '')}{os.pathsep}{ROOT / 'usr/lib/wsl/lib'}")
    if program is None:
        return Driver(kernel)
    trouble = ""
    for fields in ("driver_version,compute_cap", "driver_version"):  # before 510 it knows no compute_cap
        command = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Driver(kernel, str(error))
        lines = result.stdout.strip().splitlines()
        if result.returncode == 0 and lines:
            version, _, capability = lines[0].partition(",")
            number = re.fullmatch(r"(\d+)\.(\d+)", capability.strip())
            return Driver(version.strip(), "", (int(number[1]), int(number[2])) if number else None)
        said = (result.stdout + result.stderr).split() or ["no message"]
        trouble = f"{' '.join(said)[:200]} (exit {result.returncode})"
    return Driver(kernel, trouble)


def _has_node() -> bool:
    return any((ROOT / "dev").glob("nvidia[0-9]*")) or _is_wsl()


def _is_wsl() -> bool:
    """Whether Windows lends its NVIDIA device: /dev/dxg is there for any maker's, libcuda only with NVIDIA's driver."""
    folder = ROOT / "usr/lib/wsl"
    libraries = [*folder.glob("lib/libcuda.so*"), *folder.glob("drivers/*/libcuda.so*")]
    return (ROOT / "dev/dxg").exists() and bool(libraries)


def _pci_cards() -> list[str]:
    """The kernel drivers of the NVIDIA display controllers on the PCI bus, "none" without one; none lent to a VM."""
    drivers = []
    for card in sorted((ROOT / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = (card / "vendor").read_text().strip(), (card / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith(("0x0300", "0x0302")):
            drivers.append((card / "driver").resolve().name if (card / "driver").exists() else "none")
    return [name for name in drivers if name != "vfio-pci"]


def _kernel_module() -> str:
    """Version of the loaded kernel module, "" without one."""
    try:
        text = (ROOT / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # "... NVIDIA UNIX x86_64 Kernel Module  550.54.15  ...", or "... Open Kernel Module for x86_64  580.65.06  ..."
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", text)
    return found[1] if found else ""


def in_container() -> bool:
    """Whether this process runs in a container; not every engine leaves a mark, but all of them stack file systems."""
    if any((ROOT / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return True
    try:
        mounts = (ROOT / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        mounts = []
    stacked = any(line.split(" ")[4:5] == ["/"] and " - overlay " in line for line in mounts)
    return stacked or "KUBERNETES_SERVICE_HOST" in os.environ


def _withheld() -> Hindrance | None:
    """The machine has the device, but this process was not given it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in HIDDEN:
        return Hindrance(f"CUDA_VISIBLE_DEVICES = {visible!r} hides it", ("unset CUDA_VISIBLE_DEVICES",), True)
    if _has_node() or not in_container():
        return None
    # the CUDA image sets the variable to `all`: who takes that image and forgets --gpus does not mean the CPU
    deliberate = os.environ.get("NVIDIA_VISIBLE_DEVICES", "") in ("", "none", "void")
    return Hindrance(
        "this container was started without access to it", ("start it with `docker run --gpus all`",), deliberate
    )


def _cpu_build(built: str | None, version: str) -> Hindrance | None:
    if built is not None:
        return None
    branch = driver().branch()
    older = branch is not None and NEEDED[12] <= branch < NEEDED[13]
    if os.environ.get("RETRACE_IMAGE"):
        remedy = f"take the CUDA image: `make image-cuda{f' CUDA={OTHER}' if older else ''}`"
    elif older:
        remedy = f"install PyTorch's CUDA {OTHER} build: `make repro CUDA={OTHER}`"
    else:
        remedy = f"install the locked CUDA build: `make repro CUDA={LOCKED}`"
    return Hindrance(f"torch {version} is built without CUDA", (remedy,))


def _driver_trouble(built: str) -> Hindrance:
    """torch is built for CUDA, and this process has the device: what is wrong with the driver between them."""
    found, needed, said = driver(), NEEDED.get(int(built.split(".")[0]), 0), _torch_says()
    code = re.search(r"Error (\d+)", said)
    where = " in Windows" if _is_wsl() else " of the host" if in_container() else ""
    update = f"update the NVIDIA driver{where}" + (f" to {needed} or newer" if needed else "")
    if "mismatch" in found.trouble or (code and code[1] == "803"):
        return Hindrance(f"the loaded driver {found.version} and its libraries are of different versions", (REBOOT,))
    if not found.version and not _is_wsl():
        return _not_loaded(found, needed)
    branch, supports = found.branch(), re.search(r"found version (\d+)", said)
    if branch is not None and branch < needed:
        cause = f"its driver is {found.version}, and torch's CUDA {built} build needs {needed} or newer"
        return Hindrance(cause, (update, *_other_build(found, built)))
    if supports:  # e.g. 12040
        major, minor = divmod(int(supports[1]) // 10, 100)
        cause = f"its driver knows CUDA {major}.{minor} at most, and torch is built for CUDA {built}"
        return Hindrance(cause, (update, *_other_build(found, built)))
    if "Found no NVIDIA driver" in said:
        cause = f"driver {found.version} is loaded, but its library libcuda.so.1 is missing"
        compute = "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        return Hindrance(cause, (f"install the driver's CUDA libraries ({compute})",))
    if code and code[1] in KNOWN:
        return Hindrance(said, (KNOWN[code[1]],))
    if not _has_node():
        cause = f"driver {found.version} is loaded, but there is no /dev/nvidia0"
        return Hindrance(cause, ("run `sudo nvidia-smi` once, which makes it",))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        cause = f"CUDA_VISIBLE_DEVICES = {visible!r} selects none that is there"
        return Hindrance(cause, ("correct or unset CUDA_VISIBLE_DEVICES (`nvidia-smi -L` lists the devices)",))
    cause = f"{said}" + (
        f"; nvidia-smi: {found.trouble}" if found.trouble else f" (driver {found.version or 'unknown'})"
    )
    return Hindrance(cause, ("look at `nvidia-smi`, or, in a Slurm job, ask for a device (--gpus 1)",))


def _not_loaded(found: Driver, needed: int) -> Hindrance:
    other = sorted({name for name in _pci_cards() if name not in ("none", "nvidia")})
    cause = "no NVIDIA driver is loaded" + (f" (the kernel uses {', '.join(other)}, without CUDA)" if other else "")
    if not found.trouble:
        return Hindrance(cause, (f"install the NVIDIA driver, {needed} or newer",))
    return Hindrance(f"{cause}; nvidia-smi: {found.trouble}", ("reboot, or install the NVIDIA driver again",))


def _torch_says() -> str:
    """Why torch cannot start CUDA, in its own words without its advice; `is_available` warns but once per process."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())
        code = re.search(r"Error \d+: .*", text)
        return code[0] if code else text.split(". ")[0].rstrip(".")
    return "torch sees no device"


def _other_build(found: Driver, built: str) -> tuple[str, ...]:
    """The other build of torch as a remedy, if it knows this driver and this card."""
    branch, needed = found.branch(), NEEDED[int(OTHER.split(".")[0])]
    if built == OTHER or (branch is not None and branch < needed):
        return ()
    if found.capability is not None and not _has_code(OTHER_CODES, found.capability):
        return ()
    command = "make image-cuda" if os.environ.get("RETRACE_IMAGE") else "make repro"
    return (f"install PyTorch's CUDA {OTHER} build, which needs driver {needed} or newer: `{command} CUDA={OTHER}`",)


def _has_code(codes: tuple[int, ...], capability: tuple[int, int]) -> bool:
    """Whether code for these sm_ numbers runs on a card: on that of its own number, and of a later minor one."""
    return any(code // 10 == capability[0] and code % 10 <= capability[1] for code in codes)


def _unfit_card(devices: int) -> Hindrance | None:
    """The first card, of so many, that this build of torch has no code for."""
    return next(filter(None, map(unfit, range(devices))), None)


def unfit(index: int) -> Hindrance | None:
    """Why this build of torch cannot compute on the card of this number, which CUDA shows it; None if it can."""
    import torch

    names = torch.cuda.get_arch_list()
    codes = tuple(int(number) for name in names for number in re.findall(r"sm_(\d+)", name))
    later = [int(number) for name in names for number in re.findall(r"compute_(\d+)", name)]  # compiled when loaded
    if not codes:
        return None
    card = torch.cuda.get_device_properties(index)
    capability = (card.major, card.minor)
    if _has_code(codes, capability) or any(code <= 10 * card.major + card.minor for code in later):
        return None
    built = str(torch.version.cuda)
    cause = (
        f"{card.name} is sm_{card.major}{card.minor}, and torch's CUDA {built} build has code for {', '.join(names)}"
    )
    return Hindrance(cause, _other_build(Driver(capability=capability), built))
