"""Checks of names: which known name is suggested for an unknown one."""

import pytest

from minivit.common.checks import UnknownName, check_name, nearest, suggestion


@pytest.mark.parametrize(("name", "known", "expected"), [
    ("gelo", ["gelu", "GELU"], "gelu"), ("gelo", ["GELU", "gelu"], "gelu"), ("GELO", ["gelu", "GELU"], "GELU"),
    ("gelo", ["GELU"], "GELU"), ("layernorm", ["layer_norm", "LayerNorm"], "LayerNorm"), ("MNIST", ["mnist"], "mnist"),
    ("Atention", ["attention", "Attention"], "Attention"),
    ("pgn", ["jpg", "png"], "png"), ("xyz", ["gelu"], None), ("gelu", [], None)])
def test_the_nearest_name_has_the_same_case_if_there_is_one(name, known, expected):
    assert nearest(name, known) == expected
    assert suggestion(name, known) == (f"did you mean {expected!r}?" if expected else "")


def test_an_unknown_name_raises_an_error_with_the_known_names():
    assert check_name("op", "gelu", ["gelu", "GELU"]) == "gelu"
    with pytest.raises(UnknownName, match=r"unknown op 'gelo': did you mean 'gelu'\? known: gelu, GELU") as caught:
        check_name("op", "gelo", ["gelu", "GELU"])
    assert (caught.value.kind, caught.value.name, caught.value.known) == ("op", "gelo", ["gelu", "GELU"])
    with pytest.raises(ValueError, match="unknown op None: known: gelu"):
        check_name("op", None, ["gelu"])
