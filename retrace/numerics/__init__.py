"""The same bits on every x86-64 processor: which instructions the numerical libraries may use (`runtime.numerics`).

Libraries choose their kernels by the processor they find: wider vectors, other block sizes, another vendor's routines
add numbers up in another order, and the last bits of a result differ. `portable` holds all of them to AVX2 with FMA
and to routines that do not depend on the vendor. They read these variables when they load or on first use, so
`import retrace` sets them before anything else is imported; worker processes inherit them.

Source of the choice: the operations that `python -m retrace.provenance.verify.probe` covers, run natively on AMD and
Intel processors with and without AVX-512 and on emulated ones (docs/numerics.md).
"""

import os
import platform
import re
from pathlib import Path
from typing import Literal

from retrace.errors import UserError

Numerics = Literal["portable", "native"]

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # MKL inside PyTorch; its AVX2 setting takes other routines on AMD than on Intel
    "OPENBLAS_CORETYPE": "Haswell",  # matrix products of NumPy and SciPy
    "OPENBLAS_NUM_THREADS": "1",  # they are small here, and the number of cores must not decide
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",  # all that NumPy has beyond AVX2
    "OPENCV_IPP": "avx2",  # Intel's image functions inside OpenCV
}
BEYOND = {
    "OPENCV_CPU_DISABLE": "AVX512-SKX"
}  # where the processor has it: OpenCV complains of disabling what is not there
MARK = "RETRACE_NUMERICS"  # says to child processes that these variables are set by us, not by the user
CPUINFO = Path("/proc/cpuinfo")


def architecture() -> str:
    """This processor's instruction set: "x86_64", "aarch64" or what the system calls it."""
    name = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(name, name)


def prepare() -> None:
    """Set the environment of this process and its children for `runtime.numerics` of the params.yaml in this folder.

    Called once, by `import retrace`. With `native`, or on another architecture, the libraries choose by themselves.
    """
    # threads that wait must not spin: beside another busy program a training would take many times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if architecture() != "x86_64":
        return
    if os.environ.get(MARK) == "native":  # benchmarks compare the two; `use` refuses it where parameters say otherwise
        return
    if declared() == "portable":
        beyond = BEYOND if "avx512bw" in processor_flags() else {}
        os.environ.update(PORTABLE, **beyond, **{MARK: "portable"})
    elif os.environ.pop(MARK, None):  # a parent process with other parameters has set them
        for name in (*PORTABLE, *BEYOND):
            os.environ.pop(name, None)


def declared(file: Path = Path("params.yaml")) -> Numerics:
    """`runtime.numerics` as params.yaml says it; "portable" where it does not or cannot be read (`load` reports why).

    A light reading, because it comes before every import: `use` checks the result against the parsed parameters.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "portable"
    native = r"^(?:[^#\n]*[{,])?\s*[\"']?numerics[\"']?\s*:\s*[\"']?native\b"  # a key, not words of a value
    return "native" if re.search(native, text, re.M) else "portable"


def is_portable() -> bool:
    """Whether this process is held to what every x86-64 processor with AVX2 computes alike."""
    return os.environ.get(MARK) == "portable"


def processor_flags(file: Path = CPUINFO) -> frozenset[str]:
    """What an x86 processor can do, as Linux names it, e.g. "avx2"; empty where the system does not say."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:  # the first processor's; there may be hundreds
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        flags = ""
    return frozenset(flags.partition(":")[2].split())


def has_bfloat16(file: Path = CPUINFO) -> bool:
    """Whether this CPU multiplies in bfloat16 by itself; elsewhere it is emulated, many times slower than float32.

    On other architectures than x86-64 the library decides, and this says True.
    """
    return architecture() != "x86_64" or bool(processor_flags(file) & {"avx512_bf16", "amx_bf16"})


def cpu_model(file: Path = CPUINFO) -> str | None:
    """The CPU's name, for example "AMD EPYC 7B13"; None where the system does not say."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return found[1].strip() if found else platform.processor() or None


def require_processor(file: Path = CPUINFO) -> None:
    """Raises `UserError` where results must be portable and this x86-64 processor lacks AVX2 or FMA."""
    flags = processor_flags(file)
    missing = {"avx2", "fma"} - flags
    if is_portable() and flags and missing:
        raise UserError(_without_avx2(" and ".join(sorted(word.upper() for word in missing))))


def use(numerics: Numerics) -> None:
    """Hold PyTorch to `runtime.numerics`: replace what no variable reaches, and check that the variables took effect.

    Raises:
        UserError: `portable` on an x86-64 processor without AVX2.
        RuntimeError: the environment of this process is not what the parameters ask for.
    """
    if architecture() != "x86_64":
        return
    if (numerics == "portable") != is_portable():
        raise RuntimeError(f"runtime.numerics is {numerics!r}, but this process was started for the other setting")
    if numerics == "native":
        return
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "DEFAULT":
        raise UserError(_without_avx2("AVX2"))
    if capability != "AVX2":
        raise RuntimeError(f"PyTorch was loaded before `import retrace` and uses {capability}")
    from retrace.numerics import functions, products

    functions.replace()
    products.replace()


def _without_avx2(missing: str) -> str:
    return (
        f"this processor has no {missing}; results that are the same bits everywhere (runtime.numerics: portable) need "
        "AVX2 and FMA, which x86-64 processors have since about 2013 (Intel) and 2015 (AMD). Set runtime.numerics to "
        "native: the study runs, and its results agree with the recorded ones within the stated tolerance only"
    )
