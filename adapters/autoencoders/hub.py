"""Models by the names that they have on the hub of Hugging Face, from its local cache.

Nothing is fetched from the network unless the caller says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixpoint._nearest import did_you_mean
from fixpoint.adapters.autoencoders.folder import PARTS, quiet_diffusers

NAME = re.compile(r"[\w.-]+/[\w.-]+")
OTHER_VARIANTS = ("*.fp16.safetensors", "*.bf16.safetensors", "*.non_ema.safetensors")


@dataclass(frozen=True)
class Source:
    """Where a model comes from, in the words of diffusers' `from_pretrained`.

    Attributes:
        model: a folder, or the name of a repository on the hub, "org/name".
        subfolder: inside of it.
        revision: branch, tag or commit of the repository.
        variant: of the weights: "fp16" for files named `*.fp16.safetensors`.
        cache_dir: the hub's cache; None for the user's own.
        local_files_only: False lets files be fetched that the cache does not have.
    """

    model: str | Path
    subfolder: str | None = None
    revision: str | None = None
    variant: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = True

    def autoencoder(self) -> Path:
        """The folder of an autoencoder, or of a pipeline that has one.

        Raises:
            FileNotFoundError: there is none. ValueError: the hub refuses.
        """
        inside = PARTS if self.subfolder is None else (self.subfolder,)
        places = [f"{part}/" for part in inside] + ([""] if self.subfolder is None else [])
        wanted = ["model_index.json"]
        for place in places:
            name = f".{self.variant}" if self.variant else ""
            wanted += [f"{place}config.json", f"{place}diffusion_pytorch_model*{name}*.safetensors"]

        def fetch(**options: Any) -> str:
            from huggingface_hub import snapshot_download

            skipped = () if self.variant else OTHER_VARIANTS
            return snapshot_download(
                allow_patterns=wanted, ignore_patterns=list(skipped), **options
            )

        folder = self._folder(fetch)
        return folder if self.subfolder is None else folder / self.subfolder

    def pipeline(self) -> Path:
        """The folder of a pipeline.

        Raises:
            FileNotFoundError: there is none. ValueError: the hub refuses.
        """

        def fetch(repo_id: str, **options: Any) -> str:
            if self.local_files_only:
                from huggingface_hub import snapshot_download

                return snapshot_download(repo_id, **options)
            from diffusers import DiffusionPipeline

            with quiet_diffusers():
                return DiffusionPipeline.download(
                    repo_id, variant=self.variant, use_safetensors=True, **options
                )

        return self._folder(fetch)

    def _folder(self, fetch: Callable[..., str]) -> Path:
        folder, name = Path(self.model).expanduser(), str(self.model)
        if folder.exists() or NAME.fullmatch(name) is None:
            return folder
        try:
            return Path(
                fetch(
                    repo_id=name,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                )
            )
        except Exception as error:  # of the hub's, the network's and diffusers' many kinds
            if not self.local_files_only:
                reason = " ".join(str(error).split())
                raise ValueError(f"{name} could not be fetched from the hub: {reason}") from error
            at = "" if self.revision is None else f", at revision {self.revision}"
            raise FileNotFoundError(
                f"{name} is neither a folder nor in the local cache of the hub{at}; "
                "local_files_only=False, on the command line --download, fetches it"
                f"{did_you_mean(name, _cached(self.cache_dir))}"
            ) from error


def _cached(cache: str | Path | None) -> list[str]:
    """The names of the models in a cache of the hub."""
    from huggingface_hub import scan_cache_dir

    try:
        return [each.repo_id for each in scan_cache_dir(cache).repos if each.repo_type == "model"]
    except Exception:  # there is no cache, or it is damaged: it has nothing to suggest
        return []
