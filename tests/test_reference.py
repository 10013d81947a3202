"""The reference builds without a warning, and every public name is in it."""

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
    assert "elements.py" in pages["noise"].split('<section id="alpha_dropout">')[0]


def test_names_in_the_text_are_links_that_lead_somewhere(pages: dict[str, str]) -> None:
    assert '<a href="tree.html#is_weight">funcreg.tree.is_weight</a>' in pages["transforms"]
    assert "<code>fr." not in "".join(pages.values())
    for module, page in pages.items():
        for target, own in re.findall(r'href="([\w./]*)#([\w.]+)"', page):
            other = module if not target else Path(target).stem
            assert f'id="{own}"' in pages["" if other == "funcreg" else other], (module, target, own)
