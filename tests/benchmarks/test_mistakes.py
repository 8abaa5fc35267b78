"""Mistakes in the benchmarks' command lines."""

import pytest

from tests.benchmarks.commands import TINY, run_all

# A command -> what its one line on stderr names.
MISTAKES = {
    ("benchmarks.sample", *TINY, "--batches=1,x"): "--batches=1,x: expected whole numbers >= 1",
    ("benchmarks.sample", *TINY, "--batches="): "--batches=: expected whole numbers >= 1",
    ("benchmarks.scaling", *TINY, "--batches=0"): "--batches=0: expected whole numbers >= 1",
    ("benchmarks.settings", *TINY, "--batches=2.5"): "--batches=2.5: expected whole numbers >= 1",
    ("benchmarks.settings", *TINY, "--settings=fast"): "expected names among default, ",
    ("benchmarks.memory", *TINY, "--tasks=imagenet"): "expected names among config, svhn",
    ("benchmarks.breakdown", *TINY, "--images=0"): "--images=0",
    ("benchmarks.breakdown", *TINY, "--repeats=2"): "--repeats=2",
    ("benchmarks.precision", "--config=configs/smoke.py"): "--config: the run decides",
    ("benchmarks.precision", "--repeats=3"): "--repeats: the run decides",
    ("benchmarks.mapped", "--numbers=199"): "--numbers=199",
    ("benchmarks.mapped", "--folder=nowhere"): "--folder: 'nowhere' is no directory",
    ("benchmarks.mapped", "--config=configs/smoke.py"): "--config: a tiny model of",
    ("benchmarks.recipes",): "--workdirs: expected run directories that train.py made, got none",
    ("benchmarks.recipes", "--workdirs=nowhere"): "--workdirs: 'nowhere' is no directory",
    ("benchmarks.recipes", "--workdirs=nowhere", "--images=0"): "--images=0",
    ("benchmarks.recipes", "--config=configs/smoke.py"): "--config: the runs decide",
    ("benchmarks.batches", *TINY): "where do the runs go? --workdir=DIR",
    ("benchmarks.batches", *TINY, "--workdir=x", "--rules=same,more"): "--rules: expected some of",
    ("benchmarks.before_after", *TINY): "which version is the old one? Such as --old=HEAD",
    ("benchmarks.before_after", *TINY, "--old=-x", "--updates=0"): "--updates=0",
    ("benchmarks.start", *TINY, "--repeats=0"): "--repeats=0",
    ("benchmarks.collectives", *TINY, "--devices=1,3"): "--devices: 3 is more than there are",
    ("benchmarks.compiled_for", *TINY): "--target: what to compile for? One of a100, h100, h200",
    (
        "benchmarks.compiled_for",
        "--target=b7",
    ): "--target=['b7']: expected a100, h100, h200, or TPU",
    ("benchmarks.compiled_for", "--target=h200,v5e:2x2"): "--target: GPUs and TPUs need a command",
    ("benchmarks.compiled_for", "--target=h200", "--rows=x"): "expected names among config, no_att",
    ("benchmarks.compiled_for", "--hlo=nowhere/a.txt"): "--hlo=nowhere/a.txt: expected a file",
    (
        "benchmarks.collectives",
        *TINY,
        "--devices=1",
        "--fixed_ms=1",
    ): "--fixed_ms: expected at most --step_ms, 0",
    **{
        (
            f"benchmarks.{name}",
            *(("--target=h200",) if name == "compiled_for" else ()),
            f"--config=configs/{config}.py",
        ): "expected a model of config.kind 'draw'"
        for name, config in {
            "breakdown": "cluttered_mnist",
            "compiled_for": "cluttered_mnist",
            "memory": "cluttered_mnist_convnet",
            "sample": "cluttered_mnist_ram",
            "scaling": "cluttered_mnist_convnet",
            "settings": "cluttered_mnist",
            "train_step": "cluttered_mnist",
        }.items()
    },
    (
        "benchmarks.train_step",
        "--config=configs/study_model_2.py",
    ): "config.kind 'draw', got a Model2",
    ("benchmarks.train_step", *TINY, "--json=nowhere/a.json"): "--json=nowhere/a.json: expected a",
    ("benchmarks.train_step", *TINY, "--json=configs"): "--json=configs: expected a file",
    ("benchmarks.train_step", *TINY, "--repeat=3"): "'repeat'",
    ("benchmarks.train_step", "--config=configs/nope.py"): "--config=configs/nope.py: no such file",
    ("benchmarks.train_step", *TINY, "--config.model.read_size=1"): "read_size",
    ("benchmarks.train_step", *TINY, "--config.train.batch_size=0"): "batch_size 0",
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return dict(zip(MISTAKES, run_all(list(MISTAKES), cache), strict=True))


@pytest.mark.parametrize("command", MISTAKES, ids=lambda command: f"{command[0]} {command[-1]}")
def test_a_mistake_is_one_line_and_exit_code_2(command, mistakes):
    run = mistakes[command]
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert MISTAKES[command] in run.stderr
