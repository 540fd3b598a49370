"""Roots to all digits, without implicitax: residuals in extended precision, corrections in float64."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize


def namespace(*values: Any) -> Any:
    """NumPy if every value is of NumPy or Python, else JAX's: the same equations serve both."""
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


@cache
def _jacobians(R: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(jax.jacfwd(R, argnums=(0, 1)))


def jacobians(R: Callable[..., Any], x: Any, p: Any) -> tuple[np.ndarray, np.ndarray]:
    """`A = ∂R/∂x` and `B = ∂R/∂p` in float64; compiled once."""
    with jax.enable_x64(True):
        A, B = _jacobians(R)(jnp.asarray(x, float), jnp.asarray(p, float))
        return np.asarray(A), np.asarray(B)


def find(R: Callable[..., Any], x0: Any, p: Any) -> np.ndarray:
    """A root of `R(x, p)`, found from x0 by MINPACK's hybrid method (SciPy), then refined."""
    with np.errstate(all="ignore"):
        found = scipy.optimize.root(R, x0, (p,), "hybr", lambda x, p: jacobians(R, x, p)[0], tol=1e-13)
    return refine(R, found.x, p)


def refine(R: Callable[..., Any], x: Any, p: Any) -> np.ndarray:
    """The root near x, in NumPy's extended precision.

    Newton's method with the Jacobian of float64 and the residual of `longdouble`: it converges to the accuracy of the
    residual, since that of the Jacobian only makes the convergence linear.
    """
    x = np.asarray(x, np.longdouble)
    for _ in range(8):
        x = x - np.linalg.solve(jacobians(R, x, p)[0], R(x, p).astype(float))
    return x


def derivative(R: Callable[..., Any], x: Any, p: Any) -> np.ndarray:
    """∂x/∂p of the root x, by NumPy: `−A⁻¹ B`."""
    A, B = jacobians(R, x, p)
    return -np.linalg.solve(A, B)
