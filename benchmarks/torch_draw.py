"""DRAW and its training step in PyTorch, for `benchmarks.peers` to time beside ours.

Written with PyTorch's own parts: `nn.LSTMCell`, `nn.Linear`, batched matrix products for
the attention, automatic differentiation, a Python loop over the time steps. Images are [B, C, H, W]
here. Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import Tensor, nn

from draw_jax.training import objective

_MAX_LOG = 15.0  # as draw_jax.attention: the three logarithms of a window are clipped to it
# The only values that the peer knows of these fields of config.train.
_ONLY = {"weight_decay": 0} | objective.OWN


class State(NamedTuple):
    """What one time step hands to the next; B examples."""

    canvas: Tensor  # c_t [B, C, H, W], logits
    h_enc: Tensor  # [B, enc_size]
    cell_enc: Tensor  # [B, enc_size]
    h_dec: Tensor  # [B, dec_size]
    cell_dec: Tensor  # [B, dec_size]
    read_raw: Tensor  # eq. 21 of the next read [B, 5]; [B, 0] without attention


class Attention(nn.Module):
    """The Gaussian filters of a window of `size` x `size` on an image."""

    def __init__(self, size: int, height: int, width: int) -> None:
        super().__init__()
        self.size, self.height, self.width = size, height, width
        # i - N/2 - 0.5 of eqs 19 and 20, and the pixels, numbered from 1.
        self.register_buffer("i", torch.arange(1, size + 1) - size / 2 - 0.5, persistent=False)
        self.register_buffer("x", torch.arange(1.0, width + 1), persistent=False)
        self.register_buffer("y", torch.arange(1.0, height + 1), persistent=False)

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns f_x [B, 1, N, W], f_y [B, 1, N, H] and gamma [B, 1, 1, 1], eqs 19 to 26.

        Args:
            raw: (g~_x, g~_y, log sigma^2, log delta~, log gamma), [B, 5], eq. 21.
        """
        g_x, g_y, logs = raw.split([1, 1, 3], dim=1)
        sigma_sq, delta, gamma = logs.clamp(-_MAX_LOG, _MAX_LOG).exp().split(1, dim=1)
        offsets = (max(self.height, self.width) - 1) / (self.size - 1) * delta * self.i  # eq. 24
        mu_x = (self.width + 1) / 2 * (g_x + 1) + offsets  # eqs 22 and 19
        mu_y = (self.height + 1) / 2 * (g_y + 1) + offsets  # eqs 23 and 20
        scale = -0.5 / sigma_sq[..., None]
        # The softmax over the pixels is the division by Z.
        f_x = torch.softmax(scale * (self.x - mu_x[..., None]).square(), dim=-1)  # eq. 25
        f_y = torch.softmax(scale * (self.y - mu_y[..., None]).square(), dim=-1)  # eq. 26
        return f_x[:, None], f_y[:, None], gamma[..., None, None]


