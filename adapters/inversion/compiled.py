"""One evaluation of E(Q(D(z))), compiled, on a private copy of the model.

torch.compile is given two functions, Q(D(.)) and E; the model's own `forward`, which it would
compile of a module, is called by no inversion. As one function they would gain nothing that shows
beside a single convolution, and E(x) would want a second compilation of E: it takes as long
again, and rounds differently, in bfloat16 by 0.3 % of the latent.
"""

from __future__ import annotations

import itertools
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.copies import offloaded
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Observation,
    RoundingCells,
    WhiteNoise,
)

COMPILED = (Identity, Clip, EightBit, RoundingCells, WhiteNoise)
"""Observations that are compiled with D; others may run any Python, and stay between D and E."""


class Evaluation:
    """E(Q(D(z))) in two halves, by the callables as they are.

    Attributes:
        compiled: whether torch.compile runs them.
        not_compiled_because: why not, where that was asked for; else None.
    """

    compiled = False

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        not_compiled_because: str | None = None,
    ) -> None:
        self._encode = encode
        self._decode = decode
        self.not_compiled_because = not_compiled_because
        if not_compiled_because is not None:
            _warn(not_compiled_because)

    def encode(
        self, pictures: Float[Tensor, "batch *picture"], *, began_alone: bool = True
    ) -> Float[Tensor, "batch *latent"]:
        """E."""
        return self._encode(pictures)

    def observe(
        self,
        z: Float[Tensor, "batch *latent"],
        image: Float[Tensor, "batch *picture"],
        observation: Observation,
        *,
        began_alone: bool = True,
    ) -> tuple[Float[Tensor, "batch *picture"], Float[Tensor, "batch *picture"]]:
        """Q(D(z)) beside x = `image`, as `Observation.observe`: as it is, and before rounding.

        Raises:
            ValueError: D(z) has not the shape of x.
        """
        return _observed(self._decode, z, image, observation)


