"""How much memory there is: what the system, a container's limit or the device leaves free."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# What macOS calls pages that it can hand out without writing anything to disk.
_VM_STAT_FREE = ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable")


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
        Bytes.
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
    return min([_meminfo("MemAvailable"), *_cgroup_free()])


def held_bytes(device: str = "cpu") -> int:
    """Return the memory that this process has already, which a prediction goes on to use.

    Parameters
    ----------
    device : str
        A torch device name.

    Returns
    -------
    int
        Bytes; on a GPU those of torch's tensors.
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
    return _field(_PROC / "self" / "status", "VmRSS")


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


def _meminfo(name: str) -> int:
    return _field(_PROC / "meminfo", name)


def _field(file: Path, name: str) -> int:
    """Read ``NAME: 123 kB`` of a file of /proc, in bytes."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), flags=re.MULTILINE)[1]) * 1024


def _cgroup_free() -> list[int]:
    """Return what each limit leaves, of the process's own cgroup and those above it."""
    found = []
    for line in (_PROC / "self" / "cgroup").read_text().splitlines():
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
    limit_file, usage_file = folder / limit_name, folder / usage_name
    if not (limit_file.is_file() and usage_file.is_file()):
        return []
    text = limit_file.read_text().strip()
    if text == "max":
        return []
    cache = re.search(rf"^{cache_name} (\d+)", (folder / "memory.stat").read_text(), flags=re.MULTILINE)
    used = int(usage_file.read_text()) - (int(cache[1]) if cache else 0)
    return [max(0, int(text) - used)]
