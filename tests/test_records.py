"""The numpy dtypes and the C++ structs are the same layout."""

from __future__ import annotations

import numpy as np
import pytest

from poco import _core, records

NAMES = sorted(_core.layouts())


def test_every_shared_record_has_a_native_layout() -> None:
    """No dtype of records.py lacks its C++ struct, and none is left over."""
    dtypes = {name for name, value in vars(records).items() if isinstance(value, np.dtype)}
    assert dtypes == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_layout_agrees_offset_by_offset(name: str) -> None:
    """Size, field names, field order, offsets and field sizes agree."""
    dtype, layout = getattr(records, name), _core.layouts()[name]
    fields = {field: (dtype.fields[field][1], dtype.fields[field][0].itemsize) for field in dtype.names}
    assert fields == layout["fields"]
    assert list(fields) == list(layout["fields"])
    assert dtype.itemsize == layout["size"]


def test_wrong_record_is_refused() -> None:
    """A record of another dtype does not reach native memory."""
    memory, command = _core.Memory(), np.zeros((), records.COMMAND)
    with pytest.raises(TypeError, match="ARM_STATE"):
        _core.step(command, None, 1, np.zeros((), records.LIMITS), memory, command)
