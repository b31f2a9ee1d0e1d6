"""The parts of `python benchmarks/gpu_check.py`: what a GPU makes of the kit's layers, trainings and scores."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