class CompiledEvaluation(Evaluation):
    """The same, compiled at the first call; where that fails, uncompiled, with one warning.

    The first shape is compiled as it is; once another number of rows comes, any number from 2 on.
    A row that is left alone of a larger batch (`began_alone` False) is evaluated twice over: torch
    would compile once more for a batch of one, which costs more than many evaluations.

    Args:
        device: that E and D run on, which chooses the mode of torch.compile.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        super().__init__(encode, decode)
        # Guards of a compilation look at strides: with these always standard, one is enough.

        def encoded(pictures: Tensor) -> Tensor:
            return encode(pictures).contiguous()

        def observed(z: Tensor, image: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
            seen, before_rounding = _observed(decode, z, image, observation)
            return seen.contiguous(), before_rounding.contiguous()

        self._compiled_encode = _Compiled(encoded, device, self._fail)
        self._compiled_observe = _Compiled(observed, device, self._fail)

    @property
    def compiled(self) -> bool:  # type: ignore[override]
        return self.not_compiled_because is None

    def encode(self, pictures: Tensor, *, began_alone: bool = True) -> Tensor:
        return self._compiled_encode(pictures, double=len(pictures) == 1 and not began_alone)

    def observe(
        self, z: Tensor, image: Tensor, observation: Observation, *, began_alone: bool = True
    ) -> tuple[Tensor, Tensor]:
        inside = type(observation) in COMPILED
        seen, before_rounding = self._compiled_observe(
            z,
            image,
            observation if inside else Identity(),
            double=len(z) == 1 and not began_alone,
        )
        return (seen, before_rounding) if inside else observation.observe(seen, image)

    def _fail(self, reason: str) -> None:
        if self.not_compiled_because is None:
            self.not_compiled_because = reason
            _warn(reason)


class _Compiled:
    """A function of tensors under torch.compile; as it is, where that fails."""

    def __init__(
        self, function: Callable[..., Any], device: torch.device, fail: Callable[[str], None]
    ) -> None:
        self.function = function
        self.fail = fail
        self.compiled: Callable[..., Any] | None = None
        self.works = False
        # "reduce-overhead" would keep its results in buffers that the next run overwrites.
        mode = "max-autotune-no-cudagraphs" if device.type == "cuda" else None
        try:
            self.compiled = torch.compile(_with_code_of_its_own(function), mode=mode)
        except Exception as error:  # torch lets everything through that its parts raise
            fail(_reason(error))

    def __call__(self, *arguments: Any, double: bool) -> Any:
        arguments = _map(Tensor.contiguous, arguments)
        if self.compiled is None:
            return self.function(*arguments)
        try:
            if not double:
                return self._run(*arguments)
            value = self._run(*_map(lambda tensor: torch.cat((tensor, tensor)), arguments))
            return value[:1] if isinstance(value, Tensor) else _map(lambda t: t[:1], value)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = _reason(error)
        # Outside of the handler, where the tensors of the failed call are free again. What the
        # function itself raises is no failure of the compiler's.
        value = self.function(*arguments)
        self.compiled = None
        self.fail(reason)
        return value

    def _run(self, *arguments: Any) -> Any:
        assert self.compiled is not None
        if self.works:
            return self.compiled(*arguments)
        with warnings.catch_warnings():  # torch's remarks on the code that it reads
            warnings.simplefilter("ignore")
            value = self.compiled(*arguments)
        self.works = True
        return value


def evaluation(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    compile: bool,
    dtype: torch.dtype | None,
) -> Evaluation:
    """How `DecoderInversion` evaluates a pair of callables; it describes the arguments.

    The copy of an `Autoencoder` and its compilation are kept as long as the autoencoder lives, and
    used again until its weights change: the next picture of the same size need not be waited for.

    Raises:
        TypeError: `compile` or `dtype` is none. ValueError: `dtype` without an `Autoencoder`, or
            with one that cannot be copied.
    """
    if not isinstance(compile, bool):
        raise TypeError(f"compile must be True or False, got {compile!r}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype or None, got {dtype!r}")
    autoencoder = _owner(encode, decode)
    if autoencoder is None:
        if dtype is not None:
            raise ValueError(
                "dtype is that of a private copy of the model, and only the methods encode and "
                "decode of one Autoencoder tell which model that is: convert your callables "
                "yourself"
            )
        if compile:
            return CompiledEvaluation(encode, decode, image.device)
        return Evaluation(encode, decode)
    reason = autoencoder.uncompilable if compile else None
    if dtype is None and (not compile or reason):
        return Evaluation(encode, decode, reason)
    try:
        kept = _kept_copy(autoencoder, dtype)
    except ValueError as error:
        if dtype is not None:
            raise
        return Evaluation(encode, decode, str(error))
    if not compile or reason:
        return Evaluation(kept.copy.encode, kept.copy.decode, reason)
    if kept.evaluation is None:
        kept.evaluation = CompiledEvaluation(kept.copy.encode, kept.copy.decode, autoencoder.device)
    return kept.evaluation


@dataclass
class _Kept:
    weights: object
    copy: Autoencoder
    evaluation: CompiledEvaluation | None = None


_COPIES: WeakKeyDictionary[Autoencoder, dict[torch.dtype | None, _Kept]] = WeakKeyDictionary()


def _kept_copy(autoencoder: Autoencoder, dtype: torch.dtype | None) -> _Kept:
    copies = _COPIES.setdefault(autoencoder, {})
    known = copies.get(dtype)
    moved = autoencoder.module is not None and offloaded(autoencoder.module)
    if known is not None and not moved:
        if known.weights == _fingerprint(autoencoder):
            return known
        del copies[dtype]  # before the next one needs its memory
    copy = autoencoder.copy(dtype, channels_last=True)
    copies[dtype] = _Kept(_fingerprint(autoencoder), copy)
    return copies[dtype]


def _fingerprint(autoencoder: Autoencoder) -> object:
    """Equal as long as the weights and the settings of an autoencoder are."""
    module = autoencoder.module
    held = () if module is None else (*module.parameters(), *module.buffers())
    tensors = [tensor.detach() for tensor in held]
    places = [(tensor.data_ptr(), tensor.dtype, tensor.device) for tensor in tensors]
    # Changes through `weight.data` stand in no version counter: the norms tell.
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors]
    versions = [0 if tensor.is_inference() else tensor._version for tensor in tensors]
    return places, versions, torch.stack(norms).tolist() if norms else [], autoencoder.uncompilable


def _owner(encode: object, decode: object) -> Autoencoder | None:
    """The autoencoder whose methods these are."""
    owner = getattr(encode, "__self__", None)
    if isinstance(owner, Autoencoder) and encode == owner.encode and decode == owner.decode:
        return owner
    return None


def _observed(
    decode: Callable[[Tensor], Tensor], z: Tensor, image: Tensor, observation: Observation
) -> tuple[Tensor, Tensor]:
    decoded = decode(z)
    if decoded.shape != image.shape:
        raise ValueError(
            f"D(z) has shape {tuple(decoded.shape)} but the picture {tuple(image.shape)}: "
            "the autoencoder does not give back the sides of this picture"
        )
    return observation.observe(decoded, image)


_NUMBERS = itertools.count()


def _with_code_of_its_own(function: Any) -> Callable[..., Any]:
    """The same function; but torch keeps no more than 8 compilations of one code object, whatever
    it closes over, and remembers by the code's name which sizes have varied."""
    name = f"{function.__name__}_{next(_NUMBERS)}"
    return types.FunctionType(
        function.__code__.replace(co_name=name),
        function.__globals__,
        name,
        function.__defaults__,
        function.__closure__,
    )


def _map(change: Callable[[Tensor], Tensor], values: Iterable[Any]) -> tuple[Any, ...]:
    """The tensors among some values changed."""
    return tuple(change(value) if isinstance(value, Tensor) else value for value in values)


def _reason(error: Exception) -> str:
    """What torch.compile failed with, in one line."""
    inner = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"torch.compile failed with {type(inner).__name__}: {lines[0] if lines else ''}"[:300]


def _warn(reason: str) -> None:
    warnings.warn(
        f"E(Q(D(z))) is evaluated uncompiled, with the same results: {reason}",
        UserWarning,
        stacklevel=2,
    )
