"""DRAW in slow NumPy loops, float64, written from the paper's equations and nothing else.

Equation numbers are those of Gregor et al. 2015, arXiv 1502.04623. One example at a time: no batch
axis, no vectorisation, no gradient. Only two things come from the package under test: where its
parameter tree keeps which number (`Parameters`), and the order in which it packs the gates of an
LSTM (i, f, o, g) and the outputs that are linear in h_dec (what to write, eq. 21 of the write, eq.
21 of the read).
"""

import math
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """The five attention parameters of eq. 21, in pixels numbered 1..A and 1..B."""

    g_x: float
    g_y: float
    sigma_sq: float
    delta: float
    gamma: float


def window(raw, glimpse_size, height, width):
    """Returns the window of five network outputs [5], eqs 21-24; A = width, B = height."""
    assert len(raw) == 5
    return Window(
        g_x=(width + 1) / 2 * (float(raw[0]) + 1),  # eq. 22
        g_y=(height + 1) / 2 * (float(raw[1]) + 1),  # eq. 23
        sigma_sq=math.exp(raw[2]),
        delta=(max(width, height) - 1) / (glimpse_size - 1) * math.exp(raw[3]),  # eq. 24
        gamma=math.exp(raw[4]),
    )


def centre(g, i, glimpse_size, delta):
    """Returns the centre of filter i = 1..N on one axis, eq. 19 (eq. 20 alike)."""
    assert 1 <= i <= glimpse_size
    return g + (i - glimpse_size / 2 - 0.5) * delta


def filters(g, delta, sigma_sq, glimpse_size, pixels):
    """Returns one axis' filters [N, pixels], eqs 19 and 25 (eqs 20 and 26 alike).

    Numerator and normaliser are both divided by the largest numerator, which changes nothing but
    keeps float64 from 0 / 0 where the window lies far outside.
    """
    result = np.zeros((glimpse_size, pixels))
    for i in range(1, glimpse_size + 1):
        mu = centre(g, i, glimpse_size, delta)
        exponents = [-((a - mu) ** 2) / (2 * sigma_sq) for a in range(1, pixels + 1)]
        numerators = [math.exp(exponent - max(exponents)) for exponent in exponents]
        z = sum(numerators)
        for a in range(1, pixels + 1):
            result[i - 1, a - 1] = numerators[a - 1] / z
    return result


def filterbanks(window, glimpse_size, height, width):
    """Returns F_X [N, width] and F_Y [N, height], eqs 19, 20, 25 and 26."""
    f_x = filters(window.g_x, window.delta, window.sigma_sq, glimpse_size, width)
    f_y = filters(window.g_y, window.delta, window.sigma_sq, glimpse_size, height)
    return f_x, f_y


def read(image, window, glimpse_size):
    """Returns gamma F_Y image F_X^T, eq. 27 for one of its two images; [H, W, C] -> [N, N, C]."""
    height, width, channels = image.shape
    f_x, f_y = filterbanks(window, glimpse_size, height, width)
    glimpse = np.zeros((glimpse_size, glimpse_size, channels))
    for j in range(glimpse_size):
        for i in range(glimpse_size):
            for b in range(height):
                for a in range(width):
                    for c in range(channels):
                        glimpse[j, i, c] += f_y[j, b] * float(image[b, a, c]) * f_x[i, a]
    return window.gamma * glimpse


def write(patch, window, height, width):
    """Returns 1/gamma F_Y^T patch F_X, eq. 29; [N, N, C] -> [height, width, C]."""
    glimpse_size, _, channels = patch.shape
    f_x, f_y = filterbanks(window, glimpse_size, height, width)
    image = np.zeros((height, width, channels))
    for b in range(height):
        for a in range(width):
            for j in range(glimpse_size):
                for i in range(glimpse_size):
                    for c in range(channels):
                        image[b, a, c] += f_y[j, b] * float(patch[j, i, c]) * f_x[i, a]
    return image / window.gamma


