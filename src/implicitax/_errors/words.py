"""Other libraries' words, and what they are called here: keywords, attributes of a result, solvers by name."""

import difflib
from typing import Any, NamedTuple


class Word(NamedTuple):
    """What stands for a word here, and what to write."""

    means: str
    write: str


_TOLERANCE = Word("The tolerances are `rtol` and `atol`.", "Write for instance `rtol=1e-8`.")
_STEPS = Word("The bound on the iterations is `max_steps`.", "Write for instance `max_steps=200`.")
_FUNCTION = Word("The function comes first, and has no keyword.", "Call `{caller}({F}, {then})`.")
_GUESS = Word("The guess comes second.", "Call `{caller}({F}, {then})`.")
_ARGS = Word("What {F} is called with besides x follows the guess, one by one.", "Call `{caller}({F}, {then})`.")
_SOLVER = Word("What solves it is `solver`, an instance.", "Write for instance `solver=ix.Newton()`, or leave it out.")
_SLOPE = Word("Derivatives of {F} are JAX's, and none need be given.", "Leave it out.")
_BOUNDS = Word("Where x may be is `bounds`.", "Write `bounds=(lower, upper)`.")
_SPARSITY = Word("Which entries of ∂R/∂x are not 0 is `sparsity`.", "Write it so, as a matrix or as `(lower, upper)`.")
_LINEAR = Word(
    "The linear solver of the derivative is part of `adjoint`, that of Newton's steps of `solver`.",
    "Write for instance `adjoint=ix.Implicit(linear_solver=lineax.QR())`, `solver=ix.Newton(lineax.QR())`.",
)
_TAGS = Word(
    "What is known of ∂R/∂x, or of I − ∂F/∂x, is told to a linear solver that asks for it.",
    "Write for instance `adjoint=ix.Implicit(lineax.CG(1e-10, 1e-10), tags=lineax.positive_semidefinite_tag)`.",
)
_WATCH = Word(
    "What happens on the way is told to `callback`, recorded by `history=True`, and shown by `progress=True`.",
    "Use one of these in `ix.fixed_point` or `ix.root`, `callback=print` for instance.",
)
_METHOD = Word("That is an argument of a method.", "Write for instance `solver=ix.Anderson(memory=5)`.")
_DAMPING = Word("That is an argument of a method.", "Write for instance `solver=ix.Picard(damping=0.5)`.")
_UNROLL = Word(
    "How it is differentiated is `adjoint`: by default `ix.Implicit()`.",
    "Write `adjoint=ix.Unrolled(steps)` for the derivative of the iteration itself.",
)
_ALL = Word("All that is known of a solve is in the `Solution`.", "Leave it out.")
_JIT = Word("A solve is compiled by itself, and may be inside of `jax.jit`.", "Leave it out.")
_LANES = Word("Independent problems are solved by `jax.vmap`, or by `ix.sweep`.", "Leave it out.")
_DECORATED = Word("The function that is decorated is the solver, and stops when it likes.", "Leave it out.")
_AUX = Word(
    "Here {F} returns its value only.", "Leave it out; of an {F} that returns a pair give `lambda *a: {F}(*a)[0]`."
)
_OF_SOLVES = Word("It is a keyword of `ix.fixed_point` and `ix.root`, not of `{caller}`.", "Leave it out.")

