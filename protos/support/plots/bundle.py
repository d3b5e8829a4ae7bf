"""Plotly's library without the kinds of plots that no page of ours has: 1.2 MB instead of 4.8.

The pages open from disk with no network, so that the library is in each of them, and the Python package has the full
bundle only. That is one script of some 1,200 modules, `var name=W((exports,module)=>{...});`, of which the last one
registers the kinds of traces: with a shorter list whatever no other module names any more is left out. How modules and
names are written is the bundler's affair: only the version that this was tested with is cut, any other stays whole.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache

TESTED = "* plotly.js v4.1.1\n"
TRACES = ("bar", "heatmap")
"""The kinds of traces that stay beside scatter, which is part of the core."""

_MODULE = re.compile(r"(?<=\}\);)var ([\w$]+)=W\((?:\([\w$,]*\)|[\w$]+)=>\{")
_OPENINGS = ("=W(", "=Ea(")
"""What follows the name of a module, of either kind."""
_NAME_BEFORE = re.compile(r"[\w$]+\Z")
_EXPORTED = re.compile(r"Fp\(([\w$]+),")
"""The names that the second kind exports."""
LONGEST_NAME = 64
"""Characters in which a name of the bundle is looked for backwards."""
_END = re.compile(r"return ([\w$]+)\(\);\}\)\(\);")
_REGISTERED = re.compile(r"\.register\(\[([\w$(),]+)\]\)")
_CALL = re.compile(r"([\w$]+)\(\)")
_MAP_STYLE = ".maplibregl-map{"
"""The style sheet of maps, 80 kB: the core names it, and asks for it where there is a map."""


@cache
def cut(bundle: str) -> str:
    """Returns Plotly's bundle with scatter and `TRACES` only; a bundle of a version that is not `TESTED` as it is."""
    end = _END.search(bundle, bundle.rfind(".register([")) if TESTED in bundle[:200] else None
    if end is None:
        return bundle
    starts = [*_MODULE.finditer(bundle, 0, end.start())]
    ends = [*(start.start() for start in starts[1:]), end.start()]
    modules = {start[1]: bundle[start.start() : stop] for start, stop in zip(starts, ends, strict=True)}
    homes = {name: home for home, text in modules.items() for name in _defined(text)}
    modules[end[1]] = _REGISTERED.sub(lambda found: _shorter(found[1], modules), modules[end[1]])
    kept = _reachable(end[1], modules, homes)
    middle = "".join(text for name, text in modules.items() if name in kept and _MAP_STYLE not in text)
    return bundle[: starts[0].start()] + middle + bundle[end.start() :]


def _defined(text: str) -> Iterator[str]:
    """Yields the names that a module defines; one expression for all of them would take a second of every report."""
    for opening in _OPENINGS:
        for before in text.split(opening)[:-1]:
            if name := _NAME_BEFORE.search(before, max(0, len(before) - LONGEST_NAME)):
                yield name[0]
    yield from _EXPORTED.findall(text)


def _shorter(registered: str, modules: Mapping[str, str]) -> str:
    """Returns the call that registers `TRACES` only; each entry is a module that hands on another one's exports."""
    kinds = {f'moduleType:"trace",name:"{trace}"' for trace in TRACES}
    entries = _CALL.findall(registered)
    behind = {entry: modules[found[1]] for entry in entries if (found := _CALL.search(modules[entry]))}
    kept = [entry for entry, text in behind.items() if any(kind in text for kind in kinds)]
    return f".register([{','.join(f'{entry}()' for entry in kept)}])"


def _reachable(first: str, modules: Mapping[str, str], homes: Mapping[str, str]) -> set[str]:
    """Returns the modules that the first one needs: those in whose text a name stands that another one defines."""
    found, waiting = set[str](), [first]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += {homes[word] for word in set(re.findall(r"[\w$]+", modules[name])) & homes.keys()}
    return found