def sigmoid(x):
    """Returns the logistic function, the paper's sigma(x)."""
    return 1 / (1 + math.exp(-x))


def linear(x, kernel, bias):
    """Returns L(x), the linear maps of eqs 1, 2, 18, 21 and 28: x [n] -> [m]."""
    n, m = kernel.shape
    assert len(x) == n and len(bias) == m
    result = [float(b) for b in bias]
    for k in range(m):
        for j in range(n):
            result[k] += float(x[j]) * float(kernel[j, k])
    return result


def lstm_gates(gates, cell_tm1):
    """Returns h_t and the cell state from the four gates before their non-linearities, [4 n].

    The LSTM with forget gates of eqs 5 and 7 (Gers et al. 2000), no peepholes.
    """
    n = len(cell_tm1)
    assert len(gates) == 4 * n
    h, cell = [], []
    for k in range(n):
        i, f, o = (sigmoid(gates[gate * n + k]) for gate in range(3))
        g = math.tanh(gates[3 * n + k])
        cell.append(f * cell_tm1[k] + i * g)
        h.append(o * math.tanh(cell[k]))
    return h, cell


def lstm(inputs, h_tm1, cell_tm1, kernel, bias):
    """Returns h_t and the cell state of one LSTM step, eq. 5 or 7, from plain lists."""
    return lstm_gates(linear([*inputs, *h_tm1], kernel, bias), cell_tm1)


def bernoulli_nll(logits, targets):
    """Returns -log D(x | c_T), eq. 9, nats; arrays of one shape, summed over everything."""
    total = 0.0
    for logit, x in zip(np.ravel(logits), np.ravel(targets), strict=True):
        p = sigmoid(float(logit))
        total -= float(x) * math.log(p) + (1 - float(x)) * math.log(1 - p)
    return total


def gaussian_kl(mean, log_std):
    """Returns eq. 11 for one step, nats: its -T/2 per latent dimension is -1/2 here."""
    total = 0.0
    for mu, log_sigma in zip(mean, log_std, strict=True):
        sigma_sq = math.exp(float(log_sigma)) ** 2
        total += 0.5 * (float(mu) ** 2 + sigma_sq - math.log(sigma_sq)) - 0.5
    return total


class Parameters(NamedTuple):
    """The numbers of one model, plain float64 arrays."""

    canvas_0: np.ndarray  # c_0 [H, W, C]
    h_enc_0: np.ndarray
    cell_enc_0: np.ndarray
    h_dec_0: np.ndarray
    cell_dec_0: np.ndarray
    encoder: tuple[np.ndarray, np.ndarray]  # kernel, bias
    decoder: tuple[np.ndarray, np.ndarray]
    posterior: tuple[np.ndarray, np.ndarray]  # mean and log std, eqs 1 and 2
    heads: tuple[np.ndarray, np.ndarray]  # eqs 18 or 28, 21 (write), 21 (read)


def parameters(variables):
    """Returns the Parameters of {"params": ...}."""
    cell = variables["params"]["cell"]

    def array(x):
        return np.asarray(x, np.float64)

    def pair(x):
        return array(x["kernel"]), array(x["bias"])

    return Parameters(
        **{name: array(cell[name]) for name in Parameters._fields if name.endswith("_0")},
        encoder=pair(cell["encoder"]["gates"]),
        decoder=pair(cell["decoder"]["gates"]),
        posterior=pair(cell["posterior"]),
        heads=pair(cell["heads"]),
    )


class State(NamedTuple):
    """What time step t hands to t + 1."""

    canvas: np.ndarray  # c_t [H, W, C]
    h_enc: list[float]
    cell_enc: list[float]
    h_dec: list[float]
    cell_dec: list[float]


class Step(NamedTuple):
    """What one time step shows."""

    canvas: np.ndarray
    read_window: Window | None
    write_window: Window | None
    mean: list[float]
    log_std: list[float]
    z: list[float]
    kl: float