_KEYWORDS = {
    **dict.fromkeys(("tol", "xtol", "ftol", "gtol", "tolerance", "eps", "epsilon", "x_tol", "f_tol"), _TOLERANCE),
    **dict.fromkeys(("maxiter", "max_iter", "max_iters", "maxiters", "maxit", "maxfev", "max_nfev"), _STEPS),
    **dict.fromkeys(("max_iterations", "num_iters", "n_iter", "num_steps", "iterations", "niter"), _STEPS),
    **dict.fromkeys(("fun", "func", "fn", "f", "function", "optimality_fun", "fixed_point_fun"), _FUNCTION),
    **dict.fromkeys(("residual_fun", "objective_fun"), _FUNCTION),
    **dict.fromkeys(("y0", "x_0", "init_params", "guess", "initial_guess", "init_x", "x_init"), _GUESS),
    **dict.fromkeys(("args", "params", "theta", "hyperparams", "kwargs"), _ARGS),
    **dict.fromkeys(("method", "algorithm", "optimizer"), _SOLVER),
    **dict.fromkeys(("jac", "jacobian", "fprime", "fprime2", "hess", "value_and_grad", "autodiff"), _SLOPE),
    **dict.fromkeys(("bracket", "lower", "upper", "lb", "ub"), _BOUNDS),
    **dict.fromkeys(("jac_sparsity", "band", "lband", "uband"), _SPARSITY),
    **dict.fromkeys(("linear_solver", "implicit_diff_solve", "linear_solve", "solve"), _LINEAR),
    **dict.fromkeys(("verbose", "disp", "print_steps", "verbosity"), _WATCH),
    **dict.fromkeys(("history_size", "memory", "mixing_frequency", "restarts", "m"), _METHOD),
    **dict.fromkeys(("damping", "beta", "relaxation", "mixing", "damping_factor"), _DAMPING),
    **dict.fromkeys(("implicit_diff", "unroll", "unroll_loop", "backward_solver"), _UNROLL),
    **dict.fromkeys(("tags", "symmetric", "assume_a"), _TAGS),
    "full_output": _ALL,
    "jit": _JIT,
    **dict.fromkeys(("vmap", "batched", "in_axes"), _LANES),
}
_ELSEWHERE = {
    "batch_axis",
    "bounds",
    "history",
    "progress",
    "throw",
    "adjoint",
    "error_estimate",
    "options",
    "callback",
}
_NOT_HERE = {
    ("custom", "solver"): _DECORATED,
    ("custom", "max_steps"): _DECORATED,
    ("custom", "has_aux"): _AUX,
    ("diagnose", "has_aux"): _AUX,
}


def counterpart(caller: str, name: str, known: tuple[str, ...]) -> Word:
    """What a keyword is called that `caller` has not."""
    word = _KEYWORDS.get(name) or _NOT_HERE.get((caller.partition("_")[0], name))
    if word is None and caller.endswith("Layer") and name == "x0":
        word = Word("The guess of a layer is `init`, or `init_fn`; x0 is one of a call, `layer(*args, x0=x0)`.", "")
    if word is None and name in _ELSEWHERE:
        word = _OF_SOLVES
    if word is None:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"Perhaps `{close[0]}` is meant." if close else "Look for a misspelt name."
        word = Word("They are those of `fixed_point`; what F reads goes into `*args`, without its name.", meant)
    F = "R" if "root" in caller or "Root" in caller else "F"
    then = "x0, *args"
    if caller.startswith("custom"):
        then = "rtol=1e-8)(solver)(x0, *args"
    if caller.endswith("Layer"):
        then = "init=x0)(*args"
    return Word(*(part.format(caller=caller, F=F, then=then) for part in word))


_OF_THE_CALL = "That is a keyword of the call, not of what solves it."
_ARGUMENTS = {
    **dict.fromkeys(
        ("rtol", "atol", "tol"), Word(_OF_THE_CALL, "Write `ix.root(R, x0, solver=ix.{owner}(...), rtol=1e-8)`.")
    ),
    **dict.fromkeys(
        ("max_steps", "maxiter", "max_iter"),
        Word(_OF_THE_CALL, "Write `ix.root(R, x0, solver=ix.{owner}(...), max_steps=200)`."),
    ),
    **dict.fromkeys(("m", "history_size", "history_length", "depth"), Word("How much is kept is `memory`.", "")),
    **dict.fromkeys(("beta", "relaxation", "mixing", "step_size", "alpha"), Word("It is `damping`, in (0, 1].", "")),
    **dict.fromkeys(("solver", "solve", "linsolve"), Word("What solves with A is `linear_solver`.", "")),
}


