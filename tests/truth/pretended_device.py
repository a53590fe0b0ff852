"""An accelerator that is not there, to see on any machine whether tensors of one are mixed with those of the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.workers import items
from tasks.workers.device import device
from tasks.workers.groups import run_group

PRETENDED = torch.device("meta")
"""The device's name within `pretended_device`. Nothing else has a use for it, and autograd knows it."""

_ATEN = torch.ops.aten
_MOVES = {_ATEN._to_copy.default, _ATEN.copy_.default, _ATEN._has_compatible_shallow_copy_type.default}
_INDEXED_FROM_ANYWHERE = {
    _ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default,
}  # fmt: skip
_AT_ONCE = {_ATEN._conj.default: _ATEN._conj_physical.default, _ATEN._neg_view.default: _ATEN.neg.default}
"""In place of marks on a tensor, which only what comes before this mode looks at."""
_TO_PYTHON = {_ATEN.item.default, _ATEN._local_scalar_dense.default}


def pretend_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the items of stages compute on the pretended device, where the workers are threads of this process.

    It has no bfloat16: what networks do in it, they do in float32.
    """
    for module in list(sys.modules.values()):
        if vars(module).get("device") is device:
            monkeypatch.setattr(module, "device", lambda: PRETENDED)
    monkeypatch.setattr(items, "run_group", _run_group_there)
    autocast = torch.autocast

    def there_none(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == PRETENDED.type else autocast(device_type, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", there_none)


def _run_group_there(*args: Any, **kwargs: Any) -> Any:
    with pretended_device():
        return run_group(*args, **kwargs)


class _There(Tensor):
    """A tensor that says that it lies on the pretended device; its values lie on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _There:
        made: _There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=PRETENDED,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"on the pretended device: {self.held}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a tensor of the pretended device, outside of `pretended_device`")


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """``tensor.to(PRETENDED)`` and ``device=PRETENDED`` behave as on an accelerator, with the values of the CPU.

    As there, an operation on tensors of both devices is an error, but for scalars and for what a tensor is indexed
    with.
    """
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Operations(), _Exchanged():
            yield PRETENDED
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class _Exchanged(TorchFunctionMode):
    """Tensors of Python values and back: torch does it without an operation that could be seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and asked.get("device") is not None:
            to = asked.pop("device")
            return func(*args, **asked).to(to)
        if func is Tensor.new_tensor and isinstance(args[0], _There):
            like = {"dtype": args[0].dtype, **asked}
            return torch.tensor(*args[1:], **like).to(PRETENDED)
        if func is Tensor.tolist and isinstance(args[0], _There):
            return args[0].held.tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], _There):
            return func(args[0], _indexed(args[1]), *args[2:])
        return func(*args, **asked)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = dict(kwargs or {})
        tensors = list(_tensors((args, tuple(asked.values()))))
        is_there = [isinstance(tensor, _There) for tensor in tensors]
        if func not in _MOVES and any(is_there) and not _agree(func, args, tensors):
            told = ", ".join(
                f"{tuple(t.shape)} on {'the device' if isinstance(t, _There) else 'the CPU'}" for t in tensors
            )
            raise RuntimeError(f"{func} mixes devices: {told}")
        ends_there = any(is_there)
        to = next((one for one in (*args, *asked.values()) if isinstance(one, torch.device)), None)
        if to is not None:
            ends_there = to == PRETENDED
        elif func is _ATEN.copy_.default:
            ends_there = isinstance(args[0], _There)
        found = _AT_ONCE.get(func, func)(
            *_each(_held, args), **{name: _each(_held, value) for name, value in asked.items()}
        )
        if not ends_there or func in _TO_PYTHON:
            return found
        if args and isinstance(args[0], _There) and found is args[0].held:
            return args[0]  # changed in place
        return _each(_wrapped, found)


def _agree(func: Callable[..., Any], args: Any, tensors: list[Tensor]) -> bool:
    if func in _INDEXED_FROM_ANYWHERE and isinstance(args[0], _There):
        return True
    return all(isinstance(tensor, _There) or tensor.dim() == 0 for tensor in tensors)


def _indexed(index: Any) -> Any:
    """With tensors in place of lists of numbers."""
    if isinstance(index, list):
        return torch.tensor(index)
    if isinstance(index, tuple):
        return tuple(torch.tensor(one) if isinstance(one, list | tuple) else one for one in index)
    return index


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _each(changed: Callable[[Any], Any], value: Any) -> Any:
    """With all leaves of tuples and lists within each other changed."""
    if isinstance(value, tuple | list):
        return type(value)([_each(changed, one) for one in value])
    return changed(value)


def _held(leaf: Any) -> Any:
    """What stands for it on the CPU."""
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, _There) else leaf


def _wrapped(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    with torch.inference_mode(False):  # within it such a tensor cannot be made
        return _There(leaf)