def heads(p, h_dec, shape, read_size, write_size):
    """Returns w_t of eq. 18 or 28 and the raw windows of eq. 21: write [5 or 0], read [5 or 0]."""
    height, width, channels = shape
    patch_shape = (write_size, write_size, channels) if write_size else (height, width, channels)
    n = math.prod(patch_shape)
    out = linear(h_dec, *p.heads)
    assert len(out) == n + (5 if write_size else 0) + (5 if read_size else 0)
    patch = np.zeros(patch_shape)
    for k, index in enumerate(np.ndindex(*patch_shape)):  # rows, columns, channels
        patch[index] = out[k]
    write_raw = out[n : n + 5] if write_size else []
    return patch, write_raw, out[n + len(write_raw) :]


def draw_step(
    p, state, x, eps, read_size, write_size, privy=True, error_alone=False, reader=None, features=()
):
    """Returns the next State and the Step, eqs 3-8, for one image [H, W, C] and eps [Z].

    The follow-up study's changes of what the encoder is given: `privy` False leaves h_dec_{t-1}
    out, `error_alone` the image, `reader` makes a list of numbers of what is read, and `features`
    are more numbers.
    """
    height, width, channels = x.shape
    x_err = np.zeros(x.shape)
    for b in range(height):
        for a in range(width):
            for c in range(channels):
                x_err[b, a, c] = float(x[b, a, c]) - sigmoid(state.canvas[b, a, c])  # eq. 3

    _, _, read_raw = heads(p, state.h_dec, x.shape, read_size, write_size)  # of h_dec_{t-1}
    read_window = None
    glimpses = [x, x_err]  # eq. 17
    if read_size:
        read_window = window(read_raw, read_size, height, width)
        glimpses = [read(image, read_window, read_size) for image in glimpses]  # eq. 27
    if error_alone:
        glimpses = glimpses[1:]
    r = [float(value) for glimpse in glimpses for value in np.ravel(glimpse)]  # eq. 4
    if reader:
        r = reader(glimpses)

    inputs = [*r, *features, *(state.h_dec if privy else [])]
    h_enc, cell_enc = lstm(inputs, state.h_enc, state.cell_enc, *p.encoder)  # eq. 5
    out = linear(h_enc, *p.posterior)
    mean, log_std = out[: len(eps)], out[len(eps) :]  # eqs 1, 2
    z = [m + math.exp(s) * float(e) for m, s, e in zip(mean, log_std, eps, strict=True)]  # eq. 6
    h_dec, cell_dec = lstm(z, state.h_dec, state.cell_dec, *p.decoder)  # eq. 7

    patch, write_raw, _ = heads(p, h_dec, x.shape, read_size, write_size)
    write_window = None
    written = patch  # eq. 18
    if write_size:
        write_window = window(write_raw, write_size, height, width)
        written = write(patch, write_window, height, width)  # eq. 29
    canvas = state.canvas + written  # eq. 8
    kl = gaussian_kl(mean, log_std)
    step = Step(canvas, read_window, write_window, mean, log_std, z, kl)
    return State(canvas, h_enc, cell_enc, h_dec, cell_dec), step


def unroll(variables, x, eps, read_size, write_size, **changes):
    """Returns the reconstruction loss (eq. 9) and every Step of one image [H, W, C], eps [T, Z].

    `changes` are those of `draw_step`.
    """
    p = parameters(variables)
    state = State(
        p.canvas_0, *(list(s) for s in (p.h_enc_0, p.cell_enc_0, p.h_dec_0, p.cell_dec_0))
    )
    steps = []
    for t in range(len(eps)):
        state, step = draw_step(p, state, x, eps[t], read_size, write_size, **changes)
        steps.append(step)
    return bernoulli_nll(state.canvas, x), steps


