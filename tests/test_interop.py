"""PyTorch modules beside PyTorch itself and beside the same networks written in plain JAX."""

import importlib.metadata
import importlib.util
import itertools
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg
from jaxgeo.interop import bridge as bridging
from jaxgeo.interop import from_torch
from jaxgeo.likelihoods import Gaussian

torch = pytest.importorskip("torch")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed", allow_module_level=True)
nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

A, B = np.array([0.3, -0.4]), np.array([-0.5, 0.6])
DTYPES = {"float32": 1e-5, "float64": 1e-10}
"""How far two programs of the same network may differ."""


class Function(nn.Module):
    """A function of the module and a batch as a module, with attributes."""

    def __init__(self, forward, **attributes):
        super().__init__()
        self.function = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def perceptron():
    torch.manual_seed(0)
    activations = [nn.Tanh(), nn.Softplus(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.Sigmoid()]
    layers = [nn.Linear(n, 16) for n in (2, *[16] * (len(activations) - 1))]
    hidden = itertools.chain.from_iterable(zip(layers, activations, strict=True))
    return nn.Sequential(*hidden, nn.Linear(16, 12))


def convolutional():
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.copy_(torch.linspace(-0.2, 0.3, 6))
    norm.running_var.copy_(torch.linspace(0.5, 2.0, 6))
    return nn.Sequential(
        *(nn.Linear(2, 36), nn.Unflatten(1, (4, 3, 3)), nn.ConvTranspose2d(4, 6, 4, 2, 1), norm),
        *(nn.SiLU(), nn.Dropout(0.5), nn.Upsample(scale_factor=2), nn.Conv2d(6, 1, 3, padding=1)),
        *(nn.Tanh(), nn.Flatten()),
    )


def perceptron_in_jax(w, z):
    activations = (
        jnp.tanh,
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: x * (1 + jax.scipy.special.erf(x / 2**0.5)) / 2,
        lambda x: x / (1 + jnp.exp(-x)),
        lambda x: jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0)) - 1),
        lambda x: 1 / (1 + jnp.exp(-x)),
        lambda x: x,
    )
    for k, activation in enumerate(activations):
        z = activation(w[f"{2 * k}.weight"] @ z + w[f"{2 * k}.bias"])
    return z


def convolutional_in_jax(w, z):
    """A transposed convolution is the adjoint of a convolution: JAX transposes that."""

    def convolution(x, kernel, stride):
        return jax.lax.conv_general_dilated(x[None], kernel, (stride, stride), [(1, 1)] * 2)[0]

    x = (w["0.weight"] @ z + w["0.bias"]).reshape(4, 3, 3)
    image = jax.ShapeDtypeStruct((6, 6, 6), z.dtype)
    (x,) = jax.linear_transpose(lambda y: convolution(y, w["2.weight"], 2), image)(x)
    per_channel = {name: w[name][:, None, None] for name in w if w[name].shape == (6,)}
    x = x + per_channel["2.bias"] - per_channel["3.running_mean"]
    x = x / jnp.sqrt(per_channel["3.running_var"] + 1e-5)
    x = x * per_channel["3.weight"] + per_channel["3.bias"]
    x = x / (1 + jnp.exp(-x))
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return jnp.tanh(convolution(x, w["7.weight"], 1) + w["7.bias"][:, None, None]).ravel()


NETWORKS = {
    "perceptron": (perceptron, perceptron_in_jax),
    "convolutional": (convolutional, convolutional_in_jax),
}
CASES = [(name, dtype) for name in NETWORKS for dtype in DTYPES]


def three(name, dtype):
    """The module, what it is translated to, and the network written by hand."""
    make, by_hand = NETWORKS[name]
    module = make().to(getattr(torch, dtype))
    decoder = from_torch(module, A.astype(dtype))
    weights = {key: jnp.array(tensor.numpy()) for key, tensor in module.state_dict().items()}
    return module.eval(), decoder, jax.tree_util.Partial(by_hand, weights)


