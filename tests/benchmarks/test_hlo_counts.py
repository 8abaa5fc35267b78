"""What a compiled program launches, counted in its text."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo_counts
from benchmarks.hlo_counts import Launches, launches, parse

# A loop in a loop, a conditional, a call, and one of every sort of launch.
PROGRAM = """
HloModule jit_update, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%fused_store (p: f32[8,4], q: f32[4], i: s32[]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %q = f32[4]{0} parameter(1)
  %i = s32[] parameter(2)
  %zero = f32[] constant(0)
  %reduce.1 = f32[] reduce(%q, %zero), dimensions={0}, to_apply=%sum
  %broadcast.1 = f32[1,4]{1,0} broadcast(%reduce.1), dimensions={}
  ROOT %dus = f32[8,4]{1,0} dynamic-update-slice(%p, %broadcast.1, %i, %i)
}

%fused_two (p: f32[4]) -> (f32[4], f32[]) {
  %p.1 = f32[4]{0} parameter(0)
  %zero.1 = f32[] constant(0)
  %negate.1 = f32[4]{0} negate(%p.1)
  %reduce.2 = f32[] reduce(%negate.1, %zero.1), dimensions={0}, to_apply=%sum
  ROOT %tuple.9 = (f32[4]{0}, f32[]) tuple(%negate.1, %reduce.2)
}

%fused_slice (p: f32[8,4], i: s32[]) -> f32[4] {
  %p.2 = f32[8,4]{1,0} parameter(0)
  %i.2 = s32[] parameter(1)
  %dynamic-slice.1 = f32[1,4]{1,0} dynamic-slice(%p.2, %i.2, %i.2), dynamic_slice_sizes={1,4}
  %copy.9 = f32[1,4]{1,0} copy(%dynamic-slice.1)
  ROOT %bitcast.9 = f32[4]{0} bitcast(%copy.9)
}

%fused_fill () -> (f32[4], f32[4]) {
  %zero.2 = f32[] constant(0)
  %broadcast.2 = f32[4]{0} broadcast(%zero.2), dimensions={}
  %copy.8 = f32[4]{0} copy(%broadcast.2)
  ROOT %tuple.8 = (f32[4]{0}, f32[4]{0}) tuple(%broadcast.2, %copy.8)
}

%inner_body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %one = s32[] constant(1)
  %k = s32[] get-tuple-element(%t), index=0
  %x = f32[4]{0} get-tuple-element(%t), index=1
  %next = s32[] add(%k, %one)
  %gemm = (f32[4]{0}, s8[64]{0}) custom-call(%x, %x), custom_call_target="__cublas$lt$matmul"
  %y = f32[4]{0} get-tuple-element(%gemm), index=0
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%next, %y)
}

%inner_condition (t: (s32[], f32[4])) -> pred[] {
  %t.1 = (s32[], f32[4]{0}) parameter(0)
  %three = s32[] constant(3)
  %k.1 = s32[] get-tuple-element(%t.1), index=0
  ROOT %less = pred[] compare(%k.1, %three), direction=LT
}

%outer_body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t.2 = (s32[], f32[4]{0}) parameter(0)
  %x.2 = f32[4]{0} get-tuple-element(%t.2), index=1
  %none = s32[] constant(-2)
  %start = s32[] copy(%none)
  %tuple.2 = (s32[], /*index=1*/f32[4]{0}) tuple(%start, %x.2)
  ROOT %while.2 = (s32[], f32[4]{0}) while(%tuple.2), condition=%inner_condition, body=%inner_body
}

%large (x: f32[4]) -> f32[4] {
  %x.3 = f32[4]{0} parameter(0)
  %tanh.1 = f32[4]{0} tanh(%x.3)
  ROOT %exp.1 = f32[4]{0} exponential(%tanh.1)
}

%small (x: f32[4]) -> f32[4] {
  ROOT %x.4 = f32[4]{0} parameter(0)
}

%begun (x: f32[4]) -> f32[8] {
  %x.5 = f32[4]{0} parameter(0)
  ROOT %gather = f32[8]{0} all-gather(%x.5), dimensions={0}
}

