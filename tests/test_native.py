"""Parts of the engine in programs of their own, under tests/native.

Products in bfloat16 of every kind that a compiler here can make, AMX's with emulated tiles, are
compared with sums in double precision; under QEMU, `tools/aarch64` does the same for AArch64. What
is read from the processor is compared with what the compiler's library reads.
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
ON_X86 = platform.machine() in ("x86_64", "AMD64")
STRICT = ["-std=gnu++20", "-O2", "-Wall", "-Wextra", "-Werror"]
STRICT += [f"-I{NATIVE}", f"-I{ROOT / 'tests' / 'native'}"]
PRODUCTS = ["-march=x86-64-v4", "-mavx512bf16", "-DTT_VECTOR_BYTES=64", "-DTT_EMULATED_AMX"]
SOURCES = [
    NATIVE / "bfloat16_avx512.cpp",
    NATIVE / "bfloat16_amx.cpp",
    ROOT / "tests" / "native" / "test_bfloat16.cpp",
]


def run(folder, options, *sources):
    """A program that is made of these sources, once it has ended."""
    compiler = shutil.which("c++")
    assert compiler is not None
    program = folder / "program"
    subprocess.run([compiler, *STRICT, *options, *map(str, sources), "-o", program], check=True)
    return subprocess.run([program], capture_output=True, text=True, check=False)


@pytest.mark.skipif(_engine.bfloat16() != "avx512_bf16", reason="a processor with AVX512_BF16")
def test_products_are_those_of_rounded_factors(tmp_path):
    ran = run(tmp_path, PRODUCTS, *SOURCES)
    assert ran.stdout.splitlines() == ["avx512_bf16: as expected", "amx_bf16: as expected"]
    assert ran.returncode == 0


@pytest.mark.skipif(not ON_X86, reason="x86-64's levels")
def test_what_the_processor_can_do_is_what_the_compiler_finds(tmp_path):
    ran = run(tmp_path, [], ROOT / "tests" / "native" / "test_processor.cpp")
    assert ran.returncode == 0, ran.stdout
    best = ran.stdout.split()[0].removeprefix("x86-64-")
    assert [best] == (_engine.available_isas()[:1] or ["v1"])


@pytest.mark.skipif(not ON_X86, reason="x86-64's names")
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
