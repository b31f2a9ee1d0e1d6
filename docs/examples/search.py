"""Search a parameter with Optuna, each trial a DVC experiment: `python docs/examples/search.py 10`.

Needs `pip install optuna`, which is not in the lock. A study that was interrupted goes on with the trials it has.
"""

import json
import subprocess
import sys
from pathlib import Path

import optuna

PHASE, METRIC = "baseline", "val_mIoU"  # never search on test
STATE = Path(".retrace", "search.db")


def main(trials: int) -> None:
    """Run `trials` more trials."""
    STATE.parent.mkdir(exist_ok=True)
    study = optuna.create_study(
        study_name=PHASE, storage=f"sqlite:///{STATE}", load_if_exists=True, direction="maximize"
    )
    for _ in range(trials):
        trial = study.ask()
        rate = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        changes = ["-S", f"phase={PHASE}", "-S", f"phases.{PHASE}.optimizer.lr={rate:.6g}"]
        subprocess.run(["dvc", "exp", "run", "-n", f"search-{trial.number}", *changes], check=True)
        study.tell(trial, json.loads(Path("metrics.json").read_text())[METRIC])
    print(f"best: search-{study.best_trial.number}, {METRIC} {study.best_value:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
