"""
Prepared data sets in few bytes, for the way to another machine:

    python research/pack_corpus.py pack runs/corpus runs/packed
    python research/pack_corpus.py unpack runs/packed runs/corpus

A packed shard holds microvolts in steps of 0.5 instead of codes, each sample as its difference from the one before,
in the Huffman code of zlib. That takes 6.3 bits a sample, where codes of 16 bits hardly get smaller. No value changes
by more than half a step, less than the noise of an amplifier. Everything else, such as people, outcomes and tables,
comes back byte for byte.
"""

import json
import os
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data.atomic import atomic_write
from neuript_hf.data.shards import SETTINGS_FILE, decode_windows, encode_windows, read_settings


STEP = 0.5  # microvolt
PACKED = ".zlib"  # ending of packed files
ESCAPE = -128  # of differences that do not fit into a byte; they follow in 16 bits


def pack_shard(shard: bytes, extractor: NeurIPTFeatureExtractor) -> bytes:
    """
    A shard with differences in place of codes and scales.

    Raises:
        ValueError: for values beyond 16,383 microvolts.
    """
    tensors, metadata = _tensors(shard)
    for name in [name for name in tensors if name.endswith(".codes")]:
        number = name.removesuffix(".codes")
        values = decode_windows(tensors.pop(name), tensors.pop(f"{number}.scales"))
        steps = np.rint(extractor.invert(values) / STEP)
        if np.abs(steps).max() > np.iinfo(np.int16).max:
            raise ValueError(
                f"Recording {number} reaches {np.abs(steps).max() * STEP:g} microvolts, too much to pack."
            )
        # differences wrap around in 16 bits, and so do the sums that undo them
        differences = np.diff(steps.astype(np.int16), axis=-1, prepend=np.int16(0))
        large = (differences <= ESCAPE) | (differences > np.iinfo(np.int8).max)
        tensors[f"{number}.differences"] = np.where(large, ESCAPE, differences).astype(np.int8)
        tensors[f"{number}.large"] = differences[large]
    coder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(save(tensors, metadata)) + coder.flush()


def unpack_shard(packed: bytes, extractor: NeurIPTFeatureExtractor, encoding: str) -> bytes:
    """A shard with codes again."""
    tensors, metadata = _tensors(zlib.decompress(packed))
    for name in [name for name in tensors if name.endswith(".differences")]:
        number = name.removesuffix(".differences")
        differences = tensors.pop(name).astype(np.int16)
        differences[differences == ESCAPE] = tensors.pop(f"{number}.large")
        steps = differences.cumsum(axis=-1, dtype=np.int16)
        windows = extractor.compress(steps.astype(np.float32) * np.float32(STEP))
        tensors[f"{number}.codes"], tensors[f"{number}.scales"] = encode_windows(windows, encoding)
    return save(tensors, metadata)


def convert(source: str | Path, target: str | Path, unpack: bool = False) -> None:
    """
    Packs or unpacks all data sets in the folder `source`, and copies the tables beside them.

    Args:
        source: with one folder for each data set.
        target: folder to write to.
        unpack: the other way.

    Raises:
        FileNotFoundError: where there is no data set.
    """
    source, target = Path(source), Path(target)
    settings = sorted(source.glob(f"*/{SETTINGS_FILE}"))
    if not settings:
        raise FileNotFoundError(f"No folder in {source} holds a data set, made by prepare_dataset.")
    work: list[Callable[[], None]] = []
    for folder in [path.parent for path in settings]:
        described = read_settings(folder)
        extractor = NeurIPTFeatureExtractor.from_dict(described["extractor"])
        shard = partial(pack_shard, extractor=extractor)
        if unpack:
            shard = partial(unpack_shard, extractor=extractor, encoding=described["encoding"])
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            name, change = path.name, bytes
            if name != SETTINGS_FILE:  # which says of a packed folder, too, what it is
                name = name.removesuffix(PACKED) if unpack else name + PACKED
                change = shard if ".safetensors" in path.suffixes else zlib.decompress if unpack else zlib.compress
            work.append(partial(_rewrite, path, target / folder.name / name, change))
    work += [partial(_rewrite, path, target / path.name, bytes) for path in source.glob("*.csv")]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done in [pool.submit(part) for part in work]:
            done.result()


def _tensors(file: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a `.safetensors` and its metadata."""
    header = int.from_bytes(file[:8], "little")
    return load(file), json.loads(file[8 : 8 + header])["__metadata__"]


def _rewrite(source: Path, target: Path, change: Callable[[bytes], bytes]) -> None:
    with atomic_write(target) as partial_file:
        partial_file.write_bytes(change(source.read_bytes()))


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    way, source, target = sys.argv[1:]
    convert(source, target, unpack=way == "unpack")


if __name__ == "__main__":
    main()