def tensor(array, dtype):
    return torch.tensor(np.asarray(array, dtype))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_values_and_derivatives_are_those_of_pytorch(name, dtype):
    module, decoder, by_hand = three(name, dtype)

    def of_torch(x):
        return module(x[None])[0]

    z, v = jnp.asarray(B, dtype), jnp.asarray([0.6, 0.8], dtype)
    w = jnp.linspace(-1, 1, 12 if name == "perceptron" else 144, dtype=dtype)
    x, u, y = tensor(z, dtype), tensor(v, dtype), tensor(w, dtype)
    ours = jax.jit(
        lambda f: (
            *jax.jvp(f, (z,), (v,)),
            jax.vjp(f, z)[1](w)[0],
            jax.hessian(f)(z),
            jg.PullbackMetric(f)(z),
        )
    )
    jacobian = torch.func.jacrev(of_torch)(x)
    theirs = (
        *torch.func.jvp(of_torch, (x,), (u,)),
        torch.func.vjp(of_torch, x)[1](y)[0],
        torch.func.hessian(of_torch)(x),
        jacobian.T @ jacobian,
    )
    for mine, other, written in zip(ours(decoder), theirs, ours(by_hand), strict=True):
        assert mine.dtype == dtype
        scale = DTYPES[dtype] * float(jnp.max(jnp.abs(mine)))
        np.testing.assert_allclose(mine, other.detach().numpy(), atol=scale, rtol=0)
        np.testing.assert_allclose(mine, written, atol=scale, rtol=0)


@pytest.mark.parametrize(
    ("name", "dtype"), [("perceptron", "float64"), ("convolutional", "float32")]
)
def test_metric_and_geodesic_are_those_of_the_network_written_by_hand(name, dtype):
    module, decoder, by_hand = three(name, dtype)
    a, b = jnp.asarray(A, dtype), jnp.asarray(B, dtype)

    def geodesic(decoder):
        metric = jg.PullbackMetric(decoder)
        return metric(a), jg.geodesic_bvp(metric, a, b, solver=jg.FixedPoint(64))

    (metric, solution), (metric_by_hand, expected) = geodesic(decoder), geodesic(by_hand)
    np.testing.assert_allclose(metric, metric_by_hand, rtol=DTYPES[dtype])
    assert bool(solution.result == jg.RESULTS.successful)
    assert solution.points.dtype == dtype
    np.testing.assert_allclose(solution.points, expected.points, atol=DTYPES[dtype])
    lengths = solution.stats["length"], expected.stats["length"]
    np.testing.assert_allclose(*lengths, rtol=DTYPES[dtype])

    with torch.no_grad():
        module[0].weight.mul_(1.1)  # as training would
    trained = decoder.with_weights(module)
    with jax.no_tracing():
        moved = jg.geodesic_bvp(jg.PullbackMetric(trained), a, b, solver=jg.FixedPoint(64))
    assert not np.allclose(moved.points, solution.points, atol=1e-4)


def test_vmap_is_a_loop_and_jit_changes_nothing():
    decoder = from_torch(convolutional().double(), A)
    points = jnp.stack([jnp.array(A), jnp.array(B), jnp.zeros(2)])
    together = jax.vmap(decoder)(points)
    np.testing.assert_allclose(together, jnp.stack([decoder(z) for z in points]), atol=1e-14)
    np.testing.assert_allclose(together[0], jax.jit(lambda z: decoder(z))(points[0]), atol=1e-14)


def test_weights_have_the_gradients_of_pytorch():
    module = perceptron().double()
    decoder = from_torch(module, A)
    ours = jax.grad(lambda f: jnp.sum(f(jnp.array(B)) ** 2))(decoder).weights
    (module(tensor(B, "float64")[None]) ** 2).sum().backward()
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(ours[name], parameter.grad.numpy(), atol=1e-14)


def test_the_module_is_taken_in_evaluation_mode_and_left_as_it_was():
    module = convolutional().double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    decoder = from_torch(module, A)
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        expected = module.eval()(tensor(A, "float64")[None])[0].numpy()
        module[0].weight.zero_()
    np.testing.assert_allclose(decoder(jnp.array(A)), expected, atol=1e-14)


