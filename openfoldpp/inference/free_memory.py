"""How much memory there is: what the system, a container's limit or the device leaves free."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# What macOS calls pages that it can hand out without writing anything to disk.
_VM_STAT_FREE = ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable")
# For a kernel before 3.14, which has no MemAvailable: what it can hand out or drop.
_FREE_OR_CACHE = ("MemFree", "Buffers", "Cached")
#: Returned where nothing tells how much is free: more than any prediction needs, so that no limit holds.
UNKNOWN = 1 << 62


def available_bytes(device: str = "cpu") -> int:
    """Return the memory that is free for this process.

    Parameters
    ----------
    device : str
        A torch device name. ``cpu``: what the system can hand out without swapping, within the limits of
        the process's cgroups (containers, SLURM jobs). ``cuda``: what the driver has, with what torch keeps
        unused. ``mps``: what Metal recommends, less what torch has.

    Returns
    -------
    int
        Bytes. Where a system hides ``/proc`` or a cgroup's files, as sandboxes do, what the others say;
        where nothing does, at least :data:`UNKNOWN`.
    """
    if device.startswith("cuda"):
        import torch

        index = torch.device(device).index
        unused = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
        return torch.cuda.mem_get_info(index)[0] + unused
    if device.startswith("mps"):
        import torch

        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    if sys.platform == "darwin":
        done = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, check=True)
        return vm_stat_bytes(done.stdout)
    return min([_system_free(), *_cgroup_free()])


def held_bytes(device: str = "cpu") -> int:
    """Return the memory that this process has already, which a prediction goes on to use.

    Parameters
    ----------
    device : str
        A torch device name.

    Returns
    -------
    int
        Bytes; on a GPU those of torch's tensors. 0 where the system does not tell, so that nothing is
        counted as usable that may not be.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.memory_allocated(torch.device(device).index)
    if device.startswith("mps"):
        import torch

        return torch.mps.current_allocated_memory()
    if sys.platform == "darwin":
        import resource

        # The largest so far, and in bytes there; nothing in the standard library tells the present.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _field(_PROC / "self" / "status", "VmRSS") or 0


def vm_stat_bytes(text: str) -> int:
    """Read the free memory from what macOS's ``vm_stat`` prints.

    Parameters
    ----------
    text : str
        Its output.

    Returns
    -------
    int
        Bytes: free, inactive, speculative and purgeable pages.
    """
    page = int(re.search(r"page size of (\d+) bytes", text)[1])
    counts = dict(re.findall(r"^(.+?):\s+(\d+)\.", text, flags=re.MULTILINE))
    return page * sum(int(counts.get(name, 0)) for name in _VM_STAT_FREE)


def _system_free() -> int:
    """Return what the whole system can hand out, by the best source that there is."""
    available = _field(_PROC / "meminfo", "MemAvailable")
    if available is not None:
        return available
    parts = [_field(_PROC / "meminfo", name) for name in _FREE_OR_CACHE]
    if None not in parts:
        return sum(parts)
    return _unused_bytes() or UNKNOWN


def _unused_bytes() -> int:
    """Ask the C library for the pages that nothing uses, not even a cache; 0 where it cannot tell."""
    try:
        return max(0, os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _text(file: Path) -> str | None:
    """Read a file that tells about the system, or return None where it is absent or hidden."""
    try:
        return file.read_text()
    except OSError:
        return None


def _field(file: Path, name: str) -> int | None:
    """Read ``NAME: 123 kB`` of a file of /proc, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _text(file) or "", flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cgroup_free() -> list[int]:
    """Return what each limit leaves, of the process's own cgroup and those above it."""
    found = []
    # Where the process's own cgroup is not told, that of a container is still mounted as the root.
    lines = _text(_PROC / "self" / "cgroup") or "0::/\n1:memory:/\n"
    for line in lines.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        # In a container the path may be the host's and not be there; its limit is then the root's.
        for folder in (own, *own.parents):
            if folder == root.parent:
                break
            found += _left(folder, *names)
    return found


def _left(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> list[int]:
    """Return what the limit of one cgroup leaves; cached files count as free, the kernel drops them first."""
    limit, usage = _text(folder / limit_name), _text(folder / usage_name)
    if limit is None or usage is None or limit.strip() == "max":
        return []
    # Without memory.stat all that is used counts, caches too.
    cache = re.search(rf"^{cache_name} (\d+)", _text(folder / "memory.stat") or "", flags=re.MULTILINE)
    used = int(usage) - (int(cache[1]) if cache else 0)
    return [max(0, int(limit) - used)]
