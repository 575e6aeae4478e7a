"""Products in bfloat16 of every kind that a compiler here can make, AMX's with emulated tiles.

tests/native/test_bfloat16.cpp compares them with sums in double precision. Under QEMU,
`tools/aarch64` does the same for AArch64.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from throughtime import _engine

ROOT = Path(__file__).parents[1]
NATIVE = ROOT / "src" / "throughtime" / "native"
OPTIONS = [
    *("-std=gnu++20", "-O2", "-Wall", "-Wextra", "-Werror", "-DTT_VECTOR_BYTES=64"),
    *("-march=x86-64-v4", "-mavx512bf16", "-DTT_EMULATED_AMX"),
    *(f"-I{NATIVE}", f"-I{ROOT / 'tests' / 'native'}"),
]
SOURCES = [
    NATIVE / "bfloat16_avx512.cpp",
    NATIVE / "bfloat16_amx.cpp",
    ROOT / "tests" / "native" / "test_bfloat16.cpp",
]


@pytest.mark.skipif(_engine.bfloat16() != "avx512_bf16", reason="a processor with AVX512_BF16")
def test_products_are_those_of_rounded_factors(tmp_path):
    compiler = shutil.which("c++")
    assert compiler is not None
    program = tmp_path / "products"
    subprocess.run([compiler, *OPTIONS, *map(str, SOURCES), "-o", str(program)], check=True)
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["avx512_bf16: as expected", "amx_bf16: as expected"]
    assert ran.returncode == 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64's names")
def test_an_unknown_kind_of_products_is_refused_by_name():
    code = "import throughtime as tt; print(tt.engine_info()['bfloat16'])"
    given = os.environ | {"THROUGHTIME_BFLOAT16": "nosuch"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False
    )
    if _engine.bfloat16():
        assert "THROUGHTIME_BFLOAT16: expected avx512_bf16, or amx_bf16 on" in ran.stderr
    else:
        assert ran.stdout == "None\n"
