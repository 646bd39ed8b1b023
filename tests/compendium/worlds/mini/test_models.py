# SPDX-License-Identifier: MIT
"""The tiny CLIPs: reproducible creation, texts, heads, and encoding with other weights."""

import shutil
from pathlib import Path

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock

from compendium import paths, profiles
from compendium.worlds.mini import models
from compendium.worlds.mini.datasets import TASKS
from tsvlib import checkpoints
from tsvlib.errors import InputError

PROFILES = [each for each in map(profiles.load, profiles.available()) if each.world == "compendium.worlds.mini.world"]
BACKBONES = [(profile.name, backbone.name) for profile in PROFILES for backbone in profile.backbones]


@pytest.fixture(scope="module")
def tiny() -> models.CLIP:
    return models.create("smoke", "smoke-b32", 0)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("profile", "backbone"), BACKBONES)
def test_every_configuration_fits_the_tokenizer(profile: str, backbone: str) -> None:
    model = models.create(profile, backbone, 0)
    assert model.vocab_size == models.VOCABULARY_SIZE
    assert model.context_length == models.CONTEXT_LENGTH
    assert models.image_size(model.visual) <= 32


def test_creation_depends_on_the_seed_alone(tiny: models.CLIP) -> None:
    before = torch.random.get_rng_state()
    again, other = (models.create("smoke", "smoke-b32", seed) for seed in (0, 1))
    digests = [checkpoints.state_digest(model.state_dict()) for model in (tiny, again, other)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_configuration_is_named() -> None:
    with pytest.raises(InputError, match=r"none\.json: there is no such model configuration"):
        models.create("smoke", "none", 0)


def test_a_base_without_training_is_random_but_fixed(tiny: models.CLIP) -> None:
    base = models.load_base("smoke", "smoke-b32")
    assert checkpoints.state_digest(base.state_dict()) == checkpoints.state_digest(tiny.state_dict())
    assert not base.training
    assert not any(parameter.requires_grad for parameter in base.parameters())


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose smoke profile claims to be pretrained; returns the place of its weights file."""
    shutil.copytree(paths.ROOT / "data" / "smoke", tmp_path / "data" / "smoke")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    profile = tmp_path / "data" / "smoke" / "profile.toml"
    profile.write_text(profile.read_text().replace("pretrained = false", "pretrained = true"))
    return models.weights_file("smoke", "smoke-b32")


def test_shipped_weights_are_read_in_single_precision(shipped: Path) -> None:
    state = models.create("smoke", "smoke-b32", 7).state_dict()
    checkpoints.save(shipped, {key: tensor.half() for key, tensor in state.items()}, {})
    loaded = models.load_base("smoke", "smoke-b32").state_dict()
    assert all(torch.equal(loaded[key], tensor.half().float()) for key, tensor in state.items())


def test_missing_weights_are_an_input_error(shipped: Path) -> None:
    with pytest.raises(InputError, match=r"smoke-b32\.safetensors"):
        models.load_base("smoke", "smoke-b32")


def test_weights_of_another_model_are_an_input_error(shipped: Path) -> None:
    checkpoints.save(shipped, models.create("smoke", "smoke-l14", 0).state_dict(), {})
    with pytest.raises(InputError, match="does not fit the configuration smoke-b32"):
        models.load_base("smoke", "smoke-b32")


def test_preprocess_crops_the_centre_and_normalises() -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[..., 2:30, 2:30] = 255
    assert torch.equal(models.preprocess(images, 28), torch.full((1, 3, 28, 28), 2.0))
    assert models.preprocess(images, 32).min() == -2


def test_tokens_frame_the_words_and_end_with_the_largest_id() -> None:
    short, long = models.tokenize(["A clock!", "a clock a clock"])
    words = models.word_ids()
    assert short[:4].tolist() == [models.START, words["a"], words["clock"], models.END]
    assert not short[4:].any()
    assert long.argmax() == 5


def test_every_prompt_of_every_task_can_be_tokenized() -> None:
    for task in TASKS.values():
        models.tokenize([template.format(name) for template in task.templates for name in task.classes])


def test_unknown_words_and_long_texts_are_named() -> None:
    with pytest.raises(InputError, match="the word 'zyzzyva' is not in"):
        models.tokenize(["a zyzzyva"])
    with pytest.raises(InputError, match="longer than 14 words"):
        models.tokenize(["a " * 15])


def test_words_fit_between_the_special_tokens() -> None:
    ids = models.word_ids().values()
    assert len(set(ids)) == len(ids)
    assert models.START < min(ids) <= max(ids) < models.END


def test_head_is_the_scaled_mean_direction_of_the_prompts(tiny: models.CLIP) -> None:
    templates = ("a {}", "clock {}")
    head = models.zero_shot_head(tiny, ("clock", "face"), templates)
    with torch.no_grad():
        texts = tiny.encode_text(models.tokenize(["a face", "clock face"]))
    mean = torch.nn.functional.normalize(torch.nn.functional.normalize(texts, dim=1).mean(0), dim=0)
    torch.testing.assert_close(head[1], mean * tiny.logit_scale.detach().exp())
    assert not head.requires_grad


@pytest.mark.parametrize(("profile", "backbone"), BACKBONES)
def test_encoding_is_open_clips_own(profile: str, backbone: str, images: torch.Tensor) -> None:
    model = models.load_base(profile, backbone)
    found = models.encode(model.visual, images)
    # Without our last block, which works out the class token alone.
    model.visual.transformer.resblocks[-1].__class__ = ResidualAttentionBlock
    with torch.no_grad():
        expected = model.encode_image(models.preprocess(images, models.image_size(model.visual)), normalize=True)
    torch.testing.assert_close(found, expected)


def test_gradients_are_open_clips_own(images: torch.Tensor) -> None:
    ours, theirs = models.create("smoke", "smoke-b32", 0), models.create("smoke", "smoke-b32", 0)
    theirs.visual.transformer.resblocks[-1].__class__ = ResidualAttentionBlock
    for model in (ours, theirs):
        model.visual.double()(models.preprocess(images, 30).double()).square().sum().backward()
    for (name, found), expected in zip(ours.visual.named_parameters(), theirs.visual.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_encoding_in_parts_changes_nothing(tiny: models.CLIP, images: torch.Tensor) -> None:
    whole = models.encode(tiny.visual, images)
    torch.testing.assert_close(models.encode(tiny.visual, images, batch=2), whole)


def test_encoding_with_other_weights_leaves_the_model_alone(tiny: models.CLIP, images: torch.Tensor) -> None:
    other = models.create("smoke", "smoke-b32", 3)
    before = models.encoder_state(tiny)
    found = models.encode(models.with_weights(tiny, models.encoder_state(other)), images)
    assert torch.equal(found, models.encode(other.visual, images))
    assert all(torch.equal(tensor, before[key]) for key, tensor in models.encoder_state(tiny).items())


def test_encoding_needs_all_weights(tiny: models.CLIP) -> None:
    state = models.encoder_state(tiny)
    del state["visual.proj"]
    with pytest.raises(RuntimeError, match="proj"):
        models.with_weights(tiny, state)


def test_features_with_given_weights_are_those_of_an_encoder_that_has_them(
    tiny: models.CLIP, images: torch.Tensor
) -> None:
    other, before = models.create("smoke", "smoke-b32", 3), models.encoder_state(tiny)
    found = models.features(tiny.visual, models.encoder_state(other), images)
    torch.testing.assert_close(found, models.encode(other.visual, images))
    assert all(torch.equal(tensor, before[key]) for key, tensor in models.encoder_state(tiny).items())


def test_features_can_be_differentiated_by_every_weight(tiny: models.CLIP, images: torch.Tensor) -> None:
    other = models.create("smoke", "smoke-b32", 3)
    features = torch.nn.functional.normalize(other.visual(models.preprocess(images, 30)), dim=-1)
    expected = torch.autograd.grad(features[:, 0].sum(), list(other.visual.parameters()))
    state = {key: tensor.requires_grad_() for key, tensor in models.encoder_state(other).items()}
    found = torch.autograd.grad(models.features(tiny.visual, state, images)[:, 0].sum(), list(state.values()))
    for key, one, two in zip(state, found, expected, strict=True):
        torch.testing.assert_close(one, two, msg=lambda text, key=key: f"{key}: {text}")


def test_features_need_all_weights(tiny: models.CLIP, images: torch.Tensor) -> None:
    state = models.encoder_state(tiny)
    del state["visual.proj"]
    with pytest.raises(RuntimeError, match="proj"):
        models.features(tiny.visual, state, images)
