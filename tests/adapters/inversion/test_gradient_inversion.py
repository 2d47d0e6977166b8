import hashlib

import pytest
import torch

from fixpoint import kernels, schedules
from fixpoint.adapters import Autoencoder, Clip, Jpeg, Masked, invert_by_encoder, invert_by_gradient
from fixpoint.adapters.commands.demonstration import photograph
from fixpoint.adapters.inversion.row_lbfgs import RowLBFGS
from fixpoint.trees.rows import select_rows

pytestmark = pytest.mark.slow  # inverts by gradients


def evaluated(function, z):
    """The values of the rows and their gradients."""
    z = z.detach().requires_grad_(True)
    value = function(z)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def run(function, z, evaluations, **options):
    """All states of a run, the first before any evaluation."""
    method = RowLBFGS(**options)
    states = [method.init(z)]
    for _ in range(evaluations):
        states.append(method.advance(states[-1], *evaluated(function, states[-1].trial)))
    return states


def quadratic(z):
    """Condition number 3, minimum 0 at 0."""
    scale = torch.linspace(1, 3, z.shape[1], dtype=z.dtype)
    return kernels.row_dot(scale * z, z) / 2


def rosenbrock(z):
    """Minimum 0 at 1."""
    a, b = z[:, :-1], z[:, 1:]
    return kernels.row_dot(b - a * a, b - a * a) * 100 + kernels.row_dot(1 - a, 1 - a)


@pytest.mark.parametrize("memory", [1, 3, 10])
def test_a_batch_of_one_follows_torch(memory):
    start = torch.randn(1, 20).double()
    z = start.clone().requires_grad_(True)
    reference = torch.optim.LBFGS(
        [z], max_iter=1, history_size=memory, tolerance_grad=0, tolerance_change=0
    )

    def closure():
        reference.zero_grad()
        quadratic(z).sum().backward()
        return quadratic(z).sum()

    # torch measures curvature absolutely, and stops learning once the steps are tiny.
    states = run(quadratic, start, 8, memory=memory)
    assert all(state.refused == 0 for state in states)  # torch searches along no line here
    for state in states[1:]:
        reference.step(closure)
        torch.testing.assert_close(state.trial, z.detach(), rtol=1e-8, atol=1e-10)


def test_the_minimum_of_a_curved_valley_is_found():
    states = run(rosenbrock, torch.randn(5, 2).double(), 100)
    assert (states[-1].value < 1e-12).all()
    torch.testing.assert_close(states[-1].iterate, torch.ones(5, 2).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_never_meet(dtype):
    """Bit for bit, while some rows move on and others have their trials refused."""
    start = torch.randn(4, 6).to(dtype) * torch.tensor([0.1, 1, 3, 10])[:, None].to(dtype)
    together = run(rosenbrock, start, 40)
    mixed = [(state.refused > 0).any() and (state.refused == 0).any() for state in together]
    assert any(mixed)
    for row in range(4):
        alone = run(rosenbrock, start[row : row + 1], 40)[-1]
        for name, expected in vars(select_rows(together[-1], torch.tensor([row]))).items():
            assert torch.equal(getattr(alone, name), expected), name


def test_the_line_search_never_lets_the_value_rise():
    states = run(rosenbrock, 3 * torch.randn(8, 6).double(), 80)
    values = torch.stack([state.value for state in states])
    assert (values[1:] <= values[:-1]).all()
    assert torch.equal(values[-1], rosenbrock(states[-1].iterate))
    tried = torch.stack([rosenbrock(state.trial) for state in states])
    assert (tried > values).any()  # it had to refuse some


def test_pairs_of_negative_curvature_are_left_out():
    start = torch.tensor([[0.1, -0.2, 0.1], [3.0, 2.9, 3.3]]).double()  # a top and a valley
    states = run(lambda z: z.cos().sum(1), start, 2)
    assert states[-1].refused.tolist() == [0, 0]
    curvature = states[-1].curvatures[:, 0]
    assert curvature[0] == 0
    assert curvature[1] > 0
    assert (states[-1].slope < 0).all()
    assert torch.equal(states[-1].direction[0], -states[-1].gradient[0])


def test_fewer_pairs_are_other_iterates():
    start = torch.randn(1, 6).double()
    assert not torch.equal(
        run(rosenbrock, start, 30, memory=1)[-1].iterate, run(rosenbrock, start, 30)[-1].iterate
    )


def test_a_row_that_is_not_finite_is_refused_and_alone():
    start = torch.tensor([[2.0, 1.0], [0.5, 0.2], [torch.nan, 0.0]]).double()

    def barrier(z):  # NaN at and below 0, where the first row's full steps lead
        return (z * z / 2 - 1e-3 * z.log()).sum(1)

    states = run(barrier, start, 40)
    assert states[-1].iterate[:2].isfinite().all()
    torch.testing.assert_close(
        states[-1].iterate[:2], torch.full((2, 2), 1e-3**0.5).double(), rtol=1e-4, atol=1e-5
    )
    assert states[-1].value[2] == torch.inf
    alone = run(barrier, start[:2], 40)[-1]
    assert torch.equal(states[-1].iterate[:2], alone.iterate)


def test_a_row_out_of_patience_forgets_its_pairs():
    method = RowLBFGS(patience=2)
    state = method.init(torch.randn(1, 4))
    for _ in range(4):
        state = method.advance(state, *evaluated(quadratic, state.trial))
    assert state.curvatures.count_nonzero() == 3
    too_high = (state.value + 1, state.gradient)
    state = method.advance(state, *too_high)
    assert state.curvatures.count_nonzero() == 3
    state = method.advance(state, *too_high)
    assert state.curvatures.count_nonzero() == 0
    assert torch.equal(state.direction, -state.gradient)


@pytest.mark.parametrize(
    "options", [{"memory": 0}, {"decrease": 0.5}, {"least_curvature": 1}, {"patience": 1.5}]
)
def test_hyper_parameters_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RowLBFGS(**options)


@pytest.fixture
def tiny(tiny_vae):
    return Autoencoder.from_diffusers(tiny_vae())


PICTURES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16).sin()


