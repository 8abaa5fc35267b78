"""Runs of earlier versions: fields that they lack, and fields since removed."""

from typing import Any

# What a run did before the field existed, by kind of model. A new field gets its line here, so
# that a run started before it loads and resumes as it was.
_LATER = {  # than all the kinds
    "data.resize": False,
    "train.cpu_devices": 1,
    "train.adam_b2": 0.999,
    "train.kl_warmup_steps": 0,
    "train.free_bits": 0.0,
    "train.importance_samples": 1,
    "train.window_rate": 1.0,
}
_ALL = _LATER | {
    "data.grey": False,
    "train.weight_decay": 0.0,
    "train.on_divergence": "stop",
    "train.max_rollbacks": 3,
    "train.rollback_rate": 0.5,
}
_DRAWERS = {
    "model.recurrent_init": "normal",
    "model.forget_bias": 1.0,
    "model.scan_rows": 0,
    "model.read_gamma": 1.0,
    "model.write_gamma": 1.0,
    "model.window_init_scale": 1.0,
    "model.state_clip_norm": 0.0,
}
_MODELS = {"model.canvas_log_scale": -2.0} | _DRAWERS | _LATER
VALUES: dict[str, dict[str, Any]] = {
    "draw": {
        "model.unroll": 1,
        "model.likelihood": "bernoulli",
        "model.canvas_log_scale": -2.0,
        "model.privy": True,
        "model.encoder_input": "both",
    }
    | _DRAWERS
    | _ALL,
    "classifier": _ALL,
    "convnet": _ALL,
    "ram": _ALL,
    "glimpse_convnet": _LATER,
    "model_1": _MODELS,
    "model_2": _MODELS,
    "model_3": _MODELS,
}

# By kind of model: a removed field, and its value in a run that did not use it.
_GONE: dict[str, dict[str, Any]] = {"classifier": {"model.conv_channels": []}}


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns a stored configuration with legacy values for missing fields, without removed ones.

    Args:
        fields: of config.json, nested by group; left as they are.
    """
    result = {k: dict(v) if isinstance(v, dict) else v for k, v in fields.items()}
    for name, value in VALUES.get(str(result.get("kind")), {}).items():
        group, field = name.split(".")
        if isinstance(result.get(group), dict):
            result[group].setdefault(field, value)
    for name, value in _GONE.get(str(result.get("kind")), {}).items():
        group, field = name.split(".")
        if isinstance(result.get(group), dict) and result[group].get(field) == value:
            del result[group][field]
    return result
