"""How a function gets a gradient that is written by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_Function = Callable[..., Any]


def with_gradient(fwd: _Function, bwd: _Function, static: tuple[int, ...] = ()) -> _Function:
    """Returns the function of a forward and a backward pass, as `jax.custom_vjp` defines them.

    Arguments at the places `static` are no arrays.
    """
    function = jax.custom_vjp(lambda *args: fwd(*args)[0], nondiff_argnums=static)
    function.defvjp(fwd, bwd)
    return in_reverse_mode(fwd.__name__.removeprefix("_").removesuffix("_fwd"), function)


def in_reverse_mode(name: str, function: _Function) -> _Function:
    """Returns a function whose derivatives in forward mode are refused in a line with its name."""

    def checked(*args: Any) -> Any:
        try:
            return function(*args)
        except TypeError as error:
            if "forward-mode" not in str(error):
                raise
            raise TypeError(
                f"{name} has no forward-mode derivative (jax.jvp, jax.jacfwd); use reverse mode: "
                "jax.grad, jax.vjp or jax.jacrev (jax.hessian works too)"
            ) from None

    return checked


def one_type(*arrays: jax.Array) -> list[jax.Array]:
    """Returns the arrays in the widest of their types, a float.

    A gradient has the type of what it belongs to; the conversion's own gradient sees to that.
    """
    dtype = jnp.result_type(1.0, *arrays)
    return [jnp.asarray(array, dtype) for array in arrays]
