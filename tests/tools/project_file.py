"""What pyproject.toml says, for the tests of the environment."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
NO_DEPS = PROJECT["optional-dependencies"]["no-deps"]
LOCAL_NO_DEPS = [
    package for use in ("lab", "test") for package in PYPROJECT["tool"]["course"][f"{use}-no-deps"]
]
