"""collect ... evaluate of the params.yaml in this folder, in one process, then the sha256 of every file of their outs.

`python -m tests.support.every_stage`, for processors that are emulated: starting Python takes a minute there.
"""

from pathlib import Path

from retrace.config.load import load
from retrace.files import sha256_of
from stages import collect, evaluate, finetune, pretrain, rebalance


def in_order() -> list[str]:
    """The phases, each after the one it starts from."""
    waiting, ready = dict(load().phases), []
    while waiting:
        name = next(name for name, phase in waiting.items() if phase.init not in waiting)
        ready.append(name)
        del waiting[name]
    return ready


def main() -> None:
    """Run and print."""
    for stage in (collect, rebalance, pretrain):
        stage.main()
    for phase in in_order():
        finetune.main(phase)
        evaluate.main(phase)
    study = load().study
    files = [file for top in ("data", "models", "metrics") for file in Path(top, study).rglob("*") if file.is_file()]
    files += [Path("metrics", study)] if Path("metrics", study).is_file() else []
    for file in sorted(files):
        print("out", file.as_posix(), sha256_of(file))


if __name__ == "__main__":
    main()
