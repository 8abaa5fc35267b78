"""How a function gets a gradient that is written by hand."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

_Function = Callable[..., Any]
_PLAIN = contextvars.ContextVar("_PLAIN", default=False)


@contextlib.contextmanager
def without_own_gradients() -> Iterator[None]:
    """Calls in this block go to the plain forward passes.

    For a forward pass that is made of such functions and has a gradient of its own: only plain
    functions have derivatives of every kind, which derivatives of that gradient ask for.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def with_gradient(fwd: _Function, bwd: _Function, static: tuple[int, ...] = ()) -> _Function:
    """Returns the function of a forward and a backward pass, as `jax.custom_vjp` defines them.

    Arguments at the places `static` are no arrays.
    """
    function = jax.custom_vjp(lambda *args: fwd(*args)[0], nondiff_argnums=static)
    function.defvjp(fwd, bwd)
    own = in_reverse_mode(fwd.__name__.removeprefix("_").removesuffix("_fwd"), function)
    return lambda *args: fwd(*args)[0] if _PLAIN.get() else own(*args)


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
