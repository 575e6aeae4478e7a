"""The layout of a target whose cell is given by its equations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from throughtime.arrays import Array, Shape, refuse
from throughtime.cells import CellDefinition, DerivedCell
from throughtime.diagnosis.mutants.equation_cell import EquationCell
from throughtime.diagnosis.mutants.equation_model import EquationModel
from throughtime.diagnosis.mutants.layout import Layout, matrix_place, named
from throughtime.diagnosis.mutants.model import Block, BlockPlace
from throughtime.gradcheck import Gates

OF_EQUATIONS: Any = None  # stands in a layout where one has a cell by hand

# The name of one tensor, or of one for each part that the step cuts the parameter into; "{layer}"
# and "{direction}" in it stand for their numbers, and "{gate}" for the part's name.
ParameterNames = str | tuple[str, ...]


@dataclass(frozen=True)
class EquationLayout(Layout):
    """What `tt.layouts.cell` makes; give it to a Target.

    Attributes:
        of: the cell, or its definition, whose sizes are then read off the arrays.
        names: of the parameters that have other names in the target.
        turned: names of the parameters, as the equations have them, that the target holds
            transposed; True for all matrices.
        fixed: parameters that are none of the target, by name.
        prefixes: for each layer and direction, what stands in front of its names; () for nothing.
        states: initial states by their names in the equations, (B, n) or (layers, directions, B,
            n); 0 if not given.
    """

    of: CellDefinition | DerivedCell = field(kw_only=True)
    names: Mapping[str, ParameterNames] = field(kw_only=True, default_factory=dict)
    turned: bool | tuple[str, ...] = field(kw_only=True, default=False)
    fixed: Mapping[str, Any] = field(kw_only=True, default_factory=dict)
    prefixes: tuple[str, ...] = field(kw_only=True, default=())
    states: Mapping[str, Any] = field(kw_only=True, default_factory=dict)

    def __post_init__(self) -> None:
        definition = self.of.definition if isinstance(self.of, DerivedCell) else self.of
        arguments = list(_arguments(definition))
        turned = () if isinstance(self.turned, bool) else self.turned
        for what, given in (("names", self.names), ("transposed", turned)):
            if unknown := [name for name in given if name not in definition.shapes]:
                known = ", ".join(name for name in arguments if name in definition.shapes)
                refuse(f"layout: {what}", f"parameters of {definition.__name__}: {known}", unknown)
        if unknown := [name for name in (*self.fixed, *self.states) if name not in arguments]:
            expected = f"arguments of {definition.__name__}: {', '.join(arguments)}"
            refuse("layout", expected, ", ".join(unknown))

    def cells(self, shapes: Mapping[str, Shape]) -> tuple[EquationCell, EquationCell | None]:
        """The cell of the lowest layer, and that of the others if it is another one."""
        lowest = self._lowest(shapes)
        cell = equation_cell(lowest)
        width = cell.output_size * self.directions
        if self.layers == 1 or width == lowest.inputs:
            return cell, None
        sizes = dict(lowest.given) | {"I": width}
        return cell, equation_cell(_made(lowest.definition, sizes))

    def model(self, parameters: Mapping[str, Array]) -> EquationModel:
        """The network with the present values of these parameters.

        Raises:
            ValueError: if names, shapes or data do not fit; the message says which.
        """
        shapes = {name: array.shape for name, array in parameters.items()}
        cell, upper = self.cells(shapes)
        placement = self.placement(shapes)
        blocks = placement.blocks(parameters)
        size, features = cell.output_size, cell.cell.inputs
        x, constants, outputs = self._around(blocks, features, size)
        units = sum(cell.other_sizes.values())
        data = self._with_states(cell, x.shape[1])._data(x, units, size, outputs)
        return EquationModel(
            cell,
            placement,
            blocks,
            data,
            self.loss,
            self.decay,
            self.decay_biases,
            self.notes,
            constants,
            squash=self.squash,
            upper=upper,
            fixed={name: np.asarray(array, np.float64) for name, array in self.fixed.items()},
        )

    def gates_of(self, name: str, shapes: Mapping[str, Shape]) -> Gates | None:
        """The parts that a tensor consists of; None where the step cuts it into none."""
        cell, _ = self.cells(shapes)
        own = [
            (place.rows.start, block, place.transposed)
            for block, place in self.placement(shapes).places.items()
            if place.tensor == name and block.gated and place.rows.start is not None
        ]
        if len(own) < 2:
            return None
        ends = cell.kinds[own[0][1].kind[2:]].parts
        if len({b - a for a, b in itertools.pairwise(ends)}) > 1:
            return None  # parts of different sizes
        letters = [name.removeprefix("z_") for name in cell.kinds[own[0][1].kind[2:]].names]
        known = "".join(letters) if all(len(letter) == 1 for letter in letters) else ""
        return Gates(len(own), int(own[0][2]), known, "by its equations")

    def described(self) -> str:
        """It in words."""
        return f"cell({self.of!r})"

    def _lowest(self, shapes: Mapping[str, Shape]) -> DerivedCell:
        if isinstance(self.of, DerivedCell):
            return self.of
        return _made(self.of, self._sizes(self.of, shapes))

    def _sizes(self, definition: CellDefinition, shapes: Mapping[str, Shape]) -> dict[str, int]:
        """What the letters in the parameters' shapes stand for, from the tensors' shapes."""
        found: dict[str, int] = {}
        for name, shape in definition.shapes.items():
            tensors = self._tensors(name, (0, 0), ("",))
            if name in self.fixed:
                given: Shape = np.shape(self.fixed[name])
            elif len(tensors) == 1 and tensors[0] in shapes:
                given = shapes[tensors[0]]
            else:
                continue
            sides = shape.split()
            if self._turned_matrix(name, len(sides)):
                given = given[::-1]
            for side, size in zip(sides, given, strict=False) if len(sides) == len(given) else ():
                term = re.fullmatch(r"(\d*)([A-Z])", side)
                if term and size % int(term[1] or 1) == 0:
                    found.setdefault(term[2], size // int(term[1] or 1))
        letters = {"I", "H", *re.findall("[A-Z]", " ".join(definition.shapes.values()))}
        if missing := sorted(letters - set(found)):
            way_out = f"give the cell with its sizes: {definition.__name__}(I, H)"
            refuse(
                "layout", "sizes that the arrays tell", "none for " + ", ".join(missing), way_out
            )
        return found

    def _turned_matrix(self, name: str, axes: int) -> bool:
        """Whether the target holds a matrix transposed."""
        return axes == 2 and (self.turned if isinstance(self.turned, bool) else name in self.turned)

    def _tensors(
        self, name: str, directed: tuple[int, int], parts: tuple[str, ...]
    ) -> tuple[str, ...]:
        """The tensors that hold a parameter: one, or one for each part."""
        layer, direction = directed
        own = self.names.get(name, name)
        if isinstance(own, str) and "{gate}" in own:
            own = tuple(own.replace("{gate}", part) for part in parts)
        every = (own,) if isinstance(own, str) else own
        place = layer * self.directions + direction
        prefix = self.prefixes[place] if self.prefixes else ""
        return tuple(prefix + one.format(layer=layer, direction=direction) for one in every)

    def _directed_layer(
        self, layer: int, direction: int, shapes: Mapping[str, Shape]
    ) -> dict[Block, BlockPlace]:
        lowest, upper = self.cells(shapes)
        cell = lowest if layer == 0 or upper is None else upper
        found: dict[Block, BlockPlace] = {}
        for name, kind in cell.kinds.items():
            if name in self.fixed:
                continue
            own = cell.backward.trace.parameters[name].shape
            tensors = self._tensors(name, (layer, direction), kind.names)
            several = len(tensors) > 1
            if several and len(tensors) != len(kind.names):
                parts = ", ".join(kind.names)
                refuse(f"layout: {name}", f"one tensor, or one for each of {parts}", tensors)
            turned = self._turned_matrix(name, len(own))
            for k, (start, stop) in enumerate(itertools.pairwise(kind.parts)):
                tensor = tensors[k] if several else tensors[0]
                named(tensor, shapes)
                whole = (stop - start, *own[1:]) if several else own
                rows = slice(None) if several or len(kind.names) == 1 else slice(start, stop)
                block = Block(layer, f"{kind.letter} {name}", k, direction)
                if len(own) < 2:
                    _of_size(tensor, shapes[tensor], whole)
                    found[block] = BlockPlace(tensor, rows)
                    continue
                _of_shape(tensor, shapes[tensor], whole[::-1] if turned else whole)
                found[block] = BlockPlace(tensor, rows, slice(None), turned)
        return found

    def _start(self, name: str, shapes: Mapping[str, Shape]) -> BlockPlace:
        named(name, shapes)
        if self.layers * self.directions > 1:
            refuse(f"layout: {name}", "an initial state of one layer", f"{self.layers} layers")
        if len(shapes[name]) < 2:
            return BlockPlace(name, slice(None))
        size = self.cells(shapes)[0].output_size
        return matrix_place(name, shapes, shapes[name][0] == size and shapes[name][1] != size)

    def _with_states(self, cell: EquationCell, batch: int) -> Layout:
        """The layout with its initial states as arrays side by side."""
        if not self.states:
            return self
        axes = (self.layers, self.directions, batch)
        first = next(iter(cell.backward.trace.states))
        sizes = {first: cell.output_size, **cell.other_sizes}
        arrays = {}
        for name, size in sizes.items():
            given = self.states.get(name)
            array = np.zeros((*axes, size)) if given is None else np.asarray(given, np.float64)
            if array.size != np.prod((*axes, size)):
                refuse(f"layout: state {name}", (*axes, size), array.shape)
            arrays[name] = array.reshape(*axes, size)
        others = [arrays[name] for name in cell.others]
        c0 = np.concatenate(others, axis=-1) if others else None
        return Layout(
            **{name: getattr(self, name) for name in Layout.__dataclass_fields__}
            | {"h0": arrays[first], "c0": c0}
        )


def _of_shape(name: str, given: Shape, expected: Shape) -> None:
    if given != expected and not (len(given) == 1 and expected == (*given, 1)):
        refuse(f"layout: {name}", expected, given, "transposed=True if it is held the other way")


def _of_size(name: str, given: Shape, expected: Shape) -> None:
    if np.prod(given) != np.prod(expected):
        refuse(f"layout: {name}", expected, given)


def _arguments(definition: CellDefinition) -> Iterator[str]:
    code = definition.step.__code__
    yield from code.co_varnames[: code.co_argcount]


def _made(definition: CellDefinition, sizes: Mapping[str, int]) -> DerivedCell:
    others = {letter: size for letter, size in sizes.items() if letter not in "IH"}
    return definition(sizes["I"], sizes["H"], **others)  # type: ignore[arg-type]  # sizes alone


@lru_cache(maxsize=16)
def equation_cell(cell: DerivedCell) -> EquationCell:
    """A cell as the search among mutants knows it, derived once."""
    return EquationCell(cell)