def strided(maps, kernel, bias, stride):
    """Returns max(0, maps * kernel + bias) at every stride-th pixel, [H, W, C] -> [h, w, D].

    The kernel [N, N, C, D] of odd N is centred on its pixel; beyond the edges everything is 0.
    """
    height, width, channels = maps.shape
    size = kernel.shape[0]
    rows, columns = range(0, height, stride), range(0, width, stride)
    result = np.zeros((len(rows), len(columns), len(bias)))
    for y, x, d in np.ndindex(*result.shape):
        total = float(bias[d])
        for j, i, c in np.ndindex(size, size, channels):
            row, column = rows[y] + j - size // 2, columns[x] + i - size // 2
            if 0 <= row < height and 0 <= column < width:
                total += float(maps[row, column, c]) * float(kernel[j, i, c, d])
        result[y, x, d] = max(0.0, total)
    return result


def strided_layers(maps, layers, stride):
    """Returns the maps of the last of {"layer_1": {"kernel", "bias"}, ...}."""
    for number in range(1, len(layers) + 1):
        layer = layers[f"layer_{number}"]
        maps = strided(maps, np.asarray(layer["kernel"]), np.asarray(layer["bias"]), stride)
    return maps


class Glimpse(NamedTuple):
    """What one time step of the classifier shows."""

    window: Window
    logits: list[float]


def classify(variables, x, time_steps, read_size, classes, scales, max_gamma, first=None):
    """Returns every Glimpse of one image [H, W, C]: section 4.1, with the read of eqs 21-27.

    It begins from `first`, a pair (h, cell) of lists, else from the learned state.

    The window of step t is linear in h_{t-1}. Ours, not the paper's: the bound of gamma, and
    further grids about the same centre, grid k 2^k times as wide and as blurred as the first.
    """
    params = variables["params"]
    heads, gates = (
        [np.asarray(layer[name], np.float64) for name in ("kernel", "bias")]
        for layer in (params["heads"], params["lstm"]["gates"])
    )
    h, cell = first or ([float(value) for value in params[name]] for name in ("h_0", "cell_0"))
    height, width, _ = x.shape
    glimpses = []
    for _ in range(time_steps):
        raw = linear(h, *heads)[classes:]  # eq. 21
        first = window(raw, read_size, height, width)
        if max_gamma:
            first = first._replace(gamma=1 / (1 / first.gamma + 1 / max_gamma))
        seen = []
        for k in range(scales):
            wider = first._replace(
                delta=2**k * first.delta, sigma_sq=(2**k * math.sqrt(first.sigma_sq)) ** 2
            )
            seen.append(read(x, wider, read_size))  # eq. 27
        flat = [float(value) for maps in seen for value in np.ravel(maps)]
        h, cell = lstm(flat, h, cell, *gates)
        glimpses.append(Glimpse(first, linear(h, *heads)[:classes]))
    return glimpses