def inverted(autoencoder, pictures=PICTURES, **options):
    return invert_by_gradient(autoencoder, pictures, value_range=(-1, 1), **options)


def misfit(autoencoder, latent, pictures=PICTURES):
    with torch.no_grad():
        return (autoencoder.decode(latent) - pictures).square().flatten(1).sum(1)


def drift(autoencoder, latent):
    """||z - E(D(z))||^2 of every row."""
    with torch.no_grad():
        return (latent - autoencoder.encode(autoencoder.decode(latent))).square().flatten(1).sum(1)


def test_adam_is_torchs(tiny):
    schedule = schedules.warmup_cosine(0.1, 6)
    z = invert_by_encoder(tiny, PICTURES, value_range=(-1, 1)).latent.requires_grad_(True)
    reference, expected = torch.optim.Adam([z]), []
    for step in range(6):
        reference.param_groups[0]["lr"] = schedule(step)
        reference.zero_grad()
        (tiny.decode(z) - PICTURES).square().sum().backward()
        reference.step()
        expected.append(z.detach().clone())
    found = []
    inverted(tiny, steps=6, callback=lambda step, latent: found.append(latent))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_latents_of_least_loss_are_returned(tiny, optimizer):
    visited = []
    schedule = schedules.constant(3.0) if optimizer == "adam" else None  # swings
    inversion = inverted(
        tiny,
        steps=8,
        optimizer=optimizer,
        schedule=schedule,
        callback=lambda step, latent: visited.append(latent),
    )
    start = invert_by_encoder(tiny, PICTURES, value_range=(-1, 1)).latent
    losses = torch.stack([misfit(tiny, latent) for latent in [start, *visited]])
    assert (misfit(tiny, inversion.latent) <= losses.amin(0) * (1 + 1e-5)).all()
    assert inversion.evaluations.tolist() == [8, 8]
    assert inversion.status == ()


def test_l_bfgs_fits_the_picture_better_than_adam_in_as_many_passes(autoencoder, generated):
    _, seen = generated
    adam, lbfgs = (
        inverted(autoencoder, seen, steps=10, optimizer=name) for name in ("adam", "lbfgs")
    )
    assert misfit(autoencoder, lbfgs.latent, seen) < 0.5 * misfit(autoencoder, adam.latent, seen)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_steps_count_passes_through_the_decoder(tiny, optimizer, monkeypatch):
    passes = []
    decode = tiny.decode

    def counted(latents):
        passes.append(torch.is_grad_enabled())
        return decode(latents)

    monkeypatch.setattr(tiny, "decode", counted)
    inverted(tiny, steps=7, optimizer=optimizer)
    assert passes == [True] * 7 + [False] * 2  # the last trial, and the reconstruction


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_rows_of_a_batch_are_the_rows_alone(tiny, optimizer):
    together = inverted(tiny, steps=8, optimizer=optimizer).latent
    for row in range(2):
        alone = inverted(tiny, PICTURES[row : row + 1], steps=8, optimizer=optimizer).latent
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_encoder_pulls_towards_its_own_latents(tiny, optimizer):
    free, pulled = (
        inverted(tiny, steps=15, optimizer=optimizer, encoder_weight=weight).latent
        for weight in (0.0, 10.0)
    )
    assert (drift(tiny, pulled) < drift(tiny, free)).all()
    assert (misfit(tiny, pulled) > misfit(tiny, free)).all()


