import argparse

import torch

from fixpoint.adapters.commands.options import load_diffusion
from fixpoint.adapters.diffusion import latent_diffusion


def test_the_model_is_loaded_as_it_is_named(monkeypatch, tmp_path):
    loaded = []
    for source in ("embedded", "from_pretrained"):
        monkeypatch.setattr(
            latent_diffusion.LatentDiffusion,
            source,
            lambda name, source=source, **options: loaded.append((source, name, options)),
        )
    placed = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    for name in ("diffusion", "flow", str(tmp_path)):
        options = argparse.Namespace(model=name, dtype="bfloat16", device="cpu")
        load_diffusion(options)
    assert loaded == [
        ("embedded", "diffusion", placed),
        ("embedded", "flow", placed),
        ("from_pretrained", str(tmp_path), placed),
    ]
