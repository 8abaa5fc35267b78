"""Runs of earlier versions: the value of each configuration field that they do not have."""

from typing import Any

# What a run did before the field was there, by kind of model. A new field gets its line here, so
# that a run begun before it loads and resumes as it was.
_LATER = {"data.resize": False}  # than all the kinds
_ALL = _LATER | {
    "data.grey": False,
    "train.weight_decay": 0.0,
    "train.on_divergence": "stop",
    "train.max_rollbacks": 3,
    "train.rollback_rate": 0.5,
}
VALUES: dict[str, dict[str, Any]] = {
    "draw": {
        "model.unroll": 1,
        "model.likelihood": "bernoulli",
        "model.canvas_log_scale": -2.0,
        "model.privy": True,
        "model.encoder_input": "both",
    }
    | _ALL,
    "classifier": _ALL,
    "convnet": _ALL,
    "ram": _ALL,
    "model_1": {"model.canvas_log_scale": -2.0} | _LATER,
    "model_2": {"model.canvas_log_scale": -2.0} | _LATER,
    "model_3": {"model.canvas_log_scale": -2.0} | _LATER,
}


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a stored configuration, with legacy values for those that it lacks.

    Args:
        fields: of config.json, nested by group; left as they are.
    """
    result = {k: dict(v) if isinstance(v, dict) else v for k, v in fields.items()}
    for name, value in VALUES.get(str(result.get("kind")), {}).items():
        group, field = name.split(".")
        if isinstance(result.get(group), dict):
            result[group].setdefault(field, value)
    return result
