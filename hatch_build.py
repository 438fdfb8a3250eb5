"""Build hook: compile the kernels with the package, so that a wheel carries them and needs no compiler where it is
installed.

Without a compiler the package is built without them, and a run's header says so.
"""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARIES = "textune/model/native/libraries"


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called before files are collected, for wheels and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """The wheel's name says the platform where there are libraries; no interface of Python's is used."""
        root = Path(self.root)
        reason = runpy.run_path(str(root / "native" / "build.py"))["build"](root / LIBRARIES)
        if reason:
            self.app.display_warning(f"textune is built without its kernels: {reason}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
