"""The tests; what must be said before JAX is imported."""

import os

OPTIMIZED = "DRAW_JAX_TEST_OPTIMIZED" in os.environ  # set by CI for the code that users run
GIVEN_FLAGS = os.environ.get("XLA_FLAGS")
# About halves the time that XLA takes to compile, and changes the last digits.
OUR_FLAGS = f"{GIVEN_FLAGS or ''} --xla_cpu_use_fusion_emitters=false".strip()
os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # of one device, but where a test says otherwise

if not OPTIMIZED:
    os.environ["XLA_FLAGS"] = OUR_FLAGS
