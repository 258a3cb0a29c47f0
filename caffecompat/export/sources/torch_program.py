"""A program of torch.export (.pt2) as the source of a conversion."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from caffecompat.errors import ExportError, FormatError, first_line
from caffecompat.export.model import CaffeModel
from caffecompat.export.source import ModelFile, model_files
from caffecompat.export.torch_import.traced_program import from_program, own_warnings_ignored
from caffecompat.input_files import open_input

ZIP = b"PK\x03\x04"
# Members that such an archive has, by the end of their names, of newer and older versions of torch.
MEMBERS = ("/archive_format", "serialized_exported_program.json")


@model_files.register("torch-program")
class TorchProgram(ModelFile):
    """A ``.pt2`` file. It may hold code, so it is loaded only with the user's consent."""

    def sniff(self, head: bytes, path: Path) -> bool:
        if not head.startswith(ZIP):
            return False
        try:
            with open_input(path) as file, zipfile.ZipFile(file) as archive:
                return any(name.endswith(MEMBERS) for name in archive.namelist())
        # zipfile's, for an archive of a later version than it knows.
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return False

    def read(self, path: Path) -> CaffeModel:
        if not self.trust:
            raise ExportError(
                f"{path}: a program of torch.export, and to load one can run code that is in it; "
                "--trust loads it, if you know where it is from"
            )
        with open_input(path, self.max_bytes):
            pass  # a regular file, and not above the limit
        try:
            with own_warnings_ignored():
                program = torch.export.load(path)
        except Exception as error:  # torch raises many types for damaged archives
            raise FormatError(
                f"{path}: torch.export cannot load it: {first_line(error)}"
            ) from error
        return from_program(program, str(path))
