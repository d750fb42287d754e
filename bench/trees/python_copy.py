"""Copies the running CPython (interpreter, libpython, standard library) so that it runs from any path.

Owns the copy and how to start it; builds no other tree. Single-threaded.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

# Installed packages are not the library, and no program reads the static archive of the build.
_NEVER_COPIED = ("site-packages", "dist-packages", "*.a")


def copy_python(tree: Path, *, pycache: bool = False) -> Path:
    """Copies the running CPython below `tree` (bin/, lib/) and returns the copied interpreter, TREE/bin/python3.

    Times and modes are kept. `pycache` keeps compiled files: those still fit, as they name no directory.
    Start it as `start_command` says.
    """
    left_out = _NEVER_COPIED if pycache else (*_NEVER_COPIED, "__pycache__")
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    copied = tree / "lib" / library.name
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(library, copied, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
    shared = _shared_library()
    if shared is not None:
        shutil.copy2(shared.resolve(), tree / "lib" / shared.name)
    (tree / "bin").mkdir(exist_ok=True)
    binary = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    versioned = tree / "bin" / library.name
    shutil.copy2(binary, versioned)
    interpreter = tree / "bin" / "python3"
    interpreter.symlink_to(versioned.name)
    return interpreter


def _shared_library() -> Path | None:
    """Returns this interpreter's libpython, or None when it is linked in statically."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return None
    name = sysconfig.get_config_var("INSTSONAME")
    for folder in (Path(sys.base_prefix) / "lib", Path(str(sysconfig.get_config_var("LIBDIR")))):
        if (folder / str(name)).is_file():
            return folder / str(name)
    return None


def start_command(tree: Path) -> tuple[list[str], dict[str, str]]:
    """Returns (argv to which arguments are added, whole environment) to run the copy in `tree`.

    LD_LIBRARY_PATH, because the binary knows the libpython of the place where it was installed first; PYTHONHOME,
    so that the library is the copied one and not that place's; no compiled files are written, no user site is read.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONHOME": str(tree),
        "LD_LIBRARY_PATH": str(tree / "lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
    return [str(tree / "bin" / "python3")], environment