def test_the_regularised_loss_is_the_papers(tiny):
    """The first step of gradient descent shows its gradient."""
    start = invert_by_encoder(tiny, PICTURES, value_range=(-1, 1)).latent

    def loss(z):
        decoded = tiny.decode(z)
        fit = (decoded - PICTURES).square().flatten(1).sum(1)
        return fit + 3 * (z - tiny.encode(decoded)).square().flatten(1).sum(1)

    _, gradient = evaluated(loss, start)
    visited = []
    inverted(
        tiny,
        steps=2,
        optimizer="lbfgs",
        encoder_weight=3,
        callback=lambda step, latent: visited.append(latent),
    )
    length = 1 / gradient.abs().flatten(1).sum(1).clamp(min=1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(visited[0], start)
    torch.testing.assert_close(visited[1] - start, -length * gradient, rtol=1e-3, atol=1e-6)


def as_found(model):
    """Everything about a model that a run could leave changed."""
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return (
        hashlib.sha256(weights).hexdigest(),
        [(weight.requires_grad, weight.grad) for weight in model.parameters()],
        [
            (name, module.training, vars(module).get("forward"))
            for name, module in model.named_modules()
        ],
        [getattr(module, "gradient_checkpointing", None) for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
    )


@pytest.mark.parametrize("encoder_weight", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_checkpointing_keeps_less_and_changes_no_latent(tiny, optimizer, encoder_weight):
    found = {}
    for checkpointing in (False, True):
        kept = []

        def pack(tensor, kept=kept):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            latent = inverted(
                tiny,
                steps=4,
                optimizer=optimizer,
                encoder_weight=encoder_weight,
                checkpointing=checkpointing,
            ).latent
        found[checkpointing] = latent, sum(kept)
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-5, atol=1e-6)
    assert found[True][1] < 0.5 * found[False][1]


class Interruption(Exception):
    pass


@pytest.mark.parametrize("raising", [False, True])
@pytest.mark.parametrize("mode", ["frozen", "training", "checkpointing already"])
def test_the_model_is_left_as_found(tiny, mode, raising):
    model = tiny.model
    model.requires_grad_(mode != "frozen").train(mode == "training")
    model.decoder.conv_in.requires_grad_(False)
    if mode == "checkpointing already":
        model.enable_gradient_checkpointing()
    block = model.decoder.up_blocks[0].resnets[0]
    block.forward = block.forward  # as a library that hooks forwards leaves it
    before = as_found(model)

    def callback(step, latent):
        assert as_found(model) != before
        if raising:
            raise Interruption

    options = {"steps": 2, "checkpointing": True, "callback": callback}
    if raising:
        with pytest.raises(Interruption):
            inverted(tiny, **options)
    else:
        inverted(tiny, **options)
    assert as_found(model) == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, ValueError, "steps"),
        ({"optimizer": "sgd"}, ValueError, "adam, lbfgs; got 'sgd'"),
        (
            {"optimizer": "lbfgs", "schedule": schedules.constant(0.1)},
            ValueError,
            "schedule goes with optimizer='adam'",
        ),
        ({"schedule": 0.1}, TypeError, "schedule must be a function"),
        ({"encoder_weight": -1.0}, ValueError, "encoder_weight"),
        ({"encoder_weight": float("inf")}, ValueError, "encoder_weight"),
        ({"encoder_weight": float("nan")}, ValueError, "encoder_weight"),
        ({"encoder_weight": "1"}, TypeError, "encoder_weight"),
        ({"checkpointing": 1}, TypeError, "checkpointing"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused_before_a_model_runs(tiny, monkeypatch, options, error, words):
    def run_anyway(*arguments):
        pytest.fail("the model ran")

    monkeypatch.setattr(tiny, "encode", run_anyway)
    monkeypatch.setattr(tiny, "decode", run_anyway)
    with pytest.raises(error, match=words):
        inverted(tiny, **options)


def test_clipping_between_decoder_and_loss_frees_what_was_clipped(autoencoder):
    latent = 2 * autoencoder.encode(photograph(32))
    picture = autoencoder.decode(latent).clamp(-1, 1)
    assert ((picture.abs() == 1).float().mean()) > 0.05
    options = {"steps": 30, "optimizer": "lbfgs", "value_range": (-1, 1)}
    plain = invert_by_gradient(autoencoder, picture, **options)
    clipped = invert_by_gradient(autoencoder, picture, observation=Clip(), **options)
    assert clipped.nmse_db(latent) < plain.nmse_db(latent) - 1


def test_what_a_mask_hides_does_not_count_in_the_loss(autoencoder):
    picture = autoencoder.decode(autoencoder.encode(photograph(32)))
    known = torch.zeros(32, 32, dtype=torch.bool)
    known[:, :16] = True
    spoilt = torch.where(known, picture, 0.9)
    options = {"steps": 3, "value_range": (-1, 1)}
    masked = invert_by_gradient(autoencoder, spoilt, observation=Masked(known, Clip()), **options)
    plain = invert_by_gradient(autoencoder, spoilt, **options)
    assert not torch.equal(masked.latent, plain.latent)

    def error(inversion):
        return (inversion.reconstruction - picture)[..., known].square().mean()

    assert error(masked) < error(plain)


def test_what_has_no_derivative_is_refused_before_a_model_runs(autoencoder, monkeypatch):
    monkeypatch.setattr(autoencoder, "encode", lambda pictures: pytest.fail("encoded"))
    with pytest.raises(ValueError, match="no derivative"):
        invert_by_gradient(autoencoder, photograph(32), observation=Jpeg(quality=75))
