"""Predictions of a net for windows of images, as for R-CNN.

As Caffe's ``python/detect.py``::

    python -m caffecompat.pycaffe.scripts.detect --crop_mode list --model_def deploy.prototxt \\
        --pretrained_model net.caffemodel windows.csv detections.csv
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io as text_io
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import DataError
from caffecompat.input_files import read_input
from caffecompat.output_files import atomic_write
from caffecompat.pycaffe.scripts.flags import add_net_arguments, run, set_channel_swap, settings
from caffecompat.weights.hdf5_input.hdf5_file import create_hdf5

CROP_MODES = ("list", "selective_search")
COORDINATES = ("ymin", "xmin", "ymax", "xmax")
_FILENAME = "filename"
# The name of the table of pandas in an HDF5 file.
_TABLE = "df"


def main(words: Sequence[str] | None = None) -> int:
    """Runs the script with the given words, or those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caffecompat.pycaffe.scripts.detect",
        description="Write the predictions of a net for windows of images.",
    )
    parser.add_argument(
        "input_file",
        help="text file of image names, one per line, or .csv with columns filename, ymin, xmin, "
        "ymax, xmax",
    )
    parser.add_argument(
        "output_file",
        help=".csv with a column per class, or HDF5: the table 'df' of pandas, or without pandas "
        "and PyTables the data sets filename, window, prediction",
    )
    add_net_arguments(parser)
    parser.add_argument(
        "--crop_mode",
        choices=CROP_MODES,
        default="selective_search",
        help="windows: those of the .csv file, or of selective search, which needs MATLAB "
        "(default: selective_search)",
    )
    parser.add_argument(
        "--context_pad",
        type=int,
        default=16,
        help="pixels of surrounding context at the size of the input (default: 16)",
    )
    return run(_detect, parser.parse_args(words))


def _detect(arguments: argparse.Namespace) -> None:
    from caffecompat.pycaffe.detector import Detector

    windows = _read_windows(arguments.input_file, arguments.crop_mode)
    keywords = settings(arguments)
    net = Detector(arguments.model_def, arguments.pretrained_model, **keywords)
    set_channel_swap(net, arguments.channel_swap)
    # The mean of what is outside an image depends on the order of channels.
    net.configure_crop(arguments.context_pad)
    start = time.time()
    if arguments.crop_mode == "list":
        print(f"Processing windows of {len(windows)} images", flush=True)
        detections = net.detect_windows(list(windows.items()))
    else:
        print(f"Searching windows of {len(windows)} images", flush=True)
        detections = net.detect_selective_search(windows)
    print(f"Processed {len(detections)} windows in {time.time() - start:.3f} s.")
    if not detections:
        raise DataError(f"{arguments.input_file}: there are no windows to classify")
    if arguments.output_file.lower().endswith("csv"):
        _write_csv(arguments.output_file, detections)
    else:
        _write_hdf5(arguments.output_file, detections)
    print(f"Saved to {arguments.output_file}")


def _read_windows(path: str, crop_mode: str) -> dict[str, list[Any]]:
    """The windows of each image, in order; none where the file only names images.

    Raises:
        FileProblem, FormatError: the file cannot be read.
        DataError: it is of another kind than the mode needs, or a line is wrong.
    """
    kind = Path(path).suffix.lower()
    if kind not in (".txt", ".csv"):
        raise DataError(f"{path}: unknown input file type; expected .txt or .csv")
    if kind == ".txt" and crop_mode == "list":
        raise DataError(
            f"{path}: names images without windows; for --crop_mode list give a .csv with columns "
            f"{', '.join((_FILENAME, *COORDINATES))}"
        )
    try:
        text = read_input(path, remedy="expected one image a line").decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error})") from error
    if kind == ".txt":
        return {line.strip(): [] for line in text.splitlines() if line.strip()}
    return _parse_csv(path, text)


def _parse_csv(path: str, text: str) -> dict[str, list[Any]]:
    rows = csv.DictReader(text_io.StringIO(text))
    missing = [name for name in (_FILENAME, *COORDINATES) if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: its first line has no {', '.join(missing)}; expected the columns "
            f"{', '.join((_FILENAME, *COORDINATES))}"
        )
    windows: dict[str, list[Any]] = {}
    for row in rows:
        try:
            window = np.array([float(row[name]) for name in COORDINATES])
        except (TypeError, ValueError):
            raise DataError(
                f"{path}:{rows.line_num}: expected four numbers, {', '.join(COORDINATES)}"
            ) from None
        windows.setdefault(row[_FILENAME], []).append(window)
    return windows


def _write_csv(path: str, detections: list[dict[str, Any]]) -> None:
    text = text_io.StringIO()
    writer = csv.writer(text)
    classes = [f"class{number}" for number in range(detections[0]["prediction"].size)]
    writer.writerow([_FILENAME, *COORDINATES, *classes])
    for found in detections:
        window = [f"{value:g}" for value in found["window"]]
        scores = [str(float(value)) for value in found["prediction"].ravel()]
        writer.writerow([found["filename"], *window, *scores])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _write_hdf5(path: str, detections: list[dict[str, Any]]) -> None:
    """A table of pandas as Caffe's script writes it, or data sets where pandas is missing."""
    pandas = _pandas()
    if pandas is None:
        _write_data_sets(path, detections)
        return
    frame = pandas.DataFrame({"prediction": [found["prediction"] for found in detections]})
    windows = np.array([found["window"] for found in detections])
    for name, column in zip(COORDINATES, windows.T, strict=True):
        frame[name] = column
    frame.index = pandas.Index([found["filename"] for found in detections], name=_FILENAME)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # PyTables says that it pickles the predictions, an array in each row.
        warnings.simplefilter("ignore")
        whole = Path(folder, "detections.h5")
        frame.to_hdf(str(whole), key=_TABLE, mode="w")
        with atomic_write(path) as file, whole.open("rb") as source:
            shutil.copyfileobj(source, file)


def _pandas() -> Any:
    """The module pandas; None if it cannot write HDF5 here."""
    try:
        importlib.import_module("tables")
        return importlib.import_module("pandas")
    except ImportError:
        return None


def _write_data_sets(path: str, detections: list[dict[str, Any]]) -> None:
    with create_hdf5(Path(path)) as content:
        content[_FILENAME] = [found["filename"] for found in detections]
        content["window"] = np.array([found["window"] for found in detections])
        content["prediction"] = np.array([found["prediction"] for found in detections])


if __name__ == "__main__":
    raise SystemExit(main())
