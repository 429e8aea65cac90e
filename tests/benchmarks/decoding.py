"""One frame of each compressed transfer syntax decoded: ours against pydicom's fastest permissive decoder.

``make bench`` puts the decoders pydicom can use (python-gdcm, pylibjpeg with openjpeg and rle, pyjpegls) into
a folder of their own, ``.bench-peers``, which only the process of this benchmark looks at; without it
pydicom's rows are those of Pillow and its own RLE. pylibjpeg-libjpeg is left out: it is GPL. Both get the
bytes of the same frame, and the results of lossless coding are compared before anything is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from tests.benchmarks.table import Row, alternate
from viewers.decoder import CODECS, FrameShape, decode

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = Path(".bench-peers")
SIDE = 1024


def run() -> tuple[str, list[Row]]:
    """Measure on noise like that of CT, 12 bits in 16, and on colours, in a process that sees the peers."""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(PEERS.resolve())])}
    command = [sys.executable, "-m", "tests.benchmarks.decoding"]
    done = subprocess.run(command, env=paths, check=True, stdout=subprocess.PIPE)
    rows = [Row(**row) for row in json.loads(done.stdout)]
    return f"Decoding one frame of {SIDE} x {SIDE} (million samples a second)", rows


def _rows() -> list[Row]:
    chance = np.random.default_rng(1)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    body = 1000 + 900 * np.sin(rows / 90) * np.cos(columns / 70)
    grey = np.clip(body + chance.normal(0, 20, (SIDE, SIDE)), 0, 4095).astype(np.uint16)
    rgb = np.repeat((grey >> 4).astype(np.uint8)[:, :, None], 3, axis=2)
    made = []
    for uid, encode in _CODED.items():
        values = rgb if uid.endswith(".4.50") else grey
        made.append(_row(uid, encode(values), values))
    return made


def _rle(values: np.ndarray) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder

    return bytes(
        RLELosslessEncoder.encode(
            values, rows=SIDE, columns=SIDE, samples_per_pixel=1, bits_allocated=16, bits_stored=12,
            pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1,
            encoding_plugin="pydicom",
        )
    )  # fmt: skip


_CODED: dict[str, Callable[[np.ndarray], bytes]] = {
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.4.50": lambda values: imagecodecs.jpeg8_encode(values, level=90),
    "1.2.840.10008.1.2.4.70": lambda values: imagecodecs.ljpeg_encode(values, bitspersample=12),
    "1.2.840.10008.1.2.4.80": lambda values: imagecodecs.jpegls_encode(values, level=0),
    "1.2.840.10008.1.2.4.90": lambda values: imagecodecs.jpeg2k_encode(
        values, level=0, reversible=True, codecformat="j2k", bitspersample=12
    ),
    "1.2.840.10008.1.2.4.201": lambda values: imagecodecs.htj2k_encode(values, reversible=True),
}


def _row(uid: str, coded: bytes, values: np.ndarray) -> Row:
    codec, is_color = CODECS[uid], values.ndim == 3
    samples = 3 if is_color else 1
    shape = FrameShape(0, SIDE, SIDE, samples, 8 if is_color else 16, 8 if is_color else 12)

    def ours() -> np.ndarray:
        return decode(codec, coded, shape)[0]

    if not codec.lossy:
        assert np.array_equal(ours(), values)
    peer, name = _fastest(uid, coded, values)
    per_second = values.size / 1e6
    if peer is None:
        taken = alternate(ours, ours, rounds=9)[0]
        return Row(f"{codec.name}; pydicom: none here", per_second / taken, "Msample/s")
    taken, theirs = alternate(ours, peer, rounds=9)
    return Row(codec.name, per_second / taken, "Msample/s", per_second / theirs, name, more_is_better=True)


def _fastest(uid: str, coded: bytes, values: np.ndarray) -> tuple[Callable[[], Any] | None, str]:
    """Find pydicom's fastest plugin for a transfer syntax that decodes the frame rightly."""
    decoder, dataset = get_decoder(UID(uid)), _dataset(uid, coded, values)
    found: list[tuple[float, str, Callable[[], Any]]] = []
    for plugin in decoder.available_plugins:

        def call(plugin: str = plugin) -> Any:
            return decoder.as_array(dataset, index=0, raw=True, decoding_plugin=plugin)[0]

        try:
            right = CODECS[uid].lossy or np.array_equal(call(), values)
        except RuntimeError:  # what pydicom raises when a plugin cannot decode a frame
            continue
        if right:
            found.append((alternate(call, call, rounds=3)[0], plugin, call))
    if not found:
        return None, ""
    _, name, fastest = min(found, key=lambda item: item[0])
    return fastest, f"pydicom with {name}"


def _dataset(uid: str, coded: bytes, values: np.ndarray) -> Dataset:
    is_color = values.ndim == 3
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(uid)
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel = 3 if is_color else 1
    made.PhotometricInterpretation = "YBR_FULL_422" if is_color else "MONOCHROME2"
    if is_color:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored = (8, 8) if is_color else (16, 12)
    made.HighBit, made.PixelRepresentation, made.NumberOfFrames = made.BitsStored - 1, 0, 1
    made.PixelData = encapsulate([coded])
    made["PixelData"].VR = "OB"
    return made


if __name__ == "__main__":
    print(json.dumps([asdict(row) for row in _rows()]))
