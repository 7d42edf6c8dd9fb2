import os
import shutil
import subprocess
import sys

import pytest

from openfoldpp.inference import free_memory
from openfoldpp.inference.free_memory import available_bytes, held_bytes, vm_stat_bytes

MIB = 1 << 20
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                1000.
Pages active:                            900000.
Pages inactive:                            2000.
Pages speculative:                          300.
Pages throttled:                              0.
Pages wired down:                        200000.
Pages purgeable:                             40.
"""


def test_what_is_free_is_within_what_the_machine_has():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_bytes() < total


def test_what_is_held_grows_with_what_a_process_takes():
    code = (
        "from openfoldpp.inference.free_memory import held_bytes; before = held_bytes(); "
        "block = b'x' * (200 << 20); print(held_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 190 * MIB < int(done.stdout) < 230 * MIB
    assert held_bytes() > 10 * MIB


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A /proc and a /sys/fs/cgroup of our own; returns a function that writes their files."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    monkeypatch.setattr(free_memory, "_PROC", proc)
    monkeypatch.setattr(free_memory, "_CGROUPS", cgroups)
    monkeypatch.setattr(sys, "platform", "linux")

    def write(lines, groups):
        (proc / "self").mkdir(parents=True)
        (proc / "meminfo").write_text("MemTotal: 32768000 kB\nMemAvailable:   16384000 kB\n")
        (proc / "self" / "cgroup").write_text(lines)
        for folder, files in groups.items():
            (cgroups / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (cgroups / folder / name).write_text(text)

    return write


def version_2(limit, current, cached=0):
    return {
        "memory.max": limit,
        "memory.current": str(current),
        "memory.stat": f"anon 1\ninactive_file {cached}\n",
    }


def version_1(limit, current, cached=0):
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(current),
        "memory.stat": f"inactive_file 7\ntotal_inactive_file {cached}\n",
    }


def test_without_a_limit_it_is_what_the_system_has(system):
    system("0::/user\n", {"user": version_2("max", 5)})
    assert available_bytes() == 16384000 * 1024


def test_the_limit_of_a_container_counts_and_cached_files_are_free(system):
    system("0::/\n", {".": version_2(str(1000 * MIB), 700 * MIB, 100 * MIB)})
    assert available_bytes() == 400 * MIB


def test_the_narrowest_limit_above_a_job_counts(system):
    groups = {"slurm/job": version_2("max", 1), "slurm": version_2(str(300 * MIB), 100 * MIB)}
    system("0::/slurm/job\n", groups)
    assert available_bytes() == 200 * MIB


def test_the_first_version_of_cgroups_is_read(system):
    groups = {
        "memory": version_1(9223372036854771712, 1),
        "memory/docker": version_1(500 * MIB, 200 * MIB, 50 * MIB),
    }
    system("9:name=systemd:/\n4:cpu,memory:/docker\n0::/\n", groups)
    assert available_bytes() == 350 * MIB


def test_a_path_of_the_host_falls_back_to_the_mounted_root(system):
    system("4:memory:/docker/0123\n", {"memory": version_1(500 * MIB, 100 * MIB)})
    assert available_bytes() == 400 * MIB


def test_a_job_over_its_limit_has_nothing(system):
    system("0::/\n", {".": version_2(str(100 * MIB), 120 * MIB)})
    assert available_bytes() == 0


def test_an_old_kernel_is_asked_for_what_is_free_or_cached(system, tmp_path):
    system("0::/\n", {})
    (tmp_path / "proc/meminfo").write_text("MemFree: 300 kB\nBuffers: 20 kB\nCached: 1000 kB\n")
    assert available_bytes() == 1320 * 1024


def test_without_proc_the_mounted_limit_holds_and_all_that_is_used_counts(system, tmp_path):
    group = version_2(str(100 * MIB), 40 * MIB, 30 * MIB)
    del group["memory.stat"]
    system("", {".": group})
    shutil.rmtree(tmp_path / "proc")
    assert available_bytes() == 60 * MIB
    assert held_bytes() == 0


def test_where_nothing_is_told_no_limit_holds(system, tmp_path, monkeypatch):
    system("", {})
    shutil.rmtree(tmp_path / "proc")
    assert 0 < available_bytes() < free_memory.UNKNOWN  # the C library tells
    monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert available_bytes() == free_memory.UNKNOWN


def test_macos_pages_that_can_be_handed_out_count():
    assert vm_stat_bytes(VM_STAT) == (1000 + 2000 + 300 + 40) * 16384
