"""What the coordinator remembers of one job: its newest order, and its launchers.

A launcher is known by worker index *and* pod UID. The same pair connecting again is the same launcher come
back, and its older connection counts for nothing from then on; the same index with another UID is another
pod, kept beside the first, because only decide() can say which of the two is the crew's. A launcher counts
from its first report, not from its greeting: until it has said in which state its ranks are, any answer
would be a guess, and a wrong "it has no ranks" would look like a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from rowlock.api.v1alpha1 import MAX_WORKERS
from rowlock.protocol import LEASE_SECONDS, Hello, Order, Report
from rowlock_operator.core.incidents import RETURN_SECONDS
from rowlock_operator.core.model import Launcher

#: Connections a job may hold: every worker once, and once more for pods that replace others.
MAX_CONNECTIONS = 2 * MAX_WORKERS
LEASE = timedelta(seconds=LEASE_SECONDS)
#: A launcher that was unheard for less than this was never away: so long it may be unheard anyway, by a heartbeat and
#: the ping that follows. The others have the rest of their lease to come back.
BRIEF = timedelta(seconds=LEASE_SECONDS / 3)
#: How long a launcher that left is remembered: many times the API server's usual delay in telling its end.
LEFT_KEPT = timedelta(minutes=10)


class Connection(Protocol):
    """The way to one launcher."""

    def offer(self, order: Order) -> None:
        """Send this order next, in place of any that was not sent yet."""

    def drop(self, reason: str) -> None:
        """Give the connection up."""


@dataclass
class Member:
    """One launcher: what it said last, and the connection that counts."""

    hello: Hello
    connection: Connection | None
    last_seen: datetime
    #: Since when it counts as heard, see `_heard_since`.
    joined: datetime
    report: Report | None = None
    #: Time since `last_seen` in which the coordinator itself did not listen.
    lapse: timedelta = timedelta()
    #: When its reported step was last seen to move; None before.
    stepped_at: datetime | None = None

    def hear(self, report: Report, now: datetime) -> bool:
        """Take a report; return whether it says anything new."""
        changed = self.report != report
        if _stepped(self.report, report):
            self.stepped_at = now
        self.report, self.last_seen, self.lapse = report, now, timedelta()
        return changed

    def silent(self, now: datetime) -> timedelta:
        """Return how long it has been silent while the coordinator listened."""
        return now - self.last_seen - self.lapse

    def seen(self) -> Launcher | None:
        """Return it as decide() sees it; None before its first report."""
        if self.report is None:
            return None
        return Launcher(
            worker=self.hello.worker,
            pod_uid=self.hello.pod_uid,
            connected=self.connection is not None,
            last_seen=self.last_seen,
            report=self.report,
            address=self.hello.address,
            stepped_at=self.stepped_at,
            connected_since=self.joined if self.connection is not None else None,
        )


def _heard_since(before: Member, now: datetime) -> datetime:
    """Return since when a launcher that connects anew at `now` counts as heard.

    The others of its crew are given `RETURN_SECONDS` from then. A brief gap changes nothing, and after a longer one
    that came before their time was over it goes on where it stopped: a line that breaks again and again gives them
    their time, but not for ever.
    """
    if now - before.last_seen < BRIEF:
        return before.joined
    had = before.last_seen - before.joined
    return now - had if had < timedelta(seconds=RETURN_SECONDS) else now


def _stepped(before: Report | None, report: Report) -> bool:
    """Whether the step moved between two reports. A first report only says where it is."""
    if before is None or report.progress is None:
        return False
    return before.progress is None or before.progress.step != report.progress.step


@dataclass
class Crew:
    """The launchers of one job."""

    order: Order | None = None
    #: Connections open, whether or not they have greeted.
    connections: int = 0
    members: dict[tuple[int, str], Member] = field(default_factory=dict)

    def launchers(self) -> tuple[Launcher, ...]:
        """Return the launchers that have reported, by worker."""
        seen = (self.members[key].seen() for key in sorted(self.members))
        return tuple(launcher for launcher in seen if launcher is not None)

    def publish(self, order: Order) -> None:
        """Remember the order and offer it to every launcher."""
        self.order = order
        for member in self.members.values():
            if member.connection is not None:
                member.connection.offer(order)

    def join(self, hello: Hello, connection: Connection, now: datetime) -> bool:
        """Take a launcher's greeting; return whether what `launchers` answers has changed."""
        key = (hello.worker, hello.pod_uid)
        before = self.members.get(key)
        if before is None:
            self.members[key] = Member(hello, connection, now, joined=now)
        else:
            if before.connection is not None:
                before.connection.drop("replaced by a newer connection of the same pod")
            self.members[key] = replace(
                before,
                hello=hello,
                connection=connection,
                last_seen=now,
                lapse=timedelta(),
                joined=_heard_since(before, now),
            )
        if self.order is not None:
            connection.offer(self.order)
        return before is not None and before.report is not None

    def heard(self, hello: Hello, connection: Connection, report: Report, now: datetime) -> bool:
        """Take a report; return whether it says anything new. A replaced connection's is ignored."""
        member = self.members.get((hello.worker, hello.pod_uid))
        if member is None or member.connection is not connection:
            return False
        return member.hear(report, now)

    def left(self, hello: Hello, connection: Connection) -> bool:
        """Note that a connection ended; return whether it was the one that counts."""
        member = self.members.get((hello.worker, hello.pod_uid))
        if member is None or member.connection is not connection:
            return False
        member.connection = None
        if member.report is None:
            del self.members[hello.worker, hello.pod_uid]
        return True

    def expire(self, now: datetime) -> bool:
        """Drop launchers whose lease ran out, forget those long gone; return whether any was dropped."""
        dropped = False
        for key, member in list(self.members.items()):
            silent = member.silent(now)
            if member.connection is not None and silent >= LEASE:
                connection, member.connection = member.connection, None
                connection.drop(f"not heard for {silent.total_seconds():.0f} s")
                dropped = True
            elif member.connection is None and silent >= LEFT_KEPT:
                del self.members[key]
        self._forget_surplus()
        return dropped

    def extend_leases(self, lapse: timedelta) -> None:
        """Count `lapse` against nobody's lease: it was the coordinator that did not listen."""
        for member in self.members.values():
            member.lapse += lapse

    def _forget_surplus(self) -> None:
        """Keep the memory of a job whose pods come and go bounded."""
        gone = [key for key, member in self.members.items() if member.connection is None]
        gone.sort(key=lambda key: self.members[key].last_seen)
        for key in gone[: max(0, len(self.members) - 2 * MAX_CONNECTIONS)]:
            del self.members[key]
