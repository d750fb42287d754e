"""`import sympy` from a published package of about 1,600 files."""

from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said
from bench.trees import python_copy


def command(_source: Path) -> Command:
    """Returns the command."""
    argv, environment = python_copy.start_command(Path(TREE) / "sw" / "python")
    program = "import sympy; print(sympy.integrate(sympy.Symbol('x') * 2))"
    return Command((*argv, "-c", program), {**environment, "PYTHONPATH": f"{TREE}/packages/sympy"})


SCENARIO = of_command("package-import", "software", command, said("x**2"), is_recorded=True)
