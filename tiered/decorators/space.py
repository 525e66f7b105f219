"""Where one function's values lie: its namespace on the client, and the form they are kept in."""

from __future__ import annotations

from typing import NamedTuple

from tiered.clients.base import CacheClient
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.namespace import NamespaceWrapper
from tiered.decorators.plan import NO_NAMESPACE, Plan

__all__ = ["Space"]


class Space(NamedTuple):
    """The clients of one function.

    Attributes:
        client: for values.
        records: for what is remembered beside them: without the value transforms.
        namespace: of both; ``None`` without one.
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
        if plan.value_serialization_function or plan.value_deserialization_function:
            # Around the namespace, whose revisions are no values of the function's.
            client = DecoratedWrapper(
                records,
                value_decorator=plan.value_serialization_function,
                value_undecorator=plan.value_deserialization_function,
            )
        return cls(client, records, namespace)
