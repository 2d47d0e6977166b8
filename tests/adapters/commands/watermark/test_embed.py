import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from watermark_cases import embed, report_of

from fixpoint.adapters.provenance.tree_ring import TreeRing

pytestmark = pytest.mark.usefixtures("no_network")


def test_embed_writes_pictures_their_noise_and_the_key(model, tmp_path, capsys):
    pictures = embed(tmp_path / "o", "paper-1", "--seed", 3, "--json", tmp_path / "r.json")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "key.safetensors",
        *(f"paper-1-00{n}{end}" for n in range(3) for end in (".noise.safetensors", ".png")),
    ]
    assert Image.open(pictures[0]).size == (32, 32)
    key = TreeRing.load(tmp_path / "o" / "key.safetensors")
    noise = torch.cat(
        [load_file(path.with_suffix(".noise.safetensors"))["latent"] for path in pictures]
    )
    assert torch.equal(noise, key.embed(model.noise(3, seed=3)))
    report = report_of(tmp_path / "r.json")
    assert (report["key"], report["seed"], report["guidance"]) == ("paper-1", 3, 3.0)
    assert [entry["picture"] for entry in report["pictures"]] == [str(path) for path in pictures]
    assert model.calls == [{"prompt": "a hill", "steps": 50, "guidance": 3.0}]
    assert str(pictures[2]) in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "1"],
        ["--mask", "official"],
        ["--radius", "4"],
        ["--channel", "1"],
        ["--key-seed", "1"],
    ],
    ids=" ".join,
)
def test_every_option_of_embed_changes_the_noise(model, tmp_path, options):
    names = []
    for folder, extra in ((tmp_path / "a", []), (tmp_path / "b", options)):
        (picture,) = embed(folder, "ring", "--quiet", *extra, count=1)
        names.append(picture.with_suffix(".noise.safetensors"))
    a, b = (load_file(name)["latent"] for name in names)
    assert not torch.equal(a, b)