def context(variables, x, pool, stride):
    """Returns the first (h, cell) of one image [H, W, C], by convolutions of its coarse form: ours."""
    params = variables["params"]
    height, width, channels = x.shape
    blocks = math.ceil(height / pool), math.ceil(width / pool)
    coarse = np.zeros((*blocks, channels))
    for row, column, channel in np.ndindex(*x.shape):
        share = float(x[row, column, channel]) / (pool * pool)
        coarse[row // pool, column // pool, channel] += share
    maps = strided_layers(coarse, params["context"], stride)
    told = linear([float(value) for value in np.ravel(maps)], *_pair(params["context_state"]))
    learned = [*map(float, params["h_0"]), *map(float, params["cell_0"])]
    state = [a + b for a, b in zip(learned, told, strict=True)]
    half = len(told) // 2
    return [math.tanh(value) for value in state[:half]], state[half:]


def named(variables, x, seen, read_size, fine_size, stride):
    """Returns the logits of a convolutional net that reads an image anew through a window: ours.

    It reads with `fine_size` filters an axis as far as `read_size` of them reach, each as much
    sharper as they are nearer.
    """
    params = variables["params"]
    ratio = (read_size - 1) / (fine_size - 1)
    finer = seen._replace(delta=ratio * seen.delta, sigma_sq=ratio * ratio * seen.sigma_sq)
    maps = strided_layers(read(x, finer, fine_size), params["convolutions"], stride)
    hidden = linear([float(value) for value in np.ravel(maps)], *_pair(params["hidden"]))
    return linear(rectified(hidden), *_pair(params["classification"]))


# --- the baselines of Table 1: Mnih et al. 2014, arXiv 1406.6247


def log_probabilities(logits):
    """Log of the softmax, nats, of logits [K]."""
    total = math.log(sum(math.exp(float(v)) for v in logits))
    return np.array([float(v) - total for v in logits])


def rectified(values):
    """Returns the positive part of each value of a list."""
    return [max(0.0, float(value)) for value in values]


def convnet(variables, image, stride):
    """Returns the logits of one image [H, W, C]: filters, units, classes."""
    kernel, bias = _pair(variables["params"]["convolution"])  # [n, n, C, filters], [filters]
    size, _, channels, filters = kernel.shape
    height, width, _ = image.shape
    features = []
    for top in range(0, height - size + 1, stride):
        for left in range(0, width - size + 1, stride):
            for k in range(filters):
                total = bias[k]
                for y in range(size):
                    for x in range(size):
                        for c in range(channels):
                            total += float(image[top + y, left + x, c]) * kernel[y, x, c, k]
                features.append(total)
    hidden = linear(rectified(features), *_pair(variables["params"]["hidden"]))
    return linear(rectified(hidden), *_pair(variables["params"]["classification"]))


def retina(image, location, size, scales):
    """Returns the patches [scales, size, size, C] about a location (x, y) in [-1, 1], by pixels."""
    height, width, channels = image.shape
    result = np.zeros((scales, size, size, channels))
    for k in range(scales):
        side = size * 2**k  # pixels of the patch, from this one on, halves rounded up
        left = math.floor((location[0] + 1) / 2 * width - side / 2 + 0.5)
        top = math.floor((location[1] + 1) / 2 * height - side / 2 + 0.5)
        for y in range(side):
            for x in range(side):
                if 0 <= top + y < height and 0 <= left + x < width:  # black outside
                    for c in range(channels):
                        pixel = float(image[top + y, left + x, c])
                        result[k, y // 2**k, x // 2**k, c] += pixel / 4**k
    return result


class RamGlimpse(NamedTuple):
    """What one glimpse of RAM left: see `ram`."""

    logits: list[float]
    h: list[float]  # after it
    location: list[float]
    mean: list[float]  # that the location was drawn about
    baseline: float  # before it


def ram(variables, image, noise, size, scales, std, rate):
    """Returns the Glimpses of one image [H, W, C] from standard normal noise [T, 2]."""
    nets = {name: _pair(net) for name, net in variables["params"].items()}
    h = [0.0] * len(nets["core"][1])
    mean, baseline = [0.0, 0.0], 0.0
    glimpses = []
    for t in range(len(noise)):
        if t == 0:  # the normal distribution function makes it uniform
            location = [math.erf(float(e) / math.sqrt(2)) for e in noise[t]]
        else:
            location = [m + std * float(e) for m, e in zip(mean, noise[t], strict=True)]
        place = [min(max(coordinate, -1.0), 1.0) for coordinate in location]
        seen = np.ravel(retina(image, place, size, scales))
        h_g = rectified(linear(seen, *nets["patches"]))
        h_l = rectified(linear(place, *nets["place"]))
        g = rectified(linear([*h_g, *h_l], *nets["glimpse"]))
        h = rectified(linear([*g, *h], *nets["core"]))
        logits = linear(h, *nets["classification"])
        glimpses.append(RamGlimpse(logits, h, location, mean, baseline))
        mean = [rate * value for value in linear(h, *nets["location"])]
        (baseline,) = linear(h, *nets["baseline"])
    return glimpses


def score(location, mean, std):
    """Returns the gradient by the mean of log N(location; mean, std^2), of two coordinates."""
    return [(value - m) / std**2 for value, m in zip(location, mean, strict=True)]


def _pair(net):
    """Returns the kernel and the bias of a layer in float64."""
    return np.asarray(net["kernel"], np.float64), np.asarray(net["bias"], np.float64)