def argument(owner: str, name: str, known: tuple[str, ...]) -> Word:
    """What an argument is called that a method or an adjoint has not."""
    word = _ARGUMENTS.get(name)
    if word is None or (not word.write and not any(f"`{field}`" in word.means for field in known)):
        close = difflib.get_close_matches(name, known, n=1)
        word = Word("It is none of them.", f"Perhaps `{close[0]}` is meant." if close else "Leave it out.")
    return Word(*(part.format(owner=owner) for part in word))


_INSTEAD = {
    **dict.fromkeys(
        ("value", "params", "sol", "root", "solution", "y", "z", "x_star", "answer"), "the solution is `x`"
    ),
    **dict.fromkeys(
        ("fun", "fval", "fvec", "f", "r"),
        "the largest |F(x) − x|, or |R(x)|, is `residual`; all of them are what the function returns at `x`",
    ),
    **dict.fromkeys(("converged", "failed", "ok", "succeeded"), "whether it was solved is `success`"),
    **dict.fromkeys(
        ("niter", "n_iter", "num_steps", "iter_num", "iterations", "steps", "njev"), "iterations are `nit`"
    ),
    **dict.fromkeys(("function_calls", "nfevs", "num_fun_eval", "n_fev"), "evaluations are `nfev`"),
    **dict.fromkeys(("result", "flag", "ier", "info", "mesg"), "how it ended is `status`, and in words `message`"),
    "state": "it is `status`, `residual`, `nit` and `nfev`; of the method nothing is kept",
    "stats": "they are `nit` and `nfev`, and what solved it is `solver` and `linear_solver`",
    "err": "the largest |F(x) − x|, or |R(x)|, is `residual`; `error` is how far x is off, if asked for",
    "jac": "it is not kept: `jax.jacfwd` of the function at `x`",
    "grad": "derivatives are JAX's: `jax.grad` of a function that solves, and returns `x`",
}


def attribute(name: str, known: tuple[str, ...]) -> str:
    """The text of an error about an attribute that a `Solution` has not."""
    instead = _INSTEAD.get(name)
    hint = f": {instead}" if instead else f". It has {', '.join(f'`{field}`' for field in known)}"
    return f"A `Solution` has no `{name}`{hint}."


def item(key: Any) -> str:
    """The text of an error about an entry of a `Solution`."""
    if isinstance(key, str):
        instead = _INSTEAD.get(key)
        return f"A `Solution` is no dict: write `sol.{key}`." if instead is None else attribute(key, ())
    return "A `Solution` is no tuple: the solution is `sol.x`, and how it ended `sol.status`, in words `sol.message`."


_NAMES = {
    **dict.fromkeys(("root_find", "find_root", "fsolve", "solve", "RootFind", "ScipyRootFinding"), "`ix.root(R, x0)`"),
    **dict.fromkeys(("fixed_point_iteration", "FixedPoint"), "`ix.fixed_point(F, x0)`"),
    "FixedPointIteration": "`ix.fixed_point(F, x0)`, with `solver=ix.Picard()` the same iteration",
    **dict.fromkeys(("AndersonAcceleration", "AndersonCD"), "`solver=ix.Anderson()`"),
    **dict.fromkeys(("Bisection", "bisect", "brentq", "Brent"), "`ix.root(R, x0, bounds=(lower, upper))`"),
    **dict.fromkeys(("LevenbergMarquardt", "Dogleg", "GaussNewton"), "`solver=ix.Ladder()`, or those of Optimistix"),
    **dict.fromkeys(("least_squares", "minimise", "minimize"), "not here: use Optimistix"),
    **dict.fromkeys(("implicit_diff", "custom_vjp", "custom_jvp"), "`ix.custom_fixed_point` or `ix.custom_root`"),
    **dict.fromkeys(("ImplicitAdjoint",), "`ix.Implicit()`"),
    **dict.fromkeys(("RecursiveCheckpointAdjoint",), "`ix.Unrolled(steps)`"),
    **dict.fromkeys(("CG", "GMRES", "LU", "QR", "BiCGStab"), "Lineax's, as in `ix.Implicit(lineax.LU())`"),
}


