"""The hardware that benchmarks.compiled_for knows: a GPU's facts as XLA wants them, TPU topologies.

A GPU's facts are those of NVIDIA's data sheets and CUDA programming guide (compute capabilities 8.0
and 9.0), and what the driver reports of clock and memory on the SXM form of each. XLA takes them as
the text of its message GpuTargetConfigProto and needs no such device.
"""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from jax.experimental import topologies

from draw_jax.system.errors import UserError

# Of every GPU here: the CUDA programming guide's table of limits by compute capability.
_COMMON: dict[str, Any] = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "threads_per_core_limit": 2048,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1,
    "registers_per_block_limit": 2**16,
    "registers_per_core_limit": 2**16,
    "shared_memory_per_block": 48 * 2**10,
    # Of the CUDA that the extra installs. Without these XLA assumes a CUDA that records no loops.
    "driver_version": '"13.0.0"',
    "runtime_version": '"13.0.0"',
    "compile_time_toolkit_version": '"13.0.0"',
}
_AMPERE = _COMMON | {
    "cuda_compute_capability": {"major": 8},
    "fpus_per_core": 64,
    "shared_memory_per_core": 164 * 2**10,
    "shared_memory_per_block_optin": 163 * 2**10,
    "l2_cache_size": 40 * 2**20,
    "clock_rate_ghz": 1.41,
}
_HOPPER = _COMMON | {
    "cuda_compute_capability": {"major": 9},
    "fpus_per_core": 128,
    "shared_memory_per_core": 228 * 2**10,
    "shared_memory_per_block_optin": 227 * 2**10,
    "l2_cache_size": 50 * 2**20,
    "clock_rate_ghz": 1.98,
}
GPUS: dict[str, dict[str, Any]] = {
    "a100": _AMPERE
    | {
        "core_count": 108,
        "memory_bandwidth": 2_039_000_000_000,  # bytes a second
        "device_memory_size": 80 * 2**30,
    },
    "h100": _HOPPER
    | {
        "core_count": 132,
        "memory_bandwidth": 3_352_000_000_000,
        "device_memory_size": 80 * 2**30,
    },
    "h200": _HOPPER
    | {
        "core_count": 132,
        "memory_bandwidth": 4_800_000_000_000,
        "device_memory_size": 141 * 2**30,
    },
}

# How chips lie beside each other. XLA knows which numbers there are: 1x1, 1x2, 2x2, 2x4 .. 16x16.
_TPU = re.compile(r"v[56]e:(\d{1,2})x(\d{1,2})")
KNOWN = f"{', '.join(GPUS)}, or TPUs such as v5e:2x2, v6e:8x8"

# Autotuning would need the GPU; without it XLA takes its own guess of each product's tiles.
_GPU_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={cuda}"
_DUMP_FLAGS = "--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_update"


def is_gpu(target: str) -> bool:
    """Returns whether a target is one of GPUS."""
    return target in GPUS


def known(target: str) -> bool:
    """Returns whether a target is one of GPUS or has the form of TPUs'."""
    return is_gpu(target) or _TPU.fullmatch(target) is not None


def xla_flags(target: str, dump: Path) -> str:
    """Returns the flags of XLA that compiling for a target needs, before JAX begins.

    Args:
        target: a known one.
        dump: an existing folder, where XLA writes what a GPU's program is made of.

    Raises:
        UserError: if its compiler is not installed.
    """
    if is_gpu(target):
        return f"{_GPU_FLAGS.format(cuda=_cuda())} {_DUMP_FLAGS.format(folder=dump)}"
    if not _installed("libtpu"):
        raise UserError("no compiler for TPUs is installed: pip install -e '.[tpu]'")
    return ""


def devices(target: str) -> list[Any]:
    """Returns the devices of a target, to compile for; they need not exist here."""
    if is_gpu(target):
        text = f'{_text({"gpu_device_info": GPUS[target]})} platform_name: "CUDA" '
        text += "dnn_version_info { major: 9 minor: 10 }"
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name="", topology="1x1x1", target_config=text
        )
    else:
        # Read when the TPU's library is loaded; otherwise it would look for TPUs of a cloud.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        match = _TPU.fullmatch(target)
        assert match
        one_host = [min(2, int(side)) for side in match.groups()]  # of at most 2 x 2 chips each
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=target, chips_per_host_bounds=[*one_host, 1]
        )
    return list(topology.devices)


def _cuda() -> Path:
    """Returns the folder with the parts of CUDA that XLA compiles with.

    Raises:
        UserError: if it is not there.
    """
    install = "pip install -e '.[cuda]'"
    if not _installed("jax_plugins.xla_cuda13"):
        raise UserError(f"no compiler for NVIDIA's GPUs is installed: {install}")
    spec = importlib.util.find_spec("nvidia.cu13") if _installed("nvidia") else None
    folders = [Path(each) for each in (spec and spec.submodule_search_locations) or []]
    parts = ("nvvm/libdevice/libdevice.10.bc", "bin/ptxas")
    for folder in folders:
        if all((folder / part).exists() for part in parts):
            return folder
    raise UserError(f"CUDA's {' and '.join(parts)} are not installed: {install}")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package it is in
        return False


def _text(fields: dict[str, Any]) -> str:
    """Returns a message in the text form of protocol buffers."""
    return " ".join(
        f"{name} {{ {_text(value)} }}" if isinstance(value, dict) else f"{name}: {value}"
        for name, value in fields.items()
    )
