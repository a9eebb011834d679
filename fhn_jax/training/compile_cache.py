"""Where compiled steps are kept from run to run, so that a start takes seconds."""

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import Any

import jax


def enable(folder: Path | None = None) -> Path | None:
    """Keeps what jax compiles in a private folder.

    A folder that the user gave to jax itself (JAX_COMPILATION_CACHE_DIR, empty for
    none) is left as it is.

    Args:
      folder: where; `default_folder` if None.
    Returns:
      the folder, or None where there is no cache of ours: compiled code is executed, so
      one that others may write to, or that cannot be made, is not used, with a notice.
    """
    config: Any = jax.config  # its options are attributes that no type names
    if config.jax_compilation_cache_dir is not None:
        return None
    folder = folder or default_folder()
    fault = _make_private(folder)
    if fault:
        print(f"no cache of compiled steps: {folder} {fault}", file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def default_folder() -> Path:
    """In the user's cache, apart for each kind of processor."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The standard ignores relative paths.
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return cache / "fhn_jax" / f"compiled-{_processor()}"


def _make_private(folder: Path) -> str | None:
    """Makes the folder, for its owner alone; or says why that cannot be."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        return f"cannot be made ({error.strerror}); set JAX_COMPILATION_CACHE_DIR"
    if not stat.S_ISDIR(status.st_mode):
        return "is a link; remove it"
    if status.st_uid != os.getuid():
        return f"belongs to user {status.st_uid}; remove it"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return "is open to others; remove it, its contents may not be ours"
    return None


def _processor() -> str:
    """A name for the processor's instructions: code for more of them would crash."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    kinds = sorted({x for x in lines if x.startswith(("flags", "Features"))})
    return hashlib.sha256("\n".join(kinds).encode()).hexdigest()[:12]
