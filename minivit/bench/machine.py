"""The processor and the BLAS that were measured."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl


def describe_machine(threads: Any) -> dict:
    """Return the processor, NumPy's BLAS, and a warning if the environment pins it to an old kernel."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")),
                 platform.processor())
    blas = [{key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    pinned = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    old = "avx512f" in info and any(b["architecture"] in ("Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott")
                                    for b in blas)
    warnings = [f"the environment pins OpenBLAS ({', '.join(pinned)}): figures may be worse than this machine can "
                "do"] if pinned else []
    warnings += ["this processor has AVX-512, but OpenBLAS runs a kernel without it"] if old else []
    return {"processor": model, "threads": threads, "python": platform.python_version(), "numpy": np.__version__,
            "blas": blas,
            "warnings": warnings}