def test_integers_and_constants_are_carried():
    embedding = nn.Embedding(3, 2).double()
    shift = torch.tensor([0.5, 1.5], dtype=torch.float64)
    shared = {"table": embedding, "index": torch.tensor([2]), "shift": shift, "again": shift}
    module = Function(
        lambda m, x: m.table(m.index) + m.shift * x + m.again + torch.arange(2), **shared
    )
    decoder = from_torch(module, A)
    assert {k: w.dtype.name for k, w in decoder.weights.items()} == {
        "table.weight": "float64",
        "index": "int64",
        "shift": "float64",
    }
    expected = embedding.weight[2].detach().numpy() + [0.5, 1.5] * (A + 1) + [0, 1]
    np.testing.assert_allclose(decoder(jnp.array(A)), expected, atol=1e-15)
    jg.geodesic_bvp(jg.PullbackMetric(decoder), A, B, solver=jg.FixedPoint(8))


def test_what_a_call_stores_or_changes_in_place_is_forgotten():
    def forward(module, x):
        module.calls += 1
        module.count += 1
        module.kept["first"] = module.kept.get("first", x * 0 + 1)
        x[:, 0] *= 2
        return x.add_(module.kept["first"]) * module.count

    module = Function(forward, calls=0, kept={})
    module.register_buffer("count", torch.zeros(()))
    decoder = from_torch(module, A)
    for _ in range(2):
        result = jax.jit(lambda z: decoder(z))(jnp.array(B))
        np.testing.assert_allclose(result, B * [2, 1] + 1, atol=1e-15)
    assert (module.calls, module.count.item(), module.kept) == (0, 0, {})


def test_a_tuple_is_the_parameters_of_a_law():
    module = Function(lambda _, x: [torch.sin(x), x.mean(1, keepdim=True).expand(-1, 2) - 1])
    decoder = from_torch(module, A)
    by_hand = jax.tree_util.Partial(lambda z: (jnp.sin(z), jnp.mean(z) - jnp.ones(2)))
    ours, theirs = (jg.FisherPullbackMetric(f, Gaussian()) for f in (decoder, by_hand))
    np.testing.assert_allclose(ours(jnp.array(B)), theirs(jnp.array(B)), rtol=1e-12)


def test_a_potential_without_a_batch_axis():
    module = Function(lambda _, z: torch.logsumexp(3 * z, 0) + (z**2).sum())
    metric = jg.HessianMetric(from_torch(module, A, batched=False))
    p = np.exp(3 * B) / np.exp(3 * B).sum()
    expected = 9 * (np.diag(p) - np.outer(p, p)) + 2 * np.eye(2)
    np.testing.assert_allclose(metric(jnp.array(B)), expected, rtol=1e-12)


