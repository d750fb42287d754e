"""`import sympy` from a published package of about 1,600 files."""

import sys
from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said
from bench.trees import python_copy


def command(_source: Path) -> Command:
    """Returns the command."""
    argv, environment = python_copy.start_command(Path(TREE) / "sw" / "python")
    program = "import sympy; print(sympy.integrate(sympy.Symbol('x') * 2))"
    return Command((*argv, "-c", program), {**environment, "PYTHONPATH": f"{TREE}/packages/sympy"})


# Not with the interpreter: other programs would be brought the package as well.
FIRST = f"/packages/sympy/sympy/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
SCENARIO = of_command("package-import", "software", command, said("x**2"), bundle_begins=FIRST)
