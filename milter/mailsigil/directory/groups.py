"""Which groups somebody belongs to, also through groups in groups; a group that contains itself is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

MAX_GROUPS: Final = 1000
"""Groups of one person that are followed."""

Parents = Callable[[str], frozenset[str]]
"""Gives the groups that list a person or group directly, all as ``dn_key`` writes them."""


def all_groups(member: str, parents: Parents) -> tuple[frozenset[str], tuple[str, ...]]:
    """Give all groups of a member, and the first loop among them (empty where there is none)."""
    edges: dict[str, frozenset[str]] = {}
    waiting = [member]
    while waiting and len(edges) <= MAX_GROUPS:
        one = waiting.pop()
        if one not in edges:
            edges[one] = parents(one)
            waiting.extend(sorted(edges[one]))
    return frozenset(edges) - {member}, find_loop(edges)


def find_loop(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Give the members of a loop in a graph, in their order; empty where there is none."""
    done: set[str] = set()
    for start in sorted(edges):
        path: dict[str, None] = {}
        stack = [(start, iter(sorted(edges.get(start, ()))))] if start not in done else []
        if stack:
            path[start] = None
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                path.pop(node)
                done.add(node)
            elif following in path:
                order = list(path)
                return tuple(order[order.index(following) :])
            elif following not in done:
                path[following] = None
                stack.append((following, iter(sorted(edges.get(following, ())))))
    return ()