class TorchDraw(nn.Module):
    """DRAW with learned initial states; a read or write `size` of 0 means no attention."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],  # (H, W, C)
        enc_size: int,
        dec_size: int,
        latent_size: int,
        read_size: int,
        write_size: int,
    ) -> None:
        super().__init__()
        height, width, channels = image_shape
        # [C, rows, columns] of what is read of one image and of what is written.
        self.glimpse_shape = (channels, read_size or height, read_size or width)
        self.patch_shape = (channels, write_size or height, write_size or width)
        self.reader = Attention(read_size, height, width) if read_size else None
        self.writer = Attention(write_size, height, width) if write_size else None
        self.encoder = nn.LSTMCell(2 * int(np.prod(self.glimpse_shape)) + dec_size, enc_size)
        self.posterior = nn.Linear(enc_size, 2 * latent_size)
        self.decoder = nn.LSTMCell(latent_size, dec_size)
        for cell in (self.encoder, self.decoder):  # one bias is enough, as in ours
            nn.init.zeros_(cell.bias_hh).requires_grad_(False)
        # All that is linear in h_dec: what to write, where to, and where to read next.
        self.head_sizes = [
            int(np.prod(self.patch_shape)),
            5 if write_size else 0,
            5 if read_size else 0,
        ]
        self.heads = nn.Linear(dec_size, sum(self.head_sizes))
        self.canvas_0 = nn.Parameter(torch.zeros(channels, height, width))
        self.h_enc_0 = nn.Parameter(torch.zeros(enc_size))
        self.cell_enc_0 = nn.Parameter(torch.zeros(enc_size))
        self.h_dec_0 = nn.Parameter(torch.zeros(dec_size))
        self.cell_dec_0 = nn.Parameter(torch.zeros(dec_size))

    def initial_state(self, batch_size: int) -> State:
        """Returns the learned state before the first step, the same for all examples."""
        h_dec = self.h_dec_0.repeat(batch_size, 1)
        return State(
            canvas=self.canvas_0.repeat(batch_size, 1, 1, 1),
            h_enc=self.h_enc_0.repeat(batch_size, 1),
            cell_enc=self.cell_enc_0.repeat(batch_size, 1),
            h_dec=h_dec,
            cell_dec=self.cell_dec_0.repeat(batch_size, 1),
            read_raw=self._heads(h_dec)[2],
        )

    def step(self, state: State, x: Tensor, eps: Tensor) -> tuple[State, Tensor, Tensor]:
        """Returns the next state and the posterior's mean and log_std [B, Z], eqs 3 to 8."""
        images = torch.cat([x, x - torch.sigmoid(state.canvas)], dim=1)  # eq. 3
        r = self._read(images, state.read_raw)  # eq. 4
        h_enc, cell_enc = self.encoder(
            torch.cat([r, state.h_dec], dim=1), (state.h_enc, state.cell_enc)
        )  # eq. 5
        mean, log_std = self.posterior(h_enc).float().chunk(2, dim=1)  # eqs 1 and 2
        z = mean + log_std.exp() * eps  # eq. 6
        h_dec, cell_dec = self.decoder(z, (state.h_dec, state.cell_dec))  # eq. 7
        patch, write_raw, read_raw = self._heads(h_dec)
        canvas = state.canvas + self._write(patch, write_raw)  # eq. 8
        return State(canvas, h_enc, cell_enc, h_dec, cell_dec, read_raw), mean, log_std

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the batch means of eq. 9 and eq. 10, nats per image.

        Args:
            x: images [B, C, H, W], in [0, 1].
            noise: standard normal, [T, B, Z].
        """
        state = self.initial_state(len(x))
        means, log_stds = [], []
        for eps in noise:
            state, mean, log_std = self.step(state, x, eps)
            means.append(mean)
            log_stds.append(log_std)
        nll = F.binary_cross_entropy_with_logits(state.canvas, x, reduction="sum")  # eq. 9
        mean, log_std = torch.stack(means), torch.stack(log_stds)
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum()  # eq. 11
        return nll / len(x), kl / len(x)

    def _heads(self, h_dec: Tensor) -> list[Tensor]:
        return list(self.heads(h_dec).float().split(self.head_sizes, dim=1))

    def _read(self, images: Tensor, raw: Tensor) -> Tensor:
        """Returns what the encoder sees of [B, 2 C, H, W], flat, eq. 27 or 17."""
        if self.reader is not None:
            f_x, f_y, gamma = self.reader(raw)
            images = gamma * (f_y @ images @ f_x.mT)
        return images.flatten(1)

    def _write(self, patch: Tensor, raw: Tensor) -> Tensor:
        """Returns what to add to the canvas, [B, C, H, W], eq. 29 or 18."""
        patch = patch.unflatten(1, self.patch_shape)
        if self.writer is None:
            return patch
        f_x, f_y, gamma = self.writer(raw)
        return f_y.mT @ (patch / gamma) @ f_x


def like(model: Any, params: Any, device: torch.device) -> TorchDraw:
    """Returns the PyTorch model of a `draw_jax.model.Draw`, with its weights.

    Raises:
        ValueError: if the encoder is not given all that the paper's is.
    """
    for name, only in (("privy", True), ("encoder_input", "both")):
        if getattr(model, name) != only:
            raise ValueError(
                f"config.model.{name}: the PyTorch model has {only!r} alone, got {getattr(model, name)!r}"
            )
    peer = TorchDraw(
        model.image_shape,
        model.enc_size,
        model.dec_size,
        model.latent_size,
        model.read_size,
        model.write_size,
    )
    arrays = torch_layout(peer, params)
    peer.load_state_dict(peer.state_dict() | {k: torch.from_numpy(v) for k, v in arrays.items()})
    return peer.to(device)


def torch_layout(peer: TorchDraw, params: Any) -> dict[str, np.ndarray]:
    """Returns a tree of the shape of our parameters (or their gradient) under PyTorch's names.

    What differs is the order: gates i, f, o, g against i, f, g, o; pixels [H, W, C] against
    [C, H, W]; kernels [inputs, outputs] against [outputs, inputs].
    """
    cell = params["cell"]
    read = _channels_first(2, *peer.glimpse_shape)
    patch = _channels_first(1, *peer.patch_shape)
    heads = np.concatenate([patch, np.arange(len(patch), sum(peer.head_sizes))])
    arrays = {
        "heads.weight": np.asarray(cell["heads"]["kernel"]).T[heads],
        "heads.bias": np.asarray(cell["heads"]["bias"])[heads],
        "posterior.weight": np.asarray(cell["posterior"]["kernel"]).T,
        "posterior.bias": np.asarray(cell["posterior"]["bias"]),
        "canvas_0": np.asarray(cell["canvas_0"]).transpose(2, 0, 1),
    }
    for name in ("h_enc_0", "cell_enc_0", "h_dec_0", "cell_dec_0"):
        arrays[name] = np.asarray(cell[name])
    for name, module in (("encoder", peer.encoder), ("decoder", peer.decoder)):
        gates = np.arange(4 * module.hidden_size).reshape(4, -1)[[0, 1, 3, 2]].ravel()
        kernel = np.asarray(cell[name]["gates"]["kernel"]).T[gates]
        if name == "encoder":
            kernel[:, : len(read)] = kernel[:, read]
        arrays[f"{name}.weight_ih"] = kernel[:, : module.input_size]
        arrays[f"{name}.weight_hh"] = kernel[:, module.input_size :]
        arrays[f"{name}.bias_ih"] = np.asarray(cell[name]["gates"]["bias"])[gates]
    return {name: np.array(array, np.float32) for name, array in arrays.items()}


def _channels_first(images: int, channels: int, rows: int, columns: int) -> np.ndarray:
    """Returns where each number of [images, C, rows, columns] lies in [images, rows, columns, C]."""
    places = np.arange(images * rows * columns * channels)
    return places.reshape(images, rows, columns, channels).transpose(0, 3, 1, 2).ravel()


def trained(peer: TorchDraw) -> dict[str, nn.Parameter]:
    """Returns the parameters that training changes, by name."""
    return {name: p for name, p in peer.named_parameters() if p.requires_grad}


def precision(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[Any]:
    """Returns what to compute a loss in: automatic mixed precision for bfloat16.

    Note: PyTorch then computes all matrix products in bfloat16, the attention's too, and on a
    GPU the LSTMs' state; ours only the products with weights, with float32 elsewhere.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")