@pytest.mark.parametrize("groups", [2, 4])
def test_transposed_convolutions_of_several_groups(groups):
    """torchax 0.0.13 translates them to something else, silently."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 8, 3, stride=2, output_padding=1, groups=groups)
    module = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (4, 2, 2)), layer).double()
    decoder = from_torch(module, A)
    expected = module(tensor(B, "float64")[None])[0].detach().numpy()
    np.testing.assert_allclose(decoder(jnp.array(B)), expected, atol=1e-14)


def test_layers_of_larger_decoders():
    """Attention, norms and resampling in one program."""
    torch.manual_seed(0)
    image = nn.Sequential(
        *(nn.Unflatten(1, (4, 3, 3)), nn.GroupNorm(2, 4), nn.Conv2d(4, 8, 3, padding="same")),
        *(nn.PixelShuffle(2), nn.InstanceNorm2d(2, affine=True), nn.ReflectionPad2d(1)),
        *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2), nn.Flatten()),
    )
    tokens = nn.Sequential(
        nn.Unflatten(1, (6, 6)),
        nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
        nn.Flatten(),
    )
    recurrent = nn.Sequential(nn.Unflatten(1, (6, 6)), nn.GRU(6, 3, batch_first=True))
    first = nn.utils.parametrizations.weight_norm(nn.Linear(2, 36))
    module = Function(
        lambda m, x: torch.cat(
            [m.image(m.first(x)), m.tokens(m.first(x)), m.recurrent(m.first(x))[0].flatten(1)], 1
        ),
        first=first,
        image=image,
        tokens=tokens,
        recurrent=recurrent,
    ).double()
    decoder = from_torch(module, A)
    expected = module.eval()(tensor(B, "float64")[None])[0].detach().numpy()
    np.testing.assert_allclose(jax.jit(lambda z: decoder(z))(jnp.array(B)), expected, atol=1e-13)


def test_half_precision_and_shapes_other_than_vectors():
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()).bfloat16()
    z = jnp.linspace(-1, 1, 48, dtype=jnp.bfloat16).reshape(3, 4, 4)
    out = from_torch(module, z)(z)
    assert (out.shape, out.dtype) == ((2, 2, 2), jnp.bfloat16)


def test_without_64_bits():
    shift = torch.tensor([1, 2])
    module = Function(lambda m, x: m.line(x) + m.shift + torch.arange(2), line=nn.Linear(2, 2))
    module.register_buffer("shift", shift)
    with jax.enable_x64(False):
        decoder = from_torch(module, jnp.array(A))
        assert decoder(jnp.array(B)).dtype == jnp.float32
        with pytest.raises(ValueError, match=r"^weight 'weight' has dtype float64, which JAX hol"):
            from_torch(nn.Linear(2, 2).double(), jnp.array(A))
        module.shift[0] = 2**40
        with pytest.raises(ValueError, match=r"^weight 'shift' holds integers beyond 32 bits"):
            from_torch(module, jnp.array(A))


LINEAR = nn.Linear(2, 3, dtype=torch.float64)
VALUES = (
    "`module` asks for the value of a tensor (by `if`, `while`, an index of booleans, .item(), "
    ".tolist(), .numpy() or .cpu()), which is not known where JAX traces one program for all "
    "points: use torch.where."
)
HIDDEN = (
    "`module` uses a tensor that it keeps in a list, a dictionary or a closure, or puts on a "
    "device by name: make it a buffer (`register_buffer`), or use `x.device`."
)
RANDOM = (
    "`module` draws random numbers when it is called: a point must have one image. Give it its "
    "noise as a buffer."
)
RETURNS = (
    "`module` must return a tensor of floats or a tuple of them, got {}. Wrap it in a module "
)
BATCH = "`module` must return a leading batch axis of length 1 for one point, got shape {}. If it "
UNLIKE = "the {} of `module` at `example` and that of its translation by torchax {} differ by {}, "
VERSION = importlib.metadata.version("torchax")
REFUSED = {
    "if": (lambda _, x: x if x.sum() > 0 else -x, VALUES),
    "item": (lambda _, x: x * x.sum().item(), VALUES),
    "numpy": (lambda _, x: torch.tensor(x.detach().numpy()), VALUES),
    "index": (lambda _, x: x[x > 0], VALUES),
    "range": (lambda _, x: sum(x for _ in range(2 + int(x[0, 0]))), VALUES),
    "noise": (lambda _, x: x + torch.randn_like(x), RANDOM),
    "dropout": (lambda _, x: nn.functional.dropout(x, 0.5, training=True), RANDOM),
    "hidden": (lambda m, x: x + m.kept[0], HIDDEN),
    "device": (lambda _, x: x + torch.ones(2, device="cpu"), HIDDEN),
    "dictionary": (lambda _, x: {"sample": x}, RETURNS.format("dict")),
    "dataclass": (lambda _, x: types.SimpleNamespace(x=x), RETURNS.format("SimpleNamespace")),
    "None": (lambda _, x: (x, None), RETURNS.format("NoneType")),
    "label": (lambda _, x: x.argmax(1), RETURNS.format("dtype torch.int64")),
    "scalar": (lambda _, x: x.sum(), BATCH.format("()")),
    "no batch": (lambda _, x: x[0], BATCH.format("(2,)")),
    "infinite": (
        lambda _, x: torch.log(x * 0),
        "the value of `module` at `example` is not finite.",
    ),
    "no_grad": (
        torch.no_grad()(lambda _, x: 2 * x),
        UNLIKE.format("derivative", VERSION, 2) + "where the largest entry is 0: more than `rtol`"
        " = 1.5e-08.",
    ),
    "dtype": (
        lambda _, x: torch.digamma(x + 3),
        "the value of `module` at `example` has shape (1, 2) and dtype float64, that of its "
        f"translation by torchax {VERSION} shape (1, 2) and dtype float32.",
    ),
    "operation": (
        lambda _, x: nn.functional.rrelu(x),
        "`module` uses the operation aten::rrelu_with_noise, which torchax "
        f"{VERSION} cannot translate to JAX.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_translated_says_why(case):
    forward, message = REFUSED[case]
    module = Function(forward, kept=[torch.ones(2)])
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_torch(module, A)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (len, A, "`module` must be a torch.nn.Module, and not a scripted one, got builtin_func"),
        (LINEAR, np.ones(2, int), "`example` must hold floats, got dtype int64: [1 1]."),
        (LINEAR, A.astype("f"), "`example` must have the dtype of the weights, float64, got flo"),
        (nn.LazyLinear(3), A, "weight 'weight' has no shape yet: call `module` once."),
        (nn.Linear(2, 3, device="meta"), A, "weight 'weight' has no values, its device is 'meta'"),
    ],
)
def test_what_is_no_module_with_weights_says_why(module, example, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_torch(module, example)
    assert str(raised.value).startswith(message)


def test_a_scripted_module_is_refused():
    with pytest.raises(ValueError, match="not a scripted one, got RecursiveScriptModule"):
        from_torch(torch.jit.script(nn.Linear(2, 3)), A)


@pytest.mark.parametrize("z", [jnp.zeros((5, 2)), jnp.zeros(2, jnp.float32), jnp.zeros(3)])
def test_points_unlike_the_example_are_refused(z):
    message = f"shape (2,) and dtype float64 like the example, got shape {z.shape} and dtype "
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_torch(LINEAR, A)(z)
    assert message + str(z.dtype) in str(raised.value)


def test_weights_of_another_architecture_are_refused():
    decoder = from_torch(LINEAR, A)
    with pytest.raises(ValueError, match=r"^weight 'bias' is in only one of the two modules"):
        decoder.with_weights(nn.Linear(2, 3, bias=False).double())
    with pytest.raises(ValueError, match=r"^weight 'weight' must have shape \(3, 2\) and dtype"):
        decoder.with_weights(nn.Linear(2, 4).double())


def test_an_operation_that_is_translated_wrongly_is_refused(monkeypatch):
    environment = bridging.bridge().environment
    monkeypatch.setattr(environment, "_ops", dict(environment._ops))
    environment.override_op_definition(torch.tanh, lambda x: x * 0.999)
    message = UNLIKE.format("value", VERSION, "0.037")
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_torch(Function(lambda _, x: torch.tanh(x)), np.array([0.5, 0.5]))
    assert str(raised.value).startswith(message)
    # what agrees to three digits may be let through by name
    environment.override_op_definition(torch.tanh, lambda x: torch.sinh(x) / torch.cosh(x) * 0.999)
    from_torch(Function(lambda _, x: torch.tanh(x)), A, rtol=2e-3)


@pytest.fixture
def unloaded():
    """The bridge is made anew, in this test and after it."""
    bridging.bridge.cache_clear()
    yield
    bridging.bridge.cache_clear()


def test_versions_that_do_not_fit_say_so(unloaded, monkeypatch):
    def removed():
        raise AttributeError("The underlying op of 'aten.prod' has no overload 'dim_Dimname'")

    monkeypatch.setattr("torchax.tensor.Environment.load_ops", lambda self: removed())
    message = f"^torchax {VERSION} does not load beside torch .*dim_Dimname.*jaxgeo.torch"
    with pytest.raises(ImportError, match=message):
        from_torch(LINEAR, A)


def test_without_torchax(unloaded, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchax", None)
    with pytest.raises(
        ImportError, match=r'need torch and torchax: pip install "jaxgeo\[torch\]"'
    ):
        from_torch(LINEAR, A)


GLOBAL_STATE = """
import os, sys
import jax, jax.numpy as jnp
import jaxgeo as jg
assert "torch" not in sys.modules
jg.interop
assert "torch" not in sys.modules
import torch

def state():
    options = {name: getattr(jax.config, name, None) for name in jax.config.values}
    defaults = torch.get_default_device(), torch.get_default_dtype()
    threads = torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed()
    return options, dict(os.environ), defaults, threads, torch.backends.mha.get_fastpath_enabled()

jax.config.update("jax_numpy_dtype_promotion", "strict")
layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
module = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 4)), layer, torch.nn.Flatten())
z = jnp.linspace(-1.0, 1.0, 8)
before = state()
decoder = jg.interop.from_torch(module, z)
jax.jit(lambda z: decoder(z))(z)
try:
    jg.interop.from_torch(torch.nn.RReLU(), z)
except ValueError:
    assert state() == before
else:
    raise AssertionError
"""


def test_nothing_global_is_changed():
    ran = subprocess.run([sys.executable, "-c", GLOBAL_STATE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
