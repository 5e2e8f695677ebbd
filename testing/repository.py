"""The root of the repository: where commands run, and where files that ship are read from."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
