"""The commands of `implicitax`. Needs the extra `cli`; `cli.py` sees to that."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import _demo, _plot

app = typer.Typer(
    help="Differentiable implicit layers in JAX: fixed points and roots, solved and differentiated exactly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _several() -> None:
    """Makes typer expect the name of a command, also while there is only one."""


@app.command()
def demo(
    plot: Annotated[
        Path, typer.Option(help="Where to save the figure; the ending says the format.", dir_okay=False)
    ] = Path("demo.png"),
    steps: Annotated[
        str, typer.Option(help="The numbers of iterations to compare, with commas between them.")
    ] = "10,100,1000,10000",
) -> None:
    """Solve and differentiate two small systems in several ways, and compare.

    The first is a fixed point, x = F(x): its derivative by unrolling the iteration, by the implicit rule in forward and
    in reverse mode, and by finite differences, with what each costs as the number of iterations grows. The second has
    two roots. A figure shows the equations, their crossings and the paths of the iterates.
    """
    _demo.demonstrate(Console(), _check_plot(plot), _parse_steps(steps))


def _check_plot(plot: Path) -> Path:
    # Now, and not after half a minute of work.
    if plot.suffix.lower() not in _plot.formats():
        raise typer.BadParameter(
            f"expected a file name that ends in one of {', '.join(_plot.formats())}, got {plot}.", param_hint="--plot"
        )
    if not plot.parent.is_dir():
        raise typer.BadParameter(f"expected a folder that exists, got {plot.parent}.", param_hint="--plot")
    return plot


def _parse_steps(steps: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(number) for number in steps.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(
            f"expected whole numbers of at least 1, such as 10,100,1000, got {steps}.", param_hint="--steps"
        )
    return numbers
