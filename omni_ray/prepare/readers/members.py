"""The members of an archive, or the files of a folder, however many: packed, and found by position or by name."""

import bisect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec
import numpy as np

from omni_ray.prepare.readers.names import Digests, Names, digests
from omni_ray.prepare.readers.suffixes import suffix_of
from omni_ray.prepare.records import Member

HELD_GROUPS = 16  # of some thousand members each, unpacked
HELD_LABELS = 16

Load = Callable[[], Sequence[Member]]


class MemberTable(Sequence[Member]):
    """Members in groups that are unpacked when they are asked for; any thread may ask.

    Args:
        groups: how many members a group has, and what unpacks it.
        unique: no two have one name, as in a folder.
    """

    def __init__(self, groups: Sequence[tuple[int, Load]], unique: bool = False) -> None:
        self._load = [load for _, load in groups]
        self._starts = [0, *itertools.accumulate(count for count, _ in groups)]
        self._unique = unique
        self._held: OrderedDict[int, Sequence[Member]] = OrderedDict()
        self._made: dict[str, Any] = {}
        self._labels: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.RLock()

    @classmethod
    def of(cls, members: Sequence[Member]) -> "MemberTable":
        """A table of members that are at hand; `members` itself where it is one."""
        return members if isinstance(members, cls) else cls([(len(members), lambda: members)] if members else [])

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, position: int, /) -> Member: ...
    @overload
    def __getitem__(self, position: slice, /) -> list[Member]: ...
    def __getitem__(self, position: int | slice, /) -> Member | list[Member]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        group = bisect.bisect_right(self._starts, position) - 1
        member = self._group(group)[position - self._starts[group]]
        if self._unique:
            return member
        numbers, ranks = self._once("twins", lambda: self._names().repeated())
        place = int(np.searchsorted(numbers, position))
        if place < len(numbers) and numbers[place] == position:
            return msgspec.structs.replace(member, twins=int(ranks[place]))
        return member

    def find(self, name: str) -> int:
        """The position of the first member of this name that may be read, a leading `./` left out.

        Raises:
            KeyError: where there is none.
        """
        found = self._readable().numbers(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def known(self, names: Sequence[str]) -> list[bool]:
        """Whether each of the names is that of a member that may be read."""
        return self._readable().known(names)

    def known_stems(self, names: Sequence[str], wanted: Callable[[str], bool]) -> list[bool]:
        """Whether each is the name of a readable member that is `wanted`, without its ending."""

        def stems() -> Names:
            found = ([plain(one.name) for one in group if not one.refused] for group in self._groups())
            return Names([digests([n.removesuffix(suffix_of(n)) for n in group if wanted(n)]) for group in found])

        made: Names = self._once("stems", stems)
        return made.known(names)

    def named_as(self, ending: str) -> str:
        """Of the readable members that are called `ending` or end with it behind a `/`: the name of the highest, and
        of these the first in the alphabet; "" where there is none."""

        def best() -> str:
            found = (plain(one.name) for group in self._groups() for one in group if not one.refused)
            named = (name for name in found if name == ending or name.endswith(f"/{ending}"))
            return min(named, key=lambda name: (name.count("/"), name), default="")

        made: str = self._once(f"named {ending}", best)
        return made

    def label(self, name: str, read: Callable[[], Any]) -> Any:
        """What `read` makes of a file of labels, kept for as long as the table and its last few are."""
        with self._lock:
            if name not in self._labels:
                self._labels[name] = read()
                while len(self._labels) > HELD_LABELS:
                    self._labels.popitem(last=False)
            self._labels.move_to_end(name)
            return self._labels[name]

    def _names(self) -> Names:
        def make() -> Names:
            return Names([self._digests_of(group) for group in self._groups()])

        made: Names = self._once("names", make)
        return made

    def _readable(self) -> Names:
        def make() -> Names:
            parts: list[Digests] = []
            numbers: list[Any] = []
            refused = False
            for start, group in zip(self._starts, self._groups(), strict=False):
                parts.append(digests([plain(one.name) for one in group if not one.refused]))
                here = np.array([number for number, one in enumerate(group) if not one.refused], np.int64)
                refused = refused or len(here) < len(group)
                numbers.append(here + start)
            return Names(parts, np.concatenate(numbers) if refused else None)

        made: Names = self._once("readable", make)
        return made

    @staticmethod
    def _digests_of(group: Sequence[Member]) -> Digests:
        return digests([one.name for one in group])

    def _groups(self) -> Iterator[Sequence[Member]]:
        return (self._load[number]() for number in range(len(self._load)))

    def _group(self, number: int) -> Sequence[Member]:
        with self._lock:
            if number not in self._held:
                self._held[number] = self._load[number]()
                while len(self._held) > HELD_GROUPS:
                    self._held.popitem(last=False)
            self._held.move_to_end(number)
            return self._held[number]

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self._made:
            with self._lock:
                if what not in self._made:
                    self._made[what] = make()
        return self._made[what]


def plain(name: str) -> str:
    """A name without a leading `./`."""
    return name.removeprefix("./")
