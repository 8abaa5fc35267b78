"""The update compiled for hardware that is not there: all that can be told without its compilers."""

import importlib.util

import pytest

from benchmarks import targets, thunks
from benchmarks.hlo_counts import Counter, Launches, Loop
from benchmarks.thunks import Sent
from draw_jax.system.errors import UserError
from tests.benchmarks.commands import TINY, run_all

THUNKS = """\
000: kCommandBuffer [source       | next=004 (1)]
    001: kCustomKernel [source        | next=003 (2)] loop_add_fusion_7 grid: [1, 1, 1]
    002: kCopy         [prev=005 (13) | next=019 (1)] kCopy
003: kWaitForStreams [source | sink]
004: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    005: kCustomKernel [source | sink] loop_compare_fusion_1 grid: [1, 1, 1]
  body:
    000: kCommandBuffer      [source       | next=000 (2)]
        006: kCustomKernel [source       | next=042 (2)] triton_softmax_6 grid: [200, 1, 1]
        007: kDynamicSliceFusion [source       | next=000 (1)] params=1, results=1
            008: kCopy [source | sink] kCopy
    009: kDynamicSliceFusion [source       | next=000 (1)] params=1, results=1
        010: kCopy [source | sink] kCopy
    011: kGemm          [prev=000 (1) | next=000 (1)]
012: kCustomKernel [source | sink] loop_add_fusion_8 grid: [1, 1, 1]
000: kCommandBuffer [prev=011 (1) | sink]
    013: kWhile         [prev=000 (1) | next=000 (1)]
    condition:
        014: kCustomKernel [source | sink] loop_compare_fusion_2 grid: [1, 1, 1]
      body:
        015: kCustomKernel [source | sink] loop_add_fusion_9 grid: [1, 1, 1]
        016: kMemzero [source | sink]
"""


def test_graphs_and_single_kernels_are_told_apart_loop_by_loop():
    outside, first, recorded = thunks.sent(THUNKS)
    assert outside == Sent(graphs=2, recorded=2, alone=1) and outside.times == 3
    assert first == Sent(graphs=1, recorded=2, alone=2) and first.times == 3
    assert recorded == Sent(graphs=0, recorded=2, alone=0) and recorded.times == 0


def test_a_text_without_thunks_is_refused():
    with pytest.raises(ValueError, match="list of thunks"):
        thunks.sent("nothing\n")


def test_kernels_are_those_of_a_time_step_however_many_a_pass_takes(modules):
    def loop(name, trips, **kernels):
        return Loop(f"jit(update)/{name}while", trips, Launches(Counter(kernels), []))

    loops = [
        loop("", 5, elementwise=3),  # of the noise
        loop("jvp(Draw)/", 16, product=8, store=2),  # four time steps a pass
        loop("transpose(jvp(Draw))/", 64, product=3),
    ]
    found = modules.compiled_for.kernels(Launches(Counter(fill=7), loops), steps=64)
    assert found == {
        "forward": {"product": 2, "store": 0.5},
        "backward": {"product": 3},
        "outside": {"fill": 7, "elementwise": 15},
    }
    assert [modules.compiled_for.count(n) for n in (2.0, 0.5)] == ["2", "0.5"]


def test_targets_are_known_by_their_names():
    assert all(map(targets.known, [*targets.GPUS, "v5e:2x2", "v6e:16x16"]))
    assert not any(map(targets.known, ["b200", "v5e", "v5e:2x2x2", "h200:2x2", ""]))


def test_every_gpu_tells_the_same_facts():
    names = [set(facts) for facts in targets.GPUS.values()]
    assert all(each == names[0] for each in names) and len(names[0]) >= 20


@pytest.mark.parametrize(
    ("missing", "target", "told"),
    [
        ("jax_plugins.xla_cuda13", "h200", "NVIDIA's GPUs is installed: pip install -e '.[cuda]'"),
        ("libtpu", "v5e:2x2", "for TPUs is installed: pip install -e '.[tpu]'"),
    ],
)
def test_a_missing_compiler_is_named_with_its_extra(missing, target, told, monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "_installed", lambda name: name != missing)
    with pytest.raises(UserError) as raised:
        targets.xla_flags(target, tmp_path)
    assert told in str(raised.value)


def test_a_part_of_cuda_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "_installed", lambda name: True)
    spec = importlib.util.spec_from_loader("nvidia.cu13", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: spec)
    for part in ("nvvm/libdevice/libdevice.10.bc", "bin/ptxas"):
        with pytest.raises(UserError, match=r"CUDA's .*ptxas are not installed: .*\[cuda\]"):
            targets.xla_flags("h200", tmp_path)
        (tmp_path / part).parent.mkdir(parents=True)
        (tmp_path / part).touch()
    assert f"--xla_gpu_cuda_data_dir={tmp_path}" in targets.xla_flags("h200", tmp_path)


@pytest.mark.skipif(targets._installed("jax_plugins.xla_cuda13"), reason="CUDA is installed")
def test_the_command_says_what_to_install(tmp_path):
    (run,) = run_all([("benchmarks.compiled_for", *TINY, "--target=h200")], tmp_path)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr == (
        "error: no compiler for NVIDIA's GPUs is installed: pip install -e '.[cuda]'\n"
    )
