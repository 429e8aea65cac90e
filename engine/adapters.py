"""Adapters (LoRA) on a loaded model: attach, switch, merge, detach; the base is never loaded again.

Only the language model's linear layers ever get an adapter: the list of layer names that such folders
carry (``q_proj`` and so on) would hit the vision tower too, whose layers are called the same.

References
----------
LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePath
from typing import Any

from engine.adapter_files import AdapterFolder, read_adapter
from engine.errors import AdapterBaseError, AdapterError

__all__ = ["Adapters"]


class Adapters:
    """The adapters of one loaded model.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Changed in place: linear layers are wrapped while an adapter is attached.
    base_name : str
        What the model is called, to be compared with what an adapter says it was made for.

    Notes
    -----
    Not thread-safe: whoever computes with the model switches it, under the same lock.
    """

    def __init__(self, model: Any, base_name: str) -> None:
        self._model = model
        self._base_name = base_name
        self._peft: Any = None
        self._digests: dict[str, str] = {}
        self._merged = ""
        self._active: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Attached adapters, in the order they came."""
        return tuple(self._digests)

    @property
    def active(self) -> str | None:
        """The adapter computing now; ``None`` for the base."""
        return self._active

    def key(self, name: str | None) -> str:
        """Identity of the model's weights with this adapter, for every cache."""
        adapter = "" if name is None else f"+{name}:{self._digests[name][:16]}"
        return f"{self._base_name}{self._merged}{adapter}"

    def attach(self, folder: str | Path, name: str | None = None, *, any_base: bool = False) -> str:
        """Attach an adapter without switching to it.

        Parameters
        ----------
        folder : str or Path
            An adapter's folder.
        name : str, optional
            What to call it; the folder's name by default.
        any_base : bool
            Take it although it names another base, if its shapes fit.

        Returns
        -------
        str
            Its name, for :meth:`use`.

        Raises
        ------
        AdapterBaseError
            If it was made for another model, by name or by shapes.
        AdapterError
            If the folder cannot be read, or the name is taken.
        """
        folder = Path(folder).expanduser()
        name = name or folder.resolve().name
        if name in self._digests or not re.fullmatch(r"[\w-][\w .-]*", name):
            raise AdapterError(source=folder, reason=f"the name {name!r} is taken or cannot be used")
        adapter = read_adapter(folder)
        if not any_base:
            self._check_name(adapter)
        self._check_shapes(adapter)
        self._check_vocabulary(adapter)
        inside = _inside(name)
        if inside in map(_inside, self._digests):
            raise AdapterError(source=folder, reason=f"the name {name!r} is too much like another one")
        self._inject(adapter, inside)
        self._digests[name] = adapter.digest
        self.use(self._active)
        return name

    def _check_name(self, adapter: AdapterFolder) -> None:
        known = {self._base_name, str(getattr(self._model.config, "_name_or_path", ""))}
        wanted = PurePath(adapter.base).name.lower()
        if wanted and wanted not in {PurePath(name).name.lower() for name in known}:
            raise AdapterBaseError(source=adapter.folder, expected=adapter.base, found=self._base_name)

    def _check_shapes(self, adapter: AdapterFolder) -> None:
        for key, tensor in adapter.lora.items():
            path, half = re.split(r"\.(?=lora_[AB]\.)", key)
            layer = _layer(self._model, path)
            if layer is None:
                raise AdapterBaseError(
                    source=adapter.folder, expected=f"a model that has {path}", found=self._base_name
                )
            side = 1 if half.startswith("lora_A") else 0
            width = (layer.out_features, layer.in_features)[side]
            if tensor.shape[side] != width:
                direction = ("output", "input")[side]
                raise AdapterBaseError(
                    source=adapter.folder,
                    expected=f"a model whose {path} has an {direction} of {tensor.shape[side]}",
                    found=f"{self._base_name}, where it is {width}",
                )
        for key, tensor in adapter.saved.items():
            found = _parameter_shape(self._model, key)
            if found != tuple(tensor.shape):
                raise AdapterBaseError(
                    source=adapter.folder,
                    expected=f"a model whose {key} is {tuple(tensor.shape)}",
                    found=f"{self._base_name}, where it is {found}",
                )

    def _check_vocabulary(self, adapter: AdapterFolder) -> None:
        """Take a vocabulary that training only lengthened; refuse one that it changed.

        The rows behind the base's are of tokens such as ``<pad>`` that are neither fed nor sampled here, so
        that they are not needed, and the base's tensors stay as they are.
        """
        for key, tensor in adapter.vocabulary.items():
            own = self._model.get_parameter(key)
            rows = min(len(own), len(tensor))
            if tensor.ndim != 2 or tensor.shape[1] != own.shape[1]:
                raise AdapterBaseError(
                    source=adapter.folder,
                    expected=f"a model whose {key} is {tuple(tensor.shape)}",
                    found=f"{self._base_name}, where it is {tuple(own.shape)}",
                )
            ours, theirs = own[:rows].detach().cpu(), tensor[:rows]
            # either may be the more exact copy of the same numbers
            if not (ours.to(theirs.dtype).equal(theirs) or theirs.to(ours.dtype).equal(ours)):
                reason = f"it trained {key} itself, and only layers of the language model and the projector"
                raise AdapterError(
                    source=adapter.folder, reason=f"{reason} can be exchanged between questions"
                )

    def _inject(self, adapter: AdapterFolder, name: str) -> None:
        from peft import LoraConfig, PeftModel, set_peft_model_state_dict

        projections = sorted({key.split(".lora_")[0].rsplit(".", 1)[1] for key in adapter.lora})
        config = LoraConfig(
            **adapter.config,
            target_modules=rf".*\.language_model\.layers\.\d+\.(self_attn|mlp)\.({'|'.join(projections)})",
            modules_to_save=sorted({key.rsplit(".", 2)[0].rsplit(".", 1)[1] for key in adapter.saved})
            or None,
            inference_mode=True,
        )
        try:
            with warnings.catch_warnings():
                # peft asks transformers under a name that is going away; nothing a user could do
                warnings.filterwarnings(
                    "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
                )
                if self._peft is None:
                    self._peft = PeftModel(self._model, config, adapter_name=name)
                else:
                    self._peft.add_adapter(name, config)
        except ValueError as error:
            raise AdapterError(source=adapter.folder, reason=str(error).rstrip(".")) from error
        tensors = {f"base_model.model.{key}": value for key, value in (adapter.lora | adapter.saved).items()}
        report = set_peft_model_state_dict(self._peft, tensors, adapter_name=name)
        self._peft.eval()
        missing = [key for key in report.missing_keys if f".{name}." in key]
        if missing or report.unexpected_keys:
            self._remove(name)
            names = ", ".join((missing + list(report.unexpected_keys))[:4])
            raise AdapterError(source=adapter.folder, reason=f"tensors are missing or unknown ({names})")

    def use(self, name: str | None) -> None:
        """Compute with this adapter from now on; ``None`` is the base, bit for bit.

        Raises
        ------
        KeyError
            If no adapter of that name is attached.
        """
        if name is not None and name not in self._digests:
            raise KeyError(name)
        self._active = name
        if self._peft is None:
            return
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(_inside(name))

    def detach(self, name: str) -> None:
        """Take an adapter off; with the last one the layers are the base's own again.

        Raises
        ------
        KeyError
            If no adapter of that name is attached.
        """
        del self._digests[name]
        active = self._active if self._active != name else None
        self._remove(_inside(name))
        self.use(active)

    def _remove(self, inside: str) -> None:
        if len(self._peft.peft_config) == 1:
            from peft.utils import ModulesToSaveWrapper

            wrapped = {
                name: module.original_module
                for name, module in self._model.named_modules()
                if isinstance(module, ModulesToSaveWrapper)
            }
            self._peft.base_model.unload()
            for name, module in wrapped.items():  # peft would leave the adapter's copy
                self._model.set_submodule(name, module)
            self._peft = None
        else:
            other = next(name for name in self._peft.peft_config if name != inside)
            self._peft.set_adapter(other)  # peft warns when it has to choose one itself
            self._peft.delete_adapter(inside)

    def merge(self, name: str) -> None:
        """Add an adapter to the weights for good and take all adapters off; answers become a little faster.

        Raises
        ------
        KeyError
            If no adapter of that name is attached.
        """
        key = self.key(name)
        self.use(name)
        self._peft.base_model.merge_and_unload(adapter_names=[_inside(name)])
        self._peft, self._active = None, None
        self._digests.clear()
        self._merged = key.removeprefix(self._base_name).replace("+", "*")


def _inside(name: str) -> str:
    """Name of an adapter among torch's modules, which take no dot and none of their own words (``half``)."""
    return "adapter_" + re.sub(r"\W", "_", name)


def _layer(model: Any, path: str) -> Any:
    """Return the linear layer at a path, without the wrapping of adapters already attached."""
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        return None
    layer = getattr(layer, "base_layer", layer)
    return layer if hasattr(layer, "in_features") else None


def _parameter_shape(model: Any, key: str) -> tuple[int, ...] | None:
    path, parameter, leaf = key.rsplit(".", 2)
    try:
        module = model.get_submodule(path)
        module = getattr(module, "original_module", module)
        return tuple(getattr(getattr(module, parameter), leaf).shape)
    except AttributeError:
        return None
