"""Memory that commands keep, and give back: seen from outside, in a process of its own."""

import platform
import subprocess
import sys

import pytest

KEEPS = """
from pathlib import Path
from anomap.memory import give_back_memory, keep_memory

def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

keep_memory()
before = resident()
large, small = [], []
for _ in range(200):
    large.append(bytearray(b"x" * 2**20))
    small.append(bytearray(1000))  # lie between, so that the heap cannot shrink from its end alone
del large
kept = resident() - before
give_back_memory()
print(kept, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's allocator")
def test_freed_memory_is_kept_until_it_is_given_back(monkeypatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    output = subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, text=True, check=True).stdout
    kept, left = map(float, output.split())
    assert kept > 150 > 50 > left, "MB"
