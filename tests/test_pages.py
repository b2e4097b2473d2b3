"""Pages say what their demos make, and every term of the pages for learners is in the glossary."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minivit
from minivit.training.adamw import reference_update

ROOT = Path(__file__).parents[1]
DOCS, DEMOS = ROOT / "docs", ROOT / "demos"
MADE = {"why-this-way": "15_why_this_way", "vit-in-ten-minutes": "16_vit_in_ten_minutes"}
FOR_LEARNERS = ("vit-in-ten-minutes", "from-pixels-to-prediction")


@pytest.fixture(scope="module")
def demo():
    """Return a function that imports a demo by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DEMOS))

        def load(name):
            if name not in sys.modules:
                spec = importlib.util.spec_from_file_location(name, DEMOS / f"{name}.py")
                patch.setitem(sys.modules, name, importlib.util.module_from_spec(spec))
                spec.loader.exec_module(sys.modules[name])
            return sys.modules[name]

        yield load


@pytest.mark.parametrize("page", MADE)
def test_the_numbers_of_a_page_are_those_that_its_demo_makes(page, demo):
    made, found = demo(MADE[page]).parts(), demo("page_parts").read_parts(DOCS / f"{page}.md")
    assert found == made
    assert len(found) > 10
    assert "(not measured yet)" not in made.values()


def test_parts_are_written_into_a_page_where_they_belong(demo, tmp_path):
    parts, page = demo("page_parts"), tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- made: b -->\n\n<!-- end -->\n\nBetween\n\n<!-- made: a c -->\nold\n<!-- end -->\n")
    parts.write_parts(page, {"a c": "one\n\ntwo", "b": "three"})
    assert page.read_text() == ("# Title\n\n<!-- made: b -->\n\nthree\n\n<!-- end -->\n\nBetween\n\n"
                                "<!-- made: a c -->\n\none\n\ntwo\n\n<!-- end -->\n")
    assert parts.read_parts(page) == {"a c": "one\n\ntwo", "b": "three"}
    with pytest.raises(KeyError):
        parts.write_parts(page, {"b": "three"})


def test_the_walk_through_the_small_model_is_that_of_the_plain_vit(demo):
    module = demo("16_vit_in_ten_minutes")
    p, accuracy, data = module.trained()
    image, label = data.test_images[3], int(data.test_labels[3])
    a = module.walk(p, image, label)
    gradients = module.check(p, image, label, a)                      # raises if a number differs
    assert accuracy > 0.9
    for name, index in (("patch_embed.proj.weight", (7, 3)), ("blocks.0.mlp.fc2.bias", (2,)), ("pos_embed", (1, 4))):
        assert gradients[name][index] == pytest.approx(module.slope(p, name, index, image, label), abs=1e-8)
    h, moved = 1e-3, np.array(image, float)                           # a pixel is 0 to 255
    moved[5, 3] += h
    assert (module.walk(p, moved, label)["loss"] - a["loss"]) / h == pytest.approx(
        a["dpixels"][5, 3] / 255 / minivit.plain.STD, rel=1e-3)


# ---- the layers and the optimiser that the study of "Why this way?" adds ---------------------------------------


@pytest.mark.parametrize("name", ["PostNormBlock", "NoResidualBlock", "BatchNorm", "ReLU", "SharedAttention",
                                  "AttentionBlock"])
def test_the_gradients_of_the_layers_of_the_study_are_right(name, demo):
    layer = getattr(demo("15_why_this_way"), name)
    sizes = {"BatchNorm": (6,), "ReLU": (), "SharedAttention": (6, 2, (0, 0, 1)),
             "AttentionBlock": (6, 2, 2)}.get(name, (6, 2))
    x = np.random.default_rng(0).standard_normal((3, 4, 6))
    assert minivit.gradcheck(layer(*sizes), x, independent=name != "BatchNorm").ok


