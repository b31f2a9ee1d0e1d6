"""Split the lock for a CPU-only torch: `python requirements/cpu_torch.py split LOCK FOLDER`.

Writes FOLDER/without-torch.txt (the lock less torch, torchvision and the CUDA packages that only they need, hashes
kept) and FOLDER/torch.txt (the two names at the locked versions; a CPU wheel's hash is not in the lock). Standard
library only: it runs before anything is installed.
"""

import re
import sys
from pathlib import Path

CUDA = re.compile(r"^(nvidia-(?!ml-py)[a-z0-9-]+|cuda-[a-z0-9-]+|triton)==")
TORCH = re.compile(r"^(torch|torchvision)==([0-9.]+)")


def split(lock: str) -> tuple[str, str]:
    """(the lock without torch and CUDA packages, the torch requirements)."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock)
    kept = [block for block in blocks if not CUDA.match(block) and not TORCH.match(block)]
    torch = [match[0] for block in blocks if (match := TORCH.match(block))]
    return "\n".join(kept) + "\n", "\n".join(torch) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "split":
        sys.exit(__doc__)
    rest, torch = split(Path(sys.argv[2]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[3])
    (folder / "without-torch.txt").write_text(rest, encoding="utf-8")
    (folder / "torch.txt").write_text(torch, encoding="utf-8")
