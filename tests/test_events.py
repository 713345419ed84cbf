"""Recordings of events: files written here in the formats of their makers, and what is read of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from spikenas.cli.main import main
from spikenas.data.datasets import load_dataset
from spikenas.data.event_files import read_events
from spikenas.data.events import FORMATS, PIXEL_OF_COUNT
from spikenas.errors import DatasetError

Event = tuple[int, int, int, int]  # microseconds, column, row, polarity


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKENAS_CACHE", str(tmp_path_factory.mktemp("cache")))


def atis_bytes(events: Iterable[Event]) -> bytes:
    """N-MNIST's format, as its page describes it: x, y, then polarity and 23 bits of time."""
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in events)


def aedat2_bytes(events: Iterable[Event]) -> bytes:
    """CIFAR10-DVS: both axes mirrored, seven bits each, polarity inverted."""
    words = [struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | (1 - p), t) for t, x, y, p in events]
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + b"".join(words)


def aedat3_bytes(events: list[Event], per_packet: int) -> bytes:
    """cAER: packets with a little-endian header; one packet of another kind, one event that is not valid."""
    parts = [
        b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n",
        struct.pack("<hhiiiiii", 0, 0, 8, 4, 0, 1, 1, 1) + b"\xff" * 8,
    ]
    for start in range(0, len(events), per_packet):
        some = events[start : start + per_packet]
        overflow = some[0][0] >> 31
        parts.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(some) + 1, len(some) + 1, len(some)))
        parts.append(struct.pack("<Ii", 7 << 17, 3))  # the valid mark is 0
        parts += [struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t & 0x7FFFFFFF) for t, x, y, p in some]
    return b"".join(parts)


def random_events(count: int, side: int, last: int, seed: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, last, count))
    rest = np.stack((rng.integers(0, side, count), rng.integers(0, side, count), rng.integers(0, 2, count)), axis=1)
    return [(int(t), *map(int, row)) for t, row in zip(times, rest, strict=True)]  # type: ignore[misc]


def read_back(file: Path, raw: bytes) -> list[Event]:
    file.write_bytes(raw)
    events = read_events(file)
    return list(zip(*(a.tolist() for a in (events.time, events.x, events.y, events.polarity)), strict=True))


def test_files_give_the_events_that_were_written(tmp_path: Path) -> None:
    small, large = random_events(50, 34, 2**23, 0), random_events(50, 128, 2**33, 1)
    assert read_back(tmp_path / "a.bin", atis_bytes(small)) == small
    early = [(t >> 2, x, y, p) for t, x, y, p in large]
    assert read_back(tmp_path / "a.aedat", aedat2_bytes(early)) == early
    assert read_back(tmp_path / "b.aedat", aedat3_bytes(large, 1)) == large
    assert read_back(tmp_path / "c.aedat", aedat3_bytes(small, 7)) == small


def test_a_row_of_240_is_time_that_has_passed(tmp_path: Path) -> None:
    raw = atis_bytes([(5, 1, 2, 1), (0, 0, 240, 0), (6, 3, 4, 0)])
    assert read_back(tmp_path / "a.bin", raw) == [(5, 1, 2, 1), (6 + 8192, 3, 4, 0)]


