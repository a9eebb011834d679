"""Files as torch.save writes them, made without PyTorch."""

import collections
import io
import pickle
import struct
import zipfile

import numpy as np

_STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage",
             "i8": "LongStorage"}  # fmt: skip


class Named:
    """Pickles to a bare name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles to a call of a name."""

    def __init__(self, module, name, *arguments):
        self.named, self.arguments = Named(module, name), arguments


class Storage:
    """Pickles to a reference to numbers outside of the pickle."""

    def __init__(self, values, key):
        self.values, self.key = values, key


class _Pickler(pickle._Pickler):
    def __init__(self, file, old):
        super().__init__(file, 2)
        self.old = old

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = Named("torch", _STORAGES[value.values.dtype.str[1:]])
        identifier = ("storage", kind, value.key, "cuda:0", value.values.size)
        return (*identifier, None) if self.old else identifier

    def save(self, value, *args, **kwargs):
        if isinstance(value, Named):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.named)
            self.save(value.arguments)
            self.write(b"R")
        else:
            super().save(value, *args, **kwargs)


def tensor(values, key, *, order="C", parameter=False):
    """What stands for an array in the pickle; `order` is that of its storage."""
    storage = Storage(np.ravel(values, order), key)
    strides = np.asarray(values, order=order).strides
    strides = tuple(s // values.itemsize for s in strides)
    hooks = collections.OrderedDict()
    made = Call("torch._utils", "_rebuild_tensor_v2", storage, 0, values.shape,
                strides, parameter, hooks)  # fmt: skip
    if parameter:
        return Call("torch._utils", "_rebuild_parameter", made, True, hooks)
    return made


def write_torch(path, value, *, old=False):
    """Writes `value`, in which dicts may hold arrays.

    Args:
      old: the layout before PyTorch 1.6, else a zip archive.
    """
    storages = []

    def prepared(value):
        if isinstance(value, np.ndarray):
            value = tensor(value, str(len(storages)))
        if isinstance(value, Call):
            inner = value
            while isinstance(inner, Call):
                inner = inner.arguments[0]
            storages.append(inner)
            return value
        if isinstance(value, dict):
            return type(value)((key, prepared(part)) for key, part in value.items())
        return value

    value = prepared(value)
    body = io.BytesIO()
    _Pickler(body, old).dump(value)
    if not old:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", body.getvalue())
            archive.writestr("archive/byteorder", "little")
            for storage in storages:
                archive.writestr(
                    f"archive/data/{storage.key}", storage.values.tobytes()
                )
        return
    with open(path, "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
        pickle.dump(1001, file, 2)
        pickle.dump({"protocol_version": 1001, "little_endian": True}, file, 2)
        file.write(body.getvalue())
        pickle.dump([storage.key for storage in storages], file, 2)
        for storage in storages:
            file.write(struct.pack("<q", storage.values.size))
            file.write(storage.values.tobytes())
