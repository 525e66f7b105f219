"""Where one function's values lie: its namespace on the client, and the form they are kept in."""

from __future__ import annotations

from typing import NamedTuple

from tiered.clients.base import CacheClient
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tagged import TaggedView, unstamped
from tiered.decorators.plan import NO_NAMESPACE, Plan

__all__ = ["Space"]


class Space(NamedTuple):
    """The clients of one function.

    Attributes:
        client: for values.
        records: for what is remembered beside them: without the value transforms.
        namespace: of both; ``None`` without one.

    Both are a :class:`TaggedView` if values have tags.
    """

    client: CacheClient
    records: CacheClient
    namespace: NamespaceWrapper | None

    @classmethod
    def of(cls, plan: Plan) -> Space:
        """The space that *plan* asks for."""
        namespace: NamespaceWrapper | None = None
        records = plan.client
        if plan.namespace is not NO_NAMESPACE:
            assert isinstance(plan.namespace, str)
            namespace = records = NamespaceWrapper(plan.namespace, plan.client)
        client = records
        inward, outward = plan.value_serialization_function, plan.value_deserialization_function
        if inward or outward:
            if plan.tags is not None:
                inward, outward = inward and unstamped(inward), outward and unstamped(outward)
            # Around the namespace, whose revisions are no values of the function's.
            client = DecoratedWrapper(records, value_decorator=inward, value_undecorator=outward)
        if plan.tags is None:
            return cls(client, records, namespace)
        tagged = TaggedView(client)
        return cls(tagged, tagged if client is records else TaggedView(records), namespace)
