"""What torch's compiler has to know of these modules: that it can look into them.

`torch.compile` leaves every `torch.nn.RNN`, `LSTM` and `GRU` out of its graphs, unless its option
`allow_rnn` is set. Ours are subclasses of these, and have operators that it can trace. So they are
entered in the compiler's table of types, each with the option set for itself alone. The compiler
takes seconds to import; nothing of it is imported here before somebody else does.

Where a version of torch has no such table or option, modules are left out of graphs, as torch's
are, and the engine runs them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_TABLE_IN = "torch._dynamo.variables.builder"

_traceable: list[type] = []


def let_compilers_trace(cls: type) -> None:
    """Modules of this type, without its subclasses, become part of compiled graphs."""
    _traceable.append(cls)
    if _TABLE_IN in sys.modules:
        _enter(sys.modules[_TABLE_IN], [cls])
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    """Finds nothing by itself; once the compiler's module is imported, enters the types there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TABLE_IN:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _enter(module, _traceable)

            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


def _enter(module: ModuleType, types: Sequence[type]) -> None:
    builder, options = getattr(module, "VariableBuilder", None), getattr(module, "config", None)
    if not hasattr(builder, "_type_dispatch") or not hasattr(options, "allow_rnn"):
        return

    def wrap(self: Any, value: Any) -> Any:
        assert options is not None
        with options.patch(allow_rnn=True):
            return self.wrap_module(value)

    assert builder is not None
    table = builder._type_dispatch()
    for one in types:
        table[one] = wrap
