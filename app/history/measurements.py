"""What was measured, kept with the conversation it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from app.errors import MeasurementNotFoundError, MeasurementsFullError
from app.history import rows
from app.history.models import measurements, threads

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection

    from app.history.database import Database

__all__ = ["MOST_MEASUREMENTS", "KeptMeasurement", "Measuring", "copy_measurements"]

MOST_MEASUREMENTS = 500
"""Of one conversation; a reader makes some tens."""


@dataclass(frozen=True, slots=True)
class KeptMeasurement:
    """One measurement and the view it was made in, both as JSON values."""

    id: str
    view: Mapping[str, Any]
    measurement: Mapping[str, Any]


class Measuring:
    """The measurements of a history."""

    _database: Database

    def measurements(self, owner: str, thread_id: str) -> list[KeptMeasurement]:
        """List what was measured in a conversation, oldest first.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        query = select(measurements).where(measurements.c.thread_id == thread_id)
        with self._database.read() as connection:
            rows.check_thread(connection, owner, thread_id, lock=False)
            found = connection.execute(query.order_by(measurements.c.created, measurements.c.id))
            return [KeptMeasurement(row.id, row.view, row.measurement) for row in found]

    def keep_measurement(
        self, owner: str, thread_id: str, view: Mapping[str, Any], measurement: Mapping[str, Any]
    ) -> str:
        """Keep a measurement with a conversation; returns its id.

        Raises
        ------
        ThreadNotFoundError
            If the conversation is not there for this owner.
        MeasurementsFullError
            If it has as many as it may.
        """
        made = rows.new_id()
        count = select(func.count()).where(measurements.c.thread_id == thread_id)
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            if (connection.scalar(count) or 0) >= MOST_MEASUREMENTS:
                raise MeasurementsFullError(limit=MOST_MEASUREMENTS)
            connection.execute(
                insert(measurements).values(
                    id=made,
                    thread_id=thread_id,
                    view=dict(view),
                    measurement=dict(measurement),
                    created=datetime.now(UTC),
                )
            )
        return made

    def delete_measurement(self, owner: str, measurement_id: str) -> None:
        """Delete a measurement.

        Raises
        ------
        MeasurementNotFoundError
            If it is not there for this owner.
        """
        mine = select(threads.c.id).where(threads.c.owner == owner)
        wanted = (measurements.c.id == measurement_id) & measurements.c.thread_id.in_(mine)
        with self._database.write() as connection:
            if not connection.execute(delete(measurements).where(wanted)).rowcount:
                raise MeasurementNotFoundError(found=measurement_id[:8])


def copy_measurements(
    connection: Connection, thread_id: str, branch: str, left_out: Collection[str] = ()
) -> None:
    """Give a branch the measurements of its origin, with ids of their own.

    Parameters
    ----------
    left_out : collection of str
        Digests of images the branch does not show; what was measured on them stays behind.
    """
    query = select(measurements).where(measurements.c.thread_id == thread_id)
    for row in connection.execute(query).mappings().all():
        if row["view"].get("image") not in left_out:
            copied = {**row, "id": rows.new_id(), "thread_id": branch}
            connection.execute(insert(measurements).values(**copied))