ENTRY %main (x: f32[4], i: s32[]) -> f32[4] {
  %x.6 = f32[4]{0:T(128)S(1)} parameter(0)
  %i.6 = s32[] parameter(1)
  %fills = (f32[4]{0}, f32[4]{0}) fusion(), kind=kLoop, calls=%fused_fill
  %stack = f32[8,4]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %store = f32[8,4]{1,0} fusion(%stack, %x.6, %i.6), kind=kLoop, calls=%fused_store
  %two = (f32[4]{0}, f32[]) fusion(%x.6), kind=kInput, calls=%fused_two
  %slice.1 = f32[4]{0} fusion(%store, %i.6), kind=kCustom, calls=%fused_slice
  %tuple.3 = (s32[], f32[4]{0}) tuple(%i.6, %slice.1)
  %while.1 = (s32[], f32[4]{0}) while(%tuple.3), condition=%inner_condition, body=%outer_body, \
metadata={op_name="jit(update)/jvp(Draw)/while"}, backend_config={"known_trip_count":{"n":"5"}}
  %y.6 = f32[4]{0} get-tuple-element(%while.1), index=1
  %which = f32[4]{0} conditional(%i.6, %y.6, %y.6), branch_computations={%small, %large}
  %call.1 = f32[4]{0} call(%which), to_apply=%large
  %copy-start = (f32[4]{0:S(1)}, f32[4]{0}, u32[]) copy-start(%call.1)
  %copy-done = f32[4]{0:S(1)} copy-done(%copy-start)
  %reduced = f32[4]{0} all-reduce-start(%copy-done), to_apply=%sum
  %all-reduce-done = f32[4]{0} all-reduce-done(%reduced)
  %async = ((f32[4]{0}), f32[8]{0}) async-start(%all-reduce-done), calls=%begun
  %async-done = f32[8]{0} async-done(%async)
  ROOT %sorted = f32[4]{0} sort(%all-reduce-done), dimensions={0}, to_apply=%sum
}
"""


def test_every_launch_of_a_program_is_counted_by_sort():
    found = launches(parse(PROGRAM))
    assert found.kernels == {
        **dict.fromkeys(("fill", "store", "reduction", "slice", "copy", "sort"), 1),
        "elementwise": 2 + 2,  # of the larger branch and of what is called
        "collective": 2,
    }
    (outer,) = found.loops
    assert (outer.name, outer.trips) == ("jit(update)/jvp(Draw)/while", 5)
    assert outer.launches.kernels == {"copy": 1}
    (inner,) = outer.launches.loops
    assert (inner.name, inner.trips) == ("", 3 - -2)  # seen in its counter, from -2 up to 3
    assert inner.launches == Launches({"library product": 1, "elementwise": 1}, [])
    assert found.every_loop() == [(outer, 5), (inner, 25)]
    assert found.flat() == found.kernels + hlo_counts.Counter(
        {"copy": 5, "library product": 25, "elementwise": 25}
    )


def test_passes_that_cannot_be_seen_are_no_number():
    program = PROGRAM.replace("direction=LT", "direction=NE")
    (outer,) = launches(parse(program)).loops
    assert (outer.trips, outer.launches.loops[0].trips) == (5, None)
    with pytest.raises(ValueError, match="known number of passes"):
        launches(parse(program)).flat()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("add(%k, %one)", "subtract(%k, %one)"),
        ("%one = s32[] constant(1)", "%one = s32[] copy(%k)"),
    ],
)
def test_only_loops_that_count_up_by_one_are_understood(old, new):
    (outer,) = launches(parse(PROGRAM.replace(old, new))).loops
    assert outer.launches.loops[0].trips is None


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="without an ENTRY"):
        parse("HloModule jit_update\n")


def test_loops_of_a_compiled_scan_and_its_gradient_have_its_length():
    """As XLA prints them today, here for the CPU; 7 steps forward and 7 back, 3 within each."""

    def step(x, w):
        x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, 3)
        return x, x.sum()

    def loss(x, ws):
        return jax.lax.scan(step, x, ws)[1].sum()

    x, ws = jnp.ones((2, 16)), jnp.ones((7, 16, 16))
    program = jax.jit(jax.grad(loss)).lower(x, ws).compile().as_text()
    found = launches(parse(program))
    assert [loop.trips for loop in found.loops] == [7, 7]
    assert [len(loop.launches.loops) for loop in found.loops] == [1, 1]
    assert {loop.launches.loops[0].trips for loop in found.loops} == {3}
    forward, backward = found.loops
    assert "transpose(" in backward.name and "transpose(" not in forward.name
    assert found.flat().total() > 7 * 3 * 2
    assert set(found.flat()) <= set(hlo_counts.SORTS)
