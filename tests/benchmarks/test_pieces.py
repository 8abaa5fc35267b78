"""The pieces of a training step."""

import jax
import pytest

from configs import smoke


@pytest.mark.parametrize(
    ("read", "write", "rows"),
    [(0, 0, set()), (0, 3, {"write", "filterbanks"}), (3, 0, {"read", "filterbanks"})],
)
def test_breakdown_leaves_out_the_attention_that_is_not_there(read, write, rows, modules):
    config = smoke.get_config()
    config.model.read_size, config.model.write_size = read, write
    makers = modules.breakdown.makers(config)
    assert set(makers) & {"read", "write", "filterbanks"} == rows
    if read or write:
        bands = jax.tree.leaves(makers["filterbanks"](config).forward())
        sizes = [(config.model.time_steps, config.train.batch_size, 3, 28)] * 2
        assert [band.shape for band in bands] == sizes
