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
    """Makes calls in this block use the plain forward passes.

    For a forward pass that is made of such functions and has its own gradient: derivatives of that
    gradient need derivatives of every kind, which only plain functions have.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def with_gradient(fwd: _Function, bwd: _Function, static: tuple[int, ...] = ()) -> _Function:
    """Returns the function of a forward and a backward pass, as `jax.custom_vjp` defines them.

    Arguments at the positions `static` are not arrays.
    """
    function = jax.custom_vjp(lambda *args: fwd(*args)[0], nondiff_argnums=static)
    function.defvjp(fwd, bwd)
    own = in_reverse_mode(fwd.__name__.removeprefix("_").removesuffix("_fwd"), function)
    return lambda *args: fwd(*args)[0] if _PLAIN.get() else own(*args)


def in_reverse_mode(name: str, function: _Function) -> _Function:
    """Returns a function that refuses forward-mode derivatives, in one line with its name."""

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

    A gradient has the type of its own array; the gradient of the conversion ensures that.
    """
    dtype = jnp.result_type(1.0, *arrays)
    return [jnp.asarray(array, dtype) for array in arrays]
