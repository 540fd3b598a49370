"""Roots to all digits, without implicitax: residuals in extended precision, corrections in float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize


def namespace(*values: Any) -> Any:
    """NumPy if every value is of NumPy or Python, else JAX's: the same equations serve both."""
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


def find(R: Callable[..., Any], x0: Any, p: Any) -> np.ndarray:
    """A root of `R(x, p)`, found from x0 by MINPACK's hybrid method (SciPy), then refined."""
    jacobian = _jacobian(R)
    with np.errstate(all="ignore"):
        found = scipy.optimize.root(R, x0, (p,), "hybr", jacobian, tol=1e-13)
    return refine(R, found.x, p, jacobian)


def refine(R: Callable[..., Any], x: Any, p: Any, jacobian: Callable[..., Any] | None = None) -> np.ndarray:
    """The root near x, in NumPy's extended precision.

    Newton's method with the Jacobian of float64 and the residual of `longdouble`: it converges to the accuracy of the
    residual, since that of the Jacobian only makes the convergence linear.
    """
    jacobian, x = jacobian or _jacobian(R), np.asarray(x, np.longdouble)
    for _ in range(20):
        x = x - np.linalg.solve(jacobian(x.astype(float), p), R(x, p).astype(float))
    return x


def _jacobian(R: Callable[..., Any]) -> Callable[..., np.ndarray]:
    compiled = jax.jit(jax.jacfwd(R))
    return lambda x, p: np.asarray(compiled(x, p))


def derivative(R: Callable[..., Any], x: Any, p: Any) -> np.ndarray:
    """∂x/∂p of the root x, by NumPy: `−A⁻¹ B` with `A = ∂R/∂x` and `B = ∂R/∂p`."""
    A, B = jax.jacfwd(R, argnums=(0, 1))(jnp.asarray(x, float), jnp.asarray(p, float))
    return -np.linalg.solve(A, B)
