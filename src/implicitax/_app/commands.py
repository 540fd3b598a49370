"""The commands of `implicitax`. Needs the extra `cli`; `cli.py` sees to that."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich.console import Console

import implicitax as ix

from .bench import measure_all
from .demo import demonstrate
from .panels import formats
from .target import TargetError, load, problem

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
    demonstrate(Console(), _check_plot(plot), _parse_steps(steps))


class KindOption(StrEnum):
    fixed_point = "fixed_point"
    root = "root"


SOLVERS: dict[str, Any] = {
    solver.__name__.lower(): solver
    for solver in (
        ix.Auto,
        ix.Picard,
        ix.Anderson,
        ix.Squarem,
        ix.PseudoTransient,
        ix.Broyden,
        ix.Newton,
        ix.Ladder,
        ix.NewtonKrylov,
    )
}


@app.command()
def diagnose(
    target: Annotated[
        str,
        typer.Argument(
            help="The function F, as package.module:F or file.py:F, with --x0; or a function without arguments that "
            "returns (F, x0, args).",
            show_default=False,
        ),
    ],
    *,
    x0: Annotated[str | None, typer.Option(help='The guess as JSON: 1.5, [1.5, 3.5], {"T": [300, 301]}.')] = None,
    args: Annotated[str | None, typer.Option(help="The further arguments of F as a JSON list.")] = None,
    kind: Annotated[KindOption, typer.Option(help="x = F(x), or F(x) = 0.")] = KindOption.fixed_point,
    solver: Annotated[str, typer.Option(help=f"One of {', '.join(SOLVERS)}.")] = "auto",
    max_steps: Annotated[int | None, typer.Option(min=0, help="The most iterations, as in your model.")] = None,
    batch_axis: Annotated[int | None, typer.Option(help="The axis of the rows, if F is written for a batch.")] = None,
    x64: Annotated[bool, typer.Option(help="Compute in double precision.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Where to save the figure.", dir_okay=False)] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Where to save the numbers.", dir_okay=False)] = None,
) -> None:
    """Say whether the solution of x = F(x, *args) is right, and its gradient; and what is wrong if not.

    Ends with 0 if nothing is wrong, with 1 if something is, and with 2 if the problem cannot be read.
    """
    if plot is not None:
        _check_plot(plot)
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"expected a folder that exists, got {output.parent}.", param_hint="--json")
    if solver.lower() not in SOLVERS:
        raise typer.BadParameter(f"expected one of {', '.join(SOLVERS)}, got {solver}.", param_hint="--solver")
    with jax.enable_x64(x64), Console(stderr=True).status("Solving, and comparing derivatives ..."):
        try:
            F, guess, given = problem(load(target), x0, args)
        except TargetError as error:
            raise typer.BadParameter(str(error), param_hint="TARGET") from error
        report = ix.diagnose(
            F,
            guess,
            *given,
            kind=kind.value,
            solver=SOLVERS[solver.lower()](),
            max_steps=max_steps,
            batch_axis=batch_axis,
        )
    Console().print(report)
    if plot is not None:
        report.plot().savefig(plot, dpi=200)
    if output is not None:
        output.write_text(json.dumps(report.to_dict(), indent=1))
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller problems: some seconds.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Where to save the numbers.", dir_okay=False)] = None,
) -> None:
    """Measure on this machine: values and gradients of four problems, beside Optimistix and a rule written by hand."""
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"expected a folder that exists, got {output.parent}.", param_hint="--json")
    rows = measure_all(Console(), quick)
    if output is not None:
        output.write_text(json.dumps(rows, indent=1))


def _check_plot(plot: Path) -> Path:
    # Now, and not after half a minute of work.
    if plot.suffix.lower() not in formats():
        raise typer.BadParameter(
            f"expected a file name that ends in one of {', '.join(formats())}, got {plot}.", param_hint="--plot"
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