def test_batch_norm_predicts_with_the_statistics_of_the_training_images(demo):
    module, rng = demo("15_why_this_way"), np.random.default_rng(0)
    layer, x = module.BatchNorm(4).astype(np.float64), rng.normal(3, 2, (50, 5, 4))
    y = layer.forward(x)
    np.testing.assert_allclose(y.mean(axis=(0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1, rtol=1e-6)
    layer.kept = layer.seen
    np.testing.assert_allclose(layer.forward(x[:1]), y[:1])


def test_adam_with_l2_adds_the_decay_to_the_gradient(demo):
    module, decay = demo("15_why_this_way"), 0.3
    model = minivit.create_model("vit_mini", dtype=np.float64)
    g = np.random.default_rng(0).standard_normal(model.vector.size)
    decays = np.concatenate([np.full(p.size, decay * p.decay) for p in model.parameters()])
    zeros = np.zeros_like(g)
    expected, _, _ = reference_update(model.vector, 0.5 * g + decays * model.vector, zeros, zeros, 1, 0.01, 0)
    optimiser = module.AdamL2(model.vector, model.parameters(), decay)
    optimiser.begin_step()
    for piece in optimiser.pieces():
        optimiser.update(piece, g, 0.01, 0.5)
    np.testing.assert_allclose(model.vector, expected, rtol=1e-9)
    assert 0 < np.count_nonzero(decays) < decays.size


@pytest.mark.parametrize("kind", ["post-norm", "no residual stream", "batch norm", "ReLU", "one map for q and k",
                                  "one map for all", "no MLP"])
def test_a_variant_changes_the_model_as_its_name_says(kind, demo):
    module = demo("15_why_this_way")
    images = minivit.load_data("digits").train_images[:8]
    model = module.make("digits", module.VARIANTS[kind], images, 0)
    base = module.make("digits", module.VARIANTS["base"], images, 0)
    kinds = {type(layer).__name__ for _, layer in model.named_layers()}
    assert {"post-norm": "PostNormBlock", "no residual stream": "NoResidualBlock", "batch norm": "BatchNorm",
            "ReLU": "ReLU", "one map for q and k": "SharedAttention", "one map for all": "SharedAttention",
            "no MLP": "AttentionBlock"}[kind] in kinds
    assert ("LayerNorm" in kinds) == (kind != "batch norm")
    assert (model.vector.size < base.vector.size) == (kind in (*module.MAPS, "no MLP"))
    assert not np.allclose(model.blocks[0].forward(np.ones((1, 17, 64), np.float32)
                                                   + np.arange(64, dtype=np.float32)),
                           base.blocks[0].forward(np.ones((1, 17, 64), np.float32)
                                                  + np.arange(64, dtype=np.float32)))


# ---- the glossary ------------------------------------------------------------------------------------------


def entries():
    """{term in small letters: its text} of the glossary."""
    return {term.lower(): text for term, text in re.findall(r"^\*\*(.+?)\*\* · (.*?)(?=\n\n|\Z)",
                                                            (DOCS / "glossary.md").read_text(), re.M | re.S)}


def test_the_glossary_is_sorted_and_short():
    found = list(entries())
    assert found == sorted(found)
    assert len(found) > 80
    for term, text in entries().items():
        sentences = re.findall(r"[.;:](?: |\n|$)", re.sub(r"\[`?.*?\)", "", text))
        assert 1 <= len(sentences) <= 7, term


@pytest.mark.parametrize("page", FOR_LEARNERS)
def test_every_term_of_a_page_for_learners_is_in_the_glossary(page):
    text = re.sub(r"```.*?```", "", (DOCS / f"{page}.md").read_text(), flags=re.S)
    text = re.sub(r"^\*[^*]*\*$", "", text, flags=re.M)                # captions of figures
    terms = {term.replace("\n", " ").lower() for term in re.findall(r"(?<![*\w])\*(\w[^*]*\w)\*(?![*\w])", text)}
    known = {word for term in entries() for word in (term, *term.split(", "))}
    singular = {term: {term, term.removesuffix("s"), term.removesuffix("es")} for term in terms}
    assert len(terms) > 10
    assert [term for term in sorted(terms) if not singular[term] & known] == []


@pytest.mark.parametrize("term", [
    "token", "logits", "encoder", "residual stream", "branch", "query", "key", "value", "head", "cache", "kernel",
    "inductive bias", "equivariance", "warm-up", "weight decay", "batch norm", "layer norm", "eps", "blas", "lane",
    "replica", "micro-batch", "shard", "softmax", "attention", "patch", "class token"])
def test_the_terms_that_readers_missed_are_in_the_glossary(term):
    assert term in entries()
