"""The data of the lab: real files in a data root, what stands in for them, and what is wrong with them."""

import io
import struct
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import funcreg as fr
from experiments import data
from experiments.data import images as image_loaders
from experiments.errors import LabError


def test_data_root_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUNCREG_DATA", str(tmp_path / "absent"))
    with pytest.raises(LabError, match="FUNCREG_DATA"):
        data.data_root()
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert data.data_root(str(tmp_path)).path == tmp_path  # the option comes first
    with pytest.raises(LabError, match=f"Did you mean {tmp_path}"):
        data.data_root(str(tmp_path / "MNIST"))


def test_digits_stand_in_for_mnist_and_say_so() -> None:
    images = data.mnist(data.DataRoot())
    assert images.x.shape == (1297, 1, 28, 28)
    assert images.test_x.shape == (500, 1, 28, 28)
    assert float(images.x.min()) >= 0
    assert float(images.x.max()) <= 1
    assert "in place of MNIST" in images.source
    assert "no data root was given" in images.source
    assert torch.bincount(images.test_y).min() > 30, "shuffled: every class is in the test set"
    assert torch.equal(images.x, data.mnist(data.DataRoot()).x)
    assert len(images.take(10, 5).x) == 10


def write_mnist(root: Path, train: int = 30, test: int = 20) -> Tensor:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = fr.random.randint(fr.random.key(0), (train + test, 28, 28), 0, 256).to(torch.uint8)
    for name, part in (("train", pixels[:train]), ("t10k", pixels[train:])):
        header = struct.pack(">IIII", 0x00000803, len(part), 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + part.numpy().tobytes())
        labels = bytes(i % 10 for i in range(len(part)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x00000801, len(part)) + labels)
    return pixels


def test_mnist_is_read_from_a_data_root(tmp_path: Path) -> None:
    pixels = write_mnist(tmp_path)
    images = data.mnist(data.data_root(str(tmp_path)))
    assert images.x.shape == (30, 1, 28, 28)
    assert images.source == "MNIST: 30 training and 20 test images of 28x28, from the data root"
    shuffled = fr.random.permutation(fr.random.key(0), 30)
    torch.testing.assert_close(images.x[:, 0], pixels[:30][shuffled] / 255)
    assert torch.equal(images.y, shuffled % 10)


def test_a_root_without_mnist_falls_back_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "tinyshakespeare.txt").write_text("text")
    assert "the data root has none" in data.mnist(data.data_root(str(tmp_path))).source


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_damaged_mnist_is_named(damage: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 5000 if damage == "truncated" else 0])
    with pytest.raises(LabError, match="MNIST"):
        data.mnist(data.data_root(str(tmp_path)))


def test_generated_images_stand_in_for_cifar10() -> None:
    images = data.cifar10(data.DataRoot())
    assert images.x.shape[1:] == (3, 32, 32)
    assert "in place of CIFAR-10" in images.source
    assert len(torch.bincount(images.y)) == 10


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_cifar10_archive_is_unpacked_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar10-jpg.tar.gz", "w:gz") as archive:
        for part, count in (("train", 3), ("test", 1)):
            for label, name in enumerate(("airplane", "automobile")):
                for index in range(count):
                    content = jpeg(100 * label + index)
                    info = tarfile.TarInfo(f"cifar10/{part}/{name}/{index:04}.jpg")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    images = data.cifar10(data.data_root(str(root)))
    assert images.x.shape == (6, 3, 32, 32)
    assert images.test_x.shape == (2, 3, 32, 32)
    bright = images.x.mean(dim=(1, 2, 3))
    assert torch.equal(bright > 0.2, images.y == 1)
    assert [path.name for path in root.iterdir()] == ["cifar10-jpg.tar.gz"], "nothing is written beside the data"
    kept = list((tmp_path / "cache" / "funcreg").iterdir())
    assert len(kept) == 1
    assert torch.equal(data.cifar10(data.data_root(str(root))).x, images.x)
    (root / "cifar10-jpg.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(LabError, match="CIFAR-10"):
        data.cifar10(data.data_root(str(root)))


def test_image_folder(tmp_path: Path) -> None:
    for name, shade in (("cat", 50), ("dog", 200)):
        (tmp_path / name).mkdir()
        for index in range(5):
            (tmp_path / name / f"{index}.jpg").write_bytes(jpeg(shade))
    images = data.image_folder(tmp_path, size=16)
    assert images.classes == ("cat", "dog")
    assert images.x.shape == (8, 3, 16, 16)
    assert torch.equal(images.x.mean(dim=(1, 2, 3)) > 0.5, images.y == 1)
    (tmp_path / "dog" / "corrupt.jpg").write_bytes(b"not a picture")
    with pytest.raises(LabError, match=r"corrupt\.jpg cannot be read"):
        data.image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="empty"):
        data.image_folder(tmp_path)
    with pytest.raises(LabError, match="not a folder"):
        data.image_folder(tmp_path / "absent")


def test_download_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(LabError, match="no route to host"):
        image_loaders.mnist(data.data_root(str(tmp_path), download=True))


def test_text(tmp_path: Path) -> None:
    manual = data.characters(data.DataRoot())
    assert "in place of Tiny Shakespeare" in manual.source
    assert len(manual.codes) > 100_000
    (tmp_path / "tinyshakespeare.txt").write_text("to be or not")
    text = data.characters(data.data_root(str(tmp_path)))
    assert "".join(text.alphabet[code] for code in text.codes) == "to be or not"
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match="cannot read"):
        data.characters(data.data_root(str(tmp_path)))


def test_toys_are_functions_of_a_key(key: Tensor) -> None:
    x, y = data.quadratic(key, 500, tilt=-0.7, threshold=0.3)
    assert torch.equal(y, (x[:, 0] ** 2 - 0.7 * x[:, 1] > 0.3).long())
    keys = fr.random.split(key, 3)
    stacked, _ = torch.func.vmap(lambda k: data.quadratic(k, 20))(keys)
    torch.testing.assert_close(stacked[2], data.quadratic(keys[2], 20)[0])
    features, targets = data.regression(key, 50, noise=0.0)
    expected = torch.sin(2 * features[:, 0]) + 0.5 * features[:, 1] * features[:, 2]
    torch.testing.assert_close(targets[:, 0], expected)
