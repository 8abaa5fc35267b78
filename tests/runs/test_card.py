"""The card of exported weights: all that is known, and blanks for the rest."""

import importlib
import math

import pytest

from draw_jax.runs import card, metrics

RESULT = {
    "split": "test",
    "images": 10_000,
    "elbo_loss": 87.7612,
    "elbo_loss_se": 0.2401,
    "nll": 58.4191,
    "nll_se": 0.1801,
    "kl": 29.3421,
    "kl_se": 0.0801,
}


def made(name, *results, step=11_500, minutes=197.0, **fields):
    config = importlib.import_module(f"draw_jax.configs.{name}").get_config()
    config.update_from_flattened_dict(fields)
    return card.text(name, config, 961_275, card.Training(step, minutes), results)


def test_a_card_tells_what_configuration_run_and_measurements_do():
    text = made("mnist", RESULT, {**RESULT, "split": "validation"})
    assert text.startswith("# mnist: draw on binarized_mnist, 28x28\n\nTrained for 11,500 updates.")
    for told in (
        "(the set's own fixed binarisation). Measured: test 10,000, validation 10,000 images.",
        (
            "T = 64 time steps, LSTMs of 256 units in the encoder and 256 units in the decoder, 100 latent "
            "dimensions a step, read window 2x2, write window 5x5; 961,275 parameters."
        ),
        (
            "Batch 100, Adam at 0.006, warmed up linearly over 200 updates, cosine decay until update 5,000, "
            "gradients clipped at 5; "
            "about 3.3 hours of updates alone"
        ),
        "draw-jax train --config=mnist\n",
        "| split | negative ELBO, nats | NLL | KL | images | command |",
        (
            "| test | 87.76 +- 0.24 | 58.42 +- 0.18 | 29.34 +- 0.08 | 10,000 | "
            "`draw-jax evaluate --pretrained=mnist --split=test` |"
        ),
        "## Limits\n\n- (to fill in)\n",
        "## Licence\n\nApache-2.0",
    ):
        assert told in text, told


def test_a_card_says_what_has_no_windows():
    text = made("study_read_only", RESULT)
    assert "read window 5x5, no attention for writing;" in text
    assert "no attention for reading, no attention for writing;" in made("mnist_no_attention")


def test_what_a_measurement_lacks_is_a_dash_and_its_flags_are_in_its_command():
    weighted = RESULT | {
        "images": 1_000,
        "first_images": True,
        "importance_samples": 100,
        "importance_weighted_nll": 85.123,
        "importance_weighted_nll_se": 0.7,
    }
    rows = [
        line for line in made("mnist", RESULT, weighted).splitlines() if line.startswith("| test")
    ]
    assert [row.count("|") for row in rows] == [8, 8]
    assert "| - | 10,000 |" in rows[0] and "| 85.12 +- 0.70 | 1,000 |" in rows[1]
    assert "--split=test --importance_samples=100 --images=1000`" in rows[1]
    assert "Measured: test 10,000 images." in made("mnist", RESULT, weighted)  # all of them
    assert "--split=test --seed=7`" in made("mnist", RESULT | {"seed": 7})
    assert "--seed" not in made("mnist", RESULT | {"seed": 0})


def test_bits_have_three_places_and_a_classifier_its_interval():
    bits = RESULT | {"bits_per_dim": 4.8731, "bits_per_dim_se": 0.0042}
    text = made("cifar10_bits", bits)
    assert "32x32 in colour" in text.splitlines()[0] and "| 4.873 +- 0.004 |" in text
    error = {"split": "test", "images": 10_000, "error": 0.0331, "error_se": 0.0018}
    error |= {"error_low": 0.0297, "error_high": 0.0368}
    text = made("cluttered_mnist", error)
    assert "| 3.31 (2.97 to 3.68) |" in text and "negative ELBO" not in text
    assert "T = 8 time steps, one LSTM of 256 units, read window 12x12;" in text
    assert "filters" in made("mnist_classifier", error)


@pytest.mark.parametrize("minutes", [math.nan, 197.0])
def test_what_is_not_known_is_to_fill_in(minutes):
    text = made("mnist", minutes=minutes)
    assert ("(to fill in): hours" in text) == math.isnan(minutes)
    assert "## Numbers\n\n(to fill in), by --results" in text
    config = importlib.import_module("draw_jax.configs.mnist").get_config()
    assert "Trained for (to fill in) updates." in card.text("mnist", config, 1)


def test_a_short_training_is_told_in_minutes():
    assert "about 9 minutes of updates alone" in made("digits", minutes=9.2)
    assert "about 1 minute of updates alone" in made("digits", minutes=0.8)


def test_how_the_weights_were_made_is_told():
    config = importlib.import_module("draw_jax.configs.digits").get_config()
    assert "of the trained ones.\n" in card.text("digits", config, 1)
    assert "of the trained ones, rounded to float16.\n" in card.text(
        "digits", config, 1, dtype="float16"
    )
    config.train.average_decay = 0.0
    assert "The weights are those after that update.\n" in card.text("digits", config, 1)


def test_what_does_not_clip_says_nothing_of_it():
    assert "warmed up linearly over 200 updates, cosine decay until update 5,000; about" in made(
        "mnist", **{"train.clip_norm": 0.0}
    )


def test_where_a_run_began_is_in_its_command():
    text = made("mnist", **{"train.init_from": "runs/my first"})
    assert "draw-jax train --config=mnist --init_from='runs/my first'\n" in text


def test_minutes_are_those_of_the_median_speed():
    rows = [{"images_per_second": speed} for speed in (100.0, 400.0, 200.0)] + [{"nll": 1.0}]
    assert metrics.minutes(rows, 50, 1_200) == 1_200 * 50 / 200 / 60
    assert math.isnan(metrics.minutes([{"nll": 1.0}], 50, 1_200))


def test_a_card_of_every_kind_of_model_tells_its_sizes():
    for name, told in {
        "cluttered_mnist_ram": "T = 8 time steps, a core of 256 units, 4 patches a glimpse",
        "cluttered_mnist_convnet": "filters",
        "cluttered_mnist_conv": "one LSTM of",
        "study_model_2": "LSTMs of 256 units",
    }.items():
        assert told in made(name, minutes=math.nan), name


def test_a_weight_decay_is_told():
    text = made("mnist", **{"train.weight_decay": 0.01, "train.warmup_steps": 0})
    told = "AdamW at 0.006, cosine decay until update 5,000, gradients clipped at 5, weight decay 0.01;"
    assert told in text
