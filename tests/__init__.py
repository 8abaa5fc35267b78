"""The tests; what must be said before JAX is imported."""

import os

OPTIMIZED = "DRAW_JAX_TEST_OPTIMIZED" in os.environ  # set by CI for the code that users run
GIVEN_FLAGS = os.environ.get("XLA_FLAGS")
# Both shorten what XLA takes to compile: the first by half, and it changes the last digits; the second
# by a tenth, since the tests run on all cores already.
_SHORTER = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
OUR_FLAGS = f"{GIVEN_FLAGS or ''} {_SHORTER}".strip()
os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # of one device, but where a test says otherwise

if not OPTIMIZED:
    os.environ["XLA_FLAGS"] = OUR_FLAGS
