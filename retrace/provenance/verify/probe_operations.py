"""The operations of the probe, in groups: each yields (name, arrays whose bytes are compared)."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrace.config.data import Synthetic
from scenes import SCENES, generate

Outputs = Iterator[tuple[str, list[np.ndarray]]]

# What PyTorch may hand to MKL's vector library, and the rest of what networks and losses use.
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(torch, name) for name in ("exp", "expm1", "tanh", "sigmoid", "sin", "cos", "tan", "atan")},
    **{name: getattr(torch, name) for name in ("erf", "erfc", "floor", "round", "trunc", "sinh", "cosh")},
}
POSITIVE = ("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "lgamma")
WITHIN_ONE = ("asin", "acos", "erfinv")
LAYERS: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...]], ...] = (
    ("conv3x3", lambda: nn.Conv2d(32, 48, 3, padding=1), (4, 32, 24, 40)),
    ("conv3x3 stride 2", lambda: nn.Conv2d(3, 32, 3, stride=2, padding=1), (4, 3, 48, 80)),
    ("conv1x1", lambda: nn.Conv2d(96, 64, 1), (4, 96, 24, 40)),
    ("conv3x3 dilated", lambda: nn.Conv2d(48, 32, 3, padding=6, dilation=6), (2, 48, 20, 28)),
    ("conv4x4 stride 4", lambda: nn.Conv2d(3, 40, 4, stride=4), (4, 3, 96, 160)),
    ("depthwise 3x3", lambda: nn.Conv2d(40, 40, 3, padding=1, groups=40), (4, 40, 24, 40)),
    ("depthwise 7x7", lambda: nn.Conv2d(40, 40, 7, padding=3, groups=40), (4, 40, 24, 40)),
    ("depthwise 5x5 dilated", lambda: nn.Conv2d(40, 40, 5, padding=4, dilation=2, groups=40), (4, 40, 24, 40)),
    ("transposed conv2x2", lambda: nn.ConvTranspose2d(32, 16, 2, stride=2), (4, 32, 12, 20)),
    ("average pooling", lambda: nn.AdaptiveAvgPool2d(1), (4, 96, 24, 40)),
    ("max pooling", lambda: nn.MaxPool2d(3, 2, 1), (4, 96, 24, 40)),
    ("batch norm", lambda: nn.BatchNorm2d(40), (4, 40, 24, 32)),
    ("group norm", lambda: nn.GroupNorm(8, 40), (4, 40, 24, 32)),
)
ACTIVATIONS = (nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.Softplus, nn.Mish, nn.LeakyReLU)


def fixed(*shape: int, seed: int = 0) -> Tensor:
    """float32 [*shape] in [-2, 2), multiples of 2**-14."""
    raw = np.random.Generator(np.random.PCG64(seed)).integers(-(2**15), 2**15, shape, dtype=np.int32)
    return torch.from_numpy(raw.astype(np.float32) * np.float32(2.0**-14))


def arrays(*tensors: Tensor | None) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors if tensor is not None]


def elementwise() -> Outputs:
    """Functions of one number, in both precisions, contiguous and not."""
    for name, function, values in _functions():
        for precise in (False, True):
            x = values.double() if precise else values
            kind = "float64" if precise else "float32"
            yield f"{name} {kind}", arrays(function(x), function(x[:, ::3]))
    base, exponents = fixed(200, 301).abs() + 0.25, fixed(200, 301, seed=1)
    yield "pow of tensors", arrays(base.pow(exponents))
    for exponent in (0.5, -0.5, 1.7, 2, 3, 0.45):
        yield f"pow {exponent}", arrays(base.pow(exponent))
    yield "atan2 hypot", arrays(torch.atan2(base, exponents), torch.hypot(base, exponents))


def _functions() -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor]]:
    values = fixed(61, 257)
    for name, function in UNARY.items():
        yield name, function, values
    for name in POSITIVE:
        yield name, getattr(torch, name), values.abs() + 0.125
    for name in WITHIN_ONE:
        yield name, getattr(torch, name), values * 0.49


def reductions() -> Outputs:
    """Sums, means, norms, sorting and softmax."""
    a = fixed(257, 1031)
    yield "sum", arrays(a.sum(), a.sum(1), a.double().sum(0), a.sum(0, keepdim=True))
    yield "mean", arrays(a.mean(), a.mean(0), a.mean(1))
    yield "var and std", arrays(a.var(), a.var(1), a.std(0))
    yield "norm", arrays(a.norm(), a.norm(dim=1), torch.linalg.vector_norm(a, dim=0))
    yield "total norm of gradients", arrays(nn.utils.get_total_norm([a, fixed(33, 7), fixed(40)]))
    yield "softmax", arrays(a.softmax(1), a.softmax(0), a.log_softmax(1), a.logsumexp(0))
    yield "cumsum cumprod", arrays(a.cumsum(1), (a * 0.5 + 1).cumprod(1))
    yield "sort topk", arrays(*a.sort(1), *a.topk(20, 1))


def products() -> Outputs:
    """Matrix products and linear layers with their gradients, PyTorch's and NumPy's."""
    for m, k, n in ((64, 64, 64), (8, 1000, 10), (257, 1031, 129), (1024, 160, 640), (3, 7, 5), (1, 960, 1280)):
        left, right = fixed(m, k), fixed(k, n, seed=1)
        yield f"matmul {m}x{k}x{n}", arrays(left @ right, (left.double() @ right.double()))
        yield (
            f"numpy matmul {m}x{k}x{n}",
            [left.numpy() @ right.numpy(), left.double().numpy() @ right.double().numpy()],
        )
    yield "batched matmul", arrays(fixed(12, 50, 64) @ fixed(12, 64, 50, seed=1))
    query, key, value = (fixed(2, 4, 50, 32, seed=seed) for seed in range(3))
    yield "attention", arrays(F.scaled_dot_product_attention(query, key, value))
    for shape in ((300, 160), (4, 24, 32, 160)):
        yield from _layer(f"linear {len(shape)}d", nn.Linear(160, 640), fixed(*shape))
    yield from _layer("layer norm", nn.LayerNorm(160), fixed(4, 24, 32, 160))
    yield "least squares", arrays(torch.linalg.lstsq(fixed(40, 6).double(), fixed(40, 1, seed=1).double()).solution)
    square = fixed(30, 30).double() + 8 * torch.eye(30, dtype=torch.float64)
    yield "solve", [np.linalg.solve(square.numpy(), fixed(30, 2, seed=1).double().numpy())]


def layers() -> Outputs:
    """Convolutions, pooling, normalization and activations with their gradients, in both memory layouts."""
    for name, make, shape in LAYERS:
        for format, tag in ((torch.channels_last, "nhwc"), (torch.contiguous_format, "nchw")):
            layer = make().to(memory_format=format)
            yield from _layer(f"{name} {tag}", layer, fixed(*shape).contiguous(memory_format=format))
    for activation in ACTIVATIONS:
        yield from _layer(activation.__name__, activation(), fixed(4, 40, 24, 32))
    for mode in ("bilinear", "nearest"):
        x = fixed(2, 5, 12, 20).requires_grad_()
        y = F.interpolate(x, size=(96, 160), mode=mode, align_corners=False if mode == "bilinear" else None)
        y.backward(fixed(*y.shape, seed=3))
        yield f"interpolate {mode}", arrays(y, x.grad)
    image = (fixed(3, 97, 143, seed=5) * 60 + 128).to(torch.uint8)
    smaller = F.interpolate(image[None], size=(50, 71), mode="bilinear", antialias=True)
    yield "resize of an image", arrays(smaller, F.interpolate(image[None].float(), (50, 71), mode="area"))


def _layer(name: str, layer: nn.Module, x: Tensor) -> Outputs:
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(fixed(*parameter.shape, seed=100 + index) * 0.125)
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(fixed(*y.shape, seed=7))
    yield f"{name} forward", arrays(y)
    yield f"{name} gradients", arrays(x.grad, *(parameter.grad for parameter in layer.parameters()))


def training() -> Outputs:
    """Losses, optimizers and random numbers."""
    z = fixed(4, 19, 24, 40).requires_grad_()
    target = torch.from_numpy(np.arange(4 * 24 * 40, dtype=np.int64).reshape(4, 24, 40) % 19)
    loss = F.cross_entropy(z, target, reduction="none")
    loss.mean().backward()
    yield "cross entropy", arrays(loss, z.grad)
    logits = fixed(200, 4).requires_grad_()
    loss = F.binary_cross_entropy_with_logits(logits, (fixed(200, 4, seed=1) > 0).float()) + F.smooth_l1_loss(
        logits, fixed(200, 4, seed=2)
    )
    loss.backward()
    yield "binary cross entropy, smooth L1", arrays(loss, logits.grad)
    for fused in (True, False):
        for name, make in OPTIMIZERS.items():
            parameter = nn.Parameter(fixed(1000, 33))
            optimizer = make([parameter], fused)
            for step in range(3):
                parameter.grad = fixed(1000, 33, seed=step + 9)
                optimizer.step()
            yield f"{name} {'fused' if fused else 'plain'}", arrays(parameter)
    generator = torch.Generator().manual_seed(3)
    drawn = [draw(1000, generator=generator) for draw in (torch.randn, torch.rand, torch.randperm)]
    drawn.append(torch.empty(64, 32, 3, 3).normal_(generator=generator))
    yield "random numbers", arrays(*drawn)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], bool], torch.optim.Optimizer]] = {
    "AdamW": lambda parameters, fused: torch.optim.AdamW(parameters, 1e-3, fused=fused),
    "SGD": lambda parameters, fused: torch.optim.SGD(parameters, 1e-2, momentum=0.9, weight_decay=1e-4, fused=fused),
}


def statistics() -> Outputs:
    """NumPy and SciPy, as the drawings, the split and the intervals use them."""
    x = fixed(200, 301).double().numpy()
    single = x.astype(np.float32)
    positive = np.abs(x) + 0.125
    yield "numpy functions of float64", [np.exp(x), np.log(positive), np.sin(x), np.cos(x), np.arctan2(x, positive)]
    yield "numpy powers", [np.sqrt(positive), positive**1.7, np.hypot(x, positive), np.tanh(x), np.cbrt(x)]
    yield "numpy functions of float32", [np.exp(single), np.log(np.abs(single) + 1), np.sin(single), np.tanh(single)]
    yield "numpy sums", [x.sum(), x.sum(0), x.mean(1), x.std(0), single.sum(), single.mean(0), np.cumsum(x, 1)]
    yield "numpy quantiles, sorting", [np.quantile(x, [0.025, 0.5, 0.975], axis=0), np.argsort(single, kind="stable")]
    yield "numpy einsum, dot", [np.einsum("ij,kj->ik", x, x), x[0] @ x[1], np.linalg.norm(x, axis=1)]
    generator = np.random.default_rng(5)
    yield (
        "numpy random numbers",
        [generator.normal(size=999), generator.gamma(2.0, size=99), generator.integers(9, size=9)],
    )
    from scipy import fft, ndimage, optimize, stats

    yield "scipy distributions", [np.asarray(stats.t.isf(0.05, [3, 17])), np.asarray(stats.norm.ppf([0.01, 0.4]))]
    yield "scipy cosine transform", [fft.dct(x, axis=0), ndimage.gaussian_filter(single, 1.3)]
    limits = optimize.LinearConstraint(np.abs(single[:6, :20]), -np.inf, 12.5)
    program = optimize.milp(
        -positive[7, :20], constraints=limits, integrality=np.ones(20), bounds=optimize.Bounds(0, 3)
    )
    yield "scipy mixed-integer program", [program.x]


def images() -> Outputs:
    """Resizing, warping, drawing and codecs of OpenCV and Pillow, on which image bytes depend."""
    cv2.setNumThreads(0)
    drawn = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (333, 517, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(drawn, (0, 0), 2.3)
    single, grid = drawn.astype(np.float32), fixed(5, 7).numpy()
    turn = np.array([[1.1, 0.2, 3], [0.1, 0.9, 5]], np.float32)
    tilt = np.array([[1.1, 0.2, 3], [0.1, 0.9, 5], [1e-4, 2e-4, 1]], np.float32)
    for name, mode in (("linear", cv2.INTER_LINEAR), ("area", cv2.INTER_AREA), ("cubic", cv2.INTER_CUBIC)):
        for size in ((200, 100), (800, 700)):
            results = [cv2.resize(source, size, interpolation=mode) for source in (drawn, single, grid)]
            yield f"opencv resize {name} to {size[0]}x{size[1]}", results
    yield (
        "opencv warps",
        [
            *(cv2.warpAffine(source, turn, (400, 300)) for source in (drawn, single)),
            *(cv2.warpPerspective(source, tilt, (400, 300)) for source in (drawn, single)),
            _remapped(drawn),
            _remapped(single),
        ],
    )
    yield "opencv blur of bytes", [smooth]
    yield "opencv colors", [cv2.cvtColor(drawn, code) for code in (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)]
    jpeg, png = (cv2.imencode(kind, smooth)[1] for kind in (".jpg", ".png"))
    yield "opencv codecs", [jpeg, png, np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))]
    from PIL import Image
    from torchvision.io import decode_image

    picture, content = Image.fromarray(smooth), io.BytesIO()
    picture.save(content, "JPEG", quality=92)
    yield "pillow", [np.asarray(picture.resize((200, 100))), np.frombuffer(content.getvalue(), np.uint8)]
    yield "torchvision decoding", arrays(decode_image(torch.from_numpy(np.ravel(jpeg).copy())))


def _remapped(source: np.ndarray) -> np.ndarray:
    across = np.tile(np.linspace(0, 500, 400, dtype=np.float32), (300, 1))
    down = np.tile(np.linspace(0, 300, 300, dtype=np.float32)[:, None], (1, 400))
    return cv2.remap(source, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def scenes() -> Outputs:
    """One small data set of each embedded generator, as written to disk: pictures, labels, videos and lists."""
    for name in sorted(SCENES):
        with TemporaryDirectory() as parent:
            folder = Path(parent) / name
            counts = {"train": 2, "val": 1, "test": 1, "unlabeled": 12 if name == "lanes" else 0}
            generate(Synthetic(scene=name, seed=7, height=64, width=96, **counts), folder, workers=1)  # type: ignore[arg-type]
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            yield f"scene {name}", [np.frombuffer(file.read_bytes(), np.uint8) for file in files]


GROUPS: Iterable[Callable[[], Outputs]] = (
    elementwise,
    reductions,
    products,
    layers,
    training,
    statistics,
    images,
    scenes,
)
