"""Folders of one's own images: where they are found, what they give, and how mistakes are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments import data
from experiments.errors import LabError
from experiments.harness.context import Context
from experiments.questions import animal_faces

ANIMALS = {"cat": 40, "dog": 120, "wild": 200}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FUNCREG_DATA", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write(folder: Path, classes: dict[str, int] = ANIMALS, count: int = 5, side: int = 40, suffix: str = "jpg") -> Path:
    """Class folders of plain images, each class of its own shade."""
    for name, shade in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (side, side), (shade, shade, shade)).save(folder / name / f"{index}.{suffix}")
    return folder


def found(root: Path) -> data.Images:
    return data.animals(data.data_root(str(root)))


def test_images_are_resized_shuffled_and_held_out(tmp_path: Path) -> None:
    images = data.image_folder(write(tmp_path), size=16)
    assert images.classes == ("cat", "dog", "wild")
    assert images.x.shape == (12, 3, 16, 16)
    assert images.test_x.shape == (3, 3, 16, 16)
    shades = torch.tensor(list(ANIMALS.values()))
    for x, y in ((images.x, images.y), (images.test_x, images.test_y)):
        torch.testing.assert_close(x.mean(dim=(1, 2, 3)) * 255, shades[y].float(), atol=2, rtol=0)
    assert images.y.tolist() != sorted(images.y.tolist())
    assert torch.equal(data.image_folder(tmp_path, size=16).x, images.x), "the same sets every time"


@pytest.mark.parametrize("name", ["animal-faces", "afhq"])
def test_a_data_root_may_have_animals(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    images = found(tmp_path)
    assert images.classes == ("cat", "dog", "wild")
    assert images.x.shape == (12, 3, 32, 32)
    assert "from the data root" in images.source, "so that the record's command says --data-root"
    assert "12 training and 3 test images" in images.source


@pytest.mark.parametrize("layout", ["classes", "train and val"])
def test_a_data_root_may_be_the_folder_itself(layout: str, tmp_path: Path) -> None:
    if layout == "classes":
        write(tmp_path)
    else:
        write(tmp_path / "train")
        write(tmp_path / "val", count=2)
    root = data.data_root(str(tmp_path))
    assert len(data.animals(root).x) == (12 if layout == "classes" else 15)
    assert len(data.animals(root).test_x) == (3 if layout == "classes" else 6)
    assert "the data root has none" in data.mnist(root).source, "the others fall back"
    assert "the data root has none" in data.cifar10(root).source


def test_a_root_with_other_data_is_no_image_folder(tmp_path: Path) -> None:
    write(tmp_path, {"plots": 40, "scans": 120})
    (tmp_path / "tinyshakespeare.txt").write_text("text")
    assert "in place of CIFAR-10" in found(tmp_path).source


@pytest.mark.parametrize("test", ["val", "test"])
def test_splits_are_kept(test: str, tmp_path: Path) -> None:
    write(tmp_path / "afhq" / "train", count=4)
    write(tmp_path / "afhq" / test, count=1, suffix="png")
    images = found(tmp_path)
    assert len(images.x) == 12
    assert sorted(images.test_y.tolist()) == [0, 1, 2]


def test_a_train_folder_alone_is_split(tmp_path: Path) -> None:
    write(tmp_path / "afhq" / "train")
    assert len(found(tmp_path).test_x) == 3


def test_the_first_three_of_many_classes_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces", {"zebra": 10, **ANIMALS})
    assert found(tmp_path).classes == ("cat", "dog", "wild")
    assert data.image_folder(tmp_path / "animal-faces").classes == ("cat", "dog", "wild", "zebra")


def test_two_classes_will_do(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces", {"cat": 40, "dog": 120})
    assert found(tmp_path).classes == ("cat", "dog")


def test_only_so_many_are_read_and_they_are_a_fair_sample(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces", count=20, side=8)
    images = data.animals(data.data_root(str(tmp_path)), train=12, test=6)
    assert (len(images.x), len(images.test_x)) == (12, 6)
    assert len(images.y.unique()) == 3


def test_modes_and_sub_folders(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "cat" / "more").mkdir()
    Image.new("L", (10, 20), 40).save(tmp_path / "cat" / "more" / "grey.png")
    Image.new("RGBA", (10, 20), (40, 40, 40, 9)).save(tmp_path / "cat" / "alpha.PNG")
    Image.new("P", (10, 20), 3).save(tmp_path / "cat" / "palette.gif")
    images = data.image_folder(tmp_path)
    assert len(images.x) + len(images.test_x) == 18


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / "cat" / "notes.txt").write_text("notes")
    (tmp_path / "cat" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    assert len(data.image_folder(tmp_path).x) == 12


def test_cifar10_or_gratings_stand_in() -> None:
    images = data.animals(data.DataRoot())
    assert images.x.shape[1:] == (3, 32, 32)
    assert sorted(images.y.unique().tolist()) == [0, 1, 2]
    assert "in place of CIFAR-10" in images.source
    few = images.only("2", "0")
    assert len(few.x) == int((images.y != 1).sum())
    assert torch.equal(few.x[few.y == 0], images.x[images.y == 2])


# Mistakes


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0 cut off"])
def test_a_corrupt_image_is_named(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "animal-faces")
    (tmp_path / "animal-faces" / "dog" / "broken.jpg").write_bytes(content)
    with pytest.raises(LabError, match=r"dog/broken\.jpg cannot be read as an image\. Remove it or replace it\.$"):
        found(tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces", side=200)
    path = tmp_path / "animal-faces" / "wild" / "3.jpg"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(LabError, match=r"wild/3\.jpg cannot be read"):
        found(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces")
    (tmp_path / "animal-faces" / "bird").mkdir()
    (tmp_path / "animal-faces" / "bird" / "notes.txt").write_text("none yet")
    with pytest.raises(LabError, match=r"animal-faces/bird has no images"):
        found(tmp_path)


@pytest.mark.parametrize(("classes", "message"), [({}, "no class folders"), ({"cat": 40}, r"1 class folder \(cat\)")])
def test_fewer_than_two_classes(classes: dict[str, int], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "animal-faces", classes)
    folder.mkdir(exist_ok=True)
    with pytest.raises(LabError, match=message):
        found(tmp_path)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "animal-faces").write_bytes(b"zip?")
    with pytest.raises(LabError, match=r"animal-faces is not a folder\. Give one with"):
        found(tmp_path)
    with pytest.raises(LabError, match="is not a folder"):
        data.image_folder(tmp_path / "absent")


def test_a_test_folder_of_other_classes(tmp_path: Path) -> None:
    write(tmp_path / "afhq" / "train")
    write(tmp_path / "afhq" / "val", {"cat": 40, "dog": 120})
    with pytest.raises(LabError, match=r"val has the classes cat, dog, .*train cat, dog, wild"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("counts", "message"), [((3, 3), "has 5 images to train; at least 40"), ((60, 5), "3 images of dog to train")]
)
def test_too_few_images(counts: tuple[int, int], message: str, tmp_path: Path) -> None:
    for (name, shade), count in zip(ANIMALS.items(), counts, strict=False):
        write(tmp_path / "animal-faces", {name: shade}, count=count, side=8)
    context = Context(data=data.data_root(str(tmp_path)))
    with pytest.raises(LabError, match=message):
        animal_faces.main(animal_faces.PRESETS["smoke"], context)


def test_a_data_root_without_anything(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("none yet")
    with pytest.raises(LabError, match="no class folders of images"):
        data.data_root(str(tmp_path))
    write(tmp_path / "mine")
    with pytest.raises(LabError, match=f"Did you mean {tmp_path / 'mine'}"):
        data.data_root(str(tmp_path / "mine" / "cat"))


def test_messages_are_one_line(tmp_path: Path) -> None:
    write(tmp_path / "animal-faces", {"cat": 40})
    with pytest.raises(LabError) as caught:
        found(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