def module_attribute(name: str, known: list[str]) -> str:
    """The text of an error about a name that the package has not."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = _NAMES.get(name) or (f"perhaps `ix.{close[0]}`" if close else "")
    return f"implicitax has no `{name}`" + (f": {hint}." if hint else ".")


_SOLVERS = {
    **dict.fromkeys(("newton", "newtonraphson", "raphson", "hybr", "fsolve", "lm"), "Newton"),
    **dict.fromkeys(("picard", "fixedpoint", "fixedpointiteration", "iteration", "simple", "plain"), "Picard"),
    **dict.fromkeys(("anderson", "andersonacceleration", "andersonmixing", "linearmixing", "diagbroyden"), "Anderson"),
    **dict.fromkeys(("broyden", "broyden1", "broyden2", "excitingmixing", "dfsane"), "Broyden"),
    **dict.fromkeys(("krylov", "newtonkrylov", "gmres"), "NewtonKrylov"),
    **dict.fromkeys(("squarem", "del2", "steffensen"), "Squarem"),
    **dict.fromkeys(("ladder", "dogleg", "levenbergmarquardt"), "Ladder"),
    **dict.fromkeys(("auto", "default", "pseudotransient"), "Auto"),
}
_ADJOINTS = {
    **dict.fromkeys(("implicit", "implicitadjoint", "ift", "exact"), "Implicit()"),
    **dict.fromkeys(("unrolled", "unroll", "recursivecheckpointadjoint", "direct", "backprop"), "Unrolled(steps)"),
    **dict.fromkeys(("onestep", "jacobianfree", "jfb"), "OneStep()"),
    **dict.fromkeys(("neumann", "phantom"), "Neumann(terms)"),
}


def solver_meant(value: Any) -> str | None:
    """What to write in place of what is no solver; None where nobody can tell."""
    owner, name = _owner(value), _name(value)
    if owner == "lineax" or (owner == "implicitax" and name in ("SmallLU", "DenseLU")):
        return f"{_LINEAR.means} {_LINEAR.write}"
    if owner == "implicitax" and name in ("Implicit", "OneStep", "Neumann", "Unrolled"):
        return f"How it is differentiated is `adjoint`: write `adjoint=ix.{name}(...)`."
    if isinstance(value, type) and owner == "implicitax":
        return f"Make an instance of the class: `solver=ix.{name}()`."
    if isinstance(value, type) and owner == "optimistix":
        return f"Make an instance of the class: `solver=optx.{name}(rtol=1e-8, atol=1e-8)`."
    if owner == "jaxopt":
        return "A solver of jaxopt is your own solver: it goes into `ix.custom_fixed_point` or `ix.custom_root`."
    if isinstance(value, str) and (meant := _SOLVERS.get(_plain(value))):
        return f"Give an instance, not a name: `solver=ix.{meant}()`."
    return None


def adjoint_meant(value: Any) -> str | None:
    """What to write in place of what is no adjoint; None where nobody can tell."""
    owner, name = _owner(value), _name(value)
    if owner == "lineax" or (owner == "implicitax" and name in ("SmallLU", "DenseLU")):
        shown = f"ix.{name}()" if owner == "implicitax" else f"lineax.{name}(...)"
        return f"A linear solver goes into an adjoint: `adjoint=ix.Implicit(linear_solver={shown})`."
    plain = _plain(value if isinstance(value, str) else name)
    if (isinstance(value, str | type) or owner == "optimistix") and (meant := _ADJOINTS.get(plain)):
        return f"Write `adjoint=ix.{meant}`."
    return None


def _owner(value: Any) -> str:
    return (value if isinstance(value, type) else type(value)).__module__.partition(".")[0]


def _name(value: Any) -> str:
    return (value if isinstance(value, type) else type(value)).__name__


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