def write_nmnist(path: Path, images: np.ndarray, labels: np.ndarray, train: int) -> None:
    """Each image moves along N-MNIST's triangle of saccades; where a pixel brightens or darkens, an event."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        still = np.zeros((34, 34))
        still[5:29, 5:29] = image.repeat(3, axis=0).repeat(3, axis=1)
        events: list[Event] = []
        before = still
        for step, (down, right) in enumerate(((1, 1), (2, 2), (2, 1), (1, 3), (0, 2), (0, 0))):
            now = np.roll(still, (down, right), (0, 1))
            for y, x in np.argwhere(np.abs(now - before) > 4):
                events.append((50_000 * step + int(x), int(x), int(y), int(now[y, x] > before[y, x])))
            before = now
        file = path / ("Train" if number < train else "Test") / str(label) / f"{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(atis_bytes(events))


def test_digits_seen_through_saccades_are_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = load_digits()
    few = np.flatnonzero(digits.target < 3)[:260]
    write_nmnist(tmp_path / "N-MNIST", digits.images[few], digits.target[few], train=180)
    command = ["train", "t3-b8-k3s4-16:003.00.0-hidden32", "--data", str(tmp_path / "N-MNIST"), "--frames", "3"]
    how = ["--epochs", "12", "--augment", "none", "--batch-size", "32"]
    assert main([*command, *how, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["integer_accuracy"] > 0.85


def test_nmnist_by_folder_and_by_name(tmp_path: Path) -> None:
    digits = load_digits()
    write_nmnist(tmp_path, digits.images[:120], digits.target[:120], train=90)
    dataset = load_dataset(str(tmp_path), frames=5)
    assert (dataset.input_shape, len(dataset.test), dataset.classes) == ((5, 2, 34, 34), 30, 10)
    named = load_dataset(f"events:nmnist:{tmp_path}", frames=5)
    np.testing.assert_array_equal(named.train.images, dataset.train.images)
    assert load_dataset(str(tmp_path)).frames == 8
    first = read_events(next(iter(sorted((tmp_path / "Test" / "0").iterdir()))))
    span = (first.time - first.time.min()) * 5 // (np.ptp(first.time) + 1)
    frame = dataset.test.images[0]
    for t in range(5):
        now = span == t
        assert set(zip(first.polarity[now], first.y[now], first.x[now], strict=True)) == set(
            map(tuple, np.argwhere(frame[t] > 128))
        )


def test_counts_become_pixels() -> None:
    assert PIXEL_OF_COUNT[[0, 1, 3, 7, 255]].tolist() == [128, 160, 192, 224, 255]
    assert (np.diff(PIXEL_OF_COUNT.astype(int)) >= 0).all()


def test_cifar10_dvs_pools_the_sensor(tmp_path: Path) -> None:
    for label, name in enumerate(("airplane", "cat")):
        (tmp_path / name).mkdir()
        for number in range(6):
            events = [(10 * t, 4 + t % 4, 127, label) for t in range(7)]
            (tmp_path / name / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2_bytes(events))
    dataset = load_dataset(f"events:cifar10-dvs:{tmp_path}", frames=1)
    assert dataset.class_names == ("airplane", "cat")
    assert dataset.input_shape == (1, 2, 32, 32)
    for image, label in zip(dataset.train.images, dataset.train.labels, strict=True):
        assert np.argwhere(image > 128).tolist() == [[0, label, 31, 1]]
        assert image.max() == PIXEL_OF_COUNT[7]


def test_class_folders_of_npz(tmp_path: Path) -> None:
    for label in range(4):
        (tmp_path / str(label)).mkdir()
        for number in range(4):
            times, place = np.arange(5), np.full(5, 4 * label)
            np.savez(tmp_path / str(label) / f"{number}.npz", t=times, x=place, y=place, p=np.ones(5, bool))
    dataset = load_dataset(f"events:dvs-gesture:{tmp_path}", frames=5)
    for image, label in zip(dataset.train.images, dataset.train.labels, strict=True):
        assert np.argwhere(image > 128).tolist() == [[t, 1, label, label] for t in range(5)]


def test_gestures_are_cut_out_of_their_recordings(tmp_path: Path) -> None:
    for part, user in (("train", "user01"), ("test", "user02")):
        rows = ["class,startTime_usec,endTime_usec"]
        events: list[Event] = []
        for number in range(22):
            start = 1000 * number
            rows.append(f"{number % 11 + 1},{start},{start + 500}")
            events += [(start + 10 * i, 4 * (number % 11), 0, 1) for i in range(3)]
            events.append((start + 700, 127, 127, 0))  # between two gestures
        (tmp_path / f"{user}_led.aedat").write_bytes(aedat3_bytes(events, 10))
        (tmp_path / f"{user}_led_labels.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / f"trials_to_{part}.txt").write_text(f"{user}_led.aedat\n")
    dataset = load_dataset(str(tmp_path), frames=2)
    assert (dataset.input_shape, dataset.classes, len(dataset.test)) == ((2, 2, 32, 32), 11, 22)
    assert dataset.class_names[7] == "arm roll"
    for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
        assert {(p, y, x) for _, p, y, x in np.argwhere(image > 128).tolist()} == {(1, 0, label)}


def test_spoken_digits_are_one_line_of_channels(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the HDF5 reader of spikenas[events] is not installed")
    rng = np.random.default_rng(0)
    for name, count in (("shd_train.h5", 30), ("shd_test.h5", 6)):
        with h5py.File(tmp_path / name, "w") as file:
            file["labels"] = (np.arange(count) % 2).astype(np.uint16)
            for key, kind in (("times", np.float16), ("units", np.uint16)):
                file.create_dataset(f"spikes/{key}", (count,), h5py.vlen_dtype(kind))
            for number in range(count):
                file["spikes/times"][number] = np.linspace(0, 1, 40).astype(np.float16)
                file["spikes/units"][number] = rng.integers(0, 350, 40) + 350 * (number % 2)
            file["extra/keys"] = np.array([b"zero", b"one"])
    dataset = load_dataset(str(tmp_path), frames=4)
    assert (dataset.input_shape, dataset.class_names) == ((4, 1, 1, 140), ("zero", "one"))
    for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
        assert {x // 70 for x in np.argwhere(image > 128)[:, -1].tolist()} == {label}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\0\0\0", "broken event file"),
        (atis_bytes([(0, 200, 3, 1)]), "event of polarity 1, row 3, column 200: not on a sensor of .* format 'nmnist'"),
    ],
)
def test_broken_recordings_are_named(tmp_path: Path, raw: bytes, message: str) -> None:
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_bytes(raw)
    with pytest.raises(DatasetError, match=message):
        load_dataset(str(tmp_path))


def test_unknown_formats_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"event format 'dvs' is unknown: choose from {', '.join(FORMATS)}"):
        load_dataset(f"events:dvs:{tmp_path}")
    with pytest.raises(DatasetError, match="no such folder; write events:shd:PATH"):
        load_dataset(f"events:shd:{tmp_path / 'absent'}")
    with pytest.raises(DatasetError, match=r"shd_train\.h5 is missing"):
        load_dataset(f"events:shd:{tmp_path}")
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(DatasetError, match=r"its first line is b'#!AER-DAT4\.0', not #!AER-DAT2\.0 or"):
        read_events(tmp_path / "a.aedat")