def channels_first(images: np.ndarray) -> np.ndarray:
    """Returns [B, H, W, C] as [B, C, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def loss_and_gradient(
    peer: TorchDraw, x: np.ndarray, noise: np.ndarray, dtype: str
) -> tuple[float, dict[str, np.ndarray]]:
    """Returns eq. 12 of images [B, H, W, C] and noise [T, B, Z], nats per image, and its gradient."""
    device, parameters = peer.canvas_0.device, trained(peer)
    with precision(device, dtype):
        nll, kl = peer(
            torch.tensor(channels_first(x), device=device), torch.tensor(noise, device=device)
        )
    loss = nll + kl
    gradient = torch.autograd.grad(loss, list(parameters.values()))
    arrays = [g.float().cpu().numpy() for g in gradient]
    return loss.item(), dict(zip(parameters, arrays, strict=True))


class Training:
    """A model in training: its optimiser, its moving average and its count of updates."""

    def __init__(
        self,
        peer: TorchDraw,
        config: ConfigDict,
        learning_rates: Sequence[float],
        compiled: str = "",
    ) -> None:
        """Prepares training as a configuration describes it.

        Args:
            peer: the model; its weights are changed in place.
            config: the whole configuration.
            learning_rates: of each update, from the first on.
            compiled: what torch.compile gets: step (one time step), unroll (all of them, in one
                graph) or "" (nothing).
        """
        for name, only in _ONLY.items():
            if config.train[name] != only:
                raise ValueError(f"config.train.{name}: the peer has {only} alone")
        self.config, self.device, self.learning_rates = config, peer.canvas_0.device, learning_rates
        self.forward: Callable[..., Any] = torch.compile(peer) if compiled == "unroll" else peer
        if compiled == "step":
            peer.step = torch.compile(peer.step)  # type: ignore[method-assign]
        self.parameters = list(trained(peer).values())
        self.optimizer = torch.optim.Adam(
            self.parameters, betas=(0.9, config.train.adam_b2), fused=True
        )
        decay = config.train.average_decay
        self.average = [p.detach().clone() for p in self.parameters] if decay else []
        self.count = 0
        self.loss = torch.zeros(())
        self._noise = torch.Generator(self.device).manual_seed(config.seed)

    def stepper(self, images: np.ndarray) -> Callable[[], None]:
        """Returns a call that makes the next training step, to its end on the device.

        Args:
            images: uint8 [B, H, W, C]; they lie on the device before the first step.
        """
        pixels = torch.tensor(channels_first(images), device=self.device)
        shape = (self.config.model.time_steps, len(images), self.config.model.latent_size)

        def step() -> None:
            x = pixels.float() / 255
            if self.config.data.binarization == "dynamic":
                x = torch.bernoulli(x)
            self.update(x, torch.randn(shape, device=self.device, generator=self._noise))
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return step

    def loss_and_gradient(self) -> tuple[float, dict[str, np.ndarray]]:
        """Returns the loss and the clipped gradient of the last update."""
        gradients = (p.grad for p in self.parameters)
        named = {str(i): g.cpu().numpy() for i, g in enumerate(gradients) if g is not None}
        return float(self.loss), named

    def update(self, x: Tensor, noise: Tensor) -> None:
        """Changes the weights by one update; x [B, C, H, W] in [0, 1], noise [T, B, Z]."""
        train = self.config.train
        with precision(self.device, self.config.model.dtype):
            nll, kl = self.forward(x, noise)
        self.optimizer.zero_grad()
        (nll + kl).backward()
        self.loss = (nll + kl).detach()
        if train.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, train.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[self.count]
        self.optimizer.step()
        if self.average:
            decay = min(train.average_decay, (1 + self.count) / (10 + self.count))
            with torch.no_grad():
                for average, parameter in zip(self.average, self.parameters, strict=True):
                    average.lerp_(parameter, 1 - decay)
        self.count += 1
