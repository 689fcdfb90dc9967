"""What a training has written."""

import csv
import zipfile

import h5py


def read_log(run):
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(run):
    """All arrays of the last checkpoint: weights, optimizer slots, averages, step."""
    arrays = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with zipfile.ZipFile(run / "last.keras") as archive, archive.open("model.weights.h5") as file:
        h5py.File(file).visititems(collect)
    return arrays
