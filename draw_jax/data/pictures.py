"""Pictures of any size and mode as a model's images: grey or colour, cropped and resized."""

import numpy as np
from PIL import Image


def check_shape(image_shape: tuple[int, int, int] | None, name: str) -> tuple[int, int, int]:
    """Return (H, W, C) after checking that pictures can have that shape.

    Args:
        image_shape: `config.model.image_shape`.
        name: of what makes them, for the error.

    Raises:
        ValueError: none, or one with C other than 1 (grey) and 3 (colour).
    """
    if image_shape is None:
        raise ValueError(f"expected an image_shape (H, W, C) for {name}, got None")
    height, width, channels = image_shape
    if channels not in (1, 3) or min(height, width) < 1:
        raise ValueError(
            "expected config.model.image_shape (H, W, C) with C 1 (grey) or 3 (colour) for "
            f"{name}, got {tuple(image_shape)}"
        )
    return height, width, channels


def turned(image: Image.Image, channels: int) -> Image.Image:
    """Return a picture without transparency, which is laid on black, in grey or colour.

    Args:
        image: of any mode.
        channels: 1 for Pillow's mode L, 3 for RGB.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I"):  # 16 bits, which `convert` would clip at 255
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        if (transparent := image.info.get("transparency")) is not None:
            values[values == transparent] = 0
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(layers.convert("RGB"), mask=layers.getchannel("A"))
        return black.convert(mode)
    return image.convert(mode)


def fitted(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the largest central crop of the right aspect ratio, resized by a Lanczos filter.

    Args:
        picture: in grey or colour.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width, C].
    """
    across = min(picture.width, picture.height * width / height)
    down = min(picture.height, picture.width * height / width)
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    if (across, down) == (width, height):  # only cut: whole pixels, that stay as they are
        left, top = int(left), int(top)
    box = (left, top, left + across, top + down)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
    return np.asarray(small).reshape(height, width, -1)


def of_array(image: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return an array as a picture of a model's size, smaller or larger than it was.

    Args:
        image: uint8 [h, w, c]; c 1 grey, 2 with transparency, 3 RGB, 4 with transparency.
        image_shape: (H, W, C), as `check_shape` wants it.

    Returns:
        uint8 [H, W, C].

    Raises:
        ValueError: another number of channels, or no pixels.
    """
    if image.shape[-1] not in (1, 2, 3, 4) or 0 in image.shape:
        raise ValueError(
            "config.data.resize: expected images [H, W, C] with C 1 to 4, channels last, got "
            f"{list(image.shape)}"
        )
    height, width, channels = image_shape
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return fitted(turned(picture, channels), height, width)
