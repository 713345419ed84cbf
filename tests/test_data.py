"""Datasets: what is loaded against what was written, how it is divided, and every refusal."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from spikenas.data import datasets
from spikenas.data.cache import cache_folder
from spikenas.data.datasets import Dataset, Split, load_dataset
from spikenas.data.images import Encoded, decode
from spikenas.data.split import stratified_order, take_out, thin
from spikenas.errors import DatasetError, MissingTool

DATA = Path(os.environ.get("SPIKENAS_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (40, 5, 4, 3), dtype=np.uint8)  # [N, H, W, C]
GREY = RNG.integers(0, 256, (40, 5, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "spikenas"
    monkeypatch.setenv("SPIKENAS_CACHE", str(folder))
    return folder


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path, pixels: Sequence[np.ndarray], suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"{number:03}{suffix}")


def write_parquet(
    file: Path,
    pixels: Sequence[np.ndarray],
    labels: Sequence[int],
    columns: tuple[str, str] = ("img", "label"),
    names: Sequence[str] | None = None,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(one), "path": None} for one in pixels]
    table = pa.table({columns[0]: pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    table = table.append_column(columns[1], pa.array(labels))
    if names is not None:
        features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file, row_group_size=7)


def rows(images: np.ndarray) -> list[bytes]:
    """Images as a sorted list, to compare sets of images."""
    return sorted(image.tobytes() for image in images)


def every_image(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.images, dataset.val.images, dataset.test.images])


# --- digits -----------------------------------------------------------------------------------


def test_digits_are_the_ones_of_scikit_learn_scaled_to_bytes() -> None:
    dataset = load_dataset("digits")
    # round half to even: 8 * 255 / 16 = 127.5 is the only tie, and goes to 128
    expected = [[round(pixel * 255 / 16) for pixel in row] for row in load_digits().data.astype(int).tolist()]
    assert rows(every_image(dataset)) == rows(np.array(expected, np.uint8))
    assert (dataset.name, dataset.input_shape, dataset.classes) == ("digits", (1, 8, 8), 10)
    assert dataset.class_names == tuple("0123456789")


def test_digits_keep_image_and_label_together() -> None:
    bunch = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    for part in (load_dataset("digits").train, load_dataset("digits").test):
        back = np.rint(part.images[:, 0] / (255 / 16))
        assert [label_of[image.tobytes()] for image in back] == part.labels.tolist()


def test_digits_are_divided_in_the_stated_fractions_class_by_class() -> None:
    dataset = load_dataset("digits")
    assert [len(part) for part in (dataset.test, dataset.val, dataset.train)] == [359, 144, 1294]
    whole = np.bincount(load_digits().target)
    assert np.abs(np.bincount(dataset.test.labels) - whole * 359 / 1797).max() <= 1
    assert np.abs(np.bincount(dataset.val.labels) - whole * 144 / 1797).max() <= 1


def test_the_seed_moves_val_but_never_test() -> None:
    first, again, other = (load_dataset("digits", seed=seed) for seed in (0, 0, 1))
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(first, name).images, getattr(again, name).images)
    np.testing.assert_array_equal(first.test.images, other.test.images)
    assert rows(first.val.images) != rows(other.val.images)


def test_limit_thins_only_the_training_images_evenly() -> None:
    whole, few = load_dataset("digits"), load_dataset("digits", limit=100)
    counts = np.bincount(few.train.labels)
    assert counts.sum() == 100
    assert counts.min() >= 9
    assert counts.max() <= 11
    assert set(rows(few.train.images)) <= set(rows(whole.train.images))
    np.testing.assert_array_equal(few.val.images, whole.val.images)
    np.testing.assert_array_equal(few.test.images, whole.test.images)
    assert len(load_dataset("digits", limit=10**6).train) == len(whole.train)
    assert np.bincount(load_dataset("digits", limit=10).train.labels).tolist() == [1] * 10


# --- dividing ---------------------------------------------------------------------------------


def numbered(class_sizes: Sequence[int]) -> Split:
    """Images of two bytes that carry their own number."""
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    numbers = np.arange(len(labels), dtype="<u2").view(np.uint8).reshape(-1, 1, 1, 2)
    return Split(numbers, labels)


@given(
    class_sizes=st.lists(st.integers(2, 60), min_size=2, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_taking_out_parts_images_without_loss_and_keeps_every_class(
    class_sizes: list[int], fraction: float, seed: int
) -> None:
    split = numbered(class_sizes)
    classes, wanted = len(class_sizes), round(fraction * len(split))
    rest, part = take_out(split, wanted, np.random.default_rng(seed))
    assert sorted(rows(rest.images) + rows(part.images)) == rows(split.images)
    assert len(part) == min(max(wanted, classes), len(split) - classes)
    taken = np.bincount(part.labels, minlength=classes)
    assert taken.min() >= 1
    assert np.bincount(rest.labels, minlength=classes).min() >= 1
    fair = np.array(class_sizes) * len(part) / len(split)
    # A prefix takes each class within one image of the same share s of it; so the sum of those
    # errors, at most 1 each, lets a class stray from its fair number by at most K - 1.
    assert np.abs(taken - fair).max() <= classes - 1 + 1e-9


def test_unequal_classes_are_taken_in_proportion() -> None:
    rest, part = take_out(numbered([1000, 500, 100]), 160, np.random.default_rng(3))
    assert np.bincount(part.labels).tolist() == [100, 50, 10]
    assert np.bincount(rest.labels).tolist() == [900, 450, 90]


@given(classes=st.integers(2, 6), size=st.integers(2, 40), seed=st.integers(0, 99), data=st.data())
def test_every_prefix_of_equal_classes_is_equal_to_one(classes: int, size: int, seed: int, data: st.DataObject) -> None:
    labels = np.tile(np.arange(classes), size)
    count = data.draw(st.integers(0, len(labels)))
    counts = np.bincount(labels[stratified_order(labels, np.random.default_rng(seed))[:count]], minlength=classes)
    assert counts.max() - counts.min() <= 1


def test_thinning_keeps_rare_classes() -> None:
    kept = thin(numbered([1, 900, 99]), 50, np.random.default_rng(0))
    counts = np.bincount(kept.labels)
    assert counts.sum() == 50
    assert counts[0] == 1
    assert counts[2] in (4, 5, 6)


# --- image folders ----------------------------------------------------------------------------


def test_image_folder_without_parts_is_divided(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "dog", COLOUR[:20])
    write_images(tmp_path / "pets" / "cat", COLOUR[20:])
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "pets" / ".hidden").mkdir()
    dataset = load_dataset(str(tmp_path / "pets"))
    assert (dataset.name, dataset.class_names, dataset.input_shape) == ("pets", ("cat", "dog"), (3, 5, 4))
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [29, 3, 8]
    cats = np.concatenate([part.images[part.labels == 0] for part in (dataset.train, dataset.val, dataset.test)])
    assert rows(cats) == rows(COLOUR[20:].transpose(0, 3, 1, 2))


def test_image_folder_with_parts_keeps_them(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 20), ("test", 30)):
        write_images(tmp_path / part / "a", COLOUR[first : first + 4])
        write_images(tmp_path / part / "b" / "images", COLOUR[first + 4 : first + 8])
    dataset = load_dataset(str(tmp_path))
    expected = COLOUR.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(dataset.train.images, expected[:8])
    np.testing.assert_array_equal(dataset.val.images, expected[20:28])
    np.testing.assert_array_equal(dataset.test.images, expected[30:38])
    assert dataset.test.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_validation_without_test_is_the_test_set(tmp_path: Path) -> None:
    for part, first in (("training", 0), ("validation", 20)):
        write_images(tmp_path / part / "a", COLOUR[first : first + 10])
        write_images(tmp_path / part / "b", COLOUR[first + 10 : first + 20])
    dataset = load_dataset(str(tmp_path), val_fraction=0.2)
    np.testing.assert_array_equal(dataset.test.images, COLOUR[20:].transpose(0, 3, 1, 2))
    assert np.bincount(dataset.val.labels).tolist() == [2, 2]
    assert rows(np.concatenate([dataset.train.images, dataset.val.images])) == rows(COLOUR[:20].transpose(0, 3, 1, 2))


def test_a_class_called_train_is_no_part(tmp_path: Path) -> None:
    write_images(tmp_path / "train", GREY[:5])
    write_images(tmp_path / "bus", GREY[5:10])
    assert load_dataset(str(tmp_path)).class_names == ("bus", "train")


def test_grey_images_keep_one_channel_until_one_has_colour(tmp_path: Path) -> None:
    write_images(tmp_path / "a", GREY[:5])
    write_images(tmp_path / "b", GREY[5:10])
    dataset = load_dataset(str(tmp_path))
    assert dataset.input_shape == (1, 5, 4)
    assert rows(every_image(dataset)) == rows(GREY[:10])
    Image.fromarray(COLOUR[0]).save(tmp_path / "b" / "999.png")
    dataset = load_dataset(str(tmp_path))
    spread = [np.stack([one] * 3) for one in GREY[:10]]
    assert rows(every_image(dataset)) == rows(np.array([*spread, COLOUR[0].transpose(2, 0, 1)]))


def test_images_of_every_kind_decode_to_their_colours(tmp_path: Path) -> None:
    black_white = Image.fromarray(GREY[0] > 127)
    clear = Image.fromarray(np.dstack([COLOUR[0], np.full((5, 4), 9, np.uint8)]))
    palette = Image.new("P", (4, 5), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=b"\x05\x06")
    black_white.save(tmp_path / "bw.png")
    clear.save(tmp_path / "rgba.png")
    found = decode([Encoded(name, tmp_path / name) for name in ("bw.png", "rgba.png", "p.png")])
    np.testing.assert_array_equal(found[0], np.stack([np.where(GREY[0] > 127, 255, 0)] * 3))
    np.testing.assert_array_equal(found[1], COLOUR[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(found[2], np.broadcast_to(np.array([10, 20, 30])[:, None, None], (3, 5, 4)))


# --- parquet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "data", "plain_text"])
def test_parquet_shards_with_names(tmp_path: Path, folder: str) -> None:
    labels = [number % 3 for number in range(40)]
    names = ["ape", "bee", "cow"]
    for shard in range(2):
        rows_of = slice(15 * shard, 15 * shard + 15)
        file = tmp_path / folder / f"train-0000{shard}-of-00002.parquet"
        write_parquet(file, COLOUR[rows_of], labels[rows_of], names=names)
    write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", COLOUR[30:], labels[30:], names=names)
    dataset = load_dataset(str(tmp_path))
    assert (dataset.class_names, dataset.input_shape) == (("ape", "bee", "cow"), (3, 5, 4))
    np.testing.assert_array_equal(dataset.test.images, COLOUR[30:].transpose(0, 3, 1, 2))
    assert dataset.test.labels.tolist() == labels[30:]
    for part in (dataset.train, dataset.val):
        for image, label in zip(part.images, part.labels, strict=True):
            number = next(n for n in range(30) if (COLOUR[n].transpose(2, 0, 1) == image).all())
            assert label == labels[number]


def test_parquet_grey_without_names_and_with_validation_only(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", GREY[:20], [0, 1] * 10, ("image", "fine_label"))
    write_parquet(tmp_path / "validation.parquet", GREY[20:], [1, 0] * 10, ("image", "fine_label"))
    dataset = load_dataset(str(tmp_path))
    assert (dataset.class_names, dataset.input_shape) == (("0", "1"), (1, 5, 4))
    np.testing.assert_array_equal(dataset.test.images[:, 0], GREY[20:])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="SPIKENAS_DATA/cifar10 is absent")
def test_cifar10_whole() -> None:
    told: list[str] = []
    dataset = load_dataset(str(DATA / "cifar10"), progress=told.append)
    assert (dataset.input_shape, dataset.classes) == ((3, 32, 32), 10)
    assert np.bincount(dataset.train.labels).tolist() == [4500] * 10
    assert np.bincount(dataset.val.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert "airplane" in dataset.class_names
    assert told[0] == "decoding images: 0 of 60,000"
    # Published means of the training set are 0.4914, 0.4822, 0.4465; JPEG moves them little.
    means = dataset.train.images[::10].mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.005)
    told.clear()
    again = load_dataset(str(DATA / "cifar10"), progress=told.append)
    assert told == []
    np.testing.assert_array_equal(again.train.images, dataset.train.images)


# --- CIFAR's and Tiny-ImageNet's own layouts ---------------------------------------------------


def records(images: np.ndarray, *labels: np.ndarray) -> bytes:
    return b"".join(bytes([*map(int, row)]) + image.tobytes() for image, *row in zip(images, *labels, strict=True))


def test_cifar_in_its_binary_version(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (36, 3, 32, 32), dtype=np.uint8)
    fine, coarse = np.arange(36) % 3, np.arange(36) % 2
    ten, hundred = tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-100-binary"
    for folder, names in ((ten, "batches.meta.txt"), (hundred, "fine_label_names.txt")):
        folder.mkdir()
        (folder / names).write_text("apple\nbaby\nbear\n\n")
    for number in range(5):
        some = slice(6 * number, 6 * number + 6)
        (ten / f"data_batch_{number + 1}.bin").write_bytes(records(images[some], fine[some]))
    (ten / "test_batch.bin").write_bytes(records(images[30:], fine[30:]))
    (hundred / "train.bin").write_bytes(records(images[:30], coarse[:30], fine[:30]))
    (hundred / "test.bin").write_bytes(records(images[30:], coarse[30:], fine[30:]))
    for folder in (ten, hundred):
        dataset = load_dataset(str(folder))
        assert dataset.class_names == ("apple", "baby", "bear")
        np.testing.assert_array_equal(dataset.test.images, images[30:])
        np.testing.assert_array_equal(dataset.test.labels, fine[30:])
        assert rows(every_image(dataset)) == rows(images)
    (ten / "data_batch_3.bin").write_bytes(b"\0" * 3000)
    with pytest.raises(DatasetError, match=r"data_batch_3.bin: 3,000 bytes are no whole records of 3073"):
        load_dataset(str(ten))


def test_cifars_pickles_are_not_opened(tmp_path: Path) -> None:
    for name in ("data_batch_1", "batches.meta"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DatasetError, match="pickles, which can run any code and are not read; fetch the binary"):
        load_dataset(str(tmp_path))


def test_tiny_imagenet_as_it_is_unpacked(tmp_path: Path) -> None:
    for number, name in enumerate(("n01443537", "n01629819")):
        write_images(tmp_path / "train" / name / "images", COLOUR[8 * number : 8 * number + 8], ".JPEG")
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t0\t62\t62\n")
    write_images(tmp_path / "val" / "images", COLOUR[16:22])
    lines = [f"{number:03}.png\t{('n01629819', 'n01443537')[number % 2]}\t0\t32\t44\t62" for number in range(6)]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    write_images(tmp_path / "test" / "images", COLOUR[30:33])
    dataset = load_dataset(str(tmp_path))
    assert dataset.class_names == ("n01443537", "n01629819")
    assert len(dataset.train) + len(dataset.val) == 16
    order = np.array([1, 3, 5, 0, 2, 4])
    np.testing.assert_array_equal(dataset.test.images, COLOUR[16:22][order].transpose(0, 3, 1, 2))
    assert dataset.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    write_images(tmp_path / "val" / "more", COLOUR[22:23])
    (tmp_path / "val" / "more" / "000.png").rename(tmp_path / "val" / "more" / "stray.png")
    with pytest.raises(DatasetError, match=r"stray.png: val_annotations.txt does not name it"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("layout", ["fine_label", "label"])
def test_cifar100_and_tiny_imagenet_of_the_hub(tmp_path: Path, layout: str) -> None:
    columns, other = {"fine_label": (("img", "fine_label"), "test"), "label": (("image", "label"), "valid")}[layout]
    labels = [number % 2 for number in range(40)]
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", COLOUR[:30], labels[:30], columns, ["cat", "dog"])
    write_parquet(tmp_path / "data" / f"{other}-00000-of-00001.parquet", COLOUR[30:], labels[30:], columns)
    dataset = load_dataset(str(tmp_path))
    assert dataset.class_names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.test.images, COLOUR[30:].transpose(0, 3, 1, 2))


# --- idx and npz ------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: int = 30, test: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(40) % 10
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(GREY[:train])))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:train])))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(GREY[train : train + test]))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[train : train + test]))


def test_idx_folder_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path)
    dataset = load_dataset(str(tmp_path))
    assert (dataset.class_names, dataset.input_shape) == (tuple("0123456789"), (1, 5, 4))
    np.testing.assert_array_equal(dataset.test.images[:, 0], GREY[30:])
    assert dataset.test.labels.tolist() == list(range(10))
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", tmp_path)
    assert load_dataset("fashion-mnist").class_names[9] == "Ankle boot"


def test_fashion_mnist_absent_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", tmp_path)
    with pytest.raises(MissingTool, match="apt-get install dataset-fashion-mnist"):
        load_dataset("fashion-mnist")


@pytest.mark.skipif(not datasets.FASHION_MNIST_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is absent")
def test_fashion_mnist_installed() -> None:
    dataset = load_dataset("fashion-mnist")
    assert dataset.input_shape == (1, 28, 28)
    assert np.bincount(dataset.train.labels).tolist() == [5400] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    # The first test image is an ankle boot, as on the front page of the dataset.
    assert dataset.class_names[dataset.test.labels[0]] == "Ankle boot"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
def test_npz_layouts(tmp_path: Path, layout: str) -> None:
    images = {"NHWC": COLOUR, "NCHW": COLOUR.transpose(0, 3, 1, 2), "NHW": GREY}[layout]
    labels = np.arange(40, dtype=np.uint8)[:, None] % 2  # MedMNIST writes labels [N, 1]
    np.savez(
        tmp_path / "shapes.npz",
        train_images=images[:30],
        train_labels=labels[:30],
        test_images=images[30:],
        test_labels=labels[30:],
    )
    dataset = load_dataset(str(tmp_path / "shapes.npz"))
    expected = GREY[30:, None] if layout == "NHW" else COLOUR[30:].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(dataset.test.images, expected)
    assert (dataset.name, dataset.test.labels.tolist()) == ("shapes", [0, 1] * 5)


# --- cache ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "pets" / "a", COLOUR[:10])
    write_images(tmp_path / "pets" / "b", COLOUR[10:20])
    return tmp_path / "pets"


def decodes(folder: Path) -> bool:
    """Whether a load decodes; its images are checked either way."""
    told: list[str] = []
    dataset = load_dataset(str(folder), progress=told.append)
    written = [np.asarray(Image.open(file)).transpose(2, 0, 1) for file in folder.glob("?/*.png")]
    assert rows(every_image(dataset)) == rows(np.array(written))
    return bool(told)


def test_only_the_first_load_decodes_until_a_file_changes(folder: Path, own_cache: Path) -> None:
    assert [decodes(folder), decodes(folder)] == [True, False]
    Image.fromarray(COLOUR[30]).save(folder / "a" / "000.png")
    os.utime(folder / "a" / "000.png", ns=(1, 1))
    assert [decodes(folder), decodes(folder)] == [True, False]
    before = (folder / "a" / "000.png").stat()
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(folder / "a" / "000.png")
    os.utime(folder / "a" / "000.png", ns=(1, 1))
    assert (folder / "a" / "000.png").stat().st_size != before.st_size
    assert [decodes(folder), decodes(folder)] == [True, False]
    (folder / "a" / "000.png").rename(folder / "b" / "new.png")
    assert [decodes(folder), decodes(folder)] == [True, False]
    assert len(list(own_cache.iterdir())) == 1


def test_a_damaged_cache_is_rebuilt(folder: Path, own_cache: Path) -> None:
    assert decodes(folder)
    (entry,) = own_cache.iterdir()
    good = entry.read_bytes()
    flips = [bytes([*good[:at], good[at] ^ 0xFF, *good[at + 1 :]]) for at in range(0, len(good), 97)]
    for damaged in [b"", b"nonsense", good[:-1], good[: len(good) // 2], *flips]:
        entry.write_bytes(damaged)
        decodes(folder)
    entry.write_bytes(good[: len(good) // 2])
    assert [decodes(folder), decodes(folder)] == [True, False]


def test_an_unwritable_cache_is_no_error(folder: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert [decodes(folder), decodes(folder)] == [True, True]


def test_where_the_cache_is(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == own_cache
    monkeypatch.delenv("SPIKENAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "spikenas"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "spikenas"


# --- refusals ---------------------------------------------------------------------------------


def refusal(source: object, **arguments: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(str(source), **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("source", ["cifar11", "no/such/path", ""])
def test_unknown_dataset_lists_what_there_is(source: str) -> None:
    message = refusal(source)
    assert repr(source) in message
    assert "digits, fashion-mnist" in message
    assert "a path also works" in message


def test_a_file_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    assert "neither a folder nor an .npz file" in refusal(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seed": -1}, "seed -1"),
        ({"val_fraction": 0.0}, "val fraction 0.0"),
        ({"val_fraction": 1.5}, "val fraction 1.5"),
        ({"val_fraction": float("nan")}, "val fraction nan"),
        ({"limit": 0}, "limit 0"),
        ({"limit": 9}, "limit 9: must be at least 10"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], said: str) -> None:
    assert said in refusal("digits", **arguments)


def test_empty_class_folder(folder: Path) -> None:
    (folder / "hollow").mkdir()
    assert str(folder / "hollow") in refusal(folder)


def test_one_class_or_none(tmp_path: Path) -> None:
    assert "no class folders" in refusal(tmp_path)
    write_images(tmp_path / "only", GREY[:5])
    assert "one class folder (only)" in refusal(tmp_path)


def test_broken_image_files(folder: Path) -> None:
    file = folder / "a" / "005.png"
    good = file.read_bytes()
    for damaged in (b"", b"not a picture", good[:60], good[:40] + b"\xff" * 20 + good[60:]):
        file.write_bytes(damaged)
        message = refusal(folder)
        assert str(file) in message
        assert "broken image file" in message


def test_deep_pixels(folder: Path) -> None:
    Image.fromarray(GREY[0].astype(np.uint16) * 256).save(folder / "b" / "deep.png")
    assert "deep.png: pixels of more than 8 bits" in refusal(folder)


def test_images_of_differing_sizes(folder: Path) -> None:
    Image.new("RGB", (7, 9)).save(folder / "b" / "odd.png")
    message = refusal(folder)
    assert f"{folder / 'a' / '000.png'} is 4x5" in message
    assert f"{folder / 'b' / 'odd.png'} is 7x9" in message


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    write_images(tmp_path / "many", GREY[:9])
    write_images(tmp_path / "few", GREY[9:11])
    assert "class 'few' has 2 training image(s): at least 3 are needed (train, val, test)" in refusal(tmp_path)
    Image.fromarray(GREY[11]).save(tmp_path / "few" / "third.png")
    dataset = load_dataset(str(tmp_path))
    assert all((part.labels == 0).sum() == 1 for part in (dataset.train, dataset.val, dataset.test))


def test_images_too_large_to_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikenas.data.images.MOST_BYTES", 20 * 4 * 5 * 3 - 1)
    assert "20 images of 4x5 need" in refusal(folder)


def test_parts_with_other_classes(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a", "test/c"):
        write_images(tmp_path / name, GREY[:4])
    assert f"class 'b' is in {tmp_path / 'train'} but not in {tmp_path / 'test'}" in refusal(tmp_path)


@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_labels_out_of_range(tmp_path: Path, label: int) -> None:
    write_parquet(tmp_path / "train.parquet", GREY[:9], [0, 1, 2] * 3)
    write_parquet(tmp_path / "test.parquet", GREY[:3], [0, label, 2])
    message = refusal(tmp_path)
    assert f"label {label} of test image 1: labels must be 0 to 2" in message
    assert str(tmp_path) in message


def test_labels_with_gaps(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", GREY[:8], [0, 0, 0, 0, 2, 2, 2, 2])
    assert "class '1' has 0 training image(s)" in refusal(tmp_path)
    write_parquet(tmp_path / "train.parquet", GREY[:2], [0, 10**12])
    assert "without gaps" in refusal(tmp_path)


def test_parquet_faults(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    file.write_bytes(b"PAR1 nonsense")
    assert "train.parquet: broken parquet file" in refusal(tmp_path)
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), file)
    assert "columns ['text', 'label']" in refusal(tmp_path)
    pq.write_table(pa.table({"img": [b"x"], "label": ["cat"]}), file)
    assert "labels must be whole numbers" in refusal(tmp_path)
    pq.write_table(pa.table({"img": [b"x", b"y"], "label": pa.array([0, None])}), file)
    assert "1 missing" in refusal(tmp_path)
    pq.write_table(pa.table({"img": [b"x", b"y"], "label": [0, 1]}), file)
    assert "train.parquet row 0: broken image file (not an image)" in refusal(tmp_path)
    pq.write_table(pa.table({"img": [{"bytes": None, "path": "a.png"}], "label": [0]}), file)
    assert "train.parquet row 0: no image bytes" in refusal(tmp_path)
    pq.write_table(pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), file)
    assert "holds no rows" in refusal(tmp_path)


def test_several_parquet_datasets(tmp_path: Path) -> None:
    for name in ("clean", "noisy"):
        write_parquet(tmp_path / name / "train.parquet", GREY[:2], [0, 1])
    assert "(clean, noisy); give the path of one" in refusal(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "magic", "axes", "gzip", "missing", "count"])
def test_idx_faults(tmp_path: Path, damage: str) -> None:
    write_idx(tmp_path)
    file = tmp_path / "t10k-labels-idx1-ubyte"
    good = file.read_bytes()
    broken = {
        "cut": good[:-1],
        "magic": b"\0\0\x0d" + good[3:],
        "axes": idx(GREY[:2]),
        "gzip": gzip.compress(good)[:-9],
        "missing": b"",
        "count": idx(np.arange(9)),
    }
    file.unlink() if damage == "missing" else file.write_bytes(broken[damage])
    message = refusal(tmp_path)
    assert ("10 images have 9 labels" if damage == "count" else "t10k-labels-idx1-ubyte") in message


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("unpickled a file from disk",))


def test_npz_faults(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(b"nonsense")
    assert "x.npz: not an npz file" in refusal(file)
    np.savez(file, images=GREY)
    assert "train_images and train_labels are needed" in refusal(file)
    np.savez(file, train_images=GREY / 255, train_labels=np.arange(40))
    assert "train_images are float64 (40, 5, 4)" in refusal(file)
    np.savez(file, train_images=GREY, train_labels=np.arange(40) / 2)
    assert "train_labels are float64 (40,)" in refusal(file)
    np.savez(file, train_images=GREY, train_labels=np.arange(39))
    assert "40 images have 39 labels" in refusal(file)
    np.savez(file, train_images=GREY, train_labels=np.array([Trap()] * 40, object))
    with pytest.raises(pytest.fail.Exception):  # the trap works ...
        pickle.loads(pickle.dumps(Trap()))
    assert "broken npz file (Object arrays cannot be loaded" in refusal(file)  # ... and is not sprung
    np.savez(file, train_images=GREY, train_labels=np.arange(40) % 2, test_images=COLOUR, test_labels=np.arange(40) % 2)
    assert "train 1x5x4, test 3x5x4" in refusal(file)


def test_split_and_dataset_check_themselves() -> None:
    images, labels = GREY[:4, None], np.array([0, 1, 0, 1])
    with pytest.raises(DatasetError, match="float64"):
        Split(images / 255, labels)
    with pytest.raises(DatasetError, match="int32"):
        Split(images, labels.astype(np.int32))
    with pytest.raises(DatasetError, match="4 images have 3 labels"):
        Split(images, labels[:3])
    split = Split(images, labels)
    with pytest.raises(DatasetError, match="at least 2"):
        Dataset("x", split, split, split, ("a",))
    with pytest.raises(DatasetError, match="label 2 of val image 1: labels must be 0 to 1"):
        Dataset("x", split, Split(images, labels * 2), split, ("a", "b"))
    assert len(Dataset("x", split, split, split, ("a", "b")).val) == 4
