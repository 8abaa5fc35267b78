"""What devices send each other, counted from a program's text, and what that would cost."""

import pytest

PROGRAM = """
  %all-reduce.1 = (f32[3,4]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1, to_apply=%add
  %x = f32[100]{0} add(%c, %d)
  ROOT %all-reduce-start = bf16[5]{0} all-reduce-start(%e), replica_groups={}
  %done = bf16[5]{0} all-reduce-done(%all-reduce-start)
  %get-tuple-element.3 = f32[3,4]{1,0} get-tuple-element(%all-reduce.1), index=0
"""


def test_results_of_all_reduces_are_counted_once(modules):
    all_reduces = modules.collectives.all_reduces
    assert all_reduces(PROGRAM) == (2, (12 + 1) * 4 + 5 * 2)
    assert all_reduces("%x = f32[100]{0} add(%c, %d)") == (0, 0)


def test_a_type_that_is_not_known_is_refused(modules):
    with pytest.raises(ValueError, match="got c64"):
        modules.collectives.all_reduces("%a = c64[3]{0} all-reduce(%b)")


def test_an_estimate_by_hand(modules):
    """4 MB over 4 devices: 1.5 x 4 MB at 2 GB/s are 3 ms, and 6 messages of 500 us 3 ms more."""
    estimate = modules.collectives.estimate
    found = estimate(4, 4_000_000, step_ms=18, fixed_ms=2, gbs=2, latency_us=500)
    assert found.all_reduce_ms == pytest.approx(6)
    assert found.weak == pytest.approx(4 * 18 / 24)
    assert found.strong == pytest.approx(18 / (2 + 16 / 4 + 6))
    alone = estimate(1, 4_000_000, step_ms=18, fixed_ms=2, gbs=2, latency_us=500)
    assert alone == (0, 1, 1)
