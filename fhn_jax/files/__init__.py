"""Files that appear whole or not at all, locks, and folders of arrays with checksums.

`docs/reliability.md` says what is promised. What every writer of this project goes
through is here: `atomic_path` for a file, `new_folder` for a folder, `lock` for what is
changed in place, `read_json` for what is read back.
"""

from fhn_jax.files.arrays import ArrayChange, ArrayFolder, ArrayFormat
from fhn_jax.files.journal import append_record, read_records
from fhn_jax.files.locks import lock, sweep, temporary_folder
from fhn_jax.files.parts import Parts, parts, write_part
from fhn_jax.files.reading import (
    checksum_of,
    map_array,
    read_json,
    read_sealed,
    read_text,
    sha256_file,
)
from fhn_jax.files.versions import Versions
from fhn_jax.files.writing import (
    atomic_path,
    link_or_copy,
    new_folder,
    refuse_existing,
    replaced_folder,
    require_room,
    reserve,
    sync_folder,
    unnamed_array,
    write_bytes,
    write_json,
    write_sealed,
    write_text,
)

__all__ = [
    "ArrayChange",
    "ArrayFolder",
    "ArrayFormat",
    "Parts",
    "Versions",
    "append_record",
    "atomic_path",
    "checksum_of",
    "link_or_copy",
    "lock",
    "map_array",
    "new_folder",
    "parts",
    "read_json",
    "read_records",
    "read_sealed",
    "read_text",
    "refuse_existing",
    "replaced_folder",
    "require_room",
    "reserve",
    "sha256_file",
    "sweep",
    "sync_folder",
    "temporary_folder",
    "unnamed_array",
    "write_bytes",
    "write_json",
    "write_part",
    "write_sealed",
    "write_text",
]
