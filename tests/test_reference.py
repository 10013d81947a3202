"""The reference builds without a warning, and every public name is in it."""

import html
import importlib
import re
from pathlib import Path

import pytest

import funcreg as fr
from experiments.report import reference
from tests.public import public_functions


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    first = reference.build(tmp_path_factory.mktemp("reference"))
    pages = {path.stem: path.read_text(encoding="utf-8") for path in first.parent.glob("funcreg/*.html")}
    return {"": first.read_text(encoding="utf-8"), **pages}


def test_every_public_name_is_in_it(pages: dict[str, str]) -> None:
    for name in public_functions():
        module, _, own = name.rpartition(".")
        assert f'<section id="{own}">' in pages[module], name
    assert all(f'<section id="{name}">' in pages[""] for name in ("FuncregError", "Model"))


def test_a_page_begins_with_the_map_of_its_module(pages: dict[str, str]) -> None:
    first = [line.split()[0] for line in (fr.__doc__ or "").splitlines() if re.match(r" {4}\w", line)]
    assert first[:2] == ["random", "tree"]
    map_of_all = pages[""].split("<pre>")[1].split("</pre>")[0]
    assert all(name in map_of_all for name in first)
    for module, page in pages.items():
        documentation = importlib.import_module(f"funcreg.{module}".rstrip(".")).__doc__ or ""
        laid_out = [" ".join(line.split()) for line in documentation.splitlines() if re.search(r"\S  +\S", line)]
        shown = " ".join(re.sub(r"<[^>]+>", "", " ".join(re.findall(r"<pre>.*?</pre>", page, re.DOTALL))).split())
        assert all(line in html.unescape(shown) for line in laid_out), module


def test_what_python_says_of_every_named_tuple_is_left_out(pages: dict[str, str]) -> None:
    assert not re.search("Alias for field|Create new instance", "".join(pages.values()))
    assert "Inputs and targets" in pages["train"]


def test_names_in_the_text_are_links_that_lead_somewhere(pages: dict[str, str]) -> None:
    assert '<a href="tree.html#is_weight">funcreg.tree.is_weight</a>' in pages["transforms"]
    assert "<code>fr." not in "".join(pages.values())
    for module, page in pages.items():
        for target, own in re.findall(r'href="([\w./]*)#([\w.]+)"', page):
            other = module if not target else Path(target).stem
            assert f'id="{own}"' in pages["" if other == "funcreg" else other], (module, target, own)
